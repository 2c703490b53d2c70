//! WeChat Pay's dialect.

use reqwest::{Method, Response};
use serde_json::{Value, json};
use tidegate_services::support::dialect::wechat::{self, Authorization};
use tidegate_services::support::dialect::{Forged, alipay, params::Params};
use tidegate_services::support::unix_ms;

use super::super::API_V3_KEY;
use super::shop::{Shop, Told};
use super::{Demo, openssl};

const NOTIFY: &str = "http://127.0.0.1:9/notify";

fn now() -> u64 {
    u64::try_from(unix_ms() / 1_000).expect("a time after 1970")
}

fn order(number: &str, total: i64, notify_url: &str) -> Value {
    json!({
        "appid": "wx0000000000000001", "mchid": "1900000001", "description": "卡密", "out_trade_no": number,
        "notify_url": notify_url, "amount": { "total": total, "currency": "CNY" }, "attach": "mine",
    })
}

impl Demo {
    fn authorization(&self) -> Authorization {
        Authorization {
            mchid: "1900000001".to_owned(),
            serial_no: self.merchant.public().serial(),
            nonce_str: "5K8264ILTKCH16CQ2502SI8ZNMTM67VS".to_owned(),
            timestamp: now(),
            signature: String::new(),
        }
    }

    async fn wechat_raw(&self, method: Method, target: &str, body: &str, authorization: &str) -> Response {
        let request = self.caller.client.request(method, format!("{}{target}", self.caller.base));
        request.header("authorization", authorization).body(body.to_owned()).send().await.expect("an answer")
    }

    /// A call whose answer is genuine.
    async fn wechat(&self, method: Method, target: &str, body: Value) -> (u16, Value) {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let signed = self.authorization().sign(method.as_str(), target, &body, &self.merchant);
        let answer = self.wechat_raw(method, target, &body, &signed.to_header()).await;
        let header = |name: &str| answer.headers()[name].to_str().expect("text").to_owned();
        let names = ["wechatpay-timestamp", "wechatpay-nonce", "wechatpay-signature", "wechatpay-serial"];
        let [timestamp, nonce, signature, serial] = names.map(header);
        assert_eq!(self.keys["platform"]["serial"], serial);
        let status = answer.status().as_u16();
        let body = answer.text().await.expect("text");
        let genuine = wechat::verify_answer(&timestamp, &nonce, &signature, &body, &self.platform, now());
        assert_eq!(genuine, Ok(()), "{status} {body}");
        (status, serde_json::from_str(&body).unwrap_or_default())
    }

    async fn native(&self, number: &str, total: i64, notify_url: &str) -> (u16, Value) {
        self.wechat(Method::POST, "/v3/pay/transactions/native", order(number, total, notify_url)).await
    }

    async fn state(&self, number: &str) -> Value {
        let target = format!("/v3/pay/transactions/out-trade-no/{number}?mchid=1900000001");
        self.wechat(Method::GET, &target, Value::Null).await.1
    }
}

fn code(answer: &(u16, Value)) -> (u16, &str) {
    (answer.0, answer.1["code"].as_str().unwrap_or(""))
}

