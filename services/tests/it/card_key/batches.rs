//! What a seller does with batches, and keys that are generated.

use std::collections::HashSet;

use reqwest::StatusCode;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Caller, Shop, code, made_up};

async fn export(caller: &Caller, batch: i64) -> Vec<String> {
    let url = format!("{}/admin/batches/{batch}/export", caller.base);
    let sign = json!({ "operator": "olga", "reason": "a test" });
    let answer = caller.client.post(url).json(&sign).send().await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()["cache-control"], "no-store");
    answer.text().await.expect("text").lines().map(str::to_owned).collect()
}

async fn generate(caller: &Caller, sku: &str, body: Value) -> Value {
    let (status, text) = try_generate(caller, sku, body).await.expect("an answer");
    assert_eq!(status, StatusCode::OK, "{text}");
    serde_json::from_str(text.lines().last().expect("a report")).expect("a report is JSON")
}

async fn try_generate(caller: &Caller, sku: &str, mut body: Value) -> reqwest::Result<(StatusCode, String)> {
    body["operator"] = json!("olga");
    body["reason"] = json!("a test");
    let url = format!("{}/admin/skus/{sku}/keys:generate", caller.base);
    let answer = caller.client.post(url).json(&body).send().await?;
    Ok((answer.status(), answer.text().await?))
}

#[tokio::test]
async fn a_batch_is_paused_recycled_restored_and_sold_again() {
    let folder = TempDir::new().expect("a folder");
    let shop = Shop::start(folder.path()).await;
    let caller = shop.caller();
    caller.product("card").await;
    caller.import("card", "reject", made_up(4)).await;
    caller.allocate("sold", "card", 1).await;
    caller.reserve("held", "card", 1).await;
    let batch = caller.batch("card", "b").await;
    let shift = async |word: &str| {
        let (status, answer) = caller.operate(&format!("/admin/batches/{batch}/{word}"), json!({})).await;
        assert_eq!((status, &answer["left"]), (StatusCode::OK, &json!(0)), "{answer}");
        (answer["changed"].as_u64().expect("a number"), caller.stock("card").await)
    };
    assert_eq!(shift("pause").await, (2, [0, 1, 1, 0, 2, 0]));
    assert_eq!(code(&caller.reserve("nobody", "card", 1).await), (409, "OUT_OF_STOCK"));
    assert_eq!(shift("recycle").await, (2, [0, 1, 1, 0, 0, 2]));
    assert_eq!(shift("resume").await, (0, [0, 1, 1, 0, 0, 2]));
    assert_eq!(shift("restore").await, (2, [2, 1, 1, 0, 0, 0]));
    assert_eq!(shift("recycle").await.0, 2);
    assert_eq!(caller.allocate("held", "card", 1).await.0, StatusCode::OK, "a promise is kept");
    assert_eq!(shift("restore").await, (2, [2, 0, 2, 0, 0, 0]));
    assert_eq!(caller.allocate("again", "card", 2).await.0, StatusCode::OK);
    assert_eq!(code(&caller.operate(&format!("/admin/batches/{batch}/burn"), json!({})).await).0, 400);
    assert_eq!(code(&caller.operate("/admin/batches/999/pause", json!({})).await), (404, "UNKNOWN_BATCH"));
    caller.assert_sound().await;
    shop.stop().await;
}

#[tokio::test]
async fn an_export_holds_what_is_unsold_and_is_written_down_before_it_begins() {
    let folder = TempDir::new().expect("a folder");
    let shop = Shop::start(folder.path()).await;
    let caller = shop.caller();
    caller.product("card").await;
    caller.import("card", "reject", made_up(4_500)).await;
    caller.allocate("sold", "card", 2).await;
    caller.reserve("held", "card", 1).await;
    let batch = caller.batch("card", "b").await;
    let nameless = caller.post(&format!("/admin/batches/{batch}/export"), json!({})).await;
    assert_eq!(nameless.0, StatusCode::BAD_REQUEST);
    let keys = export(&caller, batch).await;
    assert_eq!(keys.len(), 4_497);
    assert_eq!((keys[0].as_str(), keys[4_496].as_str()), ("CARD-000003", "CARD-004499"));
    let (_, log) = caller.get(&format!("/admin/operations?subject=batch%20{batch}")).await;
    assert_eq!(log["operations"].as_array().map(Vec::len), Some(1));
    assert_eq!(log["operations"][0]["detail"]["unsold"], 4_497);
    assert!(!log.to_string().contains("CARD-"), "the log holds a key");
    let (_, listed) = caller.get(&format!("/admin/batches/{batch}/keys?state=sold")).await;
    assert_eq!(listed["keys"].as_array().map(Vec::len), Some(2));
    assert!(!listed.to_string().contains("CARD-"), "a list without secrets");
    shop.stop().await;
}

