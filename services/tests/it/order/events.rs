//! Events: what buyers hear as it happens, what is counted from it, and what becomes of an event nobody can take in.

use std::time::Duration;

use futures_util::StreamExt;
use reqwest::Client;
use rusqlite::Connection;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use super::{Caller, Street, code};

/// Longest that a test waits for something that must come.
const SOON: Duration = Duration::from_secs(10);

/// Reads server-sent events: number and data.
struct Sse {
    body: futures_util::stream::BoxStream<'static, reqwest::Result<bytes::Bytes>>,
    text: String,
}

impl Sse {
    async fn open(caller: &Caller, last: Option<i64>) -> Self {
        let mut request = caller.client.get(format!("{}/api/events", caller.base)).bearer_auth(&caller.token);
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let answer = request.send().await.expect("an answer");
        assert_eq!(answer.status(), 200);
        let mut this = Self { body: answer.bytes_stream().boxed(), text: String::new() };
        // Only then is it certain that the service listens.
        this.until(": listening\n\n").await;
        this
    }

    async fn until(&mut self, mark: &str) -> String {
        loop {
            if let Some(at) = self.text.find(mark) {
                let rest = self.text.split_off(at + mark.len());
                return std::mem::replace(&mut self.text, rest);
            }
            let more = tokio::time::timeout(SOON, self.body.next()).await.expect("in time");
            let more = more.expect("the stream goes on").expect("readable");
            self.text.push_str(std::str::from_utf8(&more).expect("text"));
        }
    }

    async fn next(&mut self) -> (i64, Value) {
        let event = self.until("\n\n").await;
        let member = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        assert_eq!(member("event:"), Some("order"), "{event}");
        let number = member("id:").and_then(|id| id.parse().ok()).expect("a number");
        (number, serde_json::from_str(member("data:").expect("data")).expect("JSON"))
    }
}

fn told(order_no: &str, status: &str, notice: &Value) {
    assert_eq!((&notice["order_no"], &notice["status"]), (&json!(order_no), &json!(status)), "{notice}");
    assert!(notice["at"].as_str().is_some_and(|at| at.ends_with('Z')), "{notice}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_buyer_hears_of_his_orders_as_it_happens_and_of_nobody_elses() {
    let street = Street::open(5, |_| {}).await;
    let caller = &street.caller;
    let stranger = Caller::new(&caller.base).await;
    let (mut own, mut others) = (Sse::open(caller, None).await, Sse::open(&stranger, None).await);
    let ticket =
        caller.post("/api/events/ticket", Value::Null).await.2["ticket"].as_str().expect("a ticket").to_owned();
    let url = format!("{}/api/ws?ticket={ticket}", caller.base.replace("http:", "ws:"));
    let (mut socket, _) = tokio_tungstenite::connect_async(&url).await.expect("a WebSocket");
    let used = tokio_tungstenite::connect_async(&url).await.expect_err("a ticket is good once");
    assert!(used.to_string().contains("401"), "{used}");

    let (order_no, _) = street.sold("a").await;
    let mut seen = Vec::new();
    for status in ["PAID", "DELIVERED"] {
        let (number, notice) = own.next().await;
        told(&order_no, status, &notice);
        seen.push(number);
        let message = loop {
            let message = tokio::time::timeout(SOON, socket.next()).await.expect("in time").expect("open");
            if let Message::Text(text) = message.expect("readable") {
                break serde_json::from_str::<Value>(&text).expect("JSON");
            }
        };
        told(&order_no, status, &message);
        assert_eq!(message["id"], number);
    }
    // The stranger hears of his own order first, because there was nothing else for him.
    let his = stranger.ordered("b").await;
    assert_eq!(stranger.post(&format!("/api/orders/{his}/cancel"), Value::Null).await.0, 200);
    told(&his, "CANCELLED", &others.next().await.1);
    // Who comes back gets what he has not seen, and that only.
    let (number, notice) = Sse::open(caller, Some(seen[0])).await.next().await;
    told(&order_no, "DELIVERED", &notice);
    assert_eq!(number, seen[1]);
    let nobody = Client::new().get(format!("{}/api/events", caller.base)).send().await.expect("an answer");
    assert_eq!(nobody.status(), 401);
    drop((own, others, socket));
    street.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_counted_from_events_each_of_them_once() {
    let street = Street::open(5, |_| {}).await;
    let caller = &street.caller;
    street.sold("a").await;
    street.sold("b").await;
    let given_up = caller.ordered("c").await;
    assert_eq!(caller.post(&format!("/api/orders/{given_up}/cancel"), Value::Null).await.0, 200);
    let wanted = json!({ "card": { "reserved": 3, "issued": 2, "returned": 1 } });
    let mut sales = Value::Null;
    for _ in 0..200 {
        sales = caller.get("/admin/sales").await.2["sales"].clone();
        if sales == wanted {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(sales, wanted);
    street.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_nobody_can_take_in_is_parked_and_waits_for_a_person() {
    let street = Street::open(5, |settings| {
        settings.retry_unit = Duration::from_millis(1);
        settings.shards = super::Files::new(1).expect("allowed");
    })
    .await;
    let caller = &street.caller;
    let mut feed = Sse::open(caller, None).await;
    let file = Connection::open(street.folder.path().join("order-0-of-1.sqlite")).expect("the file");
    file.busy_timeout(SOON).expect("a pragma");
    let broken = "CREATE TRIGGER broken BEFORE INSERT ON notices BEGIN SELECT RAISE(ABORT, 'broken'); END";
    file.execute_batch(broken).expect("made");
    let order_no = caller.ordered("a").await;
    assert_eq!(caller.post(&format!("/api/orders/{order_no}/cancel"), Value::Null).await.0, 200);
    let mut parked = Value::Null;
    for _ in 0..400 {
        parked = caller.get("/admin/outbox").await.2["parked"].clone();
        if parked[0]["topic"] == "notification" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(parked[0]["topic"], "notification", "{parked}");
    let check = caller.check().await;
    assert_eq!(check["events"], json!([0, 0, 1]));
    assert_eq!(check["violations"].as_array().map(Vec::len), Some(1), "somebody is called: {check}");
    file.execute_batch("DROP TRIGGER broken").expect("dropped");
    assert_eq!(code(&caller.post("/admin/outbox/requeue", json!({ "id": "nothing" })).await), (404, "UNKNOWN_EVENT"));
    assert_eq!(caller.post("/admin/outbox/requeue", json!({ "id": parked[0]["id"] })).await.0, 204);
    told(&order_no, "CANCELLED", &feed.next().await.1);
    assert_eq!(caller.get("/admin/outbox").await.2["parked"], json!([]));
    drop(feed);
    street.close().await;
}
