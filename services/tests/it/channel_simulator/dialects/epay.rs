//! 易支付's dialect.

use reqwest::Method;
use reqwest::redirect::Policy;
use serde_json::{Value, json};
use tidegate_services::support::dialect::params::Params;
use tidegate_services::support::dialect::{Forged, epay};

use super::super::{EPAY_KEY, NOWHERE};
use super::Demo;
use super::shop::Shop;

fn order(number: &str, money: &str, notify_url: &str) -> Params {
    let mut params: Params = [
        ("pid", "1001"),
        ("type", "wxpay"),
        ("out_trade_no", number),
        ("notify_url", notify_url),
        ("return_url", "http://127.0.0.1/back"),
        ("name", "卡密 & more"),
        ("money", money),
        ("param", "mine"),
    ]
    .into_iter()
    .collect();
    epay::sign(&mut params, EPAY_KEY);
    params
}

impl Demo {
    async fn mapi(&self, params: &Params) -> Value {
        let url = format!("{}/mapi.php", self.caller.base);
        let request = self.caller.client.post(url).header("content-type", "application/x-www-form-urlencoded");
        request.body(params.to_form()).send().await.expect("an answer").json().await.expect("JSON")
    }

    async fn api(&self, query: &str) -> Value {
        let key = EPAY_KEY.replace(' ', "+");
        self.caller.get(&format!("/api.php?pid=1001&key={key}&{query}")).await.1
    }
}

#[tokio::test]
async fn a_payment_lives_from_its_page_to_its_refund() {
    let demo = Demo::start().await;
    let made = demo.mapi(&order("E1", "49.05", NOWHERE)).await;
    assert_eq!(made["code"], 1, "{made}");
    assert!(made["payurl"].as_str().is_some_and(|url| url.ends_with("/cashier/E1")));
    assert_eq!(demo.mapi(&order("E1", "49.05", NOWHERE)).await, made);
    assert_eq!(demo.mapi(&order("E1", "49.06", NOWHERE)).await["code"], -1);
    assert_eq!(demo.api("act=order&out_trade_no=E1").await["status"], 0);
    demo.pay("E1").await;
    let paid = demo.api(&format!("act=order&trade_no={}", made["trade_no"].as_str().expect("a number"))).await;
    assert_eq!(
        (paid["code"].as_i64(), paid["status"].as_i64(), paid["money"].as_str()),
        (Some(1), Some(1), Some("49.05"))
    );
    assert_eq!((paid["type"].as_str(), paid["param"].as_str()), (Some("wxpay"), Some("mine")));
    for _ in 0..2 {
        assert_eq!(demo.api("act=refund&out_trade_no=E1&money=49.05").await["code"], 1);
    }
    assert_eq!(demo.caller.truth("E1").await["net"], 0);
    demo.mapi(&order("E2", "1.00", NOWHERE)).await;
    let orders = demo.api("act=orders&limit=1").await;
    assert_eq!((orders["count"].as_i64(), orders["data"][0]["out_trade_no"].as_str()), (Some(1), Some("E2")));
    assert_eq!(demo.api("act=order&out_trade_no=none").await["code"], -1);
    demo.stop().await;
}

#[tokio::test]
async fn the_browser_is_sent_to_the_page_where_one_pays() {
    let demo = Demo::start().await;
    let client = reqwest::Client::builder().no_proxy().redirect(Policy::none()).build().expect("a client");
    let url = format!("{}/submit.php?{}", demo.caller.base, order("E1", "1.00", NOWHERE).to_form());
    let answer = client.get(&url).send().await.expect("an answer");
    assert_eq!(answer.status(), 303);
    assert!(answer.headers()["location"].to_str().expect("text").ends_with("/cashier/E1"));
    let forged = client.get(url.replace("money=1.00", "money=0.01")).send().await.expect("an answer");
    assert_eq!(forged.status(), 200);
    assert!(forged.text().await.expect("text").contains("SIGN_ERROR"));
    demo.stop().await;
}

#[tokio::test]
async fn without_the_key_nothing_is_told_and_nothing_done() {
    let demo = Demo::start().await;
    let mut forged = order("E1", "1.00", NOWHERE);
    forged.set("money", "0.01");
    assert_eq!(demo.mapi(&forged).await["code"], -1);
    assert_eq!(demo.caller.truth("E1").await["code"], "PAYMENT_NOT_FOUND");
    demo.mapi(&order("E1", "1.00", NOWHERE)).await;
    demo.pay("E1").await;
    for act in ["order", "orders", "refund"] {
        let target = format!("/api.php?pid=1001&key=guess&act={act}&out_trade_no=E1&money=1.00");
        assert_eq!(demo.caller.send(Method::GET, &target, Value::Null).await.1["code"], -1, "{act}");
    }
    assert_eq!(demo.caller.truth("E1").await["net"], 100);
    demo.stop().await;
}

#[tokio::test]
async fn the_shop_is_told_by_a_signed_query_until_it_says_success() {
    let demo = Demo::start().await;
    let shop = Shop::start(&[(200, "fail"), (200, "<p>success</p>"), (200, "success")]).await;
    demo.plan(json!({ "callback": { "bad_signature_ratio": 1.0 } })).await;
    demo.mapi(&order("E1", "49.05", &format!("{}?shop=1", shop.url))).await;
    demo.pay("E1").await;
    let told = shop.wait_for(3).await;
    let read: Vec<Params> = told.iter().map(|told| Params::parse(told.query.as_bytes())).collect();
    let mut own = read.clone();
    for params in &mut own {
        assert_eq!(params.get("shop"), Some("1"), "the shop's own parameter is kept");
        params.set("shop", "");
    }
    assert_eq!(epay::verify(&own[0], EPAY_KEY), Err(Forged::Mismatch));
    for (params, told) in own.iter().zip(&told).skip(1) {
        assert_eq!((epay::verify(params, EPAY_KEY), &told.method), (Ok(()), &Method::GET));
        assert_eq!((params.get("trade_status"), params.get("money")), (Some("TRADE_SUCCESS"), Some("49.05")));
        assert_eq!((params.get("pid"), params.get("param")), (Some("1001"), Some("mine")));
    }
    demo.stop().await;
}
