//! A day with known differences: the bill, our books, and how many items of each category a comparison must find.
//!
//! Everything follows from the number of a payment, so that any part of the day can be made again without memory. Every
//! thousandth payment meets each kind of difference once.

use std::collections::BTreeMap;

use super::bill::{Entry, Kind};
use super::day::Day;
use super::model::Category;
use super::ours::{OurPayment, OurRefund, Standing};

/// Payments in one round of differences.
const ROUND: u32 = 1_000;

/// The agreed fee in hundredths of a percent.
pub const FEE_BASIS_POINTS: u32 = 60;

/// A seeded day.
#[derive(Debug, Clone, Copy)]
pub struct Seeded {
    /// The day of the bill.
    pub day: Day,
    /// Payments, a multiple of 1000.
    pub payments: u32,
}

/// What is peculiar about a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Case {
    Plain,
    /// The bill is silent.
    NotInBill,
    /// We have no row.
    NotInBooks,
    /// We wait for a notification that was lost.
    NobodyTold,
    OtherAmount,
    /// We have closed it.
    Closed,
    /// We do not know.
    Unknown,
    /// Charged twice under one number.
    Twice,
    /// A second payment for the same.
    SecondAttempt,
    /// The channel has paid back, we know nothing of it.
    RefundInBill,
    /// We have paid back, the bill is silent.
    RefundInBooks,
    /// Paid back, and both know.
    Refunded,
    OtherFee,
    /// We do not know, and the bill is silent.
    OpenAndSilent,
    /// Ours ten seconds before midnight, the channel's after.
    BeforeMidnight,
    /// The channel's ten seconds before midnight, ours after.
    AfterMidnight,
    /// Never paid.
    NeverPaid,
}

fn case(n: u32) -> Case {
    match n % ROUND {
        11 => Case::NotInBill,
        57 => Case::NotInBooks,
        103 => Case::NobodyTold,
        149 => Case::OtherAmount,
        201 => Case::Closed,
        255 => Case::Unknown,
        307 => Case::Twice,
        361 => Case::SecondAttempt,
        409 => Case::RefundInBill,
        457 => Case::RefundInBooks,
        503 => Case::Refunded,
        557 => Case::OtherFee,
        601 => Case::OpenAndSilent,
        653 => Case::BeforeMidnight,
        709 => Case::AfterMidnight,
        751 => Case::NeverPaid,
        _ => Case::Plain,
    }
}

/// A number that looks random and is the same for the same `n`: the finaliser of MurmurHash3.
fn mix(n: u32) -> u64 {
    let mut bits = u64::from(n) + 1;
    for factor in [0xFF51_AFD7_ED55_8CCD_u64, 0xC4CE_B9FE_1A85_EC53] {
        bits = (bits ^ bits >> 33).wrapping_mul(factor);
    }
    bits ^ bits >> 33
}

impl Seeded {
    /// How many items of each category there are, when the window is shorter than an hour.
    pub fn expected(&self) -> BTreeMap<Category, u64> {
        let rounds = u64::from(self.payments / ROUND);
        [
            (Category::SystemOnly, 1),
            (Category::BankOnly, 2),
            (Category::AmountMismatch, 1),
            (Category::StatusMismatch, 2),
            (Category::DuplicateCharge, 2),
            (Category::RefundMismatch, 2),
            (Category::FeeMismatch, 1),
            (Category::CarryOver, 2),
        ]
        .map(|(category, each)| (category, each * rounds))
        .into()
    }

    /// The lines of the bill, in the order of a bill: by nothing in particular.
    pub fn bill(self) -> impl Iterator<Item = Entry> + Send {
        (0..self.payments).flat_map(move |n| self.lines(n))
    }

    /// The lines of the next day's bill that belong to this day's payments.
    pub fn next_bill(self) -> impl Iterator<Item = Entry> + Send {
        let late = (0..self.payments).filter(|&n| case(n) == Case::BeforeMidnight);
        late.map(move |n| Entry { at_ms: self.day.end_ms() + 5_000, ..self.line(n) })
    }

    /// Our books, by number ascending.
    pub fn ours(self) -> impl Iterator<Item = OurPayment> + Send {
        (0..self.payments).flat_map(move |n| self.rows(n))
    }

