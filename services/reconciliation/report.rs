//! The report of a run: sums as JSON, items as CSV. The same input makes the same bytes, so nothing in it says when or
//! where it was made.

use std::collections::BTreeMap;
use std::io::Write;

use csv::StringRecord;
use serde_json::{Value, json};

use super::bill::Totals;
use super::day;
use super::judge::{Frame, Matched};
use super::model::{Category, Channel, Item};
use super::ours::{OurPayment, Standing};

/// The columns of items.
pub(super) const COLUMNS: [&str; 11] = [
    "n",
    "category",
    "out_trade_no",
    "trade_no",
    "bill_amount",
    "our_amount",
    "bill_time",
    "our_time",
    "our_status",
    "action",
    "detail",
];

/// Count and sums of one category, in fen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Sums {
    pub(super) count: u64,
    bill: i64,
    ours: i64,
}

/// Sums of what is gathered on the way.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) bill: Totals,
    categories: BTreeMap<Category, Sums>,
}

/// Sums over our books for the day, in fen.
#[derive(Debug, Default)]
pub(super) struct OurTotals {
    payments: u64,
    paid: i64,
    refunds: u64,
    refunded: i64,
}

impl OurTotals {
    /// Counts what belongs to the day.
    pub(super) fn add(&mut self, payment: &OurPayment, frame: &Frame) {
        let day = frame.day.begin_ms()..frame.day.end_ms();
        if payment.standing == Standing::Paid && day.contains(&payment.at_ms) {
            self.payments += 1;
            self.paid += payment.amount;
        }
        let done = payment.refund.as_ref().filter(|refund| refund.done_ms.is_some_and(|at_ms| day.contains(&at_ms)));
        if let Some(refund) = done {
            self.refunds += 1;
            self.refunded += refund.amount;
        }
    }
}

impl Tally {
    /// Counts an item; answers its number, from 1.
    pub(super) fn add_item(&mut self, item: &Item) -> u64 {
        let sums = self.categories.entry(item.category).or_default();
        sums.count += 1;
        sums.bill += item.bill_amount.unwrap_or(0);
        sums.ours += item.our_amount.unwrap_or(0);
        self.items()
    }

    /// All items so far.
    pub(super) fn items(&self) -> u64 {
        self.categories.values().map(|sums| sums.count).sum()
    }

    /// Items that are differences; what is carried over is none yet.
    pub(super) fn differences(&self) -> u64 {
        self.items() - self.categories.get(&Category::CarryOver).map_or(0, |sums| sums.count)
    }
}

/// What a report is about.
pub(super) struct About<'a> {
    pub(super) id: &'a str,
    pub(super) channel: Channel,
    pub(super) bill_sha256: &'a str,
    pub(super) frame: Frame,
    pub(super) carried_in: usize,
    pub(super) carried_out: usize,
}

/// The report.
pub(super) fn report(about: &About<'_>, tally: &Tally, ours: &OurTotals, matched: &Matched) -> Value {
    let Totals { payments, paid, refunds, refunded, fees } = tally.bill;
    let categories: serde_json::Map<String, Value> = Category::ALL
        .into_iter()
        .map(|category| {
            let Sums { count, bill, ours } = tally.categories.get(&category).copied().unwrap_or_default();
            let sums = json!({ "count": count, "bill_amount": bill, "our_amount": ours });
            (category.as_str().to_owned(), sums)
        })
        .collect();
    json!({
        "id": about.id,
        "channel": about.channel.as_str(),
        "date": about.frame.day.to_string(),
        "bill_sha256": about.bill_sha256,
        "window_minutes": about.frame.window_ms / 60_000,
        "fee_basis_points": about.frame.fee_basis_points,
        "bill": { "payments": payments, "paid": paid, "refunds": refunds, "refunded": refunded, "fees": fees },
        "ours": {
            "payments": ours.payments, "paid": ours.paid, "refunds": ours.refunds, "refunded": ours.refunded,
        },
        "matched": {
            "payments": matched.payments, "paid": matched.paid,
            "refunds": matched.refunds, "refunded": matched.refunded,
        },
        "carried": { "in": about.carried_in, "explained": matched.carried, "out": about.carried_out },
        "categories": categories,
        "items": tally.items(),
        "differences": tally.differences(),
    })
}

/// Writes items, a line each.
pub(super) struct ItemWriter<W: Write>(csv::Writer<W>);

impl<W: Write> ItemWriter<W> {
    /// Begins with the header.
    pub(super) fn new(target: W) -> std::io::Result<Self> {
        let mut writer = csv::Writer::from_writer(target);
        writer.write_record(COLUMNS).map_err(std::io::Error::other)?;
        Ok(Self(writer))
    }

    pub(super) fn write(&mut self, n: u64, item: &Item) -> std::io::Result<()> {
        let number = |value: Option<i64>| value.map(|value| value.to_string()).unwrap_or_default();
        let time = |at_ms: Option<i64>| at_ms.map(day::text).unwrap_or_default();
        let record = [
            n.to_string(),
            item.category.as_str().to_owned(),
            item.out_trade_no.clone(),
            item.trade_no.clone(),
            number(item.bill_amount),
            number(item.our_amount),
            time(item.bill_ms),
            time(item.our_ms),
            item.our_status.clone(),
            item.action.as_str().to_owned(),
            item.detail.clone(),
        ];
        self.0.write_record(&record).map_err(std::io::Error::other)
    }

    /// Repeats a line that was written before.
    pub(super) fn copy(&mut self, record: &StringRecord) -> std::io::Result<()> {
        self.0.write_record(record).map_err(std::io::Error::other)
    }

    /// Ends it.
    pub(super) fn finish(self) -> std::io::Result<W> {
        self.0.into_inner().map_err(csv::IntoInnerError::into_error)
    }
}
