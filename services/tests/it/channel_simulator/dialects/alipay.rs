//! Alipay's dialect.

use serde_json::{Value, json};
use tidegate_services::support::dialect::params::Params;
use tidegate_services::support::dialect::{Forged, alipay};

use super::super::NOWHERE;
use super::shop::Shop;
use super::{Demo, openssl};

fn params(method: &str, notify_url: &str, business: &Value) -> Params {
    [
        ("app_id", "2021000000000001"),
        ("method", method),
        ("charset", "utf-8"),
        ("timestamp", "2025-11-11 00:00:00"),
        ("version", "1.0"),
        ("notify_url", notify_url),
        ("biz_content", &business.to_string()),
    ]
    .into_iter()
    .collect()
}

impl Demo {
    async fn alipay_raw(&self, params: &Params) -> String {
        let url = format!("{}/gateway.do", self.caller.base);
        let request = self.caller.client.post(url).header("content-type", "application/x-www-form-urlencoded");
        request.body(params.to_form()).send().await.expect("an answer").text().await.expect("text")
    }

    /// A call whose answer is genuine.
    async fn alipay(&self, method: &str, notify_url: &str, business: Value) -> Value {
        let mut params = params(method, notify_url, &business);
        alipay::sign_call(&mut params, &self.merchant);
        let body = self.alipay_raw(&params).await;
        let content = alipay::verify_answer(&body, &alipay::node(method), &self.platform).expect(&body);
        serde_json::from_str(content).expect("JSON")
    }

    async fn status(&self, number: &str) -> Value {
        let answer = self.alipay("alipay.trade.query", "", json!({ "out_trade_no": number })).await;
        answer.get("trade_status").or(answer.get("sub_code")).cloned().unwrap_or_default()
    }
}

fn code(answer: &Value) -> (&str, &str) {
    (answer["code"].as_str().unwrap_or(""), answer["sub_code"].as_str().unwrap_or(""))
}

#[tokio::test]
async fn a_payment_lives_from_its_code_to_its_refund() {
    let demo = Demo::start().await;
    let order = json!({ "out_trade_no": "A1", "total_amount": "49.05", "subject": "卡密 & more" });
    let made = demo.alipay("alipay.trade.precreate", NOWHERE, order.clone()).await;
    assert_eq!(code(&made), ("10000", ""));
    assert!(made["qr_code"].as_str().is_some_and(|url| url.ends_with("/cashier/A1")));
    assert_eq!(demo.status("A1").await, "WAIT_BUYER_PAY");
    let other = json!({ "out_trade_no": "A1", "total_amount": "49.06", "subject": "卡密 & more" });
    let refused = demo.alipay("alipay.trade.precreate", NOWHERE, other).await;
    assert_eq!(code(&refused), ("40004", "ACQ.CONTEXT_INCONSISTENT"));
    demo.pay("A1").await;
    assert_eq!(demo.status("A1").await, "TRADE_SUCCESS");
    let again = demo.alipay("alipay.trade.precreate", NOWHERE, order).await;
    assert_eq!(code(&again), ("40004", "ACQ.TRADE_HAS_SUCCESS"));
    let closed = demo.alipay("alipay.trade.close", "", json!({ "out_trade_no": "A1" })).await;
    assert_eq!(code(&closed), ("40004", "ACQ.TRADE_STATUS_ERROR"));
    let refund = json!({ "out_trade_no": "A1", "refund_amount": 9.05, "out_request_no": "R1" });
    for change in ["Y", "N"] {
        let refunded = demo.alipay("alipay.trade.refund", "", refund.clone()).await;
        assert_eq!((code(&refunded).0, refunded["fund_change"].as_str()), ("10000", Some(change)));
        assert_eq!(refunded["refund_fee"], "9.05");
    }
    let asked = json!({ "out_trade_no": "A1", "out_request_no": "R1" });
    let found = demo.alipay("alipay.trade.fastpay.refund.query", "", asked).await;
    assert_eq!(
        (found["refund_status"].as_str(), found["refund_amount"].as_str()),
        (Some("REFUND_SUCCESS"), Some("9.05"))
    );
    let asked = json!({ "out_trade_no": "A1", "out_request_no": "R2" });
    let none = demo.alipay("alipay.trade.fastpay.refund.query", "", asked).await;
    assert_eq!((code(&none).0, &none["refund_status"]), ("10000", &Value::Null));
    let much = json!({ "out_trade_no": "A1", "refund_amount": "40.01", "out_request_no": "R3" });
    assert_eq!(code(&demo.alipay("alipay.trade.refund", "", much).await).0, "40004");
    assert_eq!(demo.caller.truth("A1").await["net"], 4_000);
    demo.stop().await;
}

