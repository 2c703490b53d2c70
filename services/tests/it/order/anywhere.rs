//! Payments for which the gateway chooses the channel: found where they are, paid once, paid back where that failed.

use std::time::Duration;

use serde_json::{Value, json};

use super::engine::{Engine, NAMES, Way};
use super::{Street, code, history, notice};
use tidegate_services::support::unix_ms;

/// A shop behind a gateway that chooses; the channels reach the shop.
async fn open() -> (Street, Engine) {
    let engine = Engine::start().await;
    let probe = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let listen = probe.local_addr().expect("an address");
    drop(probe);
    let egress = engine.base.clone();
    let street = Street::open(3, |settings| {
        settings.egress = egress;
        settings.listen = listen;
        settings.public_url = format!("http://{listen}");
        settings.not_found_min_age = Duration::from_millis(500);
    });
    (street.await, engine)
}

async fn close(street: Street, engine: Engine) {
    street.close().await;
    engine.stop().await;
}

impl Street {
    /// The first payment of an order as soon as it is in this state.
    pub(super) async fn payment_until(&self, order_no: &str, status: &str) -> Value {
        let mut payment = Value::Null;
        for _ in 0..400 {
            payment = self.caller.get(&format!("/api/orders/{order_no}")).await.2["payments"][0].clone();
            if payment["status"] == status {
                return payment;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(payment["status"], status, "not in time: {payment}");
        payment
    }

    async fn confirm(&self, payment: &Value) {
        let text = |member: &str| payment[member].as_str().expect("text");
        let path = format!("/api/orders/{}/payments/{}/confirm", text("order_no"), text("payment_no"));
        assert_eq!(self.caller.post(&path, Value::Null).await.0, 202);
    }
}

fn number(payment: &Value) -> &str {
    payment["payment_no"].as_str().expect("a number")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payment_is_where_the_gateway_says_and_stays_there() {
    let (street, engine) = open().await;
    engine.goes(Way::Through("wechat"));
    let order_no = street.caller.ordered("a").await;
    // Nothing said is the same as any.
    let started = street.caller.post(&format!("/api/orders/{order_no}/payments"), json!({})).await;
    assert_eq!((started.0, &started.2["method"], &started.2["channel"]), (201, &json!("any"), &json!("wechat")));
    assert_eq!(street.caller.pay(&order_no, "any").await.2["payment_no"], started.2["payment_no"]);
    assert_eq!(code(&street.caller.pay(&order_no, "wechat").await), (409, "PAYMENT_LIVE"));
    street.confirm(&started.2).await;
    let order = street.caller.until(&order_no, "DELIVERED").await;
    assert!(history(&order).contains(&"PAYMENT_PLACED"));
    assert_eq!(engine.net("wechat", number(&started.2)).await, Some(4_900));
    for name in ["alipay", "union"] {
        assert_eq!(engine.sim(name, "/sim/stats", None).await["since_start"]["calls"], 0, "{name} was not asked");
    }
    // The channel's callback came to the address for all channels and was taken.
    for _ in 0..200 {
        if engine.sim("wechat", "/sim/stats", None).await["callbacks"] == json!({ "acknowledged": 1 }) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(engine.sim("wechat", "/sim/stats", None).await["callbacks"], json!({ "acknowledged": 1 }));
    close(street, engine).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payment_whose_answer_was_lost_is_asked_for_where_it_went_or_everywhere() {
    let (street, engine) = open().await;
    for (key, way, name) in [("a", Way::LostAt("union"), "union"), ("b", Way::LostSomewhere("alipay"), "alipay")] {
        engine.goes(way);
        let order_no = street.caller.ordered(key).await;
        let started = street.caller.pay(&order_no, "any").await;
        assert_eq!((started.0, &started.2["status"]), (202, &json!("UNKNOWN")));
        let payment = street.payment_until(&order_no, "PENDING").await;
        assert_eq!(payment["channel"], name);
        street.confirm(&payment).await;
        street.caller.until(&order_no, "DELIVERED").await;
        assert_eq!(engine.net(name, number(&payment)).await, Some(4_900));
        if key == "a" {
            assert_eq!(engine.sim("alipay", "/sim/stats", None).await["since_start"]["calls"], 0);
        }
    }
    close(street, engine).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payment_that_nobody_has_is_over_only_when_everybody_has_said_so() {
    let (street, engine) = open().await;
    engine.goes(Way::Vanished);
    let plan = json!({ "faults": [{ "kind": "503", "on": "query" }] });
    engine.sim("union", "/sim/plan", Some(plan)).await;
    let order_no = street.caller.ordered("a").await;
    assert_eq!(street.caller.pay(&order_no, "any").await.0, 202);
    // Longer than it takes to believe the others.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(street.payment_until(&order_no, "UNKNOWN").await["channel"], Value::Null);
    assert_eq!(code(&street.caller.pay(&order_no, "alipay").await), (409, "PAYMENT_LIVE"));
    engine.sim("union", "/sim/plan", Some(json!({}))).await;
    street.payment_until(&order_no, "CLOSED").await;
    for name in NAMES {
        assert_eq!(engine.sim(name, "/sim/stats", None).await["since_start"]["created"], 0, "{name}");
    }
    engine.goes(Way::Through("alipay"));
    let again = street.caller.pay(&order_no, "any").await.2;
    assert_eq!(again["channel"], "alipay");
    street.confirm(&again).await;
    street.caller.until(&order_no, "DELIVERED").await;
    close(street, engine).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_charge_at_another_channel_is_noticed_and_paid_back_there() {
    let (street, engine) = open().await;
    engine.goes(Way::Through("alipay"));
    let order_no = street.caller.ordered("a").await;
    let payment = street.caller.pay(&order_no, "any").await.2;
    street.confirm(&payment).await;
    street.caller.until(&order_no, "DELIVERED").await;
    // A gateway that went on to the next channel although the first one had charged.
    let twice = json!({
        "payment_no": payment["payment_no"], "amount": 4_900, "currency": "CNY", "capture": true,
        "notify_url": format!("{}/notify/any", street.caller.base),
    });
    engine.sim("wechat", "/pay/v1/payments", Some(twice)).await;
    for _ in 0..400 {
        if engine.net("wechat", number(&payment)).await == Some(0) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(engine.net("wechat", number(&payment)).await, Some(0), "paid back");
    assert_eq!(engine.net("alipay", number(&payment)).await, Some(4_900), "kept");
    let order = street.caller.until(&order_no, "DELIVERED").await;
    assert_eq!(history(&order).iter().filter(|kind| **kind == "DUPLICATE_CHARGE").count(), 1);
    close(street, engine).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_notification_that_no_channel_confirms_pays_for_nothing() {
    let (street, engine) = open().await;
    engine.goes(Way::Vanished);
    let order_no = street.caller.ordered("a").await;
    let payment = street.caller.pay(&order_no, "any").await.2;
    let claimed = json!({
        "payment_no": payment["payment_no"], "trade_no": "T", "amount": 4_900, "currency": "CNY",
    });
    for address in ["any", "wechat"] {
        let (body, signature) = notice("n-1", &claimed, unix_ms() / 1_000);
        assert_eq!(code(&street.caller.notify(address, body, &signature).await), (404, "UNKNOWN_PAYMENT"));
    }
    // Asked while one of them cannot answer, it is not known yet.
    let plan = json!({ "faults": [{ "kind": "503", "on": "query" }] });
    engine.sim("union", "/sim/plan", Some(plan)).await;
    let (body, signature) = notice("n-1", &claimed, unix_ms() / 1_000);
    assert_eq!(code(&street.caller.notify("any", body, &signature).await), (503, "NOT_CONFIRMED"));
    assert_eq!(street.caller.until(&order_no, "PENDING_PAYMENT").await["payments"][0]["channel"], Value::Null);
    close(street, engine).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_not_sent_anywhere_can_be_paid_again_at_once() {
    let (street, engine) = open().await;
    engine.goes(Way::NotSent);
    let order_no = street.caller.ordered("a").await;
    assert_eq!(code(&street.caller.pay(&order_no, "any").await), (503, "CHANNEL_UNAVAILABLE"));
    engine.goes(Way::Through("union"));
    assert_eq!(street.caller.pay(&order_no, "any").await.2["channel"], "union");
    close(street, engine).await;
}
