//! The words and rows of the journal, and what follows from them for the next request with the same number.

use std::fmt;

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use tidegate_durable::{StoreError, WriteError};

use crate::payments::outcome::{Class, Money};

macro_rules! words {
    ($(#[$about:meta])* $name:ident { $($(#[$each:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$each])* $variant,)* }

        impl $name {
            /// The word of the file and of answers.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }

            /// The state of that word; `None` for any other.
            pub fn parse(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)* _ => None }
            }
        }

        impl ToSql for $name {
            fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
                Ok(self.as_str().into())
            }
        }

        impl FromSql for $name {
            fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
                Self::parse(value.as_str()?).ok_or(FromSqlError::InvalidType)
            }
        }
    };
}

words! {
    /// Where a payment stands.
    PaymentState {
        /// Written down, no try yet.
        Created = "CREATED",
        /// A try is under way or undecided.
        Processing = "PROCESSING",
        /// Charged once.
        Succeeded = "SUCCEEDED",
        /// Not charged.
        Failed = "FAILED",
        /// Given up by a person before anything was charged.
        Cancelled = "CANCELLED",
        /// A person has to find out.
        Manual = "MANUAL",
    }
}

words! {
    /// Where a try stands.
    AttemptState {
        /// Chosen, not begun.
        Planned = "PLANNED",
        /// About to be sent, or being sent: written before the connection is asked for.
        Dispatching = "DISPATCHING",
        /// Sent, no answer yet.
        Sent = "SENT",
        /// Charged.
        Succeeded = "SUCCEEDED",
        /// Not charged; final.
        DeclinedHard = "DECLINED_HARD",
        /// Not charged; another channel may be tried.
        DeclinedSoft = "DECLINED_SOFT",
        /// Refused as a request; final.
        Rejected = "REJECTED",
        /// Taken by the channel and not decided.
        Pending = "PENDING",
        /// Nobody knows.
        Unknown = "UNKNOWN",
        /// Did not reach the channel.
        NotSent = "NOT_SENT",
        /// The channel did not act.
        NotProcessed = "NOT_PROCESSED",
        /// Closed at the channel, acknowledged.
        Closed = "CLOSED",
        /// A person has to find out.
        Manual = "MANUAL",
        /// Charged after it counted as dead, while another try was live.
        ChargedLate = "CHARGED_LATE",
    }
}

impl AttemptState {
    /// Whether money may move, or has moved, on account of this try: no other channel then.
    pub fn is_live(self) -> bool {
        matches!(self, Self::Planned | Self::Dispatching | Self::Sent | Self::Pending | Self::Unknown | Self::Succeeded)
    }

    /// Whether a channel may have news of this try. One that is being sent may be charged long before its answer comes.
    pub fn is_worth_asking(self) -> bool {
        !matches!(self, Self::Planned | Self::NotSent) && !self.has_charged()
    }

    /// Whether the channel has taken money for it.
    pub fn has_charged(self) -> bool {
        matches!(self, Self::Succeeded | Self::ChargedLate)
    }

    /// Whether the payment must not come back to this channel.
    pub fn has_left(self) -> bool {
        !matches!(self, Self::NotSent | Self::NotProcessed)
    }
}

impl From<Class> for AttemptState {
    fn from(class: Class) -> Self {
        match class {
            Class::NotSent => Self::NotSent,
            Class::NotProcessed => Self::NotProcessed,
            Class::Succeeded => Self::Succeeded,
            Class::Pending => Self::Pending,
            Class::DeclinedHard => Self::DeclinedHard,
            // No other channel is to be tried: that is final, whatever the reason was.
            Class::DeclinedSoft { failover: false } => Self::DeclinedHard,
            Class::DeclinedSoft { failover: true } => Self::DeclinedSoft,
            Class::Rejected => Self::Rejected,
            Class::Unknown => Self::Unknown,
        }
    }
}

/// What a request asks for, as far as it must not change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frozen {
    /// Our number of the payment.
    pub id: String,
    /// The upstream's name.
    pub upstream: String,
    /// Amount and currency.
    pub money: Money,
    /// Payment type.
    pub kind: Option<String>,
    /// Hash of all that must not change.
    pub fingerprint: String,
}

/// A payment's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payment {
    /// What was asked for.
    pub frozen: Frozen,
    /// Where it stands.
    pub state: PaymentState,
    /// Unix milliseconds.
    pub created_ms: i64,
    /// Unix milliseconds.
    pub updated_ms: i64,
}

