//! Reconciliation end to end: the channel's own bill, fetched from it as a merchant, against the order service's books.

use std::process::Output;
use std::time::Duration;

use reqwest::{Client, Method};
use rusqlite::Connection;
use serde_json::{Value, json};
use tidegate_services::reconciliation::day::Day;
use tidegate_services::support::unix_ms;

use super::abroad::Abroad;
use super::{answer, ask};
use crate::process::Process;

impl Abroad {
    /// An order that is paid and delivered; answers its payment's number.
    async fn sold(&self, key: &str) -> String {
        let (order_no, payment_no) = self.paying(key).await;
        self.charge(&payment_no).await;
        self.street.caller.until(&order_no, "DELIVERED").await;
        payment_no
    }

    /// Runs `reconcile` for today; answers its exit code and its report.
    async fn reconcile(&self, today: Day, more: &[&str]) -> (i32, Value) {
        let folder = self.street.folder.path().display().to_string();
        let (merchants, bills) = (self.merchants().display().to_string(), format!("{folder}/bills"));
        let (date, order) = (today.to_string(), self.street.caller.base.clone());
        let mut arguments = vec!["reconcile", "--channel", self.channel, "--date", &date, "--data-dir", &folder];
        arguments.extend(["--merchants", &merchants, "--bills", &bills, "--window-minutes", "0", "--order", &order]);
        arguments.extend(more);
        let arguments: Vec<String> = arguments.into_iter().map(str::to_owned).collect();
        let run = move || Process::run(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        let Output { status, stdout, stderr } = tokio::task::spawn_blocking(run).await.expect("the command runs");
        let report = serde_json::from_slice(&stdout).unwrap_or_else(|_| json!(String::from_utf8_lossy(&stderr)));
        (status.code().expect("an exit code"), report)
    }
}

/// How many items of a category a report has.
fn count(report: &Value, category: &str) -> u64 {
    report["categories"][category]["count"].as_u64().unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bill_fetched_from_the_channel_finds_what_we_were_not_told_and_repairs_it() {
    for channel in ["wechat", "alipay"] {
        // Nobody asks for payments by himself for a while: only the bill tells.
        let abroad = Abroad::open_with(channel, 9, json!({}), |settings| {
            settings.retry_unit = Duration::from_secs(3_600);
        })
        .await;
        let today = Day::of(unix_ms());
        let first = abroad.sold("a").await;
        let (code, why) = abroad.reconcile(today, &[]).await;
        assert_eq!(code, 1, "{channel}: the day is not over: {why}");
        let clock = Client::new().post(format!("{}/sim/clock", abroad.base)).json(&json!({ "offset_ms": 86_400_000 }));
        assert_eq!(answer(clock).await.expect("an answer").0, 200);
        let (code, report) = abroad.reconcile(today, &[]).await;
        assert_eq!(code, 0, "{channel}: {report}");

        abroad.plan(json!({ "callback": { "drop_ratio": 1.0 } })).await;
        let (lost, second) = abroad.paying("b").await;
        abroad.charge(&second).await;
        let (code, report) = abroad.reconcile(today, &["--apply"]).await;
        assert_eq!((code, count(&report, "BANK_ONLY")), (2, 1), "{channel}: {report}");
        abroad.street.caller.until(&lost, "DELIVERED").await;

        abroad.plan(json!({})).await;
        abroad.sold("c").await;
        let (code, report) = abroad.reconcile(today, &[]).await;
        assert_eq!(code, 0, "{channel}: {report}");
        abroad.plan(json!({ "bill": { "omit": [first], "wrong_amount": [second] } })).await;
        let (code, report) = abroad.reconcile(today, &[]).await;
        let found = (code, count(&report, "SYSTEM_ONLY"), count(&report, "AMOUNT_MISMATCH"));
        assert_eq!(found, (2, 1, 1), "{channel}: {report}");
        abroad.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_address_of_a_bill_is_good_for_who_was_given_it() {
    let abroad = Abroad::open("wechat", 1, json!({})).await;
    let clock = Client::new().post(format!("{}/sim/clock", abroad.base)).json(&json!({ "offset_ms": 86_400_000 }));
    assert_eq!(answer(clock).await.expect("an answer").0, 200);
    let today = Day::of(unix_ms());
    for path in [
        format!("/bill/download?format=wechat&day={today}&until=9999999999&token=00"),
        format!("/v3/billdownload/file?format=wechat&day={today}&until=9999999999&token=00"),
    ] {
        let status = ask(&Client::new(), Method::GET, &format!("{}{path}", abroad.base)).await.0;
        assert!([401, 403].contains(&status), "{path}: {status}");
    }
    let plain = Client::new().get(format!("{}/sim/bill?format=wechat&day={today}", abroad.base)).send().await;
    let text = plain.expect("an answer").text().await.expect("text");
    assert!(text.contains("总交易单数"), "a bill of a day without payments has its summary: {text}");
    abroad.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_day_the_bill_of_the_day_before_is_fetched_and_compared() {
    let abroad = Abroad::open("wechat", 1, json!({})).await;
    let (folder, yesterday) = (abroad.street.folder.path(), Day::of(unix_ms()).before());
    let (data, bills) = (folder.display().to_string(), folder.join("bills"));
    let (merchants, to) = (abroad.merchants().display().to_string(), bills.display().to_string());
    let order = &abroad.street.caller.base;
    let _schedule = Process::background(&[
        "reconcile",
        "--daily",
        "--channel-at",
        "00:00",
        "--data-dir",
        &data,
        "--merchants",
        &merchants,
        "--bills",
        &to,
        "--order",
        order,
    ]);
    let runs = Connection::open(folder.join("reconciliation.sqlite")).expect("the file of runs");
    let count = || runs.query_row("SELECT count(*) FROM runs WHERE channel = 'wechat'", [], |row| row.get::<_, i64>(0));
    for _ in 0..500 {
        if count().expect("readable") == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(count().expect("readable"), 1);
    // A day may end while this runs.
    let fetched = [yesterday, yesterday.after()].map(|day| bills.join(format!("wechat-{day}.csv")).exists());
    assert!(fetched[0] || fetched[1], "{fetched:?}");
    abroad.close().await;
}
