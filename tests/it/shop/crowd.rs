//! A thousand buyers, a hundred keys.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Client, Method};
use serde_json::Value;

use super::buyer::{Buyer, Ending, client};
use super::set_up::{CHANNELS, Shop};

/// Endings of this many buyers, one every `apart`, who choose these channels in turn.
pub(super) async fn everybody_buys(
    shop: &Shop,
    client: &Client,
    channels: [&'static str; 3],
    buyers: u32,
    apart: Duration,
) -> Vec<Ending> {
    let base = shop.url("gateway");
    let tasks: Vec<_> = (0..buyers)
        .map(|number| {
            let buyer = Buyer::new(client, &base, &format!("buyer-{number}"));
            let channel = channels[number as usize % 3];
            tokio::spawn(async move {
                tokio::time::sleep(apart * number).await;
                buyer.buy("flash-100", channel).await
            })
        })
        .collect();
    let mut endings = Vec::new();
    for task in tasks {
        endings.push(task.await.expect("a buyer's ending"));
    }
    endings
}

/// A key can come back when everybody has left: its order was lost with a process, and its reservation ended later. Then
/// somebody else buys it, or it is held until that order's time to pay is over.
pub(super) async fn latecomers_buy_the_rest(shop: &Shop, client: &Client, endings: &mut Vec<Ending>) {
    let base = shop.url("gateway");
    for number in 0..10 {
        if endings.iter().filter(|ending| **ending != Ending::SoldOut).count() >= 100 {
            return;
        }
        let ending = Buyer::new(client, &base, &format!("late-{number}")).buy("flash-100", "any").await;
        if ending == Ending::SoldOut {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        endings.push(ending);
    }
}

/// What must hold whatever has happened on the way.
pub(super) async fn all_is_right(shop: &Shop, client: &Client, endings: &[Ending], held: usize) {
    let keys = goods_are_right(shop, client, endings, held).await;
    let moved = movements(shop, client).await;
    assert!(moved.values().all(|moved| moved.refunded == 0), "nobody had to be paid back: {moved:?}");
    assert_eq!(moved.values().filter(|moved| moved.charged > 0).count(), keys, "by the channels' own ledgers");
}

/// Every key is one buyer's, and the order service finds nothing wrong. Up to `held` keys may still be held for orders
/// that nobody pays. How many were sold.
pub(super) async fn goods_are_right(shop: &Shop, client: &Client, endings: &[Ending], held: usize) -> usize {
    let keys: Vec<&str> = endings
        .iter()
        .filter_map(|ending| match ending {
            Ending::Key { key, .. } => Some(key.as_str()),
            Ending::SoldOut => None,
        })
        .collect();
    let distinct: BTreeSet<&str> = keys.iter().copied().collect();
    assert_eq!(keys.len(), distinct.len(), "each key once");
    assert!((100 - held..=100).contains(&keys.len()), "{} of a hundred keys", keys.len());
    assert_eq!(endings.len() - keys.len(), endings.iter().filter(|ending| **ending == Ending::SoldOut).count());
    let check = client.get(format!("{}/admin/check", shop.url("order"))).send().await.expect("an answer");
    let check: Value = check.json().await.expect("JSON");
    assert_eq!(check["violations"], serde_json::json!([]), "{check}");
    keys.len()
}

/// What became of the money of one payment, counted over all channels.
#[derive(Debug, Default)]
pub(super) struct Moved {
    pub(super) charged: i64,
    pub(super) refunded: i64,
}

/// The channels' own ledgers, by payment. Fails when a payment was charged more often than paid back plus once.
pub(super) async fn movements(shop: &Shop, client: &Client) -> BTreeMap<String, Moved> {
    let mut moved: BTreeMap<String, Moved> = BTreeMap::new();
    for channel in CHANNELS {
        let ledger = client.get(format!("{}/sim/ledger.ndjson", shop.url(channel))).send().await.expect("an answer");
        for line in ledger.text().await.expect("text").lines() {
            let line: Value = serde_json::from_str(line).expect("JSON");
            let of = moved.entry(line["payment_no"].as_str().expect("a number").to_owned()).or_default();
            match line["kind"].as_str() {
                Some("charge") => of.charged += 1,
                Some("refund") => of.refunded += 1,
                _ => (),
            }
        }
    }
    for (payment, moved) in &moved {
        assert!((0..=1).contains(&(moved.charged - moved.refunded)), "{payment}: {moved:?}");
    }
    moved
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_buyers_get_a_hundred_keys_while_a_flood_from_one_user_is_refused() {
    let shop = Shop::start();
    let client = client();
    let greedy = Arc::new(Buyer::new(&client, &shop.url("gateway"), "greedy"));
    let flood = tokio::spawn(async move {
        let mut refused = 0;
        for _ in 0..400 {
            // Every try is another order to pay for, of something that is not what the others want.
            let wanted = serde_json::json!({ "sku": "no-such-thing", "qty": 1, "query_password": "password" });
            refused += usize::from(greedy.once(Method::POST, "/api/orders", Some(wanted)).await.is_none());
        }
        refused
    });
    let endings = everybody_buys(&shop, &client, CHANNELS, 1_000, Duration::ZERO).await;
    all_is_right(&shop, &client, &endings, 0).await;
    let refused = flood.await.expect("the flood's end");
    // A quota of 100 in ten minutes, of which a few come back meanwhile.
    assert!(refused >= 290, "of 400 requests of one user only {refused} were refused");
}
