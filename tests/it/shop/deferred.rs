//! The same order at once and later: one order, whoever dies in between.

use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::{Client, StatusCode};
use serde_json::{Value, json};

use super::buyer::{Buyer, client};
use super::set_up::Shop;
use crate::support::Raw;

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

/// Reads a WebSocket's messages until one speaks of this status.
fn hears(socket: &mut Raw, status: &str) -> Value {
    loop {
        let head = socket.bytes(2);
        assert_eq!(head.len(), 2, "the socket is closed before {status}");
        let length = match head[1] {
            126 => {
                let long = socket.bytes(2);
                usize::from(u16::from_be_bytes([long[0], long[1]]))
            }
            short => usize::from(short),
        };
        let payload = socket.bytes(length);
        // Pings come in between.
        let said: Value = if head[0] == 0x81 { serde_json::from_slice(&payload).expect("JSON") } else { Value::Null };
        if said["status"] == status {
            return said;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_result_of_a_deferred_order_is_pushed_over_a_websocket_through_the_gateway() {
    let shop =
        Shop::start_edited(|yaml| yaml.replace("rate: 500/s, max_in_flight: 500", "rate: 1/2s, max_in_flight: 500"));
    let (client, base) = (client(), shop.url("gateway"));
    let buyer = Buyer::new(&client, &base, "listener");
    let listens = || async {
        let asked = client.post(format!("{base}/api/events/ticket")).bearer_auth(buyer.token()).send().await;
        let ticket: Value = asked.expect("an answer").json().await.expect("JSON");
        let ticket = ticket["ticket"].as_str().expect("a ticket").to_owned();
        let address = base.trim_start_matches("http://").parse().expect("an address");
        let mut socket = Raw::connect(address);
        socket.patience(PATIENCE);
        socket.send(format!(
            "GET /api/ws?after=0&ticket={ticket} HTTP/1.1\r\nHost: shop.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        ));
        assert_eq!(socket.answer().expect("an answer").status, 101);
        socket
    };
    // Somebody else was there first, so this one has to wait for its turn.
    order(&client, &base, &Buyer::new(&client, &base, "first"), true).await;
    let mut socket = listens().await;
    let body = json!({ "sku": "steam-50", "qty": 1, "query_password": "a-password" });
    let request = client.post(format!("{base}/api/orders")).bearer_auth(buyer.token()).json(&body);
    let accepted = request.header("idempotency-key", buyer.key()).header("prefer", "respond-async").send().await;
    let accepted = accepted.expect("an answer");
    assert_eq!(accepted.status(), StatusCode::ACCEPTED);
    let place = accepted.headers()["location"].to_str().expect("text").to_owned();
    let pushed = hears(&mut socket, "PENDING_PAYMENT");
    let result = client.get(format!("{base}{place}/result")).bearer_auth(buyer.token()).header("prefer", "wait=20");
    let result: Value = result.send().await.expect("an answer").json().await.expect("JSON");
    assert_eq!(
        (&pushed["order_no"], result["status"].as_str()),
        (&result["order_no"], Some("PENDING_PAYMENT")),
        "{result}"
    );
    // Who was not there hears it when he comes, and once.
    drop(socket);
    assert_eq!(hears(&mut listens().await, "PENDING_PAYMENT")["id"], pushed["id"]);
}