#[tokio::test]
async fn cancelling_closes_what_is_not_paid_and_pays_back_what_is() {
    let demo = Demo::start().await;
    for number in ["open", "paid"] {
        let order = json!({ "out_trade_no": number, "total_amount": "1.00", "subject": "x" });
        demo.alipay("alipay.trade.precreate", "", order).await;
    }
    demo.pay("paid").await;
    for (number, action) in [("open", json!("close")), ("paid", json!("refund")), ("none", Value::Null)] {
        for _ in 0..2 {
            let answer = demo.alipay("alipay.trade.cancel", "", json!({ "out_trade_no": number })).await;
            assert_eq!((code(&answer).0, &answer["action"]), ("10000", &action), "{number}");
        }
    }
    assert_eq!(demo.status("open").await, "TRADE_CLOSED");
    assert_eq!(demo.status("paid").await, "TRADE_CLOSED");
    assert_eq!(demo.status("none").await, "ACQ.TRADE_NOT_EXIST");
    assert_eq!(demo.caller.get("/sim/truth").await.1["net"], 0);
    demo.stop().await;
}

#[tokio::test]
async fn paying_by_code_charges_at_once_and_fails_as_planned() {
    let demo = Demo::start().await;
    let faults = json!([
        { "kind": "decline_hard", "numbers": ["poor"] },
        { "kind": "processing_then_success", "numbers": ["slow"], "ms": 100 },
        { "kind": "system_error_charged", "numbers": ["unknown"], "on": "create" },
        { "kind": "503", "numbers": ["away"] },
    ]);
    demo.plan(json!({ "faults": faults })).await;
    for (number, wanted) in [
        ("good", ("10000", "")),
        ("poor", ("40004", "ACQ.BUYER_BALANCE_NOT_ENOUGH")),
        ("slow", ("10003", "")),
        ("unknown", ("20000", "aop.ACQ.SYSTEM_ERROR")),
    ] {
        let order =
            json!({ "out_trade_no": number, "total_amount": "5", "subject": "x", "auth_code": "28763443825664394" });
        let answer = demo.alipay("alipay.trade.pay", "", order).await;
        assert_eq!(code(&answer), wanted, "{number}");
    }
    assert_eq!(demo.status("unknown").await, "TRADE_SUCCESS", "the money had moved");
    assert_eq!(demo.caller.truth("unknown").await["charged"], 500);
    let mut away = params("alipay.trade.query", "", &json!({ "out_trade_no": "away" }));
    alipay::sign_call(&mut away, &demo.merchant);
    assert!(demo.alipay_raw(&away).await.contains("CHANNEL_UNAVAILABLE"));
    demo.stop().await;
}

