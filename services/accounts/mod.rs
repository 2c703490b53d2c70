//! Accounts and transfers between them: balances in minor units, an append-only ledger, and a two-phase protocol
//! (try, confirm, cancel) between accounts that live in different files.
//!
//! Accounts are spread over sixteen shards by their user, and those over 1, 4 or 16 files with one writer thread each.
//! Between accounts of one file a transfer is one transaction. Between files it cannot be, so money is first frozen at
//! the payer and promised to the payee, then the decision is written down, and then both follow it.
//!
//! The order process serves this beside its own interface. It is for services of the machine, not for buyers: there are
//! no identities here, and the gateway leads nobody to it.
//!
//! | File | What |
//! | --- | --- |
//! | `bank` | the files, and the way to the right one |
//! | `rows`, `schema`, `model` | accounts, deposits, ledger; the words for states |
//! | `branch` | try, confirm, cancel of one half, behind a barrier |
//! | `tcc` | the rows of transfers and their decision |
//! | `coordinator` | the steps of a transfer; recovery |
//! | `notices` | what account holders are told, through the outbox |
//! | `inspect` | is all money there; is every transfer at its end |
//! | `http` | the interface |

mod bank;
mod branch;
mod coordinator;
mod http;
mod inspect;
mod model;
mod notices;
mod rows;
mod schema;
mod tcc;
#[cfg(test)]
mod tests;

use std::time::Duration;

use tidegate_durable::{StoreError, WriteError};

pub use bank::Bank;
pub use http::router;
pub use inspect::violations;

use crate::support::{Files, Problem};
use model::Refusal;

/// Everything the accounts can be told.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Over how many files they are spread. Files that were written with another number are not opened.
    pub shards: Files,
    /// Time within which both halves of a transfer must have been tried; later it is given up.
    pub try_within: Duration,
    /// Unit of the waiting times of recovery and of events: 1, 2, 4, … of them.
    pub retry_unit: Duration,
    /// How often rows that are due are looked for.
    pub sweep_every: Duration,
}

impl Settings {
    /// Usual times, and `shards` files.
    pub fn new(shards: Files) -> Self {
        Self {
            shards,
            try_within: Duration::from_secs(30),
            retry_unit: Duration::from_secs(1),
            sweep_every: Duration::from_millis(250),
        }
    }
}

/// What a client is told about an operation that was not kept.
fn lost(error: WriteError<Refusal>) -> Problem {
    match error {
        WriteError::Op(refusal) => refusal.into(),
        WriteError::Store(error) => error.into(),
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        use axum::http::StatusCode as Status;
        let (status, code) = match refusal {
            Refusal::UnknownAccount => (Status::NOT_FOUND, "UNKNOWN_ACCOUNT"),
            Refusal::UnknownTransfer => (Status::NOT_FOUND, "UNKNOWN_TRANSFER"),
            Refusal::InsufficientFunds => (Status::PAYMENT_REQUIRED, "INSUFFICIENT_FUNDS"),
            Refusal::KeyReused => (Status::UNPROCESSABLE_ENTITY, "IDEMPOTENCY_KEY_REUSED"),
            Refusal::AccountClosed => (Status::CONFLICT, "ACCOUNT_CLOSED"),
            Refusal::NotEmpty => (Status::CONFLICT, "ACCOUNT_NOT_EMPTY"),
            Refusal::AccountFull => (Status::CONFLICT, "ACCOUNT_FULL"),
            Refusal::CurrencyMismatch => (Status::CONFLICT, "CURRENCY_MISMATCH"),
            Refusal::AlreadyCancelled => (Status::CONFLICT, "ALREADY_CANCELLED"),
            Refusal::AlreadyConfirmed => (Status::CONFLICT, "ALREADY_CONFIRMED"),
            Refusal::NotTried => (Status::CONFLICT, "NOT_TRIED"),
            Refusal::OtherTry => (Status::UNPROCESSABLE_ENTITY, "OTHER_TRY"),
            Refusal::NumberTaken => return Self::internal(),
            Refusal::Sqlite(error) => return StoreError::from(error).into(),
        };
        let mut detail = refusal.to_string();
        detail[..1].make_ascii_uppercase();
        detail.push('.');
        Self::new(status, code, detail)
    }
}
