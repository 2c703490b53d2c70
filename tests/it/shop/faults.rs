//! Sales over channels that charge and then hang, reset, or fail, that answer by half, and that decline. Their own ledgers
//! are the oracle.

use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::Client;
use serde_json::{Value, json};

use super::buyer::client;
use super::crash::Killer;
use super::crowd::{all_is_right, everybody_buys, goods_are_right, latecomers_buy_the_rest, movements};
use super::set_up::{CHANNELS, PROCESSES, Shop};

#[tokio::test(flavor = "multi_thread")]
async fn channels_that_fail_after_charging_are_asked_and_nobody_pays_twice() {
    let shop = Shop::start();
    let client = client();
    for (seed, channel) in (1..).zip(CHANNELS) {
        let plan = json!({ "seed": seed, "faults": [
            { "kind": "charge_then_rst", "on": "any", "ratio": 0.15 },
            { "kind": "charge_then_500", "on": "any", "ratio": 0.15 },
            { "kind": "charge_then_hang", "on": "any", "ratio": 0.05 },
            { "kind": "processing_then_success", "on": "any", "ratio": 0.1 },
        ]});
        let put = client.put(format!("{}/sim/plan", shop.url(channel))).json(&plan).send().await.expect("an answer");
        assert!(put.status().is_success(), "{}", put.text().await.unwrap_or_default());
    }
    // Most leave the choice to the gateway; the others insist.
    let endings = everybody_buys(&shop, &client, ["any", "any", "alipay"], 130, Duration::from_millis(15)).await;
    all_is_right(&shop, &client, &endings, 0).await;
    let mut faults = 0;
    for channel in CHANNELS {
        let stats = client.get(format!("{}/sim/stats", shop.url(channel))).send().await.expect("an answer");
        let stats: serde_json::Value = stats.json().await.expect("JSON");
        faults += stats["faults"].as_object().map_or(0, |by_kind| by_kind.values().filter_map(|n| n.as_u64()).sum());
    }
    assert!(faults >= 10, "only {faults} faults happened: that proves nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn under_every_fault_and_with_every_process_killed_each_payment_is_charged_once_and_ends() {
    let plan = json!({ "seed": 7, "faults": [
        { "kind": "charge_then_rst", "on": "create", "ratio": 0.04 },
        { "kind": "charge_then_rst", "on": "confirm", "ratio": 0.04 },
        { "kind": "charge_then_500", "on": "create", "ratio": 0.04 },
        { "kind": "charge_then_500", "on": "confirm", "ratio": 0.04 },
        { "kind": "charge_then_hang", "on": "create", "ratio": 0.015 },
        { "kind": "charge_then_hang", "on": "confirm", "ratio": 0.015 },
        { "kind": "no_charge_then_hang", "on": "create", "ratio": 0.015, "times": 4 },
        { "kind": "truncate", "on": "create", "ratio": 0.03 },
        { "kind": "truncate", "on": "confirm", "ratio": 0.03 },
        { "kind": "truncate", "on": "query", "ratio": 0.1, "times": 3 },
        { "kind": "bad_json", "on": "create", "ratio": 0.025 },
        { "kind": "rst_after_n_bytes", "ratio": 0.025, "bytes": 60 },
        { "kind": "read_all_then_close", "on": "create", "ratio": 0.025, "times": 10 },
        { "kind": "system_error_charged", "on": "create", "ratio": 0.02 },
        { "kind": "decline_soft", "on": "create", "ratio": 0.03 },
        { "kind": "decline_hard", "on": "create", "ratio": 0.03 },
        { "kind": "503", "on": "create", "ratio": 0.025, "times": 10 },
        { "kind": "maintenance_window", "from": 1_000, "to": 2_000 },
        { "kind": "blackhole", "accept": true, "from": 3_000, "to": 3_500 },
        { "kind": "refuse", "from": 4_000, "to": 4_500 },
        { "kind": "processing_then_fail", "on": "create", "ratio": 0.02, "ms": 300 },
        { "kind": "processing_then_fail", "on": "confirm", "ratio": 0.02, "ms": 300 },
        { "kind": "processing_then_success", "on": "create", "ratio": 0.03, "ms": 300 },
        { "kind": "processing_then_success", "on": "confirm", "ratio": 0.03, "ms": 300 },
    ]});
    let shop = Arc::new(Shop::start_faulty(&plan));
    let client = client();
    let killer = Killer::start(&shop, Duration::from_millis(400), 4 * PROCESSES.len());
    let mut endings = everybody_buys(&shop, &client, ["any", "any", "alipay"], 160, Duration::from_millis(40)).await;
    let kills = killer.stop().await;
    latecomers_buy_the_rest(&shop, &client, &mut endings).await;
    assert!(kills >= PROCESSES.len(), "only {kills} kills in that time");
    let keys = goods_are_right(&shop, &client, &endings, 0).await;
    every_payment_ends(&shop, &client).await;
    let moved = movements(&shop, &client).await;
    let twice: Vec<_> = moved.iter().filter(|(_, moved)| moved.charged > 1).collect();
    assert!(twice.is_empty(), "charged twice, even if paid back: {twice:?}");
    let paid = moved.values().filter(|moved| moved.charged > moved.refunded).count();
    assert_eq!(paid, keys, "by the channels' own ledgers");
}

/// Until the gateway's journal has no payment left whose fate is open, but for those that a person has been called for.
async fn every_payment_ends(shop: &Shop, client: &Client) {
    let begun = Instant::now();
    loop {
        let list = client.get(format!("{}/-/payments?limit=1000", shop.url("admin"))).send().await.expect("an answer");
        let list: Value = list.json().await.expect("JSON");
        let payments = list["payments"].as_array().expect("payments");
        let open = |payment: &&Value| {
            !matches!(payment["state"].as_str(), Some("SUCCEEDED" | "FAILED" | "CANCELLED" | "MANUAL"))
        };
        let open: Vec<_> = payments.iter().filter(open).collect();
        if open.is_empty() && payments.len() >= 98 {
            for payment in payments.iter().filter(|payment| payment["state"] == "MANUAL") {
                let id = payment["payment_id"].as_str().expect("a number");
                let told =
                    client.get(format!("{}/-/payments/{id}", shop.url("admin"))).send().await.expect("an answer");
                let told: Value = told.json().await.expect("JSON");
                let called = told["events"].as_array().is_some_and(|all| all.iter().any(|one| one["kind"] == "MANUAL"));
                assert!(called, "nobody was called for {told}");
            }
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(120), "{} of {} are open: {open:?}", open.len(), payments.len());
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}
