//! Importing while selling. The full size of this, with figures, is `cargo run --release -p tidegate-services --example
//! card_key_load`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reqwest::StatusCode;
use serde_json::json;
use tempfile::TempDir;

use super::{Shop, made_up};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_thousand_keys_are_imported_while_others_are_sold() {
    let folder = TempDir::new().expect("a folder");
    let shop = Shop::start(folder.path()).await;
    let caller = shop.caller();
    caller.product("card").await;
    caller.import("card", "reject", made_up(1_000)).await;
    let over = Arc::new(AtomicBool::new(false));
    let buyers: Vec<_> = (0..4)
        .map(|buyer| {
            let (caller, over) = (caller.clone(), Arc::clone(&over));
            tokio::spawn(async move {
                let mut bought = 0;
                while !over.load(Ordering::Relaxed) {
                    let order_no = format!("b{buyer}-{bought}");
                    assert_eq!(caller.reserve(&order_no, "card", 1).await.0, StatusCode::CREATED);
                    assert_eq!(caller.allocate(&order_no, "card", 1).await.0, StatusCode::OK);
                    bought += 1;
                    // A busy shop, not a flood: the import is to get somewhere.
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                bought
            })
        })
        .collect();
    let text: String = (0..20_000_u32).map(|n| format!("K-{}\n", if n % 100 == 99 { n - 1 } else { n })).collect();
    let last = caller.import("card", "skip", text).await.pop().expect("a last report");
    over.store(true, Ordering::Relaxed);
    let figures = ["lines", "imported", "duplicates", "invalid"].map(|name| last[name].as_u64());
    assert_eq!(figures, [Some(20_000), Some(19_800), Some(200), Some(0)]);
    let mut bought = 0;
    for buyer in buyers {
        bought += buyer.await.expect("no buyer panics");
    }
    assert!(bought > 20, "only {bought} were sold meanwhile");
    assert_eq!(caller.stock("card").await, [20_800 - bought, 0, bought, 0, 0, 0]);
    assert_eq!(caller.get("/admin/stock/card").await.1["allocator_free"], json!(20_800 - bought));
    caller.assert_sound().await;
    shop.stop().await;
}
