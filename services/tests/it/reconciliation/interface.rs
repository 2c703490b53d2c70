//! `/v1/reconciliations` in a running order service, and repairs that reach the channel.

use std::path::Path;
use std::time::Duration;

use reqwest::{Client, Method};
use serde_json::{Value, json};
use tidegate_services::reconciliation::Channel;
use tidegate_services::reconciliation::bill::{Entry, Kind};
use tidegate_services::reconciliation::day::Day;
use tidegate_services::support::unix_ms;

use super::write_bill;
use crate::order::Street;

/// A charge as the channel's bill has it.
fn charge(payment_no: &str, trade_no: &str, at_ms: i64) -> Entry {
    Entry {
        kind: Kind::Payment,
        out_trade_no: payment_no.to_owned(),
        trade_no: trade_no.to_owned(),
        refund_no: String::new(),
        amount: 4_900,
        fee: 0,
        at_ms,
        subject: "卡".to_owned(),
        line: 0,
    }
}

async fn send(method: Method, url: &str, body: Value) -> (u16, Value) {
    let answer = Client::new().request(method, url).json(&body).send().await.expect("an answer");
    (answer.status().as_u16(), answer.json().await.expect("JSON"))
}

/// Puts a bill of today in its place and has it compared; answers the URL of the run and its report.
async fn reconcile(base: &str, data: &Path, lines: Vec<Entry>, apply: bool) -> (String, Value) {
    let day = Day::of(unix_ms());
    std::fs::create_dir_all(data.join("bills")).expect("a folder");
    write_bill(&data.join("bills"), Channel::Alipay, day, lines.into_iter());
    let wanted = json!({ "channel": "alipay", "date": day.to_string(), "apply": apply });
    let (status, begun) = send(Method::POST, &format!("{base}/v1/reconciliations"), wanted).await;
    assert_eq!(status, 202, "{begun}");
    let url = format!("{base}/v1/reconciliations/{}", begun["id"].as_str().expect("an id"));
    let run = until_ended(&url).await;
    assert_eq!(run["status"], "DONE", "{run}");
    (url, run["report"].clone())
}

/// Waits until a run has ended, in whatever way.
async fn until_ended(url: &str) -> Value {
    let mut run = Value::Null;
    for _ in 0..400 {
        run = send(Method::GET, url, Value::Null).await.1;
        if run["status"] != "RUNNING" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    run
}

#[tokio::test]
async fn a_payment_that_only_the_bill_has_is_taken_in_and_delivered() {
    // Nobody tells us of the charge, and the resolver would ask after an hour.
    let street = Street::open(5, |settings| settings.retry_unit = Duration::from_secs(3_600)).await;
    let base = street.base().to_owned();
    let order_no = street.caller().ordered("k").await;
    let payment_no = street.caller().paying(&order_no).await;
    street.bank().charge(&payment_no);
    let trade_no = street.bank().truth().payments[&payment_no]["trade_no"].as_str().expect("a number").to_owned();
    let lines = vec![charge(&payment_no, &trade_no, unix_ms()), charge(&payment_no, "another", unix_ms())];
    let (url, report) = reconcile(&base, street.data(), lines.clone(), false).await;
    assert_eq!(report["categories"]["BANK_ONLY"]["count"], 1);
    assert_eq!(report["categories"]["DUPLICATE_CHARGE"]["count"], 1);
    assert_eq!(street.caller().get(&format!("/api/orders/{order_no}")).await.2["status"], "PENDING_PAYMENT");
    // Asked for repairs, the same run is not made again.
    let (again, same) = reconcile_again(&base, &url).await;
    assert_eq!((again, same), (url.clone(), report));
    street.caller().until(&order_no, "DELIVERED").await;
    let (_, items) = send(Method::GET, &format!("{url}/items?category=BANK_ONLY"), Value::Null).await;
    assert_eq!(items["items"][0]["resolution"], "taken in", "{items}");
    let (_, items) = send(Method::GET, &format!("{url}/items?category=DUPLICATE_CHARGE"), Value::Null).await;
    let item = &items["items"][0];
    assert_eq!((&item["outcome"], &item["resolution"]), (&json!("a refund is proposed"), &Value::Null));
    let resolve = format!("{url}/items/{}/resolve", item["n"]);
    let (status, resolved) = send(Method::POST, &resolve, json!({ "resolution": "paid back by hand" })).await;
    assert_eq!((status, &resolved["resolution"]), (200, &json!("paid back by hand")));
    street.close().await;
}

/// Has the run that is done repaired; waits until that has happened.
async fn reconcile_again(base: &str, url: &str) -> (String, Value) {
    let day = Day::of(unix_ms());
    let wanted = json!({ "channel": "alipay", "date": day.to_string(), "apply": true });
    let (_, begun) = send(Method::POST, &format!("{base}/v1/reconciliations"), wanted).await;
    let again = format!("{base}/v1/reconciliations/{}", begun["id"].as_str().expect("an id"));
    let run = until_ended(url).await;
    assert_eq!(run["status"], "DONE", "{run}");
    (again, run["report"].clone())
}

#[tokio::test]
async fn what_cannot_be_compared_says_why() {
    let street = Street::open(1, |_| {}).await;
    let url = format!("{}/v1/reconciliations", street.base());
    let ask = async |body: Value| {
        let (status, problem) = send(Method::POST, &url, body).await;
        (status, problem["code"].as_str().unwrap_or("").to_owned())
    };
    let wanted = json!({ "channel": "alipay", "date": "2026-11-20" });
    assert_eq!(ask(wanted.clone()).await, (404, "NO_BILL".to_owned()));
    let mut elsewhere = wanted.clone();
    elsewhere["bill"] = json!("../order.key");
    assert_eq!(ask(elsewhere).await, (400, "INVALID_REQUEST".to_owned()));
    assert_eq!(ask(json!({ "channel": "union", "date": "2026-11-20" })).await.0, 400);
    assert_eq!(ask(json!({ "channel": "alipay", "date": "20.11.2026" })).await.0, 400);
    // A broken bill is found behind the answer.
    let bills = street.data().join("bills");
    std::fs::create_dir_all(&bills).expect("a folder");
    std::fs::write(bills.join("alipay-2026-11-20.zip"), "nothing").expect("written");
    let (status, begun) = send(Method::POST, &url, wanted).await;
    assert_eq!(status, 202);
    let run = format!("{url}/{}", begun["id"].as_str().expect("an id"));
    let ended = until_ended(&run).await;
    assert_eq!(ended["error"], "line 1: not the header of an Alipay trade bill", "{ended}");
    street.close().await;
}
