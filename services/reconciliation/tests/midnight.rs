//! Midnight: what is on two days is not on none.

use super::super::bill::Kind;
use super::super::ours::{OurRefund, Standing};
use super::*;

fn row(no: &str, at_ms: i64) -> OurPayment {
    OurPayment {
        out_trade_no: no.to_owned(),
        intent: no.to_owned(),
        amount: 100,
        currency: "CNY".to_owned(),
        standing: Standing::Paid,
        status: "SUCCESS".to_owned(),
        at_ms,
        trade_no: None,
        refund: None,
    }
}

fn line(no: &str, at_ms: i64) -> Entry {
    Entry {
        kind: Kind::Payment,
        out_trade_no: no.to_owned(),
        trade_no: format!("T-{no}"),
        refund_no: String::new(),
        amount: 100,
        fee: 1,
        at_ms,
        subject: "卡".to_owned(),
        line: 0,
    }
}

/// Compares some days in a row, always with the same books; answers the counts of each.
async fn days(bills: &[Vec<Entry>], rows: &[OurPayment]) -> Vec<BTreeMap<Category, u64>> {
    changing(bills.iter().map(|bill| (bill.clone(), rows.to_vec())).collect()).await
}

/// The same with other books every day.
async fn changing(days: Vec<(Vec<Entry>, Vec<OurPayment>)>) -> Vec<BTreeMap<Category, u64>> {
    let folder = TempDir::new().expect("a folder");
    let runs = Runs::open(folder.path()).expect("a file");
    let (mut today, mut found) = (day(), Vec::new());
    for (lines, rows) in days {
        let bill = write_bill(folder.path(), Channel::Wechat, today, lines.into_iter());
        let done = compare(&runs, Channel::Wechat, today, &bill, rows).await.expect("compared");
        found.push(counts(&read(&done)));
        today = today.after();
    }
    found
}

fn only(category: Category) -> BTreeMap<Category, u64> {
    BTreeMap::from([(category, 1)])
}

fn nothing() -> BTreeMap<Category, u64> {
    BTreeMap::new()
}

#[tokio::test]
async fn paid_here_before_and_there_after_midnight_is_carried_over_and_explained() {
    let midnight = day().end_ms();
    let found = days(&[vec![], vec![line("a", midnight + 2_000)], vec![]], &[row("a", midnight - 1_000)]).await;
    assert_eq!(found, [only(Category::CarryOver), nothing(), nothing()]);
}

#[tokio::test]
async fn paid_there_before_and_here_after_midnight_is_no_difference_on_either_day() {
    let midnight = day().end_ms();
    let found = days(&[vec![line("a", midnight - 2_000)], vec![], vec![]], &[row("a", midnight + 1_000)]).await;
    assert_eq!(found, [nothing(), nothing(), nothing()]);
    // The notification took a day and a half.
    let late = row("a", midnight + 36 * 3_600_000);
    let found = days(&[vec![line("a", midnight - 2_000)], vec![], vec![], vec![]], &[late]).await;
    assert_eq!(found, [nothing(), nothing(), nothing(), nothing()]);
}

#[tokio::test]
async fn what_the_next_bill_does_not_explain_becomes_a_difference_once() {
    let midnight = day().end_ms();
    let found = days(&[vec![], vec![], vec![]], &[row("a", midnight - 1_000)]).await;
    assert_eq!(found, [only(Category::CarryOver), only(Category::SystemOnly), nothing()]);
    let found = days(&[vec![line("a", midnight - 1_000)], vec![], vec![]], &[]).await;
    assert_eq!(found, [only(Category::CarryOver), only(Category::BankOnly), nothing()]);
    let open =
        OurPayment { standing: Standing::Unknown, status: "UNKNOWN".to_owned(), ..row("a", midnight - 40_000_000) };
    let found = days(&[vec![], vec![], vec![]], &[open]).await;
    assert_eq!(found, [only(Category::CarryOver), only(Category::SystemOnly), nothing()]);
}

