//! What buyers were told is true after a kill, and only once.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use reqwest::{Client, Method, StatusCode};
use serde_json::json;
use tempfile::TempDir;

use super::{Caller, HOOK_SECRET, made_up, pass};
use crate::process::Process;

/// Rounds of [`acknowledged_orders_survive_a_kill`].
const ROUNDS: u64 = 6;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_orders_survive_a_kill() {
    let folder = TempDir::new().expect("a folder");
    let mut reserved = HashSet::new();
    let mut issued: HashMap<String, Vec<String>> = HashMap::new();
    for round in 0..ROUNDS {
        let process = Process::start("card-key", folder.path(), &[]);
        let caller = Caller { base: process.base.clone(), client: Client::new() };
        if round == 0 {
            caller.product("card").await;
            caller.import("card", "reject", made_up(20_000)).await;
        }
        let buyers: Vec<_> = (0..16).map(|n| tokio::spawn(buy_until_it_dies(caller.clone(), round, n))).collect();
        tokio::time::sleep(Duration::from_millis(250 + round * 37)).await;
        process.kill();
        for buyer in buyers {
            let log = buyer.await.expect("no buyer panics");
            reserved.extend(log.reserved);
            issued.extend(log.issued.into_iter().map(|order_no| (order_no, Vec::new())));
        }
    }
    let process = Process::start("card-key", folder.path(), &[]);
    let caller = Caller { base: process.base.clone(), client: Client::new() };
    caller.assert_sound().await;
    assert!(issued.len() > 50, "only {} orders were acknowledged", issued.len());
    let mut seen = HashSet::new();
    for (order_no, keys) in &mut issued {
        *keys = caller.keys(order_no).await;
        assert_eq!(keys.len(), 1, "{order_no} was acknowledged and has no key");
        assert!(keys.iter().all(|key| seen.insert(key.clone())), "{order_no} has a key of another order");
    }
    // A repetition after the crash gives the same key again.
    for (order_no, keys) in issued.iter().take(20) {
        assert_eq!(caller.allocate(order_no, "card", 1).await.1["replayed"], true);
        assert_eq!(&caller.keys(order_no).await, keys);
    }
    for order_no in reserved {
        assert_eq!(caller.query(&order_no, &pass(&order_no)).await.0, StatusCode::OK, "{order_no} was lost");
    }
    process.kill();
}

/// What a buyer was told, up to the kill.
#[derive(Default)]
struct Log {
    reserved: Vec<String>,
    issued: Vec<String>,
}

async fn buy_until_it_dies(caller: Caller, round: u64, buyer: u32) -> Log {
    let mut log = Log::default();
    for n in 0.. {
        let order_no = format!("r{round}-b{buyer}-{n}");
        let mut body = json!({ "order_no": order_no, "sku": "card", "qty": 1, "query_password": pass(&order_no) });
        match caller.try_send(Method::POST, "/v1/reservations", body.clone()).await {
            Ok((StatusCode::CREATED, _)) => log.reserved.push(order_no.clone()),
            _ => break,
        }
        body.as_object_mut().expect("an object").remove("query_password");
        match caller.try_send(Method::POST, "/v1/allocations", body).await {
            Ok((StatusCode::OK, _)) => log.issued.push(order_no),
            _ => break,
        }
    }
    log
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_paid_events_survive_a_kill_and_are_acted_on_once() {
    let folder = TempDir::new().expect("a folder");
    let mut sent = Vec::new();
    let mut acknowledged = HashSet::new();
    for round in 0..ROUNDS {
        let process = Process::start_with("card-key", folder.path(), &[("TIDEGATE_CARD_KEY_HOOK_SECRET", HOOK_SECRET)]);
        let caller = Caller { base: process.base.clone(), client: Client::new() };
        if round == 0 {
            caller.product("card").await;
            caller.import("card", "reject", made_up(20_000)).await;
        }
        let senders: Vec<_> = (0..16).map(|n| tokio::spawn(pay_until_it_dies(caller.clone(), round, n))).collect();
        tokio::time::sleep(Duration::from_millis(200 + round * 41)).await;
        process.kill();
        for sender in senders {
            let (mut orders, unanswered) = sender.await.expect("no sender panics");
            acknowledged.extend(orders.iter().cloned());
            sent.append(&mut orders);
            sent.extend(unanswered);
        }
    }
    let process = Process::start_with("card-key", folder.path(), &[("TIDEGATE_CARD_KEY_HOOK_SECRET", HOOK_SECRET)]);
    let caller = Caller { base: process.base.clone(), client: Client::new() };
    caller.assert_sound().await;
    assert!(acknowledged.len() > 50, "only {} events were acknowledged", acknowledged.len());
    let sold = caller.stock("card").await[2];
    assert!(sold >= i64::try_from(acknowledged.len()).expect("few"), "an acknowledged event was lost");
    // A sender repeats everything: what was acknowledged is known, what was not is delivered now or was already.
    for order_no in &sent {
        let (status, answer) = caller.paid(&format!("e-{order_no}"), order_no, "card", 1).await;
        assert_eq!((status, &answer["outcome"]), (StatusCode::OK, &json!("delivered")));
        assert!(answer["replayed"] == true || !acknowledged.contains(order_no), "{order_no} was delivered again");
    }
    assert_eq!(caller.stock("card").await[2], i64::try_from(sent.len()).expect("few"));
    caller.assert_sound().await;
    process.kill();
}

/// Orders whose events were acknowledged, and the one that was not, if there is one.
async fn pay_until_it_dies(caller: Caller, round: u64, sender: u32) -> (Vec<String>, Option<String>) {
    let mut acknowledged = Vec::new();
    for n in 0.. {
        let order_no = format!("r{round}-s{sender}-{n}");
        match caller.try_paid(&format!("e-{order_no}"), &order_no, "card", 1).await {
            Ok((StatusCode::OK, _)) => acknowledged.push(order_no),
            _ => return (acknowledged, Some(order_no)),
        }
    }
    (acknowledged, None)
}
