//! What is to be said about one payment, given the lines of the bill, our row, and what the run before left.
//!
//! A pure decision. What it rests on:
//!
//! * A bill covers a day of the channel's clock, our books have ours, and a notification can be hours late. So a line is
//!   compared with our row *whenever* that was booked; only what one side knows alone is judged by its time.
//! * Alone and close to midnight, it may be in the next bill: it is carried over once, and a difference the next time.
//! * What a bill has while our books have it on a later day, or not yet, is carried as well, so that the later day's run
//!   does not miss it in its own bill.

use super::bill::{Entry, Kind};
use super::day::{DAY_MS, Day};
use super::model::{Action, Carried, Category, Item, Why};
use super::ours::{OurPayment, Standing};

/// How long is remembered that a bill had something, in milliseconds: a month. Whatever enters our books later than that
/// is found by the person who enters it.
const REMEMBERED_MS: i64 = 31 * DAY_MS;

/// What a run looks at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame {
    pub(super) day: Day,
    /// How close to midnight is close, in milliseconds.
    pub(super) window_ms: i64,
    /// The agreed fee in hundredths of a percent of the amount; absent when fees are not compared.
    pub(super) fee_basis_points: Option<u32>,
}

impl Frame {
    fn has(&self, at_ms: i64) -> bool {
        (self.day.begin_ms()..self.day.end_ms()).contains(&at_ms)
    }

    fn is_close_to_midnight(&self, at_ms: i64) -> bool {
        at_ms - self.day.begin_ms() < self.window_ms || self.day.end_ms() - at_ms <= self.window_ms
    }

    fn fee(&self, amount: i64) -> Option<i64> {
        let points = i128::from(self.fee_basis_points?);
        // Half a fen rounds up.
        i64::try_from((i128::from(amount) * points + 5_000) / 10_000).ok()
    }
}

/// All that is known about one number.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) out_trade_no: String,
    pub(super) payments: Vec<Entry>,
    pub(super) refunds: Vec<Entry>,
    pub(super) ours: Option<OurPayment>,
    pub(super) carried: Vec<Carried>,
}

/// Sums over what agrees, in fen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Matched {
    pub(super) payments: u64,
    pub(super) paid: i64,
    pub(super) refunds: u64,
    pub(super) refunded: i64,
    /// Of those, what an earlier run had left.
    pub(super) carried: u64,
}

/// Judges groups in the order of their numbers.
pub(super) struct Judge {
    frame: Frame,
    /// What the payment before paid for, as far as the bill has it.
    paid: Option<(String, String)>,
    pub(super) matched: Matched,
    pub(super) carry: Vec<Carried>,
}

impl Judge {
    pub(super) fn new(frame: Frame) -> Self {
        Self { frame, paid: None, matched: Matched::default(), carry: Vec::new() }
    }

    /// Hands every difference to `tell`.
    pub(super) fn judge(&mut self, mut group: Group, tell: &mut dyn FnMut(Item)) {
        // The charge that our books know comes first: the others are the ones too many.
        let known = group.ours.as_ref().and_then(|ours| ours.trade_no.clone());
        group.payments.sort_by_key(|entry| known.as_ref().is_some_and(|known| *known != entry.trade_no));
        let (first, more) = match group.payments.split_first() {
            Some((first, more)) => (Some(first), more),
            None => (None, &[][..]),
        };
        match first {
            Some(entry) => self.charged(&group, entry, known.as_deref(), tell),
            None => self.not_charged(&group, tell),
        }
        for entry in more {
            tell(item(&group, Category::DuplicateCharge, Some(entry), "charged more than once under this number"));
        }
        self.refunds(&group, tell);
    }

