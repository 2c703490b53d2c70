//! The words of reconciliation: channels, what can be different, and what follows from it.

use std::fmt;
use std::str::FromStr;

/// A channel whose bills can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Channel {
    /// Alipay.
    Alipay,
    /// WeChat Pay.
    Wechat,
}

impl Channel {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Alipay, Self::Wechat];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Alipay => "alipay",
            Self::Wechat => "wechat",
        }
    }
}

impl FromStr for Channel {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|channel| channel.as_str() == word);
        known.ok_or_else(|| "the channels with bills are alipay and wechat".to_owned())
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What can be different between a bill and our books.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Category {
    /// We say paid, the bill is silent.
    SystemOnly,
    /// The bill says paid, we do not: nobody told us.
    BankOnly,
    /// Both say paid, of different amounts.
    AmountMismatch,
    /// The bill says paid, and we have decided otherwise or do not know.
    StatusMismatch,
    /// The payer has been charged more than once for the same thing.
    DuplicateCharge,
    /// A refund that only one side knows, or knows otherwise.
    RefundMismatch,
    /// The channel has kept another fee than agreed.
    FeeMismatch,
    /// Nothing yet: so close to midnight, or so undecided, that the next bill may explain it.
    CarryOver,
}

impl Category {
    /// All of them, in the order of reports.
    pub const ALL: [Self; 8] = [
        Self::SystemOnly,
        Self::BankOnly,
        Self::AmountMismatch,
        Self::StatusMismatch,
        Self::DuplicateCharge,
        Self::RefundMismatch,
        Self::FeeMismatch,
        Self::CarryOver,
    ];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SystemOnly => "SYSTEM_ONLY",
            Self::BankOnly => "BANK_ONLY",
            Self::AmountMismatch => "AMOUNT_MISMATCH",
            Self::StatusMismatch => "STATUS_MISMATCH",
            Self::DuplicateCharge => "DUPLICATE_CHARGE",
            Self::RefundMismatch => "REFUND_MISMATCH",
            Self::FeeMismatch => "FEE_MISMATCH",
            Self::CarryOver => "CARRY_OVER",
        }
    }

    /// What the word stands for.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|category| category.as_str() == word)
    }
}

/// What is to be done about an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Ask the channel for the payment and take in what it says, as a notification would have done.
    Redrive,
    /// Pay the charge back that was one too many, after a person has agreed.
    ProposeRefund,
    /// A person decides.
    Manual,
    /// Nothing before the next bill.
    Wait,
}

impl Action {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Redrive => "redrive",
            Self::ProposeRefund => "propose_refund",
            Self::Manual => "manual",
            Self::Wait => "wait",
        }
    }
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Which kind.
    pub category: Category,
    /// Our number of the payment.
    pub out_trade_no: String,
    /// The channel's number of it; empty when only we know it.
    pub trade_no: String,
    /// Fen in the bill; absent when it is silent.
    pub bill_amount: Option<i64>,
    /// Fen in our books; absent when we know nothing.
    pub our_amount: Option<i64>,
    /// When the channel booked it, in milliseconds.
    pub bill_ms: Option<i64>,
    /// When we did.
    pub our_ms: Option<i64>,
    /// Our state of the payment; empty when we know nothing.
    pub our_status: String,
    /// What is to be done.
    pub action: Action,
    /// One sentence for a person.
    pub detail: String,
}

/// What a run leaves to the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Why {
    /// We say paid, the bill was silent.
    Ours,
    /// We do not know, and the bill was silent.
    Open,
    /// The bill said paid, and we knew nothing.
    Bank,
    /// An earlier bill has it; our books have it on a later day, or not yet.
    Settled,
    /// We say paid back, the bill was silent.
    Refund,
    /// An earlier bill has the refund; our books have it on a later day, or not yet.
    RefundSettled,
}

impl Why {
    const ALL: [Self; 6] = [Self::Ours, Self::Open, Self::Bank, Self::Settled, Self::Refund, Self::RefundSettled];

    /// The word for it in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ours => "OURS",
            Self::Open => "OPEN",
            Self::Bank => "BANK",
            Self::Settled => "SETTLED",
            Self::Refund => "REFUND",
            Self::RefundSettled => "REFUND_SETTLED",
        }
    }

    /// What the word stands for.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|why| why.as_str() == word)
    }
}

/// A payment that a run leaves to the next one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Carried {
    /// Our number of the payment.
    pub out_trade_no: String,
    /// Why.
    pub why: Why,
    /// The channel's number, as far as known.
    pub trade_no: String,
    /// Fen.
    pub amount: i64,
    /// When it was booked by whoever knows it.
    pub at_ms: i64,
}
