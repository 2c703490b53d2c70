//! Doubt: answers that contradict themselves, calls that are still on their way, second thoughts of the stock.

use std::time::{Duration, Instant};

use reqwest::{Client, Method};
use serde_json::{Value, json};

use super::channel::Mood;
use super::{Street, answer, ask, code, history};

/// Waits until `done`.
async fn until(what: &str, done: impl Fn() -> bool) {
    for _ in 0..400 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(done(), "not in time: {what}");
}

#[tokio::test]
async fn an_answer_that_says_charged_is_believed_whatever_its_headers_say() {
    let street = Street::open(1, |_| {}).await;
    let order_no = street.caller.ordered("a").await;
    street.bank.truth().mood = Mood::ChargeAndDenyIt;
    let paid = street.caller.pay(&order_no, "alipay").await;
    assert_eq!((paid.0, &paid.2["status"]), (201, &json!("SUCCESS")), "{}", paid.2);
    street.caller.until(&order_no, "DELIVERED").await;
    assert_eq!(street.bank.charged(), 1);
    street.close().await;
}

#[tokio::test]
async fn an_answer_that_anybody_could_have_written_moves_no_order() {
    let street = Street::open(1, |_| {}).await;
    let caller = &street.caller;
    let order_no = caller.ordered("a").await;
    let payment_no = caller.paying(&order_no).await;
    street.bank.truth().forged = true;
    street.bank.charge(&payment_no);
    let confirm = format!("/api/orders/{order_no}/payments/{payment_no}/confirm");
    assert_eq!(caller.post(&confirm, Value::Null).await.0, 202);
    // Asked many times, at 10 ms a unit of patience.
    tokio::time::sleep(Duration::from_millis(400)).await;
    caller.until(&order_no, "PENDING_PAYMENT").await;
    street.bank.truth().forged = false;
    caller.until(&order_no, "DELIVERED").await;
    assert_eq!(street.bank.charged(), 1);
    street.close().await;
}

#[tokio::test]
async fn a_payment_that_is_being_sent_again_is_not_closed_for_being_unknown() {
    let street = Street::open(1, |_| {}).await;
    let caller = &street.caller;
    let order_no = caller.ordered("a").await;
    let began = Instant::now();
    street.bank.truth().mood = Mood::ForgetThenHang;
    let payment_no = caller.pay(&order_no, "alipay").await.2["payment_no"].as_str().expect("a number").to_owned();
    street.bank.truth().mood = Mood::Late;
    until("the same payment again", || street.bank.truth().started.len() == 2).await;
    // Old enough to be believed unknown, were it not for the second call.
    tokio::time::sleep(Duration::from_millis(550).saturating_sub(began.elapsed())).await;
    let close = format!("/api/orders/{order_no}/payments/{payment_no}/close");
    let closed = caller.post(&close, Value::Null).await;
    assert_ne!(closed.2["status"], "CLOSED", "while the call was on its way");
    assert_eq!(code(&caller.pay(&order_no, "wechat").await), (409, "PAYMENT_LIVE"));
    caller.until(&order_no, "DELIVERED").await;
    assert_eq!((street.bank.charged(), street.bank.truth().refunds.len()), (1, 0));
    street.close().await;
}

#[tokio::test]
async fn a_refund_is_done_when_the_channel_says_so_in_a_word_that_is_known() {
    let street = Street::open(1, |_| {}).await;
    let caller = &street.caller;
    let order_no = caller.ordered("a").await;
    let payment_no = caller.paying(&order_no).await;
    assert_eq!(caller.post(&format!("/api/orders/{order_no}/cancel"), Value::Null).await.2["status"], "CANCELLED");
    street.bank.truth().refund_word = Some("ABNORMAL");
    street.charge_and_tell("n-1", &payment_no).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let order = caller.until(&order_no, "CANCELLED").await;
    assert_eq!(order["payments"][0]["refund"], "WANTED", "nothing was paid back");
    street.bank.truth().refund_word = None;
    until("the refund", || !street.bank.truth().refunds.is_empty()).await;
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        if caller.until(&order_no, "CANCELLED").await["payments"][0]["refund"] == "DONE" {
            break;
        }
    }
    assert_eq!(caller.until(&order_no, "CANCELLED").await["payments"][0]["refund"], "DONE");
    street.close().await;
}

