//! Each kind of fault: what comes over the wire, and whether money moved.

use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tidegate_services::channel_simulator::{self, Settings};

use super::raw::{self, Came, End};
use super::{Caller, NOWHERE, Service, code, order, settings};

/// A payment that is charged when it is created.
pub(super) fn direct(payment_no: &str) -> Value {
    let mut body = order(payment_no, 700, NOWHERE);
    body["capture"] = json!(true);
    body
}

/// One direct charge under a plan with this fault; what came, and what the payment was charged.
async fn charged_under(fault: Value) -> (Came, Value) {
    let service = Service::start().await;
    put(&service.caller, json!([fault])).await;
    let came = raw::call(&service.caller.base, "POST", "/pay/v1/payments", &direct("p")).await;
    let truth = service.caller.truth("p").await;
    let faults = service.caller.get("/sim/stats").await.1["faults"].clone();
    assert_eq!(faults, json!({ fault["kind"].as_str().expect("a kind"): 1 }));
    service.stop().await;
    (came, truth)
}

pub(super) async fn put(caller: &Caller, faults: Value) {
    let answer = caller.send(Method::PUT, "/sim/plan", json!({ "seed": 1, "faults": faults })).await;
    assert_eq!(answer.0, StatusCode::OK, "{}", answer.1);
}

#[tokio::test]
async fn a_direct_payment_is_charged_when_it_is_created() {
    let service = Service::start().await;
    let caller = &service.caller;
    let mut with_method = order("q", 5, NOWHERE);
    with_method["method"] = json!("direct");
    for body in [direct("p"), with_method] {
        let created = caller.create(body.clone()).await;
        assert_eq!((created.0, created.1["status"].as_str()), (StatusCode::CREATED, Some("SUCCESS")));
        assert_eq!(caller.create(body).await, (StatusCode::OK, created.1));
    }
    put(caller, json!([{ "kind": "decline_hard", "code": "STOLEN_CARD" }])).await;
    let declined = caller.create(direct("r")).await.1;
    assert_eq!((declined["status"].as_str(), declined["code"].as_str()), (Some("DECLINED"), Some("STOLEN_CARD")));
    assert_eq!(caller.get("/sim/truth").await.1["net"], 705);
    service.stop().await;
}

#[tokio::test]
async fn after_a_charge_that_is_not_answered_the_money_has_moved() {
    for (kind, end, status) in [
        ("charge_then_hang", End::Silent, None),
        ("charge_then_rst", End::Reset, None),
        ("charge_then_500", End::Whole, Some(500)),
        ("system_error_charged", End::Whole, Some(200)),
    ] {
        let (came, truth) = charged_under(json!({ "kind": kind })).await;
        assert_eq!((came.end, came.status()), (end, status), "{kind}: {came:?}");
        assert_eq!((truth["charges"].as_i64(), truth["charged"].as_i64()), (Some(1), Some(700)), "{kind}");
        assert_eq!(came.json()["trade_no"], Value::Null, "{kind} tells nothing");
        if status == Some(200) {
            assert_eq!(came.json(), json!({ "status": "SYSTEM_ERROR" }));
        }
    }
}

#[tokio::test]
async fn what_fails_before_the_charge_charges_nothing() {
    for (kind, end, status) in [
        ("no_charge_then_hang", End::Silent, None),
        ("read_all_then_close", End::Closed, None),
        ("rst_before_read", End::Reset, None),
        ("system_error_not_charged", End::Whole, Some(200)),
        ("maintenance_window", End::Whole, Some(503)),
        ("425", End::Whole, Some(425)),
        ("429", End::Whole, Some(429)),
        ("503", End::Whole, Some(503)),
    ] {
        // Once only, so that asking for the truth meets no fault.
        let (came, truth) = charged_under(json!({ "kind": kind, "times": 1 })).await;
        assert_eq!((came.end, came.status()), (end, status), "{kind}: {came:?}");
        assert_eq!(truth["code"], "PAYMENT_NOT_FOUND", "{kind}");
    }
    let (came, truth) = charged_under(json!({ "kind": "rst_after_n_bytes", "bytes": 100, "times": 1 })).await;
    assert_eq!((came.end, came.text.as_str()), (End::Reset, ""));
    assert_eq!(truth["code"], "PAYMENT_NOT_FOUND");
}

