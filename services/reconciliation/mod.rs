//! Reconciliation: once a day, what the channels say they have booked is compared with what our books say.
//!
//! It is the last line: whatever notifications, queries and retries have missed shows up here, a payment that was charged
//! twice among it. A run streams the channel's bill, sorts it by number in bounded memory, and joins it with our books;
//! memory does not grow with the day.
//!
//! | File | What |
//! | --- | --- |
//! | `bill/` | the channels' files, read and written |
//! | `day` | days and times as channels count them |
//! | `ours`, `orders` | our side; the order service's file |
//! | `sort`, `join`, `judge` | the comparison: external sort, merge, decision |
//! | `report`, `store` | what is found, and where it is kept |
//! | `run`, `repair` | one run; what can be done about its items |
//! | `http`, `cli`, `daily` | the ways to ask for it |
//! | `seeded` | a day with known differences, for tests and for whoever plays the channel |

pub mod bill;
pub mod cli;
mod daily;
pub mod day;
mod http;
mod join;
mod judge;
mod model;
mod orders;
mod ours;
mod repair;
mod report;
mod run;
pub mod seeded;
mod sort;
mod store;
#[cfg(test)]
mod tests;

use tidegate_durable::{StoreError, WriteError};

pub use http::{Desk, router};
pub use model::{Action, Carried, Category, Channel, Item, Why};
pub use orders::Orders;
pub use ours::{OurPayment, OurRefund, Ours, OursError, Standing};
pub use repair::{Redrive, Repaired, repair};
pub use run::{Done, Job, Rules, Runs};

/// Why a run did not come to its end. Nothing of it was kept.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The bill is not to be believed.
    #[error("{0}")]
    Bill(#[from] bill::BillError),
    /// Our books cannot be read.
    #[error("{0}")]
    Ours(#[from] OursError),
    /// The file of runs cannot be read or written.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// A file cannot be read or written.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

impl From<rusqlite::Error> for RunError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Store(error.into())
    }
}

impl From<WriteError<rusqlite::Error>> for RunError {
    fn from(error: WriteError<rusqlite::Error>) -> Self {
        match error {
            WriteError::Op(error) => error.into(),
            WriteError::Store(error) => error.into(),
        }
    }
}
