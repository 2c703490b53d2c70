//! Proofs of the comparison: exact counts on a day with known differences, the same bytes again, and what midnight does.

mod midnight;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use super::bill::{self, Entry};
use super::day::Day;
use super::model::{Category, Channel};
use super::ours::{OurPayment, Ours, OursError};
use super::run::{Done, Job, Rules, Runs};
use super::seeded::{FEE_BASIS_POINTS, Seeded};
use super::{RunError, store};

/// Books in memory, as a file would hand them out.
struct Shelf {
    all: BTreeMap<String, OurPayment>,
    hand: std::vec::IntoIter<OurPayment>,
}

impl Shelf {
    fn new(rows: impl IntoIterator<Item = OurPayment>, day: Day, rules: Rules) -> Self {
        let all: BTreeMap<_, _> = rows.into_iter().map(|row| (row.out_trade_no.clone(), row)).collect();
        let window_ms = i64::try_from(rules.window.as_millis()).expect("a small window");
        let looked_at = day.begin_ms() - window_ms..day.end_ms() + window_ms;
        let hand: Vec<_> = all
            .values()
            .filter(|row| {
                let refunded = row.refund.as_ref().and_then(|refund| refund.done_ms);
                looked_at.contains(&row.at_ms) || refunded.is_some_and(|at_ms| looked_at.contains(&at_ms))
            })
            .cloned()
            .collect();
        Self { all, hand: hand.into_iter() }
    }
}

impl Iterator for Shelf {
    type Item = Result<OurPayment, OursError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.hand.next().map(Ok)
    }
}

impl Ours for Shelf {
    fn look_up(&mut self, out_trade_no: &str) -> Result<Option<OurPayment>, OursError> {
        Ok(self.all.get(out_trade_no).cloned())
    }
}

fn day() -> Day {
    "2026-11-20".parse().expect("a day")
}

fn rules() -> Rules {
    Rules { fee_basis_points: Some(FEE_BASIS_POINTS), ..Rules::default() }
}

fn write_bill(folder: &Path, channel: Channel, day: Day, entries: impl Iterator<Item = Entry>) -> PathBuf {
    let path = folder.join(format!("{channel}-{day}"));
    bill::write(channel, day, entries, File::create(&path).expect("a file")).expect("written");
    path
}

async fn compare(
    runs: &Runs,
    channel: Channel,
    day: Day,
    bill: &Path,
    rows: Vec<OurPayment>,
) -> Result<Done, RunError> {
    let job = Job { channel, day, bill: bill.to_owned(), rules: rules() };
    runs.run_with(job, move || Ok(Shelf::new(rows, day, rules()))).await
}

fn read(done: &Done) -> Value {
    serde_json::from_str(&done.report).expect("JSON")
}

fn counts(report: &Value) -> BTreeMap<Category, u64> {
    let count = |category: Category| report["categories"][category.as_str()]["count"].as_u64().expect("a count");
    Category::ALL.into_iter().map(|category| (category, count(category))).filter(|(_, count)| *count > 0).collect()
}

#[tokio::test]
async fn every_difference_is_found_and_nothing_else_and_again_with_the_same_bytes() {
    for channel in Channel::ALL {
        let seeded = Seeded { day: day(), payments: 12_000 };
        let mut reports = Vec::new();
        for _ in 0..2 {
            let folder = TempDir::new().expect("a folder");
            let runs = Runs::open(folder.path()).expect("a file");
            let bill = write_bill(folder.path(), channel, day(), seeded.bill());
            let done = compare(&runs, channel, day(), &bill, seeded.ours().collect()).await.expect("compared");
            let report = read(&done);
            assert_eq!(counts(&report), seeded.expected(), "{channel}");
            assert_eq!(done.differences, seeded.expected().values().sum::<u64>() - 24);
            // Every line of the bill is either matched or told of.
            let told: u64 = [Category::BankOnly, Category::AmountMismatch, Category::StatusMismatch]
                .into_iter()
                .chain([Category::DuplicateCharge])
                .map(|category| counts(&report)[&category])
                .sum();
            let number = |of: &str, what: &str| report[of][what].as_u64().expect("a number");
            assert_eq!(number("matched", "payments") + told, number("bill", "payments"));
            let items = folder.path().join("items.csv");
            runs.write_items(&done.id, &items).await.expect("written");
            // Asked for again it is the same document, and the books are not even opened.
            let job = Job { channel, day: day(), bill, rules: rules() };
            let again = runs.run_with(job, || -> Result<Shelf, RunError> { panic!("opened") }).await.expect("known");
            assert_eq!(again.report, done.report);
            reports.push((done.id, done.report, std::fs::read(items).expect("items")));
        }
        assert!(reports[0] == reports[1], "{channel}: other bytes from the same input");
    }
}

#[tokio::test]
async fn a_clean_day_has_no_differences() {
    let folder = TempDir::new().expect("a folder");
    let runs = Runs::open(folder.path()).expect("a file");
    let seeded = Seeded { day: day(), payments: 10 };
    let bill = write_bill(folder.path(), Channel::Wechat, day(), seeded.bill());
    let done = compare(&runs, Channel::Wechat, day(), &bill, seeded.ours().collect()).await.expect("compared");
    assert_eq!((done.differences, &read(&done)["items"]), (0, &0.into()));
}

#[tokio::test]
async fn another_days_bill_and_a_cut_bill_are_refused_and_leave_nothing() {
    let folder = TempDir::new().expect("a folder");
    let runs = Runs::open(folder.path()).expect("a file");
    let seeded = Seeded { day: day(), payments: 10 };
    let bill = write_bill(folder.path(), Channel::Wechat, day(), seeded.bill());
    let refused = compare(&runs, Channel::Wechat, day().after(), &bill, Vec::new()).await.expect_err("refused");
    assert_eq!(refused.to_string(), "line 2: is about 2026-11-20, not 2026-11-21: another day's bill");
    let text = std::fs::read(&bill).expect("a bill");
    std::fs::write(&bill, &text[..text.len() / 2]).expect("cut");
    let refused = compare(&runs, Channel::Wechat, day(), &bill, Vec::new()).await.expect_err("refused");
    assert!(refused.to_string().starts_with("line 6: "), "{refused}");
    let kept: i64 =
        runs.store.read(|file| file.query_row("SELECT count(*) FROM runs", [], |row| row.get(0))).await.expect("read");
    assert_eq!(kept, 0);
}

#[tokio::test]
async fn an_item_is_resolved_once() {
    let folder = TempDir::new().expect("a folder");
    let runs = Runs::open(folder.path()).expect("a file");
    let seeded = Seeded { day: day(), payments: 1_000 };
    let bill = write_bill(folder.path(), Channel::Alipay, day(), seeded.bill());
    let done = compare(&runs, Channel::Alipay, day(), &bill, seeded.ours().collect()).await.expect("compared");
    let id = done.id.clone();
    let resolutions = runs.store.write(move |file| {
        let resolve = |n, why: &str| store::resolve(file, &id, n, why, 5);
        Ok::<_, rusqlite::Error>([resolve(1, "looked at")?, resolve(1, "again")?, resolve(999, "nothing there")?])
    });
    let looked_at = Some("looked at".to_owned());
    assert_eq!(resolutions.await.expect("written"), [looked_at.clone(), looked_at, None]);
}
