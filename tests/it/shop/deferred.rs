//! The same order at once and later: one order, whoever dies in between.

use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::{Client, StatusCode};
use serde_json::{Value, json};

use super::buyer::{Buyer, client};
use super::set_up::Shop;

const PATIENCE: Duration = Duration::from_secs(90);

/// Sends an order until its answer is final; follows a promise to its answer.
pub(super) async fn order(client: &Client, base: &str, buyer: &Buyer, prefers: bool) -> Value {
    let begun = Instant::now();
    loop {
        assert!(begun.elapsed() < PATIENCE, "never an answer");
        if let Some(answer) = attempt(client, base, buyer, prefers).await {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// One try; `None` when nothing final has come of it.
async fn attempt(client: &Client, base: &str, buyer: &Buyer, prefers: bool) -> Option<Value> {
    let body = json!({ "sku": "steam-50", "qty": 1, "query_password": "a-password" });
    let mut request = client.post(format!("{base}/api/orders")).bearer_auth(buyer.token()).json(&body);
    request = request.header("idempotency-key", buyer.key());
    if prefers {
        request = request.header("prefer", "respond-async");
    }
    let mut answer = request.send().await.ok()?;
    if answer.status() == StatusCode::ACCEPTED {
        let place = answer.headers().get("location")?.to_str().ok()?.to_owned();
        assert!(place.starts_with("/.tidegate/async/"), "{place}");
        let ask = client.get(format!("{base}{place}/result")).bearer_auth(buyer.token()).header("prefer", "wait=5");
        answer = ask.send().await.ok()?;
        assert_ne!(answer.status(), StatusCode::NOT_FOUND, "a promise is gone");
    }
    (answer.status() == StatusCode::CREATED).then_some(answer)?.json().await.ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_at_once_and_later_is_one_order_although_gateway_and_order_service_are_killed() {
    let shop = Arc::new(Shop::start());
    let (client, base) = (client(), shop.url("gateway"));
    let mut buyers = Vec::new();
    for number in 0..40_u32 {
        let (client, base) = (client.clone(), base.clone());
        buyers.push(tokio::spawn(async move {
            let buyer = Buyer::new(&client, &base, &format!("twice-{number}"));
            tokio::time::sleep(Duration::from_millis(60) * number).await;
            let both = tokio::join!(order(&client, &base, &buyer, true), order(&client, &base, &buyer, false));
            let listed = loop {
                if let Some((StatusCode::OK, listed)) = buyer.once(reqwest::Method::GET, "/api/orders", None).await {
                    break listed;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            };
            (both, listed["orders"].as_array().map(Vec::len))
        }));
    }
    let victims = shop.clone();
    let killer = tokio::task::spawn_blocking(move || {
        for name in ["gateway", "order", "gateway", "order", "gateway"] {
            std::thread::sleep(Duration::from_millis(400));
            victims.kill(name);
            victims.restart(name);
        }
    });
    for buyer in buyers {
        let ((later, at_once), listed) = buyer.await.expect("a buyer");
        assert_eq!((&later["order_no"], listed), (&at_once["order_no"], Some(1)), "{later} {at_once}");
    }
    killer.await.expect("every process is back");
}
