//! The payment channel over HTTP: one outcome for every payment, a ledger that is right, callbacks that arrive.

mod all;
mod callbacks;
mod crash;
mod dialects;
mod faults;
mod http2;
mod plan;
mod raw;
mod receiver;

use std::path::Path;

use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use tidegate_services::channel_simulator::{self, Settings};
use tidegate_services::support::{Running, Secret};

/// What callbacks are signed with in these tests.
const SECRET: &str = "a secret of these tests";

/// The secrets of the other dialects.
const API_V3_KEY: &[u8; 32] = b"an api v3 key of 32 bytes, no 33";
const EPAY_KEY: &str = "an epay key of these tests";

/// Where nobody listens: port 9 is for discarding.
const NOWHERE: &str = "http://127.0.0.1:9/notify";

fn settings(folder: &Path) -> Settings {
    Settings {
        service: "channel-simulator",
        name: "alipay".to_owned(),
        listen: "127.0.0.1:0".parse().expect("an address"),
        data_dir: folder.to_owned(),
        secret: Secret::new(SECRET),
        auto_confirm: false,
        time_scale: 0.05,
        public_url: None,
        plan: None,
        control: None,
        keys: None,
        api_v3_key: Secret::new(API_V3_KEY),
        epay_key: Secret::new(EPAY_KEY),
    }
}

/// A channel inside the test process.
struct Service {
    running: Running,
    caller: Caller,
    _folder: TempDir,
}

impl Service {
    async fn start() -> Self {
        let folder = TempDir::new().expect("a folder");
        let running = channel_simulator::start(settings(folder.path())).await.expect("the service starts");
        let caller = Caller::new(format!("http://{}", running.address));
        Self { running, caller, _folder: folder }
    }

    async fn stop(self) {
        drop(self.caller);
        self.running.stop();
        self.running.wait().await;
    }
}

/// Talks to a channel wherever it runs.
#[derive(Clone)]
struct Caller {
    base: String,
    client: Client,
}

impl Caller {
    fn new(base: String) -> Self {
        Self { base, client: Client::builder().no_proxy().build().expect("a client") }
    }

    async fn try_send(&self, method: Method, path: &str, body: Value) -> reqwest::Result<(StatusCode, Value)> {
        let answer = self.client.request(method, format!("{}{path}", self.base)).json(&body).send().await?;
        let status = answer.status();
        Ok((status, serde_json::from_slice(&answer.bytes().await?).unwrap_or(Value::Null)))
    }

    async fn send(&self, method: Method, path: &str, body: Value) -> (StatusCode, Value) {
        self.try_send(method, path, body).await.expect("the service answers")
    }

    async fn get(&self, path: &str) -> (StatusCode, Value) {
        self.send(Method::GET, path, Value::Null).await
    }

    async fn create(&self, body: Value) -> (StatusCode, Value) {
        self.send(Method::POST, "/pay/v1/payments", body).await
    }

    async fn confirm(&self, payment_no: &str) -> (StatusCode, Value) {
        self.send(Method::POST, &format!("/pay/v1/payments/{payment_no}/confirm"), Value::Null).await
    }

    async fn close(&self, payment_no: &str) -> (StatusCode, Value) {
        self.send(Method::POST, &format!("/pay/v1/payments/{payment_no}/close"), Value::Null).await
    }

    async fn refund(&self, payment_no: &str, refund_no: &str, amount: i64) -> (StatusCode, Value) {
        let body = json!({ "refund_no": refund_no, "amount": amount });
        self.send(Method::POST, &format!("/pay/v1/payments/{payment_no}/refunds"), body).await
    }

    async fn truth(&self, payment_no: &str) -> Value {
        self.get(&format!("/sim/truth?payment_no={payment_no}")).await.1
    }

    async fn ledger(&self) -> Vec<Value> {
        let url = format!("{}/sim/ledger.ndjson", self.base);
        let text = self.client.get(url).send().await.expect("an answer").text().await.expect("all of it");
        text.lines().map(|line| serde_json::from_str(line).expect("an entry is JSON")).collect()
    }
}

fn order(payment_no: &str, amount: i64, notify_url: &str) -> Value {
    json!({
        "payment_no": payment_no, "amount": amount, "currency": "CNY", "subject": "a <card>", "notify_url": notify_url,
    })
}

fn code(answer: &(StatusCode, Value)) -> (u16, &str) {
    (answer.0.as_u16(), answer.1["code"].as_str().unwrap_or(""))
}