#[tokio::test]
async fn far_from_midnight_nothing_is_carried_over() {
    let noon = day().begin_ms() + 43_200_000;
    assert_eq!(days(&[vec![], vec![]], &[row("a", noon)]).await, [only(Category::SystemOnly), nothing()]);
    assert_eq!(days(&[vec![line("a", noon)], vec![]], &[]).await, [only(Category::BankOnly), nothing()]);
}

#[tokio::test]
async fn what_a_bill_made_us_take_in_later_is_no_difference_on_the_later_day() {
    let (noon, day_ms) = (day().begin_ms() + 43_200_000, 86_400_000);
    let lines = vec![line("a", noon)];
    for (standing, status, category) in [
        (Standing::Waiting, "PENDING", Category::BankOnly),
        (Standing::Dead, "CLOSED", Category::StatusMismatch),
        (Standing::Unknown, "UNKNOWN", Category::StatusMismatch),
    ] {
        let open = OurPayment { standing, status: status.to_owned(), ..row("a", noon) };
        let taken_in = row("a", noon + 2 * day_ms);
        let found = changing(vec![
            (lines.clone(), vec![open.clone()]),
            (vec![], vec![open]),
            (vec![], vec![taken_in.clone()]),
            (vec![], vec![taken_in]),
        ]);
        assert_eq!(found.await, [only(category), nothing(), nothing(), nothing()]);
    }
}

#[tokio::test]
async fn a_refund_is_found_on_the_day_of_either_side_and_told_once() {
    let (noon, midnight) = (day().begin_ms() + 43_200_000, day().end_ms());
    let paid_back = |done_ms| OurPayment {
        refund: Some(OurRefund { refund_no: "R".to_owned(), amount: 100, done_ms }),
        ..row("a", noon)
    };
    let refund = |at_ms| Entry { kind: Kind::Refund, refund_no: "R".to_owned(), ..line("a", at_ms) };
    let paid = line("a", noon);
    // Ours after midnight, theirs before; and the other way round.
    let found =
        days(&[vec![paid.clone(), refund(midnight - 9_000)], vec![]], &[paid_back(Some(midnight + 9_000))]).await;
    assert_eq!(found, [nothing(), nothing()]);
    let found = days(&[vec![paid.clone()], vec![refund(midnight + 9_000)]], &[paid_back(Some(midnight - 9_000))]).await;
    assert_eq!(found, [only(Category::CarryOver), nothing()]);
    let found = days(&[vec![paid.clone()], vec![]], &[paid_back(Some(midnight - 9_000))]).await;
    assert_eq!(found, [only(Category::CarryOver), only(Category::RefundMismatch)]);
    // We hear of it on the next day.
    let found = changing(vec![
        (vec![paid, refund(noon + 1_000)], vec![paid_back(None)]),
        (vec![], vec![paid_back(Some(midnight + 40_000_000))]),
        (vec![], vec![paid_back(Some(midnight + 40_000_000))]),
    ]);
    assert_eq!(found.await, [only(Category::RefundMismatch), nothing(), nothing()]);
}

#[tokio::test]
async fn the_seeded_day_and_the_next_one_fit_together() {
    let folder = TempDir::new().expect("a folder");
    let runs = Runs::open(folder.path()).expect("a file");
    let seeded = Seeded { day: day(), payments: 2_000 };
    let rows: Vec<_> = seeded.ours().collect();
    let first = write_bill(folder.path(), Channel::Alipay, day(), seeded.bill());
    compare(&runs, Channel::Alipay, day(), &first, rows.clone()).await.expect("compared");
    let second = write_bill(folder.path(), Channel::Alipay, day().after(), seeded.next_bill());
    let done = compare(&runs, Channel::Alipay, day().after(), &second, rows).await.expect("compared");
    let report = read(&done);
    // Payments that nobody knows and no bill has; everything else that was carried over is explained.
    assert_eq!(counts(&report), BTreeMap::from([(Category::SystemOnly, 2)]));
    assert_eq!(report["carried"]["explained"], 2);
    // Three payments of each thousand are charged and not held for paid yet.
    assert_eq!(report["carried"]["out"], 6);
}