#[tokio::test]
async fn a_payment_lives_from_its_code_to_its_refund() {
    let demo = Demo::start().await;
    let made = demo.native("W1", 4_905, NOTIFY).await;
    assert!(made.0 == 200 && made.1["code_url"].as_str().is_some_and(|url| url.ends_with("/cashier/W1")), "{made:?}");
    assert_eq!(demo.native("W1", 4_905, NOTIFY).await, made);
    assert_eq!(code(&demo.native("W1", 1, NOTIFY).await), (403, "OUT_TRADE_NO_USED"));
    assert_eq!(demo.state("W1").await["trade_state"], "NOTPAY");
    demo.pay("W1").await;
    let paid = demo.state("W1").await;
    assert_eq!((paid["trade_state"].as_str(), paid["amount"]["total"].as_i64()), (Some("SUCCESS"), Some(4_905)));
    assert_eq!((paid["attach"].as_str(), paid["trade_type"].as_str()), (Some("mine"), Some("NATIVE")));
    assert_eq!(code(&demo.native("W1", 4_905, NOTIFY).await), (400, "ORDERPAID"));
    let close = "/v3/pay/transactions/out-trade-no/W1/close";
    assert_eq!(code(&demo.wechat(Method::POST, close, json!({ "mchid": "1900000001" })).await), (400, "ORDERPAID"));
    let refund = json!({
        "transaction_id": paid["transaction_id"], "out_refund_no": "R1",
        "amount": { "refund": 905, "total": 4_905, "currency": "CNY" },
    });
    let path = "/v3/refund/domestic/refunds";
    let refunded = demo.wechat(Method::POST, path, refund.clone()).await;
    assert_eq!((refunded.0, refunded.1["status"].as_str()), (200, Some("SUCCESS")));
    assert_eq!(demo.wechat(Method::POST, path, refund).await, refunded);
    assert_eq!(demo.state("W1").await["trade_state"], "REFUND");
    assert_eq!(demo.caller.truth("W1").await["net"], 4_000);
    demo.native("W2", 1, NOTIFY).await;
    let close = "/v3/pay/transactions/out-trade-no/W2/close";
    assert_eq!(demo.wechat(Method::POST, close, json!({ "mchid": "1900000001" })).await.0, 204);
    assert_eq!(demo.state("W2").await["trade_state"], "CLOSED");
    assert_eq!(demo.state("none").await["code"], "ORDER_NOT_EXIST");
    demo.stop().await;
}

#[tokio::test]
async fn every_way_to_pay_asks_for_what_it_needs() {
    let demo = Demo::start().await;
    for (kind, member, value, answer) in [
        ("jsapi", "payer", json!({ "openid": "o1" }), "prepay_id"),
        ("h5", "scene_info", json!({ "payer_client_ip": "127.0.0.1" }), "h5_url"),
    ] {
        let target = format!("/v3/pay/transactions/{kind}");
        let mut body = order(kind, 5, NOTIFY);
        assert_eq!(code(&demo.wechat(Method::POST, &target, body.clone()).await), (400, "PARAM_ERROR"));
        body[member] = value;
        assert!(demo.wechat(Method::POST, &target, body).await.1[answer].is_string());
    }
    let mut expired = order("old", 5, NOTIFY);
    expired["time_expire"] = json!("2020-01-01T00:00:00+08:00");
    demo.wechat(Method::POST, "/v3/pay/transactions/native", expired).await;
    assert_eq!(demo.state("old").await["trade_state"], "CLOSED");
    demo.stop().await;
}

#[tokio::test]
async fn a_forged_call_is_refused_and_a_forged_answer_is_seen() {
    let demo = Demo::start().await;
    let (target, body) = ("/v3/pay/transactions/native", order("W1", 5, NOTIFY).to_string());
    let signed = |authorization: Authorization| authorization.sign("POST", target, &body, &demo.merchant).to_header();
    let old = Authorization { timestamp: now() - 301, ..demo.authorization() };
    let stranger = Authorization { serial_no: "1234".to_owned(), ..demo.authorization() };
    let other = demo.authorization().sign("POST", target, "{}", &demo.merchant).to_header();
    for header in [signed(old), signed(stranger), other, "Bearer x".to_owned()] {
        let answer = demo.wechat_raw(Method::POST, target, &body, &header).await;
        assert_eq!(answer.status(), 401, "{header}");
        assert!(answer.text().await.expect("text").contains("SIGN_ERROR"));
    }
    assert_eq!(demo.caller.truth("W1").await["code"], "PAYMENT_NOT_FOUND");
    demo.plan(json!({ "faults": [{ "kind": "bad_signature" }] })).await;
    let answer = demo.wechat_raw(Method::POST, target, &body, &signed(demo.authorization())).await;
    assert!(answer.headers()["wechatpay-signature"].to_str().expect("text").starts_with(wechat::SIGNTEST));
    demo.plan(json!({ "faults": [{ "kind": "system_error_not_charged" }] })).await;
    assert_eq!(code(&demo.native("W2", 5, NOTIFY).await), (500, "SYSTEM_ERROR"));
    demo.stop().await;
}

fn genuine(demo: &Demo, told: &Told) -> Result<(), Forged> {
    let [timestamp, nonce, signature] =
        ["wechatpay-timestamp", "wechatpay-nonce", "wechatpay-signature"].map(|name| told.header(name));
    wechat::verify_answer(timestamp, nonce, signature, &told.body, &demo.platform, now())
}