/// A try's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Of which payment.
    pub payment_id: String,
    /// From 1.
    pub n: i64,
    /// On which channel.
    pub channel: String,
    /// What the channel knows it by.
    pub number: String,
    /// Where it stands.
    pub state: AttemptState,
    /// What was observed.
    pub evidence: String,
    /// Status of the answer that decided.
    pub http: Option<u16>,
    /// Code of the answer that decided.
    pub code: Option<String>,
    /// Channels that were looked at, as JSON.
    pub considered: String,
    /// How often it was sent.
    pub sends: i64,
    /// Unix milliseconds of the first, and of the last sending.
    pub created_ms: i64,
    /// Of the last sending.
    pub sent_ms: i64,
    /// Of the last change.
    pub updated_ms: i64,
    /// Queries made.
    pub tries: i64,
    /// In how many of the last ones the channel did not know it.
    pub not_found: i64,
    /// When the resolver looks next.
    pub next_ms: i64,
}

/// One sending of a try. What is known of a sending proves nothing about a later one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sending {
    /// The try.
    pub n: i64,
    /// Which of its sendings, from 1.
    pub sends: i64,
}

impl Sending {
    /// A try's first.
    #[must_use]
    pub fn first(n: i64) -> Self {
        Self { n, sends: 1 }
    }
}

/// What was observed of a try.
#[derive(Clone, Debug)]
pub struct Observed {
    /// Where it stands now.
    pub state: AttemptState,
    /// What was seen.
    pub evidence: String,
    /// Status of the answer.
    pub http: Option<u16>,
    /// Code of the answer.
    pub code: Option<String>,
}

/// A payment with its tries, oldest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// The payment.
    pub payment: Payment,
    /// Its tries.
    pub attempts: Vec<Attempt>,
}

/// Something that a person should see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// In capitals.
    pub kind: String,
    /// For people.
    pub detail: String,
    /// Unix milliseconds.
    pub at_ms: i64,
}

/// What may be done for a request with a number that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Another try may be made, on any channel but these.
    Open {
        /// Channels it has left.
        left: Vec<String>,
    },
    /// A try is live: no other channel, whatever happens.
    Live(Box<Attempt>),
    /// Decided; nothing is sent.
    Decided,
}

impl View {
    /// Where the payment stands by its tries alone. `PROCESSING` also while none is under way and nobody has ended it.
    pub fn by_tries(&self) -> PaymentState {
        let any = |what: fn(AttemptState) -> bool| self.attempts.iter().any(|attempt| what(attempt.state));
        if any(AttemptState::has_charged) {
            PaymentState::Succeeded
        } else if any(AttemptState::is_live) {
            PaymentState::Processing
        } else if any(|state| state == AttemptState::Manual) {
            PaymentState::Manual
        } else {
            PaymentState::Failed
        }
    }

    /// The try that says most about the payment: the one that charged, else the one that is live, else the last.
    pub fn telling(&self) -> Option<&Attempt> {
        let first = |what: fn(AttemptState) -> bool| self.attempts.iter().find(|attempt| what(attempt.state));
        first(AttemptState::has_charged).or_else(|| first(AttemptState::is_live)).or(self.attempts.last())
    }

    /// What follows for the next request.
    pub fn standing(&self) -> Standing {
        if self.attempts.iter().any(|attempt| attempt.state.has_charged()) {
            return Standing::Decided;
        }
        if let Some(live) = self.attempts.iter().find(|attempt| attempt.state.is_live()) {
            return Standing::Live(Box::new(live.clone()));
        }
        let over =
            matches!(self.payment.state, PaymentState::Succeeded | PaymentState::Cancelled | PaymentState::Manual);
        let final_try = |attempt: &Attempt| {
            matches!(attempt.state, AttemptState::DeclinedHard | AttemptState::Rejected | AttemptState::Manual)
        };
        if over || self.attempts.iter().any(final_try) {
            return Standing::Decided;
        }
        let left = self.attempts.iter().filter(|attempt| attempt.state.has_left());
        Standing::Open { left: left.map(|attempt| attempt.channel.clone()).collect() }
    }
}

/// Why the journal did not do as asked; nothing was written then.
#[derive(Debug)]
pub enum Refusal {
    /// The number belongs to a payment with other content.
    Mismatch,
    /// The payment does not stand as it must for this.
    Standing,
    /// There is no such payment or try.
    Missing,
    /// The file or the database refused; of a database, also that its answer did not come.
    Store(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mismatch => f.write_str("the number belongs to another payment"),
            Self::Standing => f.write_str("the payment does not stand so"),
            Self::Missing => f.write_str("no such payment"),
            Self::Store(error) => f.write_str(error),
        }
    }
}

impl From<rusqlite::Error> for Refusal {
    fn from(error: rusqlite::Error) -> Self {
        Self::Store(StoreError::from(error).to_string())
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Self::Store(error.to_string())
    }
}

impl From<WriteError<Refusal>> for Refusal {
    fn from(error: WriteError<Refusal>) -> Self {
        match error {
            WriteError::Op(refusal) => refusal,
            WriteError::Store(error) => error.into(),
        }
    }
}
