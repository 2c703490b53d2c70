//! Accounts, transfers, and the words for their states.

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};

/// An enum whose variants have one name each, the same in the file and in JSON.
macro_rules! words {
    ($(#[$outer:meta])* $name:ident { $($(#[$inner:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$outer])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub(super) enum $name { $($(#[$inner])* $variant),+ }

        impl $name {
            /// The word for it.
            pub(super) fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// What the word stands for.
            pub(super) fn parse(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)+ _ => None }
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
    /// One of the two halves of a transfer.
    Branch {
        /// Whose money is frozen, then taken.
        Payer = "payer",
        /// Who is promised it, then gets it.
        Payee = "payee",
    }
}

words! {
    /// State of a transfer.
    State {
        /// The branches are being tried.
        Trying = "TRYING",
        /// Decided: it will happen, whatever it takes.
        Confirming = "CONFIRMING",
        /// Decided: it will not happen; what was frozen is given back.
        Cancelling = "CANCELLING",
        /// Both branches are confirmed.
        Confirmed = "CONFIRMED",
        /// Both branches are cancelled.
        Cancelled = "CANCELLED",
    }
}

words! {
    /// Why a transfer was cancelled.
    Reason {
        /// The payer has not enough.
        InsufficientFunds = "INSUFFICIENT_FUNDS",
        /// There is no such payee.
        UnknownAccount = "UNKNOWN_ACCOUNT",
        /// The payer or the payee has been closed.
        AccountClosed = "ACCOUNT_CLOSED",
        /// The payee's account has another currency.
        CurrencyMismatch = "CURRENCY_MISMATCH",
        /// The payee's account cannot hold more.
        AccountFull = "ACCOUNT_FULL",
        /// A branch gave no answer, so nobody knows whether it had frozen anything.
        BranchUnknown = "BRANCH_UNKNOWN",
        /// The deadline passed: whoever made it was slow or dead.
        TimedOut = "TIMED_OUT",
    }
}

/// An account as stored. Amounts in minor units.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) id: String,
    pub(super) user: String,
    pub(super) currency: String,
    pub(super) open: bool,
    /// What can be spent.
    pub(super) available: i64,
    /// What running transfers may take.
    pub(super) frozen: i64,
    /// What running transfers may bring.
    pub(super) incoming: i64,
    pub(super) version: i64,
}

/// A transfer as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Transfer {
    pub(super) gid: String,
    pub(super) payer: String,
    pub(super) payee: String,
    pub(super) amount: i64,
    pub(super) currency: String,
    pub(super) state: State,
    pub(super) reason: Option<Reason>,
    /// How often recovery has taken it up.
    pub(super) tries: u32,
}

impl Transfer {
    /// One half of it.
    pub(super) fn leg(&self, branch: Branch) -> Leg {
        let account = match branch {
            Branch::Payer => &self.payer,
            Branch::Payee => &self.payee,
        };
        Leg {
            gid: self.gid.clone(),
            branch,
            account: account.clone(),
            amount: self.amount,
            currency: self.currency.clone(),
        }
    }
}

/// What a branch is asked to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Leg {
    pub(super) gid: String,
    pub(super) branch: Branch,
    pub(super) account: String,
    pub(super) amount: i64,
    pub(super) currency: String,
}

/// An entry of the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) seq: i64,
    pub(super) gid: String,
    pub(super) kind: String,
    pub(super) amount: i64,
    pub(super) at_ms: i64,
}

/// Why an operation did not happen.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("no such account")]
    UnknownAccount,
    #[error("no such transfer")]
    UnknownTransfer,
    #[error("the account is closed")]
    AccountClosed,
    #[error("the account is not empty")]
    NotEmpty,
    #[error("the account cannot hold that much")]
    AccountFull,
    #[error("not enough money")]
    InsufficientFunds,
    #[error("another currency")]
    CurrencyMismatch,
    #[error("the idempotency key was used with another request")]
    KeyReused,
    #[error("the number is taken")]
    NumberTaken,
    #[error("the branch was cancelled before")]
    AlreadyCancelled,
    #[error("the branch was confirmed before")]
    AlreadyConfirmed,
    #[error("the branch was never tried")]
    NotTried,
    #[error("the branch was tried with another account or amount")]
    OtherTry,
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
}

impl Refusal {
    /// The reason to cancel a transfer for, when it is one; anything else says nothing about what the branch has done.
    pub(super) fn reason(&self) -> Option<Reason> {
        Some(match self {
            Self::UnknownAccount => Reason::UnknownAccount,
            Self::AccountClosed => Reason::AccountClosed,
            Self::AccountFull => Reason::AccountFull,
            Self::InsufficientFunds => Reason::InsufficientFunds,
            Self::CurrencyMismatch => Reason::CurrencyMismatch,
            // Recovery was faster.
            Self::AlreadyCancelled => Reason::TimedOut,
            _ => return None,
        })
    }
}