#[tokio::test]
async fn a_damaged_answer_is_about_a_charge_that_happened() {
    let (came, truth) = charged_under(json!({ "kind": "truncate", "bytes": 10 })).await;
    assert_eq!((came.end, came.status(), came.body().len()), (End::Closed, Some(201), 10), "{came:?}");
    assert_eq!(truth["charged"], 700);
    let (came, truth) = charged_under(json!({ "kind": "bad_json" })).await;
    assert_eq!((came.end, came.status(), came.json()), (End::Whole, Some(201), Value::Null), "{came:?}");
    assert_eq!(truth["charged"], 700);
    let (came, truth) = charged_under(json!({ "kind": "wrong_amount" })).await;
    assert_eq!((came.json()["amount"].as_i64(), truth["charged"].as_i64()), (Some(701), Some(700)));
    let started = Instant::now();
    let (came, truth) = charged_under(json!({ "kind": "slow_body", "ms": 1_000 })).await;
    assert_eq!((came.end, came.json()["status"].as_str()), (End::Whole, Some("SUCCESS")));
    assert!(started.elapsed() >= Duration::from_millis(900));
    assert_eq!(truth["charged"], 700);
}

#[tokio::test]
async fn an_answer_is_signed_and_a_forged_one_is_not() {
    use tidegate_services::support::{signature, unix_ms};
    let genuine = |came: &Came| {
        let header = came.text.lines().find_map(|line| line.strip_prefix("x-channel-signature: "));
        let now = u64::try_from(unix_ms() / 1_000).expect("a time after 1970");
        signature::verify(super::SECRET.as_bytes(), header, now, came.body().as_bytes())
    };
    let (came, _) = charged_under(json!({ "kind": "bad_signature" })).await;
    assert_eq!(genuine(&came), Err(signature::Refusal::Mismatch));
    let (came, _) = charged_under(json!({ "kind": "wrong_amount" })).await;
    assert_eq!(genuine(&came), Ok(()));
}

