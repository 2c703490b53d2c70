//! The buyer's side: quotes, coupons, choosing, finding and downloading one's keys; and buyers who hoard.

use std::collections::HashMap;

use reqwest::StatusCode;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Caller, Shop, code, made_up, pass};

async fn place(caller: &Caller, order_no: &str, more: Value) -> (StatusCode, Value) {
    let mut body = json!({ "order_no": order_no, "sku": "card", "qty": 1, "query_password": pass(order_no) });
    for (name, value) in more.as_object().expect("an object") {
        body[name] = value.clone();
    }
    caller.post("/v1/reservations", body).await
}

/// Places 500 orders at once; answers how many were refused, by code.
async fn rush(caller: &Caller, principal: impl Fn(usize) -> String) -> HashMap<String, usize> {
    let orders: Vec<_> = (0..500)
        .map(|n| {
            let (caller, body) = (caller.clone(), json!({ "principal": principal(n) }));
            tokio::spawn(async move { place(&caller, &format!("o{n}"), body).await })
        })
        .collect();
    let mut codes = HashMap::new();
    for order in orders {
        let (status, answer) = order.await.expect("no buyer panics");
        let code = answer["code"].as_str().unwrap_or(status.as_str()).to_owned();
        *codes.entry(code).or_default() += 1;
    }
    codes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_orders_at_once_of_one_buyer_hold_two_keys() {
    let folder = TempDir::new().expect("a folder");
    let shop = Shop::start(folder.path()).await;
    let caller = shop.caller();
    caller.product("card").await;
    caller.import("card", "reject", made_up(1_000)).await;
    let codes = rush(&caller, |_| "greedy".to_owned()).await;
    assert_eq!(codes, HashMap::from([("201".to_owned(), 2), ("TOO_MANY_UNPAID".to_owned(), 498)]));
    assert_eq!(caller.stock("card").await, [998, 2, 0, 0, 0, 0]);
    caller.assert_sound().await;
    shop.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_buyers_at_once_hold_their_share_of_the_stock_and_no_more() {
    let folder = TempDir::new().expect("a folder");
    let shop = Shop::start(folder.path()).await;
    let caller = shop.caller();
    caller.product("card").await;
    caller.import("card", "reject", made_up(200)).await;
    let codes = rush(&caller, |n| format!("buyer-{n}")).await;
    assert_eq!(codes, HashMap::from([("201".to_owned(), 60), ("STOCK_HELD".to_owned(), 440)]));
    assert_eq!(caller.stock("card").await, [140, 60, 0, 0, 0, 0]);
    caller.assert_sound().await;
    shop.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coupon_with_ten_uses_is_used_ten_times_however_many_try_at_once() {
    let folder = TempDir::new().expect("a folder");
    let shop = Shop::start(folder.path()).await;
    let caller = shop.caller();
    caller.product("card").await;
    caller.import("card", "reject", made_up(100)).await;
    let terms = json!({ "code": "TEN", "kind": "percent", "basis_points": 1_000, "max_uses": 10 });
    assert_eq!(caller.post("/admin/coupons", terms).await.0, StatusCode::OK);
    let orders: Vec<_> = (0..50)
        .map(|n| {
            let caller = caller.clone();
            tokio::spawn(async move { place(&caller, &format!("o{n}"), json!({ "coupon": "TEN" })).await })
        })
        .collect();
    let mut used = 0;
    for order in orders {
        let answer = order.await.expect("no buyer panics");
        if answer.0 == StatusCode::CREATED {
            assert_eq!((&answer.1["amount"], &answer.1["currency"]), (&json!(90), &json!("CNY")));
            used += 1;
        } else {
            assert_eq!(code(&answer), (409, "COUPON_REFUSED"));
        }
    }
    assert_eq!(used, 10);
    assert_eq!(caller.get("/admin/coupons").await.1["coupons"][0]["used"], 10);
    caller.assert_sound().await;
    shop.stop().await;
}

#[tokio::test]
async fn a_quote_says_what_the_order_will_cost() {
    let folder = TempDir::new().expect("a folder");
    let shop = Shop::start(folder.path()).await;
    let caller = shop.caller();
    let product = json!({
        "sku": "card", "name_zh": "卡", "name_en": "card", "price": 999, "currency": "CNY",
        "tiers": [{ "min_qty": 5, "price": 900 }], "policy": { "max_per_order": 20 },
    });
    assert_eq!(caller.post("/admin/products", product).await.0, StatusCode::OK);
    let coupon = json!({ "code": "LESS", "kind": "fixed", "amount": 500, "currency": "CNY", "min_goods": 4_500 });
    assert_eq!(caller.post("/admin/coupons", coupon).await.0, StatusCode::OK);
    let quote = async |body: Value| caller.post("/v1/quotes", body).await;
    let (_, five) = quote(json!({ "sku": "card", "qty": 5, "coupon": "LESS" })).await;
    let expected = json!({
        "sku": "card", "qty": 5, "unit_price": 900, "goods": 4_500, "surcharge": 0, "discount": 500, "total": 4_000,
        "currency": "CNY",
    });
    assert_eq!(five, expected);
    assert_eq!(code(&quote(json!({ "sku": "card", "qty": 4, "coupon": "LESS" })).await), (409, "COUPON_REFUSED"));
    assert_eq!(code(&quote(json!({ "sku": "card", "qty": 4, "coupon": "NONE" })).await), (409, "COUPON_REFUSED"));
    assert_eq!(code(&quote(json!({ "sku": "card", "qty": 21 })).await), (400, "INVALID_REQUEST"));
    assert_eq!(code(&quote(json!({ "sku": "nothing", "qty": 1 })).await), (404, "UNKNOWN_SKU"));
    // The quote counts no use, the order does, and costs the same.
    caller.import("card", "reject", made_up(5)).await;
    let placed = place(&caller, "a", json!({ "qty": 5, "coupon": "LESS" })).await;
    assert_eq!(placed.1["amount"], 4_000);
    for nonsense in [
        json!({ "tiers": [{ "min_qty": 0, "price": 1 }] }),
        json!({ "tiers": [{ "min_qty": 2, "price": 1 }, { "min_qty": 2, "price": 3 }] }),
        json!({ "price": -1 }),
        json!({ "policy": { "max_open": 0 } }),
        json!({ "policy": { "surcharge": 5 } }),
        json!({ "policy": { "ressrve": "on_paid" } }),
    ] {
        let mut product = json!({ "sku": "x", "name_zh": "", "name_en": "", "price": 1, "currency": "CNY" });
        product.as_object_mut().expect("an object").extend(nonsense.as_object().expect("an object").clone());
        assert_eq!(code(&caller.post("/admin/products", product).await), (400, "INVALID_REQUEST"), "{nonsense}");
    }
    shop.stop().await;
}

#[tokio::test]
async fn a_buyer_chooses_by_the_preview_and_pays_for_it() {
    let folder = TempDir::new().expect("a folder");
    let shop = Shop::start(folder.path()).await;
    let caller = shop.caller();
    caller.product_with("card", json!({ "pick": "chosen", "surcharge": 30 })).await;
    caller
        .import("card", "reject", "SECRET-111\tends with 111\nSECRET-888\tends with 888\nSECRET-123\n".to_owned())
        .await;
    let (_, listed) = caller.get("/v1/products/card/previews").await;
    assert!(!listed.to_string().contains("SECRET"), "a preview shows a key");
    assert_eq!(listed["previews"].as_array().map(Vec::len), Some(2));
    assert_eq!(listed["previews"][1]["preview"], "ends with 888");
    let chosen = json!({ "chosen": [listed["previews"][1]["key_id"]] });
    let placed = place(&caller, "a", chosen.clone()).await;
    assert_eq!((placed.0, &placed.1["amount"]), (StatusCode::CREATED, &json!(130)));
    assert_eq!(code(&place(&caller, "b", chosen).await), (409, "KEY_TAKEN"));
    caller.allocate("a", "card", 1).await;
    assert_eq!(caller.keys("a").await, ["SECRET-888"]);
    assert_eq!(caller.get("/v1/products/card/previews").await.1["previews"].as_array().map(Vec::len), Some(1));
    let none = place(&caller, "c", json!({ "chosen": [1, 3] })).await;
    assert_eq!(code(&none), (400, "INVALID_REQUEST"), "as many as are ordered, or none");
    caller.assert_sound().await;
    shop.stop().await;
}

#[tokio::test]
async fn a_shared_product_is_sold_to_everybody_and_a_manual_one_by_hand() {
    let folder = TempDir::new().expect("a folder");
    let shop = Shop::start(folder.path()).await;
    let caller = shop.caller();
    caller.product_with("login", json!({ "kind": "shared" })).await;
    caller.product_with("service", json!({ "kind": "manual" })).await;
    assert_eq!(caller.get("/v1/products/login").await.1["band"], "sold_out");
    caller.import("login", "reject", "user:password\n".to_owned()).await;
    assert_eq!(caller.get("/v1/products/login").await.1["band"], "plenty");
    for order_no in ["a", "b", "c"] {
        assert_eq!(caller.reserve(order_no, "login", 1).await.0, StatusCode::CREATED);
        assert_eq!(caller.allocate(order_no, "login", 1).await.0, StatusCode::OK);
        assert_eq!(caller.keys(order_no).await, ["user:password"]);
    }
    assert_eq!(code(&caller.reserve("d", "login", 2).await), (400, "INVALID_REQUEST"));
    assert_eq!(caller.stock("login").await, [0, 0, 0, 1, 0, 0]);
    let login = json!({ "sku": "login", "name_zh": "", "name_en": "", "price": 1, "currency": "CNY" });
    assert_eq!(code(&caller.post("/admin/products", login).await), (409, "KIND_FIXED"));
    let batch = caller.batch("login", "b").await;
    assert_eq!(caller.operate(&format!("/admin/batches/{batch}/recycle"), json!({})).await.1["changed"], 1);
    assert_eq!(code(&caller.reserve("d", "login", 1).await), (409, "OUT_OF_STOCK"));
    assert_eq!(caller.keys("a").await, ["user:password"], "what is bought stays bought");

    assert_eq!(caller.reserve("m", "service", 1).await.0, StatusCode::CREATED);
    assert_eq!(code(&caller.allocate("m", "service", 1).await), (503, "WAITS_FOR_SELLER"));
    assert!(caller.keys("m").await.is_empty());
    let delivered = caller.operate("/admin/orders/m/deliver", json!({ "keys": ["by hand"] })).await;
    assert_eq!(delivered.1["outcome"], "delivered");
    assert_eq!(caller.allocate("m", "service", 1).await.1["allocated"], 1);
    assert_eq!(caller.keys("m").await, ["by hand"]);
    caller.assert_sound().await;
    shop.stop().await;
}

#[tokio::test]
async fn a_policy_shortens_reservations_and_can_hold_nothing_before_the_payment() {
    let folder = TempDir::new().expect("a folder");
    let shop = Shop::start(folder.path()).await;
    let caller = shop.caller();
    caller.product_with("card", json!({ "reserve": "on_paid", "ttl_seconds": 1 })).await;
    caller.import("card", "reject", made_up(1)).await;
    let (_, placed) = place(&caller, "a", json!({ "ttl_seconds": 900 })).await;
    assert_eq!((&placed["status"], &placed["held"]), (&json!("reserved"), &json!(false)));
    assert_eq!(caller.get("/v1/products/card").await.1["stock"], 1);
    let mut status = Value::Null;
    for _ in 0..100 {
        status = caller.query("a", &pass("a")).await.1["status"].clone();
        if status == "expired" {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(status, "expired");
    caller.assert_sound().await;
    shop.stop().await;
}

#[tokio::test]
async fn orders_are_found_by_contact_and_password_and_downloaded_with_a_token() {
    let folder = TempDir::new().expect("a folder");
    let shop = Shop::start(folder.path()).await;
    let caller = shop.caller();
    caller.product("card").await;
    caller.import("card", "reject", made_up(3)).await;
    let mine = json!({ "contact": "me@shop.test", "query_password": "mine" });
    for order_no in ["a", "b"] {
        assert_eq!(place(&caller, order_no, mine.clone()).await.0, StatusCode::CREATED);
    }
    place(&caller, "c", json!({ "contact": "me@shop.test", "query_password": "other" })).await;
    caller.allocate("a", "card", 1).await;
    let (_, found) =
        caller.post("/v1/orders/lookup", json!({ "contact": "ME@shop.test", "query_password": "mine" })).await;
    let numbers: Vec<_> = found["orders"].as_array().expect("a list").iter().map(|order| &order["order_no"]).collect();
    assert_eq!(numbers.len(), 2, "{found}");
    assert!(!numbers.contains(&&json!("c")) && !found.to_string().contains("CARD-"));
    let wrong = json!({ "contact": "me@shop.test", "query_password": "guess" });
    for _ in 0..10 {
        assert_eq!(code(&caller.post("/v1/orders/lookup", wrong.clone()).await), (403, "WRONG_PASSWORD"));
    }
    assert_eq!(code(&caller.post("/v1/orders/lookup", mine).await), (429, "TOO_MANY_ATTEMPTS"));

    // The product changed its name since; the order remembers.
    let renamed = json!({ "sku": "card", "name_zh": "新", "name_en": "new", "price": 7, "currency": "CNY" });
    caller.post("/admin/products", renamed).await;
    let (_, shown) = caller.query("a", "mine").await;
    assert_eq!((&shown["product"]["name_en"], &shown["product"]["unit_price"]), (&json!("card"), &json!(100)));
    let token = shown["download_token"].as_str().expect("a token");
    let url = |order_no: &str, token: &str| format!("{}/v1/orders/{order_no}/keys.txt?token={token}", caller.base);
    let file = caller.client.get(url("a", token)).send().await.expect("an answer");
    assert_eq!(
        (file.status(), &file.headers()["cache-control"]),
        (StatusCode::OK, &"no-store".parse().expect("a value"))
    );
    assert_eq!(file.text().await.expect("text"), "CARD-000000\n");
    for url in [url("b", token), url("a", "1.00"), url("a", "")] {
        assert_eq!(caller.client.get(url).send().await.expect("an answer").status(), StatusCode::FORBIDDEN);
    }
    shop.stop().await;
}