    fn amount(n: u32) -> i64 {
        i64::try_from(mix(n) % 100_000).unwrap_or(0) + 1
    }

    /// Far from midnight: between one and twenty-three o'clock.
    fn at_ms(self, n: u32) -> i64 {
        let within = i64::try_from(mix(n) >> 20).unwrap_or(0) % (22 * 3_600);
        self.day.begin_ms() + (3_600 + within) * 1_000
    }

    fn intent(n: u32) -> String {
        format!("S{n:09}")
    }

    fn line(self, n: u32) -> Entry {
        let amount = Self::amount(n);
        Entry {
            kind: Kind::Payment,
            out_trade_no: format!("{}-1", Self::intent(n)),
            trade_no: format!("42{n:012}"),
            refund_no: String::new(),
            amount,
            fee: (amount * i64::from(FEE_BASIS_POINTS) + 5_000) / 10_000,
            at_ms: self.at_ms(n),
            subject: "双十一礼品卡, 面值￥50".to_owned(),
            line: 0,
        }
    }

    fn refund(self, n: u32) -> Entry {
        let line = self.line(n);
        let refund_no = format!("{}-refund", line.out_trade_no);
        Entry { kind: Kind::Refund, refund_no, fee: -line.fee, at_ms: line.at_ms + 60_000, ..line }
    }

    fn lines(self, n: u32) -> Vec<Entry> {
        let line = self.line(n);
        match case(n) {
            Case::NotInBill | Case::OpenAndSilent | Case::BeforeMidnight | Case::NeverPaid => Vec::new(),
            Case::Twice => {
                let again = Entry { trade_no: format!("43{n:012}"), at_ms: line.at_ms + 1_000, ..line.clone() };
                vec![again, line]
            }
            Case::SecondAttempt => {
                let second = Entry {
                    out_trade_no: format!("{}-2", Self::intent(n)),
                    trade_no: format!("43{n:012}"),
                    ..line.clone()
                };
                vec![second, line]
            }
            Case::OtherAmount => vec![Entry { amount: line.amount + 1, ..line }],
            Case::OtherFee => vec![Entry { fee: line.fee + 1, ..line }],
            Case::AfterMidnight => vec![Entry { at_ms: self.day.end_ms() - 10_000, ..line }],
            Case::Refunded | Case::RefundInBill => vec![self.refund(n), line],
            _ => vec![line],
        }
    }

    fn row(self, n: u32) -> OurPayment {
        let line = self.line(n);
        OurPayment {
            out_trade_no: line.out_trade_no,
            intent: Self::intent(n),
            amount: line.amount,
            currency: "CNY".to_owned(),
            standing: Standing::Paid,
            status: "SUCCESS".to_owned(),
            // We hear of it a little later.
            at_ms: line.at_ms + 300,
            trade_no: Some(line.trade_no),
            refund: None,
        }
    }

    fn rows(self, n: u32) -> Vec<OurPayment> {
        let row = self.row(n);
        let as_is =
            |standing, status: &str| OurPayment { standing, status: status.to_owned(), trade_no: None, ..self.row(n) };
        let refund = OurRefund {
            refund_no: format!("{}-refund", row.out_trade_no),
            amount: row.amount,
            done_ms: Some(row.at_ms + 60_000),
        };
        match case(n) {
            Case::NotInBooks => Vec::new(),
            Case::NobodyTold | Case::NeverPaid => vec![as_is(Standing::Waiting, "PENDING")],
            Case::Closed => vec![as_is(Standing::Dead, "CLOSED")],
            Case::Unknown | Case::OpenAndSilent => vec![as_is(Standing::Unknown, "UNKNOWN")],
            Case::SecondAttempt => {
                let second = OurPayment {
                    out_trade_no: format!("{}-2", row.intent),
                    trade_no: Some(format!("43{n:012}")),
                    ..row.clone()
                };
                vec![row, second]
            }
            Case::RefundInBooks | Case::Refunded => vec![OurPayment { refund: Some(refund), ..row }],
            Case::BeforeMidnight => vec![OurPayment { at_ms: self.day.end_ms() - 10_000, ..row }],
            Case::AfterMidnight => vec![OurPayment { at_ms: self.day.end_ms() + 10_000, ..row }],
            _ => vec![row],
        }
    }
}
