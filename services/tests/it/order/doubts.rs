//! Doubt: answers that contradict themselves, calls that are still on their way, second thoughts of the stock.

use std::time::Duration;

use serde_json::{Value, json};

use super::Street;
use super::channel::Mood;

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
async fn a_refund_is_done_when_the_channel_says_so_in_a_word_that_is_known() {
    let street = Street::open(1, |_| {}).await;
    let caller = &street.caller;
    let order_no = caller.ordered("a").await;
    let payment_no = caller.paying(&order_no).await;
    assert_eq!(caller.post(&format!("/api/orders/{order_no}/cancel"), Value::Null).await.2["status"], "CANCELLED");
    street.bank.truth().refund_word = Some("ABNORMAL");
    street.bank.charge(&payment_no);
    assert_eq!(street.notify("n-1", &payment_no).await.0, 200);
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
    let order_no = caller.ordered("a").await;
    let first = caller.paying(&order_no).await;
    let close = format!("/api/orders/{order_no}/payments/{first}/close");
    assert_eq!(caller.post(&close, Value::Null).await.2["status"], "CLOSED");
    let second = caller.paying(&order_no).await;
    // The channel charges the payment that it had closed.
    street.bank.charge(&first);
    assert_eq!(street.notify("n-1", &first).await.0, 200);
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