#[tokio::test]
async fn a_payment_that_is_processed_is_decided_later() {
    let service = Service::start().await;
    let caller = &service.caller;
    let faults = json!([
        { "kind": "processing_then_success", "numbers": ["good"], "ms": 300 },
        { "kind": "processing_then_fail", "numbers": ["bad"], "ms": 300, "code": "RISK" },
    ]);
    put(caller, faults).await;
    for (number, last) in [("good", "SUCCESS"), ("bad", "DECLINED")] {
        let created = caller.create(direct(number)).await;
        assert_eq!((created.0, created.1["status"].as_str()), (StatusCode::CREATED, Some("PROCESSING")));
        assert_eq!(caller.truth(number).await["charges"], 0);
        assert_eq!(code(&caller.close(number).await), (409, "PAYMENT_PROCESSING"));
        assert_eq!(caller.confirm(number).await.1["status"], "PROCESSING");
        let path = format!("/pay/v1/payments/{number}");
        let mut status = Value::Null;
        for _ in 0..200 {
            status = caller.get(&path).await.1["status"].clone();
            if status != "PROCESSING" {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(status, last, "{number}");
        assert_eq!(caller.truth(number).await["charges"], i64::from(number == "good"));
    }
    service.stop().await;
}

#[tokio::test]
async fn a_soft_decline_and_a_hard_one_differ_by_their_codes() {
    for (fault, reason) in [
        (json!({ "kind": "decline_hard" }), "INSUFFICIENT_FUNDS"),
        (json!({ "kind": "decline_soft" }), "CHANNEL_MAINTENANCE"),
        (json!({ "kind": "maintenance_window", "code": "CLOSED_AT_NIGHT" }), "CLOSED_AT_NIGHT"),
    ] {
        let (came, truth) = charged_under(fault).await;
        let answer = came.json();
        assert_eq!((answer["status"].as_str(), answer["code"].as_str()), (Some("DECLINED"), Some(reason)));
        assert_eq!(truth["net"], 0);
    }
}

#[tokio::test]
async fn a_fault_is_for_the_step_it_names() {
    let service = Service::start().await;
    let caller = &service.caller;
    put(caller, json!([{ "kind": "charge_then_500", "on": "refund" }, { "kind": "503", "on": "query" }])).await;
    caller.create(direct("p")).await;
    assert_eq!(caller.get("/pay/v1/payments/p").await.0, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(caller.refund("p", "r", 100).await.0, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(caller.truth("p").await["refunded"], 100);
    put(caller, json!([{ "kind": "charge_then_500" }])).await;
    caller.create(order("q", 5, NOWHERE)).await;
    assert_eq!(caller.confirm("q").await.0, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(caller.truth("q").await["charged"], 5);
    service.stop().await;
}

#[tokio::test]
async fn a_maintenance_window_comes_and_goes_with_the_channels_clock() {
    let service = Service::start().await;
    let caller = &service.caller;
    put(caller, json!([{ "kind": "maintenance_window", "from": "03:00", "to": "04:00" }])).await;
    let now = caller.get("/sim/clock").await.1["now_ms"].as_i64().expect("a time");
    // Beijing is eight hours ahead.
    let since_midnight = (now + 8 * 3_600_000) % 86_400_000;
    for (hour, status) in [(2, 201), (3, 503), (4, 201)] {
        let offset = hour * 3_600_000 + 1_800_000 - since_midnight;
        caller.send(Method::POST, "/sim/clock", json!({ "offset_ms": offset })).await;
        let created = caller.create(direct(&format!("at-{hour}"))).await;
        assert_eq!(created.0.as_u16(), status, "at {hour}:30: {}", created.1);
    }
    let refused = caller.send(Method::POST, "/sim/clock", json!({ "offset": 1 })).await;
    assert_eq!(code(&refused), (400, "INVALID_REQUEST"));
    service.stop().await;
}

#[tokio::test]
async fn a_payment_expires_by_the_channels_clock() {
    let service = Service::start().await;
    let caller = &service.caller;
    let now = caller.get("/sim/clock").await.1["now_ms"].as_i64().expect("a time");
    for number in ["paid", "late"] {
        let mut body = order(number, 5, NOWHERE);
        body["expires_at"] = json!(now + 60_000);
        assert_eq!(caller.create(body).await.0, StatusCode::CREATED);
    }
    assert_eq!(caller.send(Method::POST, "/sim/pay/paid", Value::Null).await.1["status"], "SUCCESS");
    caller.send(Method::POST, "/sim/clock", json!({ "offset_ms": 120_000 })).await;
    assert_eq!(caller.get("/pay/v1/payments/late").await.1["status"], "CLOSED");
    assert_eq!(code(&caller.confirm("late").await), (409, "PAYMENT_CLOSED"));
    assert_eq!(code(&caller.send(Method::POST, "/sim/pay/late", Value::Null).await), (409, "PAYMENT_CLOSED"));
    assert_eq!(caller.get("/pay/v1/payments/paid").await.1["status"], "SUCCESS");
    service.stop().await;
}

#[tokio::test]
async fn the_truth_knows_how_the_call_that_moved_money_came() {
    let service = Service::start().await;
    let url = format!("{}/pay/v1/payments", service.caller.base);
    let request = service.caller.client.post(url).header("idempotency-key", "a key").json(&direct("p"));
    request.send().await.expect("an answer");
    let entry = service.caller.truth("p").await["entries"][0].clone();
    assert_eq!((entry["kind"].as_str(), entry["received_key"].as_str()), (Some("charge"), Some("a key")));
    assert!(entry["connection"].as_i64() >= Some(1) && entry["bytes_read"].as_i64() > Some(100), "{entry}");
    service.stop().await;
}

#[tokio::test]
async fn a_listener_can_be_closed_or_a_black_hole_for_a_while() {
    for (fault, end) in [
        (json!({ "kind": "refuse", "to": 60_000 }), End::Refused),
        (json!({ "kind": "blackhole", "to": 60_000 }), End::NoConnection),
        (json!({ "kind": "blackhole", "accept": true, "to": 60_000 }), End::Silent),
    ] {
        let folder = tempfile::TempDir::new().expect("a folder");
        let probe = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let control = probe.local_addr().expect("an address");
        drop(probe);
        let settings = Settings { control: Some(control), ..settings(folder.path()) };
        let running = channel_simulator::start(settings).await.expect("the service starts");
        let caller = Caller::new(format!("http://{}", running.address));
        let control = Caller::new(format!("http://{control}"));
        assert_eq!(caller.create(direct("before")).await.0, StatusCode::CREATED);
        put(&control, json!([fault])).await;
        wait_for(&caller.base, end).await;
        let came = raw::call(&caller.base, "POST", "/pay/v1/payments", &direct("p")).await;
        assert_eq!(came.end, end, "{fault}");
        // The client's kept connection is no way in.
        let kept = tokio::time::timeout(
            Duration::from_millis(400),
            caller.try_send(Method::POST, "/pay/v1/payments", direct("kept")),
        );
        assert!(!matches!(kept.await, Ok(Ok(_))), "{fault}");
        for number in ["p", "kept"] {
            assert_eq!(control.truth(number).await["code"], "PAYMENT_NOT_FOUND", "{fault}");
        }
        control.send(Method::POST, "/sim/clock", json!({ "offset_ms": 60_000 })).await;
        wait_for(&caller.base, End::Whole).await;
        assert_eq!(Caller::new(caller.base.clone()).create(direct("after")).await.0, StatusCode::CREATED, "{fault}");
        drop((caller, control));
        running.stop();
        running.wait().await;
    }
}

/// Until a harmless call ends like this.
async fn wait_for(base: &str, end: End) {
    let mut last = None;
    for _ in 0..50 {
        last = Some(raw::call(base, "GET", "/healthz", &Value::Null).await.end);
        if last == Some(end) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(last, Some(end));
}
