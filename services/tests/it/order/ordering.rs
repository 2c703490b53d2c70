//! Placing orders: once per key, never more than there is, and only one's own.

use std::collections::HashSet;
use std::time::Duration;

use reqwest::{Client, Method};
use serde_json::{Value, json};

use super::{Caller, Street, code};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_clicks_with_one_key_are_one_order_and_one_reservation() {
    let street = Street::open(100, |_| {}).await;
    let clicks: Vec<_> = (0..50)
        .map(|_| {
            let caller = street.caller.clone();
            tokio::spawn(async move { caller.order("click", 2).await })
        })
        .collect();
    let mut first = Vec::new();
    let mut bodies = HashSet::new();
    for click in clicks {
        let (status, again, body) = click.await.expect("no click panics");
        assert_eq!(status, 201, "{body}");
        assert_eq!((&body["amount"], &body["currency"]), (&json!(9_800), &json!("CNY")));
        bodies.insert(body.to_string());
        first.push(!again);
    }
    assert_eq!(bodies.len(), 1);
    assert_eq!(first.iter().filter(|first| **first).count(), 1);
    assert_eq!(street.stock().await, [98, 2, 0]);
    assert_eq!(street.caller.get("/api/orders").await.2["orders"].as_array().map(Vec::len), Some(1));

    // Another body under the same key is a mistake of the client, and changes nothing.
    assert_eq!(code(&street.caller.order("click", 1).await), (422, "IDEMPOTENCY_KEY_REUSED"));
    // With and without quotes it is the same key.
    assert_eq!(street.caller.order("\"click\"", 2).await.2["qty"], 2);
    // The same key of another user is another key.
    Caller::new(&street.caller.base).await.ordered("click").await;
    assert_eq!(street.stock().await, [97, 3, 0]);
    street.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_keys_are_sold_to_a_hundred_of_three_hundred_buyers() {
    let street = Street::open(100, |_| {}).await;
    let buyers: Vec<_> = (0..300)
        .map(|n| {
            let caller = street.caller.clone();
            tokio::spawn(async move { caller.order(&format!("buyer-{n}"), 1).await })
        })
        .collect();
    let mut sold = 0;
    for buyer in buyers {
        let answer = buyer.await.expect("no buyer panics");
        if answer.0 == 201 {
            sold += 1;
        } else {
            assert_eq!(code(&answer), (409, "SOLD_OUT"));
        }
    }
    assert_eq!(sold, 100);
    assert_eq!(street.stock().await, [0, 100, 0]);
    street.close().await;
}

#[tokio::test]
async fn what_cannot_be_meant_is_refused_and_strangers_see_nothing() {
    let street = Street::open(5, |_| {}).await;
    let caller = &street.caller;
    let order = async |key: &str, body: Value| {
        let answer = caller.try_send(Method::POST, "/api/orders", key, body).await.expect("an answer");
        (answer.0, answer.2["code"].as_str().unwrap_or("").to_owned())
    };
    let refused = |status: u16, code: &str| (status, code.to_owned());
    assert_eq!(order("", json!({ "sku": "card" })).await, refused(400, "IDEMPOTENCY_KEY_REQUIRED"));
    assert_eq!(order(&"k".repeat(256), json!({ "sku": "card" })).await, refused(400, "IDEMPOTENCY_KEY_REQUIRED"));
    assert_eq!(order("two words", json!({ "sku": "card" })).await, refused(400, "IDEMPOTENCY_KEY_REQUIRED"));
    assert_eq!(
        order("a", json!({ "sku": "card", "qty": 0, "query_password": "secret-99" })).await,
        refused(400, "INVALID_REQUEST")
    );
    assert_eq!(order("a", json!({ "sku": "card", "query_password": "short" })).await, refused(400, "INVALID_REQUEST"));
    assert_eq!(
        order("a", json!({ "sku": "card", "query_password": "secret-99", "amount": 1 })).await,
        refused(400, "INVALID_REQUEST")
    );
    assert_eq!(
        order("a", json!({ "sku": "nothing", "query_password": "secret-99" })).await,
        refused(404, "UNKNOWN_SKU")
    );
    assert_eq!(street.stock().await, [5, 0, 0]);

    let order_no = caller.ordered("mine").await;
    let stranger = Caller::new(&caller.base).await;
    assert_eq!(code(&stranger.get(&format!("/api/orders/{order_no}")).await), (404, "UNKNOWN_ORDER"));
    assert_eq!(code(&stranger.pay(&order_no, "alipay").await), (404, "UNKNOWN_ORDER"));
    assert_eq!(code(&stranger.keys(&order_no, "secret-99").await), (404, "UNKNOWN_ORDER"));
    assert_eq!(stranger.post(&format!("/api/orders/{order_no}/cancel"), Value::Null).await.0, 404);
    // A header that says who somebody is proves nothing, nor does a token with the signature cut off.
    let mut forged = caller.clone();
    forged.token = format!("{}.", caller.token.rsplit_once('.').expect("a token has dots").0);
    assert_eq!(code(&forged.get("/api/orders").await), (401, "UNAUTHENTICATED"));
    street.close().await;
}

#[tokio::test]
async fn an_order_placed_while_the_stock_is_away_is_finished_later() {
    let street = Street::open(5, |_| {}).await;
    street.caller.ordered("before").await;
    street.services[0].stop();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let answer = street.caller.order("during", 1).await;
    assert_eq!(code(&answer), (503, "STOCK_UNAVAILABLE"));
    assert_eq!(street.caller.check().await["orders"]["CREATING"], 1);

    // The card-key service comes back elsewhere; the order service is started anew and told where.
    let (card_key, base) = super::sell_keys(street.folder.path(), 0).await;
    street.services[1].stop();
    let settings = super::settings(street.folder.path(), &base, "http://127.0.0.1:1");
    let order = tidegate_services::order::start(settings).await.expect("the service starts");
    let caller = Caller { base: format!("http://{}", order.address), ..street.caller.clone() };
    let listed = caller.get("/api/orders").await.2;
    let order_no = listed["orders"][0]["order_no"].as_str().expect("a number").to_owned();
    caller.until(&order_no, "PENDING_PAYMENT").await;
    // Whoever repeats the request gets the order after all.
    let (status, again, body) = caller.order("during", 1).await;
    assert_eq!((status, again, &body["order_no"]), (201, true, &json!(order_no)));
    caller.assert_sound().await;
    card_key.stop();
    order.stop();
}

#[tokio::test]
async fn an_order_that_is_not_paid_in_time_returns_its_stock() {
    let street = Street::open(1, |settings| settings.pay_within = Duration::from_secs(2)).await;
    let caller = &street.caller;
    let unpaid = caller.ordered("unpaid").await;
    assert_eq!(street.stock().await, [0, 1, 0]);
    caller.until(&unpaid, "EXPIRED").await;
    assert_eq!(code(&caller.pay(&unpaid, "alipay").await), (409, "WRONG_STATE"));
    until_stock(&street, [1, 0, 0]).await;

    // With a payment under way the channel closes it first.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let begun = caller.ordered("begun").await;
    let payment_no = caller.paying(&begun).await;
    let order = caller.until(&begun, "EXPIRED").await;
    assert_eq!(order["payments"][0]["status"], "CLOSED");
    assert!(super::history(&order).contains(&"CLOSING"));
    assert_eq!(street.bank.truth().payments[&payment_no]["status"], "CLOSED");
    until_stock(&street, [1, 0, 0]).await;
    street.close().await;
}

#[tokio::test]
async fn a_cancelled_order_closes_its_payment_and_returns_its_stock() {
    let street = Street::open(1, |_| {}).await;
    let caller = &street.caller;
    let order_no = caller.ordered("a").await;
    let payment_no = caller.paying(&order_no).await;
    let cancel = format!("/api/orders/{order_no}/cancel");
    assert_eq!(caller.post(&cancel, Value::Null).await.2["status"], "CANCELLED");
    assert_eq!(caller.post(&cancel, Value::Null).await.0, 200);
    assert_eq!(street.bank.truth().payments[&payment_no]["status"], "CLOSED");
    until_stock(&street, [1, 0, 0]).await;
    street.close().await;
}

async fn until_stock(street: &Street, wanted: [u64; 3]) {
    for _ in 0..200 {
        if street.stock().await == wanted {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(street.stock().await, wanted);
}

#[tokio::test]
async fn settings_under_which_a_live_payment_could_be_given_up_are_refused() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let output = crate::process::Process::run(&[
        "order",
        "--listen",
        "127.0.0.1:0",
        "--data-dir",
        folder.path().to_str().expect("text"),
        "--channel-timeout",
        "61",
    ]);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("may still be on its way"));
}

#[tokio::test]
async fn products_of_a_sale_are_near_at_hand_before_it_begins() {
    let street = Street::open(5, |settings| settings.preheat = vec!["card".to_owned()]).await;
    let caller = &street.caller;
    let asked = async || {
        let metrics = Client::new().get(format!("{}/metrics", caller.base)).send().await.expect("an answer");
        let metrics = metrics.text().await.expect("text");
        let line = metrics.lines().find(|line| line.starts_with("order_products_asked_total ")).expect("a figure");
        line.rsplit(' ').next().and_then(|count| count.parse::<u64>().ok()).expect("a number")
    };
    while asked().await == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let body = json!({ "skus": ["card", "nothing"] });
    let warmed = caller.post("/admin/preheat", body).await.2;
    assert_eq!(warmed, json!({ "ready": ["card"], "unknown": ["nothing"], "failed": [] }));
    assert_eq!(code(&caller.post("/admin/preheat", json!({ "skus": ["../x"] })).await), (400, "INVALID_REQUEST"));
    let before = asked().await;
    for _ in 0..20 {
        assert_eq!(caller.get("/api/products/card").await.2["price"], 4_900);
        assert_eq!(code(&caller.get("/api/products/nothing").await), (404, "UNKNOWN_SKU"));
    }
    assert!(asked().await <= before + 1, "at most once a second");
    // The stock goes away; its products stay.
    street.services[0].stop();
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert_eq!(caller.get("/api/products/card").await.2["price"], 4_900);
    caller.assert_sound().await;
    street.services[1].stop();
}
