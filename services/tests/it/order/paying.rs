//! Paying: a charge is never lost, never doubled, and always ends in keys or in a refund.

use std::time::Duration;

use serde_json::{Value, json};
use tidegate_services::support::unix_ms;

use super::channel::{Mood, notice};
use super::{Street, code, history};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_notifications_of_one_payment_deliver_once() {
    let street = Street::open(3, |_| {}).await;
    let caller = &street.caller;
    let order_no = caller.ordered("a").await;
    let payment_no = caller.paying(&order_no).await;
    let payment = street.bank.truth().payments[&payment_no].clone();
    street.bank.charge(&payment_no);
    let (body, signature) = notice("n-1", &payment, unix_ms() / 1_000);
    let sent: Vec<_> = (0..50)
        .map(|_| {
            let (caller, body, signature) = (caller.clone(), body.clone(), signature.clone());
            tokio::spawn(async move { caller.notify("alipay", body, &signature).await })
        })
        .collect();
    for answer in sent {
        let answer = answer.await.expect("no channel panics");
        assert_eq!((answer.0, &answer.2), (200, &json!({ "code": "SUCCESS" })));
    }
    let order = caller.until(&order_no, "DELIVERED").await;
    assert_eq!(history(&order).iter().filter(|kind| **kind == "PAID").count(), 1);
    assert_eq!(street.stock().await, [2, 0, 1]);
    let keys = caller.keys(&order_no, "secret-99").await;
    assert_eq!((keys.0, &keys.2["keys"]), (200, &json!(["CARD-000000"])));
    assert_eq!(code(&caller.keys(&order_no, "guessed").await), (403, "WRONG_PASSWORD"));
    // The same one again when all is long over, signed anew as channels do.
    assert_eq!(street.notify("n-1", &payment_no).await.0, 200);
    assert_eq!(street.stock().await, [2, 0, 1]);
    // A notification with another id about the same charge is no second one.
    assert_eq!(street.notify("n-2", &payment_no).await.0, 200);
    assert!(!history(&caller.until(&order_no, "DELIVERED").await).contains(&"DUPLICATE_CHARGE"));
    street.close().await;
}

#[tokio::test]
async fn notifications_that_are_forged_old_or_of_another_amount_pay_for_nothing() {
    let street = Street::open(3, |_| {}).await;
    let caller = &street.caller;
    let order_no = caller.ordered("a").await;
    let payment_no = caller.paying(&order_no).await;
    let payment = street.bank.truth().payments[&payment_no].clone();
    let now = unix_ms() / 1_000;
    let (body, signature) = notice("n-1", &payment, now);
    let forged = body.replace("4900", "4901");
    for (body, signature) in [
        (body.clone(), String::new()),
        (body.clone(), signature.replace("v1=", "v1=00")),
        (forged, signature.clone()),
        notice("n-1", &payment, now - 301),
        notice("n-1", &payment, now + 330),
    ] {
        assert_eq!(code(&caller.notify("alipay", body, &signature).await), (401, "BAD_SIGNATURE"));
    }
    let mut other = payment.clone();
    other["amount"] = json!(4_899);
    for _ in 0..2 {
        let (body, signature) = notice("n-cheap", &other, now);
        assert_eq!(code(&caller.notify("alipay", body, &signature).await), (400, "AMOUNT_MISMATCH"));
    }
    other["payment_no"] = json!("nothing");
    let (unknown, unknown_signature) = notice("n-3", &other, now);
    assert_eq!(code(&caller.notify("alipay", unknown, &unknown_signature).await), (404, "UNKNOWN_PAYMENT"));
    // Signed by a channel, but not the one that was paid through.
    assert_eq!(code(&caller.notify("wechat", body.clone(), &signature).await), (404, "UNKNOWN_PAYMENT"));
    let order = caller.until(&order_no, "PENDING_PAYMENT").await;
    assert_eq!(history(&order).iter().filter(|kind| **kind == "AMOUNT_MISMATCH").count(), 1);
    // The right one still counts.
    assert_eq!(caller.notify("alipay", body, &signature).await.0, 200);
    caller.until(&order_no, "DELIVERED").await;
    street.close().await;
}

#[tokio::test]
async fn a_channel_that_charges_and_hangs_is_asked_and_no_other_is_paid() {
    let street = Street::open(3, |_| {}).await;
    let caller = &street.caller;
    street.bank.truth().mood = Mood::ChargeThenHang;
    let order_no = caller.ordered("a").await;
    let started = caller.pay(&order_no, "alipay").await;
    assert_eq!((started.0, &started.2["pay_url"]), (202, &Value::Null));
    assert_eq!(code(&caller.pay(&order_no, "wechat").await), (409, "PAYMENT_LIVE"));
    // The same channel again is the same payment.
    assert_eq!(caller.pay(&order_no, "alipay").await.2["payment_no"], started.2["payment_no"]);
    let order = caller.until(&order_no, "DELIVERED").await;
    assert!(history(&order).contains(&"PAYMENT_UNKNOWN"));
    assert_eq!(street.bank.charged(), 1);
    assert!(street.bank.truth().started.iter().all(|(channel, _)| channel == "alipay"));
    street.close().await;
}

