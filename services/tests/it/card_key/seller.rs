//! The seller's side: import, what is on disk, the master key, the binary.

use std::collections::HashMap;
use std::time::Duration;

use reqwest::{Client, StatusCode};
use serde_json::json;
use tempfile::TempDir;
use tidegate_services::card_key::{self, KeySource, Settings};

use super::{Caller, Shop, made_up, pass};
use crate::process::Process;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_reports_every_duplicate_and_what_it_kept() {
    let folder = TempDir::new().expect("a folder");
    let shop = Shop::start(folder.path()).await;
    let caller = shop.caller();
    caller.product("card").await;
    // 200,000 lines of which every hundredth repeats the one before.
    let text: String = (0..200_000_u32).map(|n| format!("K-{}\n", if n % 100 == 99 { n - 1 } else { n })).collect();
    let reports = caller.import("card", "skip", text).await;
    assert!(reports.len() > 10, "progress was reported {} times", reports.len());
    let last = reports.last().expect("a last report");
    let figures = ["lines", "imported", "duplicates", "invalid"].map(|name| last[name].as_u64());
    assert_eq!(figures, [Some(200_000), Some(198_000), Some(2_000), Some(0)]);
    assert_eq!(last["errors"].as_array().map(Vec::len), Some(100));
    assert_eq!(last["errors"][0], json!({ "line": 100, "code": "DUPLICATE_KEY" }));
    let (_, stock) = caller.get("/admin/stock/card").await;
    assert_eq!((&stock["imported"], &stock["allocator_free"]), (&json!(198_000), &json!(198_000)));

    // The 2,500th line repeats a key: whole chunks before it stay, and nothing of its own chunk or after it.
    caller.product("strict").await;
    let text: String = (0..5_000_u32).map(|n| format!("S-{}\n", if n == 2_499 { 7 } else { n })).collect();
    let last = caller.import("strict", "reject", text).await.pop().expect("a last report");
    assert_eq!(last["aborted"], "DUPLICATE_KEY");
    assert_eq!(last["errors"][0]["line"], 2_500);
    let imported = last["imported"].as_u64().expect("a number");
    assert!((1..2_500).contains(&imported), "{imported}");
    assert_eq!(caller.get("/v1/products/strict").await.1["stock"], imported);
    caller.assert_sound().await;
    shop.stop().await;
}

#[tokio::test]
async fn no_key_and_no_password_is_on_disk_in_clear() {
    let folder = TempDir::new().expect("a folder");
    let shop = Shop::start(folder.path()).await;
    let caller = shop.caller();
    caller.product("card").await;
    caller.import("card", "reject", "VERY-SECRET-KEY-1\nVERY-SECRET-KEY-2\n".to_owned()).await;
    caller.reserve("a", "card", 1).await;
    caller.allocate("a", "card", 1).await;
    let mut looked_at = 0;
    for entry in std::fs::read_dir(folder.path()).expect("the folder") {
        looked_at += 1;
        let bytes = std::fs::read(entry.expect("an entry").path()).expect("a file");
        for secret in ["VERY-SECRET", &pass("a")] {
            assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()));
        }
    }
    assert!(looked_at >= 2, "the data file and the key file were expected");
    shop.stop().await;
}

#[tokio::test]
async fn data_are_not_opened_without_the_key_that_sealed_them() {
    let folder = TempDir::new().expect("a folder");
    Shop::start(folder.path()).await.stop().await;
    let key = folder.path().join("card-key.key");
    std::fs::remove_file(&key).expect("the key file was made");
    let mut settings = Settings {
        listen: "127.0.0.1:0".parse().expect("an address"),
        data_dir: folder.path().to_owned(),
        key: KeySource::DataDir,
        seed_demo: false,
        hook_secret: None,
        admin_token: None,
        sweep_every: Duration::from_secs(1),
    };
    card_key::start(settings.clone()).await.expect_err("no key");
    assert!(!key.exists(), "a new key was made for old data");
    settings.key = KeySource::Hex("ab".repeat(32));
    card_key::start(settings).await.expect_err("another key");
}

#[tokio::test]
async fn the_binary_seeds_announces_itself_and_ends_cleanly_on_sigterm() {
    let folder = TempDir::new().expect("a folder");
    let process = Process::start("card-key", folder.path(), &["--seed-demo"]);
    let caller = Caller { base: process.base.clone(), client: Client::new() };
    let (_, products) = caller.get("/v1/products").await;
    let stock: HashMap<_, _> = products["products"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|product| (product["sku"].as_str().unwrap_or(""), product["stock"].as_u64().unwrap_or(0)))
        .collect();
    assert_eq!(stock, HashMap::from([("steam-50", 5_000), ("game-100", 3_000), ("flash-100", 100)]));
    assert_eq!(caller.get("/readyz").await.0, StatusCode::OK);

    let file = folder.path().join("keys.txt");
    std::fs::write(&file, made_up(3_000)).expect("a file");
    let file = file.to_str().expect("a path in UTF-8");
    let import = Process::run(&["import", "--to", &process.base, "--sku", "flash-100", file]);
    assert!(import.status.success());
    assert!(String::from_utf8_lossy(&import.stderr).contains("3000 imported"));
    assert_eq!(caller.get("/v1/products/flash-100").await.1["stock"], 3_100);
    drop(caller);
    assert!(process.terminate().success());
}

#[tokio::test]
async fn a_key_is_not_sold_under_two_names() {
    let folder = TempDir::new().expect("a folder");
    let shop = Shop::start(folder.path()).await;
    let caller = shop.caller();
    for sku in ["card", "other"] {
        caller.product(sku).await;
    }
    let imported = |report: Vec<serde_json::Value>| {
        let last = report.last().expect("a last report").clone();
        ["imported", "duplicates"].map(|name| last[name].as_u64().expect("a number"))
    };
    assert_eq!(imported(caller.import("card", "skip", "ONE\nTWO\n".to_owned()).await), [2, 0]);
    // The file of the right product sent to the wrong one, or the other way round.
    assert_eq!(imported(caller.import("other", "skip", "ONE\nTHREE\n".to_owned()).await), [1, 1]);
    assert_eq!(imported(caller.import("other", "reject", "FOUR\nTWO\n".to_owned()).await), [0, 1]);
    assert_eq!(caller.get("/v1/products/other").await.1["stock"], 1);
    caller.assert_sound().await;
    shop.stop().await;
}

#[tokio::test]
async fn with_a_token_sellers_are_asked_for_it_and_buyers_are_not() {
    let folder = TempDir::new().expect("a folder");
    let token = "a-token-for-this-test";
    let process = Process::start_with("card-key", folder.path(), &[("TIDEGATE_CARD_KEY_ADMIN_TOKEN", token)]);
    let caller = Caller { base: process.base.clone(), client: Client::new() };
    for path in ["/admin/stock/card", "/admin/invariants", "/admin/batches", "/admin/operations"] {
        assert_eq!(caller.get(path).await.0, StatusCode::UNAUTHORIZED, "{path}");
    }
    assert_eq!(caller.get("/v1/products").await.0, StatusCode::OK);
    let asked = Client::new().get(format!("{}/admin/invariants", process.base)).bearer_auth(token).send().await;
    assert_eq!(asked.expect("an answer").status(), StatusCode::OK);
    let closed = caller.paid("e", "a", "card", 1).await;
    assert_eq!((closed.0, closed.1["code"].as_str()), (StatusCode::FORBIDDEN, Some("HOOK_CLOSED")));
    process.kill();
}
