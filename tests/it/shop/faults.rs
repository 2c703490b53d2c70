//! A sale over channels that charge and then hang, reset, or fail. Their own ledgers are the oracle.

use std::time::Duration;

use serde_json::json;

use super::buyer::client;
use super::crowd::{all_is_right, everybody_buys};
use super::set_up::{CHANNELS, Shop};

#[tokio::test(flavor = "multi_thread")]
async fn channels_that_fail_after_charging_are_asked_and_nobody_pays_twice() {
    let shop = Shop::start_faulty();
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