#[tokio::test]
async fn a_payment_left_open_when_another_one_paid_is_closed() {
    let street = Street::open(1, |_| {}).await;
    let caller = &street.caller;
    let (order_no, first, second) = street.paying_again("a").await;
    // The channel charges the payment that it had closed.
    street.charge_and_tell("n-1", &first).await;
    caller.until(&order_no, "DELIVERED").await;
    until("the other one closed", || street.bank.truth().payments[&second]["status"] == "CLOSED").await;
    for _ in 0..100 {
        if caller.check().await["payments"]["PENDING"] == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(caller.check().await["payments"]["PENDING"], 0, "asked for without end");
    street.close().await;
}

#[tokio::test]
async fn a_channel_that_insists_on_another_amount_fills_no_history() {
    let street = Street::open(1, |_| {}).await;
    let caller = &street.caller;
    let order_no = caller.ordered("a").await;
    let payment_no = caller.paying(&order_no).await;
    street.bank.truth().payments.get_mut(&payment_no).expect("known")["amount"] = json!(4_899);
    street.bank.charge(&payment_no);
    tokio::time::sleep(Duration::from_millis(600)).await;
    let order = caller.until(&order_no, "PENDING_PAYMENT").await;
    assert_eq!(history(&order).iter().filter(|kind| **kind == "AMOUNT_MISMATCH").count(), 1);
    let metrics = Client::new().get(format!("{}/metrics", caller.base)).send().await.expect("an answer");
    let metrics = metrics.text().await.expect("text");
    assert!(metrics.contains("\norder_answers_mismatched_total "), "{metrics}");
    assert!(!metrics.contains("\norder_answers_mismatched_total 0\n"), "somebody has to look at it");
    street.close().await;
}

#[tokio::test]
async fn keys_issued_by_a_call_that_came_after_the_refund_are_not_shown() {
    let street = Street::open(1, |settings| settings.pay_within = Duration::from_millis(300)).await;
    let caller = &street.caller;
    let late = caller.ordered("late").await;
    let payment_no = caller.paying(&late).await;
    caller.until(&late, "EXPIRED").await;
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    street.sold("other").await;
    street.charge_and_tell("n-2", &payment_no).await;
    caller.until(&late, "REFUNDED").await;

    // New stock, and the first try to issue, long given up, is answered at last.
    let import = format!("{}/admin/skus/card/keys:import", street.keys);
    Client::new().post(import).body("CARD-NEW\n").send().await.expect("an answer").text().await.expect("a report");
    let allocate = Client::new().post(format!("{}/v1/allocations", street.keys));
    let allocate = allocate.json(&json!({ "order_no": late, "sku": "card", "qty": 1 }));
    assert_eq!(answer(allocate).await.expect("an answer").0, 200);
    let shown = caller.keys(&late, "secret-99").await;
    assert_eq!(code(&shown), (409, "WRONG_STATE"), "{}", shown.2);
    let (status, ..) = ask(&Client::new(), Method::GET, &format!("{}/admin/invariants", street.keys)).await;
    assert_eq!(status, 200);
    street.close().await;
}

#[tokio::test]
async fn an_order_whose_keys_nobody_could_read_is_not_taken() {
    let street = Street::open(1, |_| {}).await;
    let placed = street.caller.try_send(Method::POST, "/api/orders", "a", json!({ "sku": "card" })).await;
    assert_eq!(code(&placed.expect("an answer")), (400, "INVALID_REQUEST"));
    assert_eq!(street.stock().await, [1, 0, 0]);
    street.close().await;
}