#[tokio::test]
async fn the_shop_is_told_in_cipher_and_probed_until_it_answers_well() {
    let demo = Demo::start().await;
    let shop = Shop::start(&[(401, ""), (500, r#"{"code":"SUCCESS"}"#), (204, "")]).await;
    demo.plan(json!({ "callback": { "bad_signature_ratio": 1.0 } })).await;
    demo.native("W1", 4_905, &shop.url).await;
    demo.pay("W1").await;
    let told = shop.wait_for(3).await;
    assert!(told[0].header("wechatpay-signature").starts_with(wechat::SIGNTEST));
    assert_eq!(genuine(&demo, &told[0]), Err(Forged::Mismatch));
    let first: Value = serde_json::from_str(&told[1].body).expect("JSON");
    for told in &told[1..3] {
        assert_eq!(genuine(&demo, told), Ok(()));
        let message: Value = serde_json::from_str(&told.body).expect("JSON");
        assert_eq!((&message["id"], message["event_type"].as_str()), (&first["id"], Some("TRANSACTION.SUCCESS")));
        let part = |name: &str| message["resource"][name].as_str().expect("text");
        let plain = wechat::open(API_V3_KEY, part("nonce"), part("associated_data"), part("ciphertext"));
        let plain: Value = serde_json::from_str(&plain.expect("readable")).expect("JSON");
        assert_eq!((plain["out_trade_no"].as_str(), plain["amount"]["total"].as_i64()), (Some("W1"), Some(4_905)));
        assert_eq!((plain["trade_state"].as_str(), plain["mchid"].as_str()), (Some("SUCCESS"), Some("1900000001")));
    }
    for _ in 0..200 {
        if demo.caller.get("/sim/stats").await.1["callbacks"] == json!({ "acknowledged": 1 }) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let stats = demo.caller.get("/sim/stats").await.1;
    assert_eq!(stats["callbacks"], json!({ "acknowledged": 1 }));
    assert_eq!(stats["since_start"]["probes_accepted"], 0);
    demo.stop().await;
}

#[tokio::test]
async fn the_platforms_certificate_is_sent_in_cipher_and_holds_its_key() {
    let demo = Demo::start().await;
    let answer = demo.wechat(Method::GET, "/v3/certificates", Value::Null).await.1;
    let one = &answer["data"][0];
    let part = |name: &str| one["encrypt_certificate"][name].as_str().expect("text");
    let pem = wechat::open(API_V3_KEY, part("nonce"), part("associated_data"), part("ciphertext")).expect("readable");
    assert_eq!(one["serial_no"], demo.keys["platform"]["serial"]);
    let file = demo.folder.path().join("certificate.pem").display().to_string();
    std::fs::write(&file, pem).expect("a file");
    // A machine without it cannot look into a certificate.
    if let Some(said) = openssl(&["x509", "-in", &file, "-noout", "-pubkey", "-serial"]) {
        assert!(said.contains(demo.keys["platform"]["public_key"].as_str().expect("a key").trim()), "{said}");
        assert!(said.contains(&format!("serial={}", one["serial_no"].as_str().expect("text"))), "{said}");
    }
    demo.stop().await;
}

#[tokio::test]
async fn all_dialects_are_about_the_same_payments() {
    let demo = Demo::start().await;
    demo.native("W1", 500, NOTIFY).await;
    demo.pay("W1").await;
    let mut call: Params = [
        ("app_id", "2021000000000001"),
        ("method", "alipay.trade.query"),
        ("charset", "utf-8"),
        ("timestamp", "2025-11-11 00:00:00"),
        ("biz_content", r#"{"out_trade_no":"W1"}"#),
    ]
    .into_iter()
    .collect();
    alipay::sign_call(&mut call, &demo.merchant);
    let url = format!("{}/gateway.do?{}", demo.caller.base, call.to_form());
    let body = demo.caller.client.post(url).send().await.expect("an answer").text().await.expect("text");
    assert!(body.contains("TRADE_SUCCESS") && body.contains("5.00"), "{body}");
    assert_eq!(demo.caller.get("/pay/v1/payments/W1").await.1["status"], "SUCCESS");
    demo.stop().await;
}
