//! The order service as a merchant of channels that speak a dialect, each end to end with a channel simulator: paid,
//! given up, paid back, and every notification that must not be believed.

use std::time::Duration;

use reqwest::{Client, Method};
use serde_json::{Value, json};
use tidegate_services::channel_simulator::dialects;
use tidegate_services::support::dialect::params::Params;
use tidegate_services::support::dialect::rsa::SigningKey;
use tidegate_services::support::dialect::{alipay, epay, wechat};
use tidegate_services::support::unix_ms;

use super::abroad::{Abroad, key_file};
use super::{Answer, answer, ask, code, history};

/// Channels and what they speak here.
const SPOKEN: [(&str, &str); 3] = [("alipay", "alipay"), ("wechat", "wechat"), ("union", "epay")];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payment_in_each_dialect_is_told_in_it_and_delivered_once_and_probes_are_refused() {
    // A probe with a wrong signature goes before every notification, and two copies with it.
    let plan = json!({ "callback": { "bad_signature_ratio": 1.0, "duplicate_ratio": 1.0, "copies": 2 } });
    for (channel, dialect) in SPOKEN {
        let abroad = Abroad::open(channel, 2, plan.clone()).await;
        let (order_no, payment_no) = abroad.paying("a").await;
        abroad.charge(&payment_no).await;
        let order = abroad.street.caller.until(&order_no, "DELIVERED").await;
        assert_eq!(history(&order).iter().filter(|kind| **kind == "PAID").count(), 1, "{dialect}");
        // The channel hears exactly the answer that ends it.
        let mut callbacks = Value::Null;
        for _ in 0..300 {
            let stats = ask(&Client::new(), Method::GET, &format!("{}/sim/stats", abroad.base)).await.2;
            callbacks = stats["callbacks"].clone();
            if callbacks["acknowledged"] == 1 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(callbacks["acknowledged"], 1, "{dialect}: {callbacks}");
        assert!(abroad.metric("order_notifications_unsigned_total").await >= 1, "{dialect}: the probe");
        assert_eq!(abroad.metric("order_notifications_total").await, 1, "{dialect}: taken in once");
        assert_eq!(abroad.net(&payment_no).await, 4_900, "{dialect}");
        assert_eq!(abroad.street.stock().await, [1, 0, 1], "{dialect}");
        abroad.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_each_dialect_a_lost_notification_is_asked_for_and_a_cancelled_order_is_closed() {
    let plan = json!({ "callback": { "drop_ratio": 1.0 } });
    for (channel, dialect) in SPOKEN {
        let abroad = Abroad::open(channel, 2, plan.clone()).await;
        let (paid, payment_no) = abroad.paying("paid").await;
        abroad.charge(&payment_no).await;
        abroad.street.caller.until(&paid, "DELIVERED").await;
        assert_eq!(abroad.metric("order_notifications_total").await, 0, "{dialect}: it was lost");
        let (given_up, payment_no) = abroad.paying("given-up").await;
        let cancel = abroad.street.caller.post(&format!("/api/orders/{given_up}/cancel"), Value::Null).await;
        assert!([200, 202].contains(&cancel.0), "{dialect}: {}", cancel.2);
        let order = abroad.street.caller.until(&given_up, "CANCELLED").await;
        assert_eq!(order["payments"][0]["status"], "CLOSED", "{dialect}");
        assert_eq!(abroad.net(&payment_no).await, 0, "{dialect}");
        abroad.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_each_dialect_money_for_which_there_are_no_keys_goes_back() {
    for (channel, dialect) in SPOKEN {
        let abroad = Abroad::open(channel, 1, json!({})).await;
        let (order_no, payment_no) = abroad.paying("a").await;
        // The seller gives the reserved key to somebody else.
        let keys = &abroad.street.keys;
        ask(&Client::new(), Method::DELETE, &format!("{keys}/v1/reservations/{order_no}")).await;
        let by_hand = json!({ "order_no": "BY-HAND", "sku": "card", "qty": 1 });
        let issued = answer(Client::new().post(format!("{keys}/v1/allocations")).json(&by_hand)).await;
        assert_eq!(issued.expect("an answer").0, 200);
        abroad.charge(&payment_no).await;
        let order = abroad.street.caller.until(&order_no, "REFUNDED").await;
        assert_eq!(order["payments"][0]["refund"], "DONE", "{dialect}");
        assert_eq!(abroad.net(&payment_no).await, 0, "{dialect}");
        abroad.close().await;
    }
}

/// Notifications that a channel could sign and that must not count: what is sent, and what is answered.
fn doubtful(channel: &str, payment_no: &str) -> Vec<(Deed, u16)> {
    let key = SigningKey::from_pem(&std::fs::read_to_string(key_file("platform-private.pem")).expect("a key"));
    let key = key.expect("a key");
    match channel {
        "alipay" => [
            ("2021000000000001", "2088000000000001", "48.99", "TRADE_SUCCESS", 400),
            ("2021000000000009", "2088000000000001", "49.00", "TRADE_SUCCESS", 400),
            ("2021000000000001", "2088000000000009", "49.00", "TRADE_SUCCESS", 400),
            ("2021000000000001", "2088000000000001", "", "TRADE_SUCCESS", 400),
            ("2021000000000001", "2088000000000001", "49.00", "WAIT_BUYER_PAY", 200),
        ]
        .into_iter()
        .enumerate()
        .map(|(n, (app, seller, amount, state, status))| {
            let n = format!("n-{n}");
            let mut params: Params = [
                ("notify_id", &*n),
                ("app_id", app),
                ("seller_id", seller),
                ("out_trade_no", payment_no),
                ("trade_no", "T"),
                ("trade_status", state),
                ("total_amount", amount),
            ]
            .into_iter()
            .collect();
            alipay::sign_notification(&mut params, &key);
            (Deed { query: String::new(), headers: Vec::new(), body: params.to_form() }, status)
        })
        .collect(),
        "wechat" => [
            ("wx0000000000000001", "1900000001", 4_899, "SUCCESS", 400, ""),
            ("wx0000000000000009", "1900000001", 4_900, "SUCCESS", 400, ""),
            ("wx0000000000000001", "1900000009", 4_900, "SUCCESS", 400, ""),
            ("wx0000000000000001", "1900000001", 4_900, "SUCCESS", 401, wechat::SIGNTEST),
            ("wx0000000000000001", "1900000001", 4_900, "NOTPAY", 204, ""),
        ]
        .into_iter()
        .enumerate()
        .map(|(n, (appid, mchid, total, state, status, prefix))| {
            let plain = json!({ "appid": appid, "mchid": mchid, "out_trade_no": payment_no, "transaction_id": "T",
                "trade_state": state, "amount": { "total": total, "currency": "CNY" } });
            let api_key = dialects::DEVELOPMENT_API_V3_KEY.as_bytes().try_into().expect("32 bytes");
            let sealed = wechat::seal(api_key, b"abcdefghijkl", "transaction", &plain.to_string());
            let body = json!({ "id": format!("n-{n}"), "event_type": "TRANSACTION.SUCCESS", "resource": {
                "algorithm": "AEAD_AES_256_GCM", "nonce": "abcdefghijkl", "associated_data": "transaction",
                "ciphertext": sealed } });
            let (body, seconds) = (body.to_string(), (unix_ms() / 1_000).to_string());
            let signature = key.sign(wechat::answer_text(&seconds, "nonce", &body).as_bytes());
            let headers = vec![
                ("wechatpay-timestamp", seconds),
                ("wechatpay-nonce", "nonce".to_owned()),
                ("wechatpay-signature", format!("{prefix}{signature}")),
                ("wechatpay-serial", key.public().serial()),
            ];
            (Deed { query: String::new(), headers, body }, status)
        })
        .collect(),
        _ => [
            ("1001", "48.99", "TRADE_SUCCESS", 400),
            ("1002", "49.00", "TRADE_SUCCESS", 400),
            ("1001", "", "TRADE_SUCCESS", 400),
            ("1001", "49.00", "TRADE_CLOSED", 200),
        ]
        .into_iter()
        .enumerate()
        .map(|(n, (pid, amount, state, status))| {
            let trade_no = format!("T-{n}");
            let mut params: Params = [
                ("pid", pid),
                ("trade_no", &trade_no),
                ("out_trade_no", payment_no),
                ("type", "alipay"),
                ("name", "x"),
                ("money", amount),
                ("trade_status", state),
            ]
            .into_iter()
            .collect();
            epay::sign(&mut params, dialects::DEVELOPMENT_EPAY_KEY);
            (Deed { query: format!("?{}", params.to_form()), headers: Vec::new(), body: String::new() }, status)
        })
        .collect(),
    }
}

/// A notification to be sent.
struct Deed {
    query: String,
    headers: Vec<(&'static str, String)>,
    body: String,
}

impl Abroad {
    async fn tell(&self, deed: Deed) -> (u16, String) {
        let method = if deed.body.is_empty() { Method::GET } else { Method::POST };
        let url = format!("{}/notify/{}{}", self.street.caller.base, self.channel, deed.query);
        let mut request = Client::new().request(method, url).body(deed.body);
        for (name, value) in deed.headers {
            request = request.header(name, value);
        }
        let answer = request.send().await.expect("an answer");
        (answer.status().as_u16(), answer.text().await.expect("text"))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_each_dialect_a_good_signature_is_not_enough() {
    for (channel, dialect) in SPOKEN {
        let abroad = Abroad::open(channel, 2, json!({})).await;
        let (order_no, payment_no) = abroad.paying("a").await;
        for (n, (deed, status)) in doubtful(channel, &payment_no).into_iter().enumerate() {
            let (answered, text) = abroad.tell(deed).await;
            assert_eq!(answered, status, "{dialect} {n}: {text}");
            let word = match (dialect, status) {
                ("alipay", 200) | ("epay", 200) => "success",
                ("wechat", 204) => "",
                ("alipay", _) => "failure",
                ("epay", _) => "fail",
                _ => "\"FAIL\"",
            };
            assert!(if status < 300 { text == word } else { text.contains(word) }, "{dialect} {n}: {text}");
        }
        // The plain dialect is not spoken there.
        let plain: Answer = abroad.street.caller.notify(channel, "{}".to_owned(), "t=1,v1=00").await;
        assert_eq!(plain.0, 401, "{dialect}");
        let order = abroad.street.caller.until(&order_no, "PENDING_PAYMENT").await;
        assert_eq!(order["payments"][0]["status"], "PENDING", "{dialect}");
        // The right one still counts.
        abroad.charge(&payment_no).await;
        abroad.street.caller.until(&order_no, "DELIVERED").await;
        abroad.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn money_that_comes_after_an_order_was_given_up_goes_back() {
    // Aggregators cannot close: the order ends, and the payer pays all the same.
    let abroad = Abroad::open("union", 1, json!({})).await;
    let caller = &abroad.street.caller;
    let (late, late_payment) = abroad.paying("late").await;
    caller.post(&format!("/api/orders/{late}/cancel"), Value::Null).await;
    caller.until(&late, "CANCELLED").await;
    abroad.charge(&late_payment).await;
    for _ in 0..400 {
        if abroad.net(&late_payment).await == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(abroad.net(&late_payment).await, 0, "it was given up, so the money goes back");
    let order = caller.until(&late, "CANCELLED").await;
    assert!(history(&order).contains(&"LATE_PAYMENT"));
    assert_eq!(code(&caller.keys(&late, "secret-99").await), (409, "WRONG_STATE"));
    abroad.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn money_that_comes_after_the_time_to_pay_is_over_is_delivered_for() {
    let abroad =
        Abroad::open_with("union", 1, json!({}), |settings| settings.pay_within = Duration::from_secs(3)).await;
    let (order_no, payment_no) = abroad.paying("late").await;
    abroad.street.caller.until(&order_no, "EXPIRED").await;
    abroad.charge(&payment_no).await;
    let order = abroad.street.caller.until(&order_no, "DELIVERED").await;
    assert!(history(&order).contains(&"LATE_PAYMENT"));
    assert_eq!(abroad.net(&payment_no).await, 4_900);
    abroad.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_each_dialect_an_answer_that_proves_nothing_is_asked_about_and_nothing_is_charged_twice() {
    for (channel, dialect) in SPOKEN {
        for fault in ["bad_signature", "system_error_not_charged", "truncate", "read_all_then_close", "bad_json"] {
            let plan = json!({ "faults": [{ "kind": fault, "on": "create", "times": 1 }] });
            let abroad = Abroad::open(channel, 1, plan).await;
            let order_no = abroad.street.caller.ordered("a").await;
            let started = abroad.street.caller.pay(&order_no, channel).await;
            assert!([201, 202].contains(&started.0), "{dialect} {fault}: {}", started.2);
            let payment = abroad.street.payment_until(&order_no, "PENDING").await;
            let payment_no = payment["payment_no"].as_str().expect("a number");
            abroad.charge(payment_no).await;
            let order = abroad.street.caller.until(&order_no, "DELIVERED").await;
            assert_eq!(order["payments"].as_array().map(Vec::len), Some(1), "{dialect} {fault}: no second payment");
            assert_eq!(abroad.net(payment_no).await, 4_900, "{dialect} {fault}");
            abroad.close().await;
        }
    }
}