    /// The bill has the payment.
    fn charged(&mut self, group: &Group, entry: &Entry, known: Option<&str>, tell: &mut dyn FnMut(Item)) {
        let carried = group.carried.iter().any(|carried| matches!(carried.why, Why::Ours | Why::Open | Why::Bank));
        let Some(ours) = &group.ours else {
            if self.frame.is_close_to_midnight(entry.at_ms) && !carried {
                self.carry(group, Why::Bank, &entry.trade_no, entry.amount, entry.at_ms);
                return tell(item(group, Category::CarryOver, Some(entry), "unknown here, but close to midnight"));
            }
            return tell(item(group, Category::BankOnly, Some(entry), "there is no such payment in our books"));
        };
        let settled = group.carried.iter().find(|carried| carried.why == Why::Settled);
        let others = [known, settled.map(|carried| carried.trade_no.as_str())];
        if others.into_iter().flatten().any(|other| other != entry.trade_no) {
            let detail = "charged before under another number of the channel";
            return tell(item(group, Category::DuplicateCharge, Some(entry), detail));
        }
        if !self.is_booked(ours) {
            self.carry(group, Why::Settled, &entry.trade_no, entry.amount, entry.at_ms);
        }
        match ours.standing {
            Standing::Waiting => {
                return tell(item(group, Category::BankOnly, Some(entry), "nobody has told us that it is paid"));
            }
            Standing::Unknown | Standing::Dead => {
                let detail = "our books do not hold it for paid";
                return tell(item(group, Category::StatusMismatch, Some(entry), detail));
            }
            Standing::Paid => {}
        }
        if let Some((intent, other)) = &self.paid
            && *intent == ours.intent
            && ours.refund.is_none()
        {
            let detail = format!("the same was paid by {other}");
            return tell(item(group, Category::DuplicateCharge, Some(entry), &detail));
        }
        self.paid = Some((ours.intent.clone(), group.out_trade_no.clone()));
        if entry.amount != ours.amount || ours.currency != "CNY" {
            return tell(item(group, Category::AmountMismatch, Some(entry), "paid, but of another amount"));
        }
        if let Some(fee) = self.frame.fee(entry.amount).filter(|&fee| fee != entry.fee) {
            let detail = format!("the fee is {} instead of {fee}", entry.fee);
            tell(item(group, Category::FeeMismatch, Some(entry), &detail));
        }
        self.matched.payments += 1;
        self.matched.paid += entry.amount;
        self.matched.carried += u64::from(carried);
    }

    /// The bill does not have it.
    fn not_charged(&mut self, group: &Group, tell: &mut dyn FnMut(Item)) {
        let carried = |why: Why| group.carried.iter().find(|carried| carried.why == why);
        if let Some(bank) = carried(Why::Bank) {
            return self.still_unknown(group, bank, tell);
        }
        let Some(ours) = &group.ours else { return };
        if let Some(settled) = carried(Why::Settled) {
            if !self.is_booked(ours) && self.frame.day.begin_ms() - settled.at_ms < REMEMBERED_MS {
                self.carry.push(settled.clone());
            }
            return;
        }
        let (before, today) = (carried(Why::Ours).or(carried(Why::Open)), self.frame.has(ours.at_ms));
        let silent = "paid here, the bill is silent";
        match ours.standing {
            Standing::Paid if before.is_some() => tell(item(group, Category::SystemOnly, None, silent)),
            Standing::Paid if today && self.frame.is_close_to_midnight(ours.at_ms) => {
                self.carry(group, Why::Ours, "", ours.amount, ours.at_ms);
                tell(item(group, Category::CarryOver, None, "the bill is silent, but close to midnight"));
            }
            Standing::Paid if today => tell(item(group, Category::SystemOnly, None, silent)),
            Standing::Unknown if before.is_some() => {
                tell(item(group, Category::SystemOnly, None, "still unknown here, and the bill is silent"));
            }
            Standing::Unknown if today => {
                self.carry(group, Why::Open, "", ours.amount, ours.at_ms);
                tell(item(group, Category::CarryOver, None, "unknown here, and the bill is silent"));
            }
            // Not paid and not charged.
            Standing::Paid | Standing::Unknown | Standing::Waiting | Standing::Dead => {}
        }
    }

    /// Whether no later day's run can meet it for the first time.
    fn is_booked(&self, ours: &OurPayment) -> bool {
        ours.standing == Standing::Paid && ours.at_ms < self.frame.day.end_ms()
    }

    /// The bill of an earlier run had it, and we knew nothing.
    fn still_unknown(&mut self, group: &Group, bank: &Carried, tell: &mut dyn FnMut(Item)) {
        if group.ours.as_ref().is_some_and(|ours| !self.is_booked(ours)) {
            self.carry.push(Carried { why: Why::Settled, ..bank.clone() });
        }
        let (category, detail) = match &group.ours {
            Some(ours) if ours.standing == Standing::Paid && ours.amount == bank.amount => {
                self.matched.carried += 1;
                return;
            }
            Some(ours) if ours.standing == Standing::Paid => {
                (Category::AmountMismatch, "paid, but of another amount, in an earlier bill")
            }
            Some(ours) if matches!(ours.standing, Standing::Dead | Standing::Unknown) => {
                (Category::StatusMismatch, "paid by an earlier bill, and not held for paid here")
            }
            _ => (Category::BankOnly, "paid by an earlier bill, and still unknown here"),
        };
        let told = item(group, category, None, detail);
        let trade_no = bank.trade_no.clone();
        tell(Item { trade_no, bill_amount: Some(bank.amount), bill_ms: Some(bank.at_ms), ..told });
    }