#[tokio::test]
async fn a_forged_call_is_refused_and_a_forged_answer_is_seen() {
    let demo = Demo::start().await;
    let order = json!({ "out_trade_no": "A1", "total_amount": "1.00", "subject": "x" });
    let mut call = params("alipay.trade.precreate", NOWHERE, &order);
    alipay::sign_call(&mut call, &demo.merchant);
    for (name, value, sub_code) in [
        ("biz_content", "{}", "isv.invalid-signature"),
        ("sign", "AAAA", "isv.invalid-signature"),
        ("app_id", "1", "isv.invalid-app-id"),
        ("sign_type", "RSA", "isv.invalid-signature-type"),
        ("charset", "gbk", "isv.invalid-charset"),
    ] {
        let mut changed = call.clone();
        changed.set(name, value);
        let body = demo.alipay_raw(&changed).await;
        let content = alipay::verify_answer(&body, "error_response", &demo.platform).expect("signed all the same");
        let content: Value = serde_json::from_str(content).expect("JSON");
        assert_eq!(code(&content), ("40002", sub_code), "{name}");
    }
    assert_eq!(demo.caller.truth("A1").await["code"], "PAYMENT_NOT_FOUND");
    demo.plan(json!({ "faults": [{ "kind": "bad_signature" }] })).await;
    let body = demo.alipay_raw(&call).await;
    let node = alipay::node("alipay.trade.precreate");
    assert_eq!(alipay::verify_answer(&body, &node, &demo.platform), Err(Forged::Mismatch));
    demo.stop().await;
}

#[tokio::test]
async fn openssl_finds_an_answer_genuine() {
    let demo = Demo::start().await;
    let mut call = params("alipay.trade.query", "", &json!({ "out_trade_no": "none" }));
    alipay::sign_call(&mut call, &demo.merchant);
    let body = demo.alipay_raw(&call).await;
    let (content, sign) = body.split_once(r#","sign":""#).expect("a signature");
    let content = content.split_once(':').expect("a node").1;
    use base64::Engine;
    let sign = base64::engine::general_purpose::STANDARD.decode(sign.trim_end_matches("\"}")).expect("base64");
    let file = |name: &str| demo.folder.path().join(name).display().to_string();
    std::fs::write(file("content"), content).expect("a file");
    std::fs::write(file("sign"), sign).expect("a file");
    let public = file("keys/platform-public.pem");
    let said = openssl(&["dgst", "-sha256", "-verify", &public, "-signature", &file("sign"), &file("content")]);
    // A machine without it has the vectors of the signatures.
    assert!(said.is_none_or(|said| said.contains("Verified OK")));
    demo.stop().await;
}

#[tokio::test]
async fn the_shop_is_told_by_a_signed_form_until_it_says_success() {
    let demo = Demo::start().await;
    let shop = Shop::start(&[(200, "success\n"), (500, "success"), (200, "success")]).await;
    demo.plan(json!({ "callback": { "bad_signature_ratio": 1.0 } })).await;
    let order = json!({ "out_trade_no": "A1", "total_amount": "49.05", "subject": "卡密 & more" });
    demo.alipay("alipay.trade.precreate", &shop.url, order).await;
    demo.pay("A1").await;
    let told = shop.wait_for(3).await;
    let read: Vec<Params> = told.iter().map(|told| Params::parse(told.body.as_bytes())).collect();
    // The probe comes first; it is not counted as an attempt.
    assert_eq!(alipay::verify_notification(&read[0], &demo.platform), Err(Forged::Mismatch));
    for params in &read[1..] {
        assert_eq!(alipay::verify_notification(params, &demo.platform), Ok(()));
        assert_eq!(params.get("notify_id"), read[1].get("notify_id"));
        assert_eq!((params.get("total_amount"), params.get("trade_status")), (Some("49.05"), Some("TRADE_SUCCESS")));
        assert_eq!((params.get("out_trade_no"), params.get("subject")), (Some("A1"), Some("卡密 & more")));
        assert_eq!(
            (params.get("app_id"), params.get("seller_id")),
            (Some("2021000000000001"), Some("2088000000000001"))
        );
    }
    for _ in 0..200 {
        if demo.caller.get("/sim/stats").await.1["callbacks"] == json!({ "acknowledged": 1 }) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(demo.caller.get("/sim/stats").await.1["callbacks"], json!({ "acknowledged": 1 }));
    demo.stop().await;
}
