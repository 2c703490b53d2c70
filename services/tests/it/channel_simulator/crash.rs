//! What the channel said is in its ledger after a kill, and once.

use std::collections::HashMap;
use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::Value;
use tempfile::TempDir;

use super::faults::direct;
use super::{Caller, NOWHERE, order};
use crate::process::Process;

/// Kills of [`acknowledged_charges_survive_kills_exactly_once`].
const ROUNDS: u64 = 5;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_charges_survive_kills_exactly_once() {
    let folder = TempDir::new().expect("a folder");
    let mut acknowledged = Vec::new();
    for round in 0..ROUNDS {
        let process = Process::start("channel-simulator", folder.path(), &[]);
        let caller = Caller::new(process.base.clone());
        let buyers: Vec<_> = (0..16).map(|n| tokio::spawn(pay_until_it_dies(caller.clone(), round, n))).collect();
        tokio::time::sleep(Duration::from_millis(250 + round * 37)).await;
        process.kill();
        for buyer in buyers {
            acknowledged.extend(buyer.await.expect("no buyer panics"));
        }
    }
    assert!(acknowledged.len() > 50, "only {} payments were acknowledged", acknowledged.len());
    let process = Process::start("channel-simulator", folder.path(), &[]);
    let caller = Caller::new(process.base.clone());
    let ledger = caller.ledger().await;
    let file = std::fs::read_to_string(folder.path().join("channel-alipay.ledger.ndjson")).expect("the file");
    let lines: Vec<Value> = file.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines, ledger, "the file of the ledger says the same");
    let mut charges: HashMap<&str, i64> = HashMap::new();
    for (entry, seq) in ledger.iter().zip(1..) {
        assert_eq!((entry["seq"].as_i64(), entry["kind"].as_str()), (Some(seq), Some("charge")));
        *charges.entry(entry["payment_no"].as_str().expect("a number")).or_default() += 1;
    }
    for number in &acknowledged {
        assert_eq!(charges.get(number.as_str()), Some(&1), "{number} was acknowledged");
    }
    assert!(charges.values().all(|count| *count == 1), "something was charged twice");
    // Repeating a payment after the crash charges nothing.
    for number in acknowledged.iter().take(20) {
        assert_eq!(caller.confirm(number).await.1["status"], "SUCCESS");
    }
    let summary = caller.get("/sim/truth").await.1;
    assert_eq!(summary["ledger"]["charge"]["count"], ledger.len());
    assert_eq!(summary["payments"]["SUCCESS"], ledger.len());
    process.kill();
}

async fn pay_until_it_dies(caller: Caller, round: u64, buyer: u32) -> Vec<String> {
    let mut acknowledged = Vec::new();
    for n in 0.. {
        let number = format!("r{round}-b{buyer}-{n}");
        let created = caller.try_send(Method::POST, "/pay/v1/payments", order(&number, 100, NOWHERE)).await;
        let Ok((StatusCode::CREATED, _)) = created else { break };
        let confirm = format!("/pay/v1/payments/{number}/confirm");
        match caller.try_send(Method::POST, &confirm, Value::Null).await {
            Ok((StatusCode::OK, answer)) if answer["status"] == "SUCCESS" => acknowledged.push(number),
            _ => break,
        }
    }
    acknowledged
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_charge_that_was_never_answered_survives_a_kill_and_so_does_a_decision_to_come() {
    let folder = TempDir::new().expect("a folder");
    let plan = folder.path().join("plan.json");
    let faults = r#"{"faults":[{"kind":"charge_then_hang","numbers":["hung"]},
        {"kind":"processing_then_success","numbers":["later"],"ms":300}]}"#;
    std::fs::write(&plan, faults).expect("a file");
    let process = Process::start("channel-simulator", folder.path(), &["--plan", &plan.display().to_string()]);
    let caller = Caller::new(process.base.clone());
    assert_eq!(caller.create(direct("later")).await.1["status"], "PROCESSING");
    let hung = tokio::spawn({
        let caller = caller.clone();
        async move { caller.try_send(Method::POST, "/pay/v1/payments", direct("hung")).await }
    });
    for _ in 0..200 {
        if caller.get("/sim/stats").await.1["since_start"]["charged"] == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    process.kill();
    assert!(hung.await.expect("no panic").is_err(), "there was no answer");
    let process = Process::start("channel-simulator", folder.path(), &[]);
    let caller = Caller::new(process.base.clone());
    assert_eq!(caller.truth("hung").await["charged"], 700);
    for _ in 0..200 {
        if caller.truth("later").await["status"] == "SUCCESS" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(caller.truth("later").await["charges"], 1);
    process.kill();
}
