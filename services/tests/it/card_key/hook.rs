//! Paid events: signed, acted on once, delivered in the same breath.

use reqwest::StatusCode;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Shop, code, made_up};

fn outcome(answer: &(StatusCode, Value)) -> (u16, &str, bool) {
    let replayed = answer.1["replayed"].as_bool().unwrap_or(false);
    (answer.0.as_u16(), answer.1["outcome"].as_str().unwrap_or(""), replayed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_times_the_same_event_is_one_delivery() {
    let folder = TempDir::new().expect("a folder");
    let shop = Shop::start(folder.path()).await;
    let caller = shop.caller();
    caller.product("card").await;
    caller.import("card", "reject", made_up(10)).await;
    caller.reserve("a", "card", 2).await;
    let events: Vec<_> = (0..50)
        .map(|_| {
            let caller = caller.clone();
            tokio::spawn(async move { caller.paid("event-1", "a", "card", 2).await })
        })
        .collect();
    let mut first = 0;
    for event in events {
        let answer = event.await.expect("no sender panics");
        assert_eq!((outcome(&answer).0, outcome(&answer).1), (200, "delivered"));
        assert!(!answer.1.to_string().contains("CARD-"), "the answer to the order service holds a key");
        first += u32::from(!outcome(&answer).2);
    }
    assert_eq!(first, 1);
    // Another event about the same order, and the order service's own call: nothing more is issued.
    assert_eq!(outcome(&caller.paid("event-2", "a", "card", 2).await), (200, "delivered", true));
    assert_eq!(caller.allocate("a", "card", 2).await.1["replayed"], true);
    assert_eq!(caller.keys("a").await.len(), 2);
    assert_eq!(caller.stock("card").await, [8, 0, 2, 0, 0, 0]);
    let (_, events) = caller.get("/v1/events").await;
    assert_eq!(events["events"].as_array().map(Vec::len), Some(1));
    assert_eq!(events["events"][0]["topic"], "delivered");
    let last = events["events"][0]["id"].as_i64().expect("a cursor");
    assert_eq!(caller.get(&format!("/v1/events?after={last}")).await.1["events"], json!([]));
    caller.assert_sound().await;
    shop.stop().await;
}

#[tokio::test]
async fn an_event_that_is_unsigned_or_says_something_else_is_refused() {
    let folder = TempDir::new().expect("a folder");
    let shop = Shop::start(folder.path()).await;
    let caller = shop.caller();
    caller.product("card").await;
    caller.import("card", "reject", made_up(3)).await;
    let body = json!({ "event_id": "e", "order_no": "a", "sku": "card", "qty": 1 });
    assert_eq!(code(&caller.post("/v1/hooks/paid", body).await), (401, "WRONG_SIGNATURE"));
    assert_eq!(outcome(&caller.paid("e", "a", "card", 1).await), (200, "delivered", false));
    assert_eq!(code(&caller.paid("e", "b", "card", 1).await), (422, "EVENT_MISMATCH"));
    assert_eq!(code(&caller.paid("f", "a", "card", 2).await), (422, "RESERVATION_MISMATCH"));
    assert_eq!(caller.stock("card").await, [2, 0, 1, 0, 0, 0]);
    caller.assert_sound().await;
    shop.stop().await;
}

#[tokio::test]
async fn a_late_payment_is_delivered_or_has_to_be_paid_back_and_both_are_written_down() {
    let folder = TempDir::new().expect("a folder");
    let shop = Shop::start(folder.path()).await;
    let caller = shop.caller();
    caller.product("card").await;
    caller.import("card", "reject", made_up(1)).await;
    for number in ["one", "two"] {
        caller.reserve(number, "card", 1).await;
        caller.send(reqwest::Method::DELETE, &format!("/v1/reservations/{number}"), Value::Null).await;
    }
    assert_eq!(outcome(&caller.paid("e1", "one", "card", 1).await), (200, "delivered", false));
    assert_eq!(outcome(&caller.paid("e2", "two", "card", 1).await), (200, "refund_due", true));
    // New stock changes nothing: somebody may be sending the money back by now.
    caller.import("card", "reject", "NEW\n".to_owned()).await;
    assert_eq!(outcome(&caller.paid("e2", "two", "card", 1).await), (200, "refund_due", true));
    assert_eq!(caller.operate("/admin/orders/two/refund", json!({})).await.0, StatusCode::OK);
    assert_eq!(code(&caller.allocate("two", "card", 1).await), (409, "REFUNDED"));
    assert_eq!(caller.query("two", &super::pass("two")).await.1["status"], "refunded");
    caller.assert_sound().await;
    shop.stop().await;
}

#[tokio::test]
async fn short_orders_are_delivered_with_one_click_after_restocking() {
    let folder = TempDir::new().expect("a folder");
    let shop = Shop::start(folder.path()).await;
    let caller = shop.caller();
    caller.product_with("card", json!({ "on_short": "backorder" })).await;
    caller.import("card", "reject", made_up(1)).await;
    for (n, qty) in [(0, 1), (1, 2), (2, 5), (3, 1)] {
        let answer = caller.paid(&format!("e{n}"), &format!("o{n}"), "card", qty).await;
        assert_eq!(outcome(&answer).1, if n == 0 { "delivered" } else { "short" });
    }
    let (_, listed) = caller.get("/admin/orders?status=short").await;
    let numbers: Vec<_> = listed["orders"].as_array().expect("a list").iter().map(|order| &order["order_no"]).collect();
    assert_eq!(numbers, ["o1", "o2", "o3"]);
    let metrics = caller.client.get(format!("{}/metrics", caller.base)).send().await.expect("an answer");
    assert!(metrics.text().await.expect("text").contains("card_key_waiting_orders{status=\"short\"} 3\n"));
    let waiting = caller.allocate("o1", "card", 2).await;
    assert_eq!(code(&waiting), (503, "WAITS_FOR_SELLER"), "an order service asks again");
    caller.import("card", "reject", "A\nB\nC\n".to_owned()).await;
    let redelivered = caller.operate("/admin/orders:redeliver", json!({})).await;
    assert_eq!(redelivered.1, json!({ "delivered": 2, "still_short": 1 }));
    assert_eq!(caller.allocate("o1", "card", 2).await.1["allocated"], 2);
    assert_eq!(outcome(&caller.operate("/admin/orders/o2/redeliver", json!({})).await), (200, "short", true));
    caller.import("card", "reject", "D\nE\nF\nG\nH\n".to_owned()).await;
    assert_eq!(outcome(&caller.operate("/admin/orders/o2/redeliver", json!({})).await), (200, "delivered", false));
    assert_eq!(caller.stock("card").await, [0, 0, 9, 0, 0, 0]);
    let (_, log) = caller.get("/admin/operations?subject=o2").await;
    let actions: Vec<_> = log["operations"].as_array().expect("a list").iter().map(|one| &one["detail"]).collect();
    let expected = [json!({ "outcome": "short", "now": false }), json!({ "outcome": "delivered", "now": true })];
    assert_eq!(actions, expected.iter().collect::<Vec<_>>());
    caller.assert_sound().await;
    shop.stop().await;
}

#[tokio::test]
async fn a_seller_confirms_a_payment_on_the_way_of_every_payment_and_signs_for_it() {
    let folder = TempDir::new().expect("a folder");
    let shop = Shop::start(folder.path()).await;
    let caller = shop.caller();
    caller.product("card").await;
    caller.import("card", "reject", made_up(2)).await;
    caller.reserve("a", "card", 1).await;
    assert_eq!(code(&caller.post("/admin/orders/a/confirm-paid", json!({})).await).0, 400);
    let nameless = json!({ "operator": " ", "reason": "?" });
    assert_eq!(code(&caller.post("/admin/orders/a/confirm-paid", nameless).await), (400, "INVALID_REQUEST"));
    assert_eq!(code(&caller.operate("/admin/orders/a/redeliver", json!({})).await), (409, "NOT_PAID"));
    assert_eq!(code(&caller.operate("/admin/orders/a/refund", json!({})).await), (409, "NOT_PAID"));
    assert_eq!(code(&caller.operate("/admin/orders/z/confirm-paid", json!({})).await), (404, "UNKNOWN_ORDER"));
    assert_eq!(outcome(&caller.operate("/admin/orders/a/confirm-paid", json!({})).await), (200, "delivered", false));
    assert_eq!(outcome(&caller.operate("/admin/orders/a/confirm-paid", json!({})).await), (200, "delivered", true));
    assert_eq!(outcome(&caller.paid("late", "a", "card", 1).await), (200, "delivered", true));
    assert_eq!(caller.keys("a").await, ["CARD-000000"]);
    let (_, log) = caller.get("/admin/operations?subject=a").await;
    assert_eq!(log["operations"][0]["operator"], "olga");
    assert_eq!(log["operations"][0]["action"], "confirm-paid");
    caller.assert_sound().await;
    shop.stop().await;
}
