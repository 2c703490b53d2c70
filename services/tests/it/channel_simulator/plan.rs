//! The fault plan through HTTP: the same victims every time, and limits that show.

use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use tempfile::TempDir;
use tidegate_services::channel_simulator::{self, Settings};

use super::{Caller, NOWHERE, Service, code, order, settings};

async fn put(caller: &Caller, plan: Value) -> (StatusCode, Value) {
    caller.send(Method::PUT, "/sim/plan", plan).await
}

#[tokio::test]
async fn a_plan_declines_the_same_payments_in_another_channel_and_another_order() {
    let plan = json!({ "seed": 42, "decline": { "ratio": 0.4, "codes": ["RISK", "LIMIT"] } });
    let mut runs = Vec::new();
    for reversed in [false, true] {
        let service = Service::start().await;
        put(&service.caller, plan.clone()).await;
        let mut numbers: Vec<_> = (0..60).map(|n| format!("p{n:02}")).collect();
        if reversed {
            numbers.reverse();
        }
        let mut outcomes = Vec::new();
        for number in numbers {
            service.caller.create(order(&number, 7, NOWHERE)).await;
            let answer = service.caller.confirm(&number).await.1;
            outcomes.push((number, answer["status"].to_string(), answer["code"].to_string()));
        }
        outcomes.sort();
        let summary = service.caller.get("/sim/truth").await.1;
        let declined = outcomes.iter().filter(|outcome| outcome.1 == "\"DECLINED\"").count();
        assert_eq!(summary["ledger"]["decline"]["count"], declined);
        assert_eq!(summary["ledger"]["charge"]["amount"], (60 - declined) * 7);
        assert!((12..36).contains(&declined), "{declined}");
        runs.push(outcomes);
        service.stop().await;
    }
    assert_eq!(runs[0], runs[1]);
}

#[tokio::test]
async fn a_plan_in_a_file_is_in_force_from_the_start() {
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("plan.json");
    let settings = Settings { plan: Some(file.clone()), auto_confirm: true, ..settings(folder.path()) };
    std::fs::write(&file, r#"{"decline":{"ratio":2}}"#).expect("a file");
    let refused = channel_simulator::start(settings.clone()).await.expect_err("two of one");
    assert!(refused.to_string().contains("decline.ratio"), "{refused}");
    std::fs::write(&file, r#"{"decline":{"ratio":1,"codes":["RISK"]}}"#).expect("a file");
    let running = channel_simulator::start(settings).await.expect("the service starts");
    let caller = Caller::new(format!("http://{}", running.address));
    let created = caller.create(order("p", 1, NOWHERE)).await;
    assert_eq!(created.0, StatusCode::CREATED);
    assert_eq!((created.1["status"].as_str(), created.1["code"].as_str()), (Some("DECLINED"), Some("RISK")));
    assert_eq!(caller.close("p").await.1["status"], "DECLINED");
    assert_eq!(caller.truth("p").await["net"], 0);
    drop(caller);
    running.stop();
    running.wait().await;
}

#[tokio::test]
async fn a_plan_that_makes_no_sense_changes_nothing() {
    let service = Service::start().await;
    let caller = &service.caller;
    let good = put(caller, json!({ "seed": 1, "latency": { "kind": "fixed", "ms": 1 } })).await;
    assert_eq!(good.0, StatusCode::OK);
    let bad = put(caller, json!({ "seed": 2, "latncy": 1 })).await;
    assert_eq!(code(&bad), (400, "INVALID_REQUEST"));
    assert!(bad.1["detail"].as_str().is_some_and(|detail| detail.contains("`latncy`")), "{}", bad.1);
    let bad = put(caller, json!({ "faults": [{ "kind": "503" }, { "kind": "503", "ratio": 7 }] })).await;
    assert!(bad.1["detail"].as_str().is_some_and(|detail| detail.contains("faults[1].ratio")), "{}", bad.1);
    assert_eq!(caller.get("/sim/plan").await, good);
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beyond_its_capacity_a_channel_refuses_and_does_nothing() {
    let service = Service::start().await;
    let caller = &service.caller;
    put(caller, json!({ "capacity": { "per_second": 5 } })).await;
    let url = format!("{}/pay/v1/payments", caller.base);
    let mut made = 0;
    let mut refused = 0;
    for n in 0..30 {
        let body = order(&format!("p{n}"), 1, NOWHERE);
        let answer = caller.client.post(&url).json(&body).send().await.expect("an answer");
        match answer.status().as_u16() {
            201 => made += 1,
            status => {
                assert_eq!((status, answer.headers()["retry-after"].as_bytes()), (429, &b"1"[..]));
                refused += 1;
            }
        }
    }
    assert!(made >= 5 && refused > 0, "{made} made, {refused} refused");
    put(caller, json!({})).await;
    let summary = caller.get("/sim/truth").await.1;
    assert_eq!(summary["payments"]["PENDING"], made);
    put(caller, json!({ "latency": { "kind": "fixed", "ms": 300 }, "capacity": { "concurrent": 2 } })).await;
    let started = Instant::now();
    let calls: Vec<_> = (0..6)
        .map(|_| {
            let caller = caller.clone();
            tokio::spawn(async move { caller.get("/pay/v1/payments/p0").await })
        })
        .collect();
    let mut codes = Vec::new();
    for call in calls {
        codes.push(code(&call.await.expect("no call panics")).0);
    }
    codes.sort_unstable();
    assert_eq!(codes, [200, 200, 503, 503, 503, 503]);
    assert!(started.elapsed() >= Duration::from_millis(300));
    service.stop().await;
}