#[tokio::test]
async fn a_channel_that_forgot_a_payment_gets_the_same_one_again() {
    let street = Street::open(3, |_| {}).await;
    let caller = &street.caller;
    street.bank.truth().mood = Mood::ForgetThenHang;
    let order_no = caller.ordered("a").await;
    let started = caller.pay(&order_no, "alipay").await;
    assert_eq!(started.0, 202);
    tokio::time::sleep(Duration::from_millis(450)).await;
    street.bank.truth().mood = Mood::Well;
    let mut pay_url = Value::Null;
    for _ in 0..200 {
        pay_url = caller.get(&format!("/api/orders/{order_no}")).await.2["payments"][0]["pay_url"].clone();
        if pay_url.is_string() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let payment_no = started.2["payment_no"].as_str().expect("a number");
    assert_eq!(pay_url, format!("/shop/wallet?order={order_no}&payment={payment_no}"));
    assert!(street.bank.truth().started.iter().all(|(_, key)| key == payment_no));
    // The wallet; no notification comes, the query finds out.
    let confirm = format!("/api/orders/{order_no}/payments/{payment_no}/confirm");
    assert_eq!(caller.post(&confirm, Value::Null).await.0, 202);
    caller.until(&order_no, "DELIVERED").await;
    street.close().await;
}

#[tokio::test]
async fn after_a_refusal_or_a_closed_payment_another_way_is_open() {
    let street = Street::open(3, |_| {}).await;
    let caller = &street.caller;
    let order_no = caller.ordered("a").await;
    street.bank.truth().mood = Mood::Decline;
    assert_eq!(caller.pay(&order_no, "alipay").await.2["status"], "DECLINED");
    street.bank.truth().mood = Mood::Well;
    let second = caller.pay(&order_no, "wechat").await.2;
    assert_eq!(second["status"], "PENDING");
    caller.closed(&order_no, second["payment_no"].as_str().expect("a number")).await;
    let third = caller.paying(&order_no).await;
    street.charge_and_tell("n-1", &third).await;
    caller.until(&order_no, "DELIVERED").await;
    street.close().await;
}

#[tokio::test]
async fn no_gateway_means_nothing_was_paid_and_the_buyer_hears_so() {
    let street = Street::open(3, |settings| settings.egress = "http://127.0.0.1:1".to_owned()).await;
    let order_no = street.caller.ordered("a").await;
    for _ in 0..2 {
        assert_eq!(code(&street.caller.pay(&order_no, "alipay").await), (503, "CHANNEL_UNAVAILABLE"));
    }
    assert_eq!(street.caller.check().await["payments"]["FAILED"], 2);
    street.close().await;
}

/// An order that has expired after its payment was closed, and the payment's number.
async fn expired(street: &Street, key: &str) -> (String, String) {
    let order_no = street.caller.ordered(key).await;
    let payment_no = street.caller.paying(&order_no).await;
    street.caller.until(&order_no, "EXPIRED").await;
    (order_no, payment_no)
}

#[tokio::test]
async fn a_late_payment_is_delivered_while_there_is_stock_and_paid_back_when_not() {
    let street = Street::open(2, |settings| settings.pay_within = Duration::from_millis(500)).await;
    let caller = &street.caller;
    let (first, first_payment) = expired(&street, "first").await;
    let (second, second_payment) = expired(&street, "second").await;
    street.charge_and_tell("n-1", &first_payment).await;
    let order = caller.until(&first, "DELIVERED").await;
    assert!(history(&order).contains(&"LATE_PAYMENT"));

    // Somebody else takes the last key and pays for it.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    street.sold("other").await;

    street.charge_and_tell("n-3", &second_payment).await;
    let order = caller.until(&second, "REFUNDED").await;
    assert_eq!(order["payments"][0]["refund"], "DONE");
    assert_eq!(street.bank.truth().refunds.values().collect::<Vec<_>>(), [&4_900]);
    assert_eq!(street.stock().await, [0, 0, 2]);
    street.close().await;
}

#[tokio::test]
async fn a_second_charge_for_one_order_is_noticed_and_paid_back() {
    let street = Street::open(2, |_| {}).await;
    let caller = &street.caller;
    let (order_no, first, second) = street.paying_again("a").await;
    // The channel charges both, the closed one included.
    for (notify_id, payment_no) in [("n-2", &second), ("n-1", &first)] {
        street.charge_and_tell(notify_id, payment_no).await;
    }
    for _ in 0..200 {
        if !street.bank.truth().refunds.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(street.bank.truth().refunds.contains_key(&format!("{first}-refund")));
    let order = caller.until(&order_no, "DELIVERED").await;
    assert!(history(&order).contains(&"DUPLICATE_CHARGE"));
    assert_eq!(street.stock().await, [1, 0, 1]);
    street.close().await;
}