#[tokio::test]
async fn a_payment_is_created_once_whatever_is_repeated() {
    let service = Service::start().await;
    let caller = &service.caller;
    let first = caller.create(order("p1", 4_900, NOWHERE)).await;
    assert_eq!(first.0, StatusCode::CREATED, "{}", first.1);
    assert_eq!((first.1["status"].as_str(), first.1["amount"].as_i64()), (Some("PENDING"), Some(4_900)));
    assert_eq!(caller.confirm("p1").await.1["status"], "SUCCESS");
    // The same answer as the first time, and it says so.
    let mut with_more = order("p1", 4_900, NOWHERE);
    with_more["a member nobody knows"] = json!(1);
    let url = format!("{}/pay/v1/payments", caller.base);
    let again = caller.client.post(&url).json(&with_more).send().await.expect("an answer");
    assert_eq!(again.headers()["idempotent-replayed"], "true");
    assert_eq!(again.status(), StatusCode::OK);
    assert_eq!(again.json::<Value>().await.expect("JSON"), first.1);
    assert_eq!(code(&caller.create(order("p1", 4_901, NOWHERE)).await), (409, "PAYMENT_CONFLICT"));
    // The header counts before the number.
    let keyed = async |payment_no: &str, key: &str| {
        let request = caller.client.post(&url).header("idempotency-key", key).json(&order(payment_no, 1, NOWHERE));
        request.send().await.expect("an answer").status().as_u16()
    };
    assert_eq!(keyed("p2", "k").await, 201);
    assert_eq!(keyed("p2", "k").await, 200);
    assert_eq!(keyed("p3", "k").await, 409);
    assert_eq!(keyed("p2", "another").await, 200);
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_hundred_equal_requests_one_charges() {
    let service = Service::start().await;
    let mut body = order("p", 100, NOWHERE);
    body["scene"] = json!("auto");
    let calls: Vec<_> = (0..100)
        .map(|_| {
            let (caller, body) = (service.caller.clone(), body.clone());
            tokio::spawn(async move { caller.create(body).await })
        })
        .collect();
    let mut answers = Vec::new();
    for call in calls {
        answers.push(call.await.expect("no call panics"));
    }
    assert_eq!(answers.iter().filter(|answer| answer.0 == StatusCode::CREATED).count(), 1);
    assert!(answers.iter().all(|answer| answer.0.is_success() && answer.1 == answers[0].1));
    assert_eq!(service.caller.truth("p").await["charges"], 1);
    service.stop().await;
}

#[tokio::test]
async fn a_request_that_makes_no_sense_is_refused() {
    let service = Service::start().await;
    let caller = &service.caller;
    for (member, value) in [
        ("amount", json!(0)),
        ("amount", json!(-5)),
        ("amount", json!(1.5)),
        ("currency", json!("USD")),
        ("notify_url", json!("ftp://127.0.0.1/")),
        ("notify_url", json!("https://127.0.0.1/")),
        ("payment_no", json!("a/b")),
        ("payment_no", json!("")),
    ] {
        let mut body = order("p", 1, NOWHERE);
        body[member] = value;
        let answer = caller.create(body.clone()).await;
        assert_eq!(code(&answer), (400, "INVALID_REQUEST"), "{body}");
    }
    assert_eq!(code(&caller.get("/pay/v1/payments/none").await), (404, "PAYMENT_NOT_FOUND"));
    assert_eq!(code(&caller.confirm("none").await), (404, "PAYMENT_NOT_FOUND"));
    assert_eq!(code(&caller.get("/nothing").await), (404, "NOT_FOUND"));
    service.stop().await;
}

#[tokio::test]
async fn a_number_that_was_closed_before_it_came_is_accepted_no_more() {
    let service = Service::start().await;
    let caller = &service.caller;
    assert_eq!(code(&caller.close("late").await), (404, "PAYMENT_NOT_FOUND"));
    assert_eq!(code(&caller.create(order("late", 100, NOWHERE)).await), (409, "PAYMENT_CLOSED"));
    assert_eq!(code(&caller.get("/pay/v1/payments/late").await), (404, "PAYMENT_NOT_FOUND"));
    assert_eq!(caller.create(order("other", 100, NOWHERE)).await.0, 201);
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_confirming_and_closing_at_the_same_time_exactly_one_happens() {
    let service = Service::start().await;
    for n in 0..20 {
        let number = format!("race-{n}");
        service.caller.create(order(&number, 100, NOWHERE)).await;
        let calls: Vec<_> = (0..100)
            .map(|call| {
                let (caller, number) = (service.caller.clone(), number.clone());
                let confirms = (call + n) % 2 == 0;
                tokio::spawn(async move {
                    let answer = if confirms { caller.confirm(&number).await } else { caller.close(&number).await };
                    (confirms, answer)
                })
            })
            .collect();
        let mut charged = None;
        for call in calls {
            let (confirms, answer) = call.await.expect("no call panics");
            let this = match (confirms, code(&answer)) {
                (true, (200, "")) | (false, (409, "ALREADY_PAID")) => true,
                (true, (409, "PAYMENT_CLOSED")) | (false, (200, "")) => false,
                other => unreachable!("{other:?}"),
            };
            assert_eq!(*charged.get_or_insert(this), this, "{number} was both charged and closed");
        }
        let charged = charged.expect("there were calls");
        assert_eq!(service.caller.truth(&number).await["charges"], i64::from(charged));
    }
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refunds_never_exceed_what_was_paid() {
    let service = Service::start().await;
    let caller = &service.caller;
    caller.create(order("p", 1_000, NOWHERE)).await;
    assert_eq!(code(&caller.refund("p", "early", 1).await), (409, "NOT_PAID"));
    caller.confirm("p").await;
    // Fifty refunds of 30 each, every one of them sent twice at once: 33 fit.
    let refunds: Vec<_> = (0..50)
        .map(|n| {
            let caller = caller.clone();
            tokio::spawn(async move {
                let number = format!("r{n}");
                let (one, two) = tokio::join!(caller.refund("p", &number, 30), caller.refund("p", &number, 30));
                assert_eq!(one.0.is_success(), two.0.is_success());
                if one.0.is_success() {
                    assert_eq!(one.1, two.1);
                    assert_ne!(one.0, two.0, "one of them made it, the other one repeats it");
                } else {
                    assert_eq!(code(&one), (409, "REFUND_TOO_MUCH"));
                }
                one.0.is_success()
            })
        })
        .collect();
    let mut made = 0;
    for refund in refunds {
        made += i64::from(refund.await.expect("no refund panics"));
    }
    assert_eq!(made, 33);
    let truth = caller.truth("p").await;
    assert_eq!((truth["refunded"].as_i64(), truth["net"].as_i64()), (Some(990), Some(10)));
    assert_eq!(code(&caller.refund("p", "rest", 11).await), (409, "REFUND_TOO_MUCH"));
    assert_eq!(caller.refund("p", "rest", 10).await.1["refunded"], 1_000);
    assert_eq!(code(&caller.refund("p", "rest", 9).await), (409, "REFUND_CONFLICT"));
    let summary = caller.get("/sim/truth").await.1;
    assert_eq!(summary["net"], 0);
    assert_eq!(summary["ledger"]["refund"], json!({ "count": 34, "amount": 1_000 }));
    service.stop().await;
}

#[tokio::test]
async fn the_buyer_pays_on_the_page_the_answer_names() {
    let service = Service::start().await;
    let created = service.caller.create(order("p", 4_905, NOWHERE)).await.1;
    let url = created["pay_url"].as_str().expect("an address");
    let page = service.caller.client.get(url).send().await.expect("a page").text().await.expect("text");
    assert!(page.contains("¥49.05") && page.contains("a &lt;card&gt;") && page.contains("<button>"), "{page}");
    let paid = service.caller.client.post(url).send().await.expect("a page").text().await.expect("text");
    assert!(paid.contains("支付成功") && !paid.contains("<button>"), "{paid}");
    assert_eq!(service.caller.truth("p").await["charged"], 4_905);
    service.stop().await;
}

#[tokio::test]
async fn nothing_is_deleted_by_accident() {
    let service = Service::start().await;
    let caller = &service.caller;
    let mut auto = order("p", 5, NOWHERE);
    auto["scene"] = json!("auto");
    let created = caller.create(auto.clone()).await;
    assert_eq!((created.0, created.1["status"].as_str()), (StatusCode::CREATED, Some("SUCCESS")));
    assert_eq!(caller.create(auto).await, (StatusCode::OK, created.1));
    assert_eq!(caller.ledger().await.len(), 1);
    for body in [json!({}), json!({ "confirm": "yes" })] {
        assert_eq!(code(&caller.send(Method::POST, "/sim/reset", body).await), (400, "INVALID_REQUEST"));
    }
    assert_eq!(caller.ledger().await.len(), 1);
    let reset = caller.send(Method::POST, "/sim/reset", json!({ "confirm": "reset" })).await;
    assert_eq!(reset, (StatusCode::OK, json!({ "deleted_payments": 1 })));
    assert!(caller.ledger().await.is_empty());
    assert_eq!(caller.create(order("p", 6, NOWHERE)).await.0, StatusCode::CREATED);
    for path in ["/healthz", "/readyz", "/metrics", "/sim/stats"] {
        assert_eq!(caller.get(path).await.0, StatusCode::OK, "{path}");
    }
    service.stop().await;
}