    fn refunds(&mut self, group: &Group, tell: &mut dyn FnMut(Item)) {
        let ours = group.ours.as_ref().and_then(|ours| ours.refund.as_ref());
        let mut wrong = |entry: Option<&Entry>, detail: &str| {
            let our_amount = ours.map(|refund| refund.amount);
            let our_ms = ours.and_then(|refund| refund.done_ms);
            tell(Item { our_amount, our_ms, ..item(group, Category::RefundMismatch, entry, detail) });
        };
        for entry in &group.refunds {
            match ours {
                None => wrong(Some(entry), "the channel has paid back what we know nothing of"),
                Some(refund) if !entry.refund_no.is_empty() && entry.refund_no != refund.refund_no => {
                    wrong(Some(entry), &format!("the channel has paid back under the number {:?}", entry.refund_no));
                }
                Some(refund) if refund.amount != entry.amount => wrong(Some(entry), "another amount was paid back"),
                Some(refund) => {
                    if refund.done_ms.is_none_or(|done_ms| done_ms >= self.frame.day.end_ms()) {
                        self.carry(group, Why::RefundSettled, &entry.trade_no, entry.amount, entry.at_ms);
                    }
                    if refund.done_ms.is_none() {
                        wrong(Some(entry), "the channel has paid back, and nobody has told us");
                    } else {
                        self.matched.refunds += 1;
                        self.matched.refunded += entry.amount;
                    }
                }
            }
        }
        if !group.refunds.is_empty() {
            return;
        }
        let carried = |why: Why| group.carried.iter().find(|carried| carried.why == why);
        if let Some(settled) = carried(Why::RefundSettled) {
            let done_ms = ours.and_then(|refund| refund.done_ms);
            let is_booked = done_ms.is_some_and(|done_ms| done_ms < self.frame.day.end_ms());
            if !is_booked && self.frame.day.begin_ms() - settled.at_ms < REMEMBERED_MS {
                self.carry.push(settled.clone());
            }
            return;
        }
        let Some((refund, done_ms)) = ours.and_then(|refund| Some((refund, refund.done_ms?))) else { return };
        let silent = "paid back here, the bill is silent";
        if carried(Why::Refund).is_some() {
            wrong(None, silent);
        } else if self.frame.has(done_ms) && self.frame.is_close_to_midnight(done_ms) {
            self.carry(group, Why::Refund, "", refund.amount, done_ms);
            let detail = "paid back here, the bill is silent, but close to midnight";
            let told = item(group, Category::CarryOver, None, detail);
            tell(Item { our_amount: Some(refund.amount), our_ms: Some(done_ms), ..told });
        } else if self.frame.has(done_ms) {
            wrong(None, silent);
        }
    }

    fn carry(&mut self, group: &Group, why: Why, trade_no: &str, amount: i64, at_ms: i64) {
        let out_trade_no = group.out_trade_no.clone();
        self.carry.push(Carried { out_trade_no, why, trade_no: trade_no.to_owned(), amount, at_ms });
    }
}

/// A difference, with what both sides say about it.
fn item(group: &Group, category: Category, entry: Option<&Entry>, detail: &str) -> Item {
    let ours = group.ours.as_ref();
    let action = match category {
        Category::CarryOver => Action::Wait,
        Category::DuplicateCharge => Action::ProposeRefund,
        // Somebody else's payment, or a row that was lost: there is nothing to ask for.
        Category::BankOnly if ours.is_none() => Action::Manual,
        Category::BankOnly | Category::StatusMismatch => Action::Redrive,
        _ => Action::Manual,
    };
    let what = match entry.map(|entry| entry.kind) {
        Some(Kind::Refund) => "refund: ",
        _ => "",
    };
    Item {
        category,
        out_trade_no: group.out_trade_no.clone(),
        trade_no: entry
            .map(|entry| entry.trade_no.clone())
            .or_else(|| ours.and_then(|ours| ours.trade_no.clone()))
            .unwrap_or_default(),
        bill_amount: entry.map(|entry| entry.amount),
        our_amount: ours.map(|ours| ours.amount),
        bill_ms: entry.map(|entry| entry.at_ms),
        our_ms: ours.map(|ours| ours.at_ms),
        our_status: ours.map(|ours| ours.status.clone()).unwrap_or_default(),
        action,
        detail: format!("{what}{detail}"),
    }
}
