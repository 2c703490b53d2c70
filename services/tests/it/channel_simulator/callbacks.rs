//! Callbacks: signed, repeated until acknowledged, not lost by a kill.

use std::collections::HashSet;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::receiver::{Manner, Receiver, Told};
use super::{Caller, SECRET, Service, order};
use crate::process::Process;

/// The secret of a process that was not told one.
const DEVELOPMENT_SECRET: &str = "development-only-secret-of-the-channels";

#[tokio::test]
async fn a_confirmed_payment_is_told_once_and_signed() {
    let service = Service::start().await;
    let shop = Receiver::start(SECRET, Manner::Acknowledge).await;
    let created = service.caller.create(order("p", 4_900, &shop.url)).await.1;
    assert!(shop.told().is_empty(), "nothing was paid yet");
    for _ in 0..3 {
        service.caller.confirm("p").await;
    }
    let told = shop.wait_for(1).await.remove(0);
    assert!(told.genuine);
    let notify_id = told.body["notify_id"].as_str().expect("an identity");
    assert_eq!(
        told.body,
        json!({
            "notify_id": notify_id, "payment_no": "p", "trade_no": created["trade_no"], "amount": 4_900,
            "currency": "CNY", "status": "SUCCESS",
        })
    );
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(shop.told().len(), 1, "acknowledged is acknowledged");
    assert_eq!(callbacks(&service.caller).await, json!({ "acknowledged": 1 }));
    service.stop().await;
}

#[tokio::test]
async fn a_callback_is_repeated_until_it_is_acknowledged() {
    let service = Service::start().await;
    for manner in [Manner::Redirect, Manner::Chatter, Manner::FailFirst(1)] {
        let shop = Receiver::start(SECRET, manner).await;
        let number = format!("{manner:?}").replace(['(', ')'], "-");
        service.caller.create(order(&number, 1, &shop.url)).await;
        service.caller.confirm(&number).await;
        // The first retry comes after 1 s, scaled to 50 ms.
        let told = shop.wait_for(2).await;
        assert_eq!(told[0].body, told[1].body, "a repetition is the same message");
        shop.behave(Manner::Acknowledge);
    }
    acknowledged(&service.caller, 3).await;
    service.stop().await;
}

#[tokio::test]
async fn a_plan_drops_doubles_and_forges_callbacks() {
    let service = Service::start().await;
    let caller = &service.caller;
    let shop = Receiver::start(SECRET, Manner::Acknowledge).await;
    let pay = async |plan: Value, number: &str| {
        assert_eq!(caller.send(Method::PUT, "/sim/plan", plan).await.0, 200);
        caller.create(order(number, 1, &shop.url)).await;
        caller.confirm(number).await;
    };
    pay(json!({ "callback": { "drop_ratio": 1 } }), "dropped").await;
    pay(json!({ "callback": { "duplicate_ratio": 1, "copies": 2 } }), "doubled").await;
    assert_eq!(shop.wait_for(3).await.len(), 3);
    pay(json!({ "callback": { "bad_signature_ratio": 1 } }), "probed").await;
    let told = shop.wait_for(5).await;
    let seen = |number: &str| -> Vec<bool> {
        told.iter().filter(|told| told.body["payment_no"] == number).map(|told| told.genuine).collect()
    };
    assert_eq!((seen("dropped"), seen("doubled"), seen("probed")), (vec![], vec![true; 3], vec![false, true]));
    pay(json!({ "callback": { "delay_ms": 400 } }), "late").await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(shop.told().len(), 5);
    shop.wait_for(6).await;
    let stats = caller.get("/sim/stats").await.1["since_start"].clone();
    assert_eq!((stats["probes"].as_u64(), stats["probes_accepted"].as_u64()), (Some(1), Some(0)));
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pending_callbacks_survive_a_kill() {
    let folder = TempDir::new().expect("a folder");
    let shop = Receiver::start(DEVELOPMENT_SECRET, Manner::FailFirst(usize::MAX)).await;
    let scale = ["--time-scale", "0.05"];
    let process = Process::start("channel-simulator", folder.path(), &scale);
    let caller = Caller::new(process.base.clone());
    for n in 0..20 {
        caller.create(order(&format!("p{n}"), 1, &shop.url)).await;
        caller.confirm(&format!("p{n}")).await;
    }
    // Each of them at least once; on a slow machine the first ones come again before the last one came.
    while identities(&shop.told()).len() < 20 {
        let count = shop.told().len() + 1;
        shop.wait_for(count).await;
    }
    process.kill();
    let before = shop.told();
    shop.behave(Manner::Acknowledge);
    let process = Process::start("channel-simulator", folder.path(), &scale);
    let caller = Caller::new(process.base.clone());
    acknowledged(&caller, 20).await;
    let told = shop.told();
    assert_eq!(identities(&before), identities(&told[before.len()..]), "the same messages, none of them lost");
    assert!(told.iter().all(|told| told.genuine));
    process.kill();
}

fn identities(told: &[Told]) -> HashSet<String> {
    told.iter().map(|told| told.body["notify_id"].to_string()).collect()
}

/// Waits until so many callbacks are acknowledged and none is in another state.
async fn acknowledged(caller: &Caller, count: usize) {
    let mut states = Value::Null;
    for _ in 0..200 {
        states = callbacks(caller).await;
        if states == json!({ "acknowledged": count }) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(states, json!({ "acknowledged": count }));
}

async fn callbacks(caller: &Caller) -> Value {
    caller.get("/sim/stats").await.1["callbacks"].clone()
}