#[tokio::test]
async fn unsold_keys_move_to_another_product_and_open_there() {
    let folder = TempDir::new().expect("a folder");
    let shop = Shop::start(folder.path()).await;
    let caller = shop.caller();
    for sku in ["card", "other"] {
        caller.product(sku).await;
    }
    caller.product_with("login", json!({ "kind": "shared" })).await;
    caller.import("card", "reject", made_up(5_000)).await;
    caller.allocate("sold", "card", 1).await;
    caller.reserve("held", "card", 2).await;
    let batch = caller.batch("card", "b").await;
    let path = format!("/admin/batches/{batch}/move");
    assert_eq!(code(&caller.operate(&path, json!({ "to": "login" })).await), (409, "OTHER_KIND"));
    assert_eq!(code(&caller.operate(&path, json!({ "to": "nothing" })).await), (404, "UNKNOWN_SKU"));
    let moved = caller.operate(&path, json!({ "to": "other" })).await;
    assert_eq!(moved.1, json!({ "changed": 4_997, "left": 0 }));
    assert_eq!(caller.stock("card").await, [0, 2, 1, 0, 0, 0]);
    assert_eq!(caller.stock("other").await, [4_997, 0, 0, 0, 0, 0]);
    caller.reserve("there", "other", 1).await;
    caller.allocate("there", "other", 1).await;
    assert_eq!(caller.keys("there").await, ["CARD-000003"]);
    let back = caller.import("card", "skip", "CARD-000003\n".to_owned()).await;
    assert_eq!(back[0]["duplicates"], 1, "a key that moved is still known");
    caller.assert_sound().await;
    shop.stop().await;

    // What the rows say is what a new start offers.
    let shop = Shop::start(folder.path()).await;
    let caller = shop.caller();
    assert_eq!(caller.get("/v1/products/other").await.1["stock"], 4_996);
    caller.assert_sound().await;
    shop.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_is_moved_while_it_is_sold_loses_no_key_and_doubles_none() {
    let folder = TempDir::new().expect("a folder");
    let shop = Shop::start(folder.path()).await;
    let caller = shop.caller();
    for sku in ["card", "other"] {
        caller.product(sku).await;
    }
    caller.import("card", "reject", made_up(3_000)).await;
    let batch = caller.batch("card", "b").await;
    let buyers: Vec<_> = (0..16)
        .map(|buyer| {
            let caller = caller.clone();
            tokio::spawn(async move {
                let mut bought = 0;
                for n in 0..40 {
                    let order_no = format!("b{buyer}-{n}");
                    bought += u32::from(caller.allocate(&order_no, "card", 1).await.0 == StatusCode::OK);
                }
                bought
            })
        })
        .collect();
    for word in ["pause", "resume", "recycle", "restore"] {
        let answer = caller.operate(&format!("/admin/batches/{batch}/{word}"), json!({})).await;
        assert_eq!(answer.0, StatusCode::OK);
    }
    let path = format!("/admin/batches/{batch}/move");
    assert_eq!(caller.operate(&path, json!({ "to": "other" })).await.0, StatusCode::OK);
    let mut bought = 0;
    for buyer in buyers {
        bought += i64::from(buyer.await.expect("no buyer panics"));
    }
    let (card, other) = (caller.stock("card").await, caller.stock("other").await);
    assert_eq!(card[2], bought);
    assert_eq!(card.iter().sum::<i64>() + other.iter().sum::<i64>(), 3_000);
    caller.assert_sound().await;
    shop.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn generated_keys_are_unique_and_the_same_call_makes_no_more() {
    let folder = TempDir::new().expect("a folder");
    let shop = Shop::start(folder.path()).await;
    let caller = shop.caller();
    caller.product("card").await;
    let wanted = json!({ "format": "GIFT-XXXX-XXXX-XXXX", "count": 20_000, "checksum": true, "batch": "spring" });
    for _ in 0..2 {
        let last = generate(&caller, "card", wanted.clone()).await;
        assert_eq!((&last["made"], &last["done"], &last["aborted"]), (&json!(20_000), &json!(true), &Value::Null));
    }
    let more = json!({ "format": "GIFT-XXXX-XXXX-XXXX", "count": 5_000, "checksum": true, "batch": "summer" });
    generate(&caller, "card", more).await;
    let mut keys = export(&caller, caller.batch("card", "spring").await).await;
    keys.extend(export(&caller, caller.batch("card", "summer").await).await);
    assert_eq!(keys.len(), 25_000);
    assert_eq!(keys.iter().collect::<HashSet<_>>().len(), 25_000);
    assert!(keys.iter().all(|key| key.len() == 19 && key.starts_with("GIFT-")));
    for (body, expected) in [
        (json!({ "format": "XXXX", "count": 1_000, "batch": "x" }), StatusCode::BAD_REQUEST),
        (json!({ "format": "GIFT", "count": 1, "batch": "x" }), StatusCode::BAD_REQUEST),
        (json!({ "format": "XXXX-XXXX-XXXX", "count": 1, "batch": "spring" }), StatusCode::CONFLICT),
    ] {
        assert_eq!(try_generate(&caller, "card", body).await.expect("an answer").0, expected);
    }
    caller.assert_sound().await;
    shop.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_generation_is_completed_by_the_same_call() {
    let folder = TempDir::new().expect("a folder");
    let wanted = json!({ "format": "XXXX-XXXX-XXXX", "count": 30_000, "batch": "spring" });
    let mut made = [0, 0];
    for made in &mut made {
        let process = crate::process::Process::start("card-key", folder.path(), &[]);
        let caller = Caller { base: process.base.clone(), client: reqwest::Client::new() };
        caller.product("card").await;
        let before = caller.stock("card").await[0];
        let (asker, body) = (caller.clone(), wanted.clone());
        let call = tokio::spawn(async move { try_generate(&asker, "card", body).await });
        while caller.stock("card").await[0] < before + 4_000 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        process.kill();
        let _ = call.await;
        *made = before;
    }
    let process = crate::process::Process::start("card-key", folder.path(), &[]);
    let caller = Caller { base: process.base.clone(), client: reqwest::Client::new() };
    let before = caller.stock("card").await[0];
    assert!(made[1] >= 4_000 && before >= made[1] + 4_000 && before < 30_000, "killed at {made:?} and {before}");
    generate(&caller, "card", wanted).await;
    let keys = export(&caller, caller.batch("card", "spring").await).await;
    assert_eq!(keys.iter().collect::<HashSet<_>>().len(), 30_000);
    assert_eq!(keys.len(), 30_000);
    caller.assert_sound().await;
    process.kill();
}
