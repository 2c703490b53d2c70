//! The journal of payments: what was asked for, which channel it went to, and what is known about it.
//!
//! A try's row is committed as `DISPATCHING` before a connection is asked for, so whatever the process does afterwards, a
//! byte that left has a row. A row whose gateway is gone therefore means "nobody knows". Moving to another channel is one
//! operation: the try before it is closed and the next one opened, or neither.
//!
//! The rule that matters is an index and not code: at most one try of a payment is live
//! ([`AttemptState::is_live`]).
//!
//! | File | What |
//! | --- | --- |
//! | `model` | the rows, and what follows from them for the next request |
//! | `draft` | a payment while an operation changes it |
//! | `changes`, `news` | the operations: what requests and people do; what channels tell |
//! | `file` | rows in a SQLite file, for one gateway |
//! | `database`, `statements` | rows in Postgres, for gateways that get the same payments |
//!
//! Fails: when the rows cannot be written nothing is sent. Grows without bound: rows are kept, a person may ask years
//! later. Wrong for: a file, where more than one gateway gets the same payments; then it is a database.

mod changes;
#[cfg(feature = "postgres")]
mod database;
mod draft;
mod file;
pub mod model;
mod news;
#[cfg(feature = "postgres")]
#[cfg(test)]
mod shared;
#[cfg(feature = "postgres")]
mod statements;
#[cfg(test)]
mod stories;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::time::Duration;

use tidegate_durable::{Options, Store};

use draft::Draft;
pub use model::{
    Attempt, AttemptState, Event, Frozen, Observed, Payment, PaymentState, Refusal, Sending, Standing, View,
};
#[cfg(feature = "postgres")]
use tidegate_filters::store::Shared;

use crate::payments::outcome::Report;

/// A call takes less than this, whatever the configuration says; a row that is still dispatching then has lost its task.
const LONGEST_CALL: Duration = Duration::from_secs(600);
/// Most rows of one list.
const LONGEST_LIST: usize = 1_000;

/// Longest wait for somebody else's look at the file, at start.
const LONGEST_LOCK: Duration = Duration::from_secs(5);
const MIGRATIONS: &[&str] = &[include_str!("schema.sql")];

/// A try that is about to be made.
#[derive(Clone, Debug)]
pub struct Begin {
    /// The payment.
    pub frozen: Frozen,
    /// The channel.
    pub channel: String,
    /// Channels that were looked at, as JSON.
    pub considered: String,
    /// What the row says until more is known; no other try says the same.
    pub words: String,
    /// The try that this one follows, with what is known about it.
    pub closing: Option<(Sending, Observed)>,
    /// A try of the same request was closed before a pause: the payment must still be called under way.
    pub resting: bool,
}

/// What a query led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Ask again later.
    Wait,
    /// The channel has not known it twice, for long enough: close it there.
    Close,
    /// Decided.
    Decided,
    /// Two charges, or a charge of what was taken for not charged: somebody must look. The name of the event.
    Alarm(&'static str),
}

/// When to look at a try again, in unix milliseconds, and what that depends on.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    /// The moment.
    pub now_ms: i64,
    /// Next look.
    pub next_ms: i64,
    /// Since the last sending at least this, before "not found" counts.
    pub min_age_ms: i64,
}

/// Where a journal is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In this file.
    File(PathBuf),
    /// In a database.
    #[cfg(feature = "postgres")]
    Database(Shared),
}

/// The journal. Clones share one store.
#[derive(Clone, Debug)]
pub struct Journal {
    rows: Rows,
}

#[derive(Clone, Debug)]
enum Rows {
    File(Store),
    #[cfg(feature = "postgres")]
    Database(database::Database),
}

type Result<T> = std::result::Result<T, Refusal>;

/// Which tries somebody may look at.
#[derive(Clone, Debug)]
pub struct Due {
    /// Now, in unix milliseconds.
    pub now_ms: i64,
    /// Channels that are left alone.
    pub but: Vec<String>,
    /// Upstreams that can be asked. In a journal of several gateways another may have others; what is overdue for minutes
    /// is taken whatever its upstream.
    pub upstreams: Vec<String>,
}

impl Journal {
    /// Opens the journal, and takes note of what the process before left undone. Blocks.
    pub fn open(place: &Place, now_ms: i64) -> Result<Self> {
        let rows = match place {
            Place::File(path) => Rows::File(open_file(path, now_ms)?),
            #[cfg(feature = "postgres")]
            Place::Database(shared) => Rows::Database(database::Database::open(shared, now_ms)?),
        };
        Ok(Self { rows })
    }

    /// Commits to its file since it was opened, each with one wait for the disk; 0 for a database.
    #[must_use]
    pub fn commits(&self) -> u64 {
        match &self.rows {
            Rows::File(store) => store.stats().commits,
            #[cfg(feature = "postgres")]
            Rows::Database(_) => 0,
        }
    }

    /// Whether other gateways have the same journal. Of what that refuses nobody knows whether it was done.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        !matches!(self.rows, Rows::File(_))
    }

    /// A payment with its tries; `None` when the number is not known.
    pub async fn view(&self, id: &str) -> Result<Option<View>> {
        match &self.rows {
            Rows::File(store) => {
                let id = id.to_owned();
                Ok(store.read(move |connection| file::view(connection, &id)).await?)
            }
            #[cfg(feature = "postgres")]
            Rows::Database(database) => database.view(id).await,
        }
    }

    /// Writes a try down before it is made; resolves when that is on the disk. Returns its number.
    pub async fn begin(&self, begin: Begin, now_ms: i64) -> Result<i64> {
        let id = begin.frozen.id.clone();
        self.change(&id, move |draft| changes::begin(draft, &begin, now_ms)).await
    }

    /// The live try is about to be sent to its channel once more.
    pub async fn send_again(&self, id: &str, n: i64, now_ms: i64) -> Result<Sending> {
        self.change(id, move |draft| changes::send_again(draft, n, now_ms)).await
    }

    /// Closes a try that did nothing, while its payment goes on after a pause.
    pub async fn rest(&self, id: &str, of: Sending, seen: Observed, now_ms: i64) -> Result<()> {
        self.change(id, move |draft| changes::rest(draft, of, &seen, now_ms)).await
    }

    /// A try was to be written down and nobody has heard whether it was; it is not made. `true` when it was.
    pub async fn abandon(&self, id: &str, words: &str, now_ms: i64) -> Result<bool> {
        let words = words.to_owned();
        self.change(id, move |draft| changes::abandon(draft, &words, now_ms)).await
    }

    /// No further try is coming: the payment stands as its tries say. Returns how.
    pub async fn conclude(&self, id: &str, now_ms: i64) -> Result<PaymentState> {
        self.change(id, move |draft| changes::conclude(draft, now_ms)).await
    }

    /// Writes down what became of a try; its payment follows.
    pub async fn settle(&self, id: &str, of: Sending, seen: Observed, now_ms: i64, next_ms: i64) -> Result<Step> {
        self.change(id, move |draft| changes::settle(draft, of, &seen, now_ms, next_ms)).await
    }

    /// Writes down what a query told about a try. `sends`: how often that had been sent when the channel was asked; what
    /// it said before a further sending proves nothing about that one, unless it said that it has charged.
    pub async fn told(
        &self,
        id: &str,
        (n, sends): (i64, i64),
        report: Report,
        seen: Observed,
        at: Schedule,
    ) -> Result<Step> {
        self.change(id, move |draft| news::told(draft, (n, sends), report, &seen, at)).await
    }

    /// The resolver gives up: a person has to find out. `false` when the try was decided meanwhile.
    pub async fn give_up(&self, id: &str, n: i64, why: &str, now_ms: i64) -> Result<bool> {
        let why = why.to_owned();
        self.change(id, move |draft| changes::give_up(draft, n, &why, now_ms)).await
    }

    /// A person has found out what became of a payment that waits for one.
    pub async fn decide(&self, id: &str, state: PaymentState, reason: &str, now_ms: i64) -> Result<()> {
        let reason = reason.to_owned();
        self.change(id, move |draft| changes::decide(draft, state, &reason, now_ms)).await
    }

    /// Notes something that a person should see.
    pub async fn event(&self, id: &str, kind: &'static str, detail: String, now_ms: i64) -> Result<()> {
        let noted = move |draft: &mut Draft| {
            draft.view()?;
            draft.note(kind, detail, now_ms);
            Ok(())
        };
        self.change(id, noted).await
    }

    /// Whether any try is due for a look.
    pub async fn is_due(&self, due: &Due) -> Result<bool> {
        match &self.rows {
            Rows::File(store) => {
                let (now_ms, but) = (due.now_ms, serde_json::Value::from(due.but.clone()).to_string());
                Ok(store.read(move |connection| file::is_due(connection, now_ms, &but)).await?)
            }
            #[cfg(feature = "postgres")]
            Rows::Database(database) => database.is_due(due).await,
        }
    }

    /// Takes tries that are due for a look.
    pub async fn claim(&self, due: &Due, lease: Duration, limit: usize) -> Result<Vec<Attempt>> {
        let (now_ms, limit) = (due.now_ms, i64::try_from(limit).unwrap_or(i64::MAX));
        let lease_ms = now_ms + millis(lease);
        match &self.rows {
            Rows::File(store) => {
                let but = serde_json::Value::from(due.but.clone()).to_string();
                Ok(store.write(move |connection| Ok(file::claim(connection, now_ms, lease_ms, limit, &but)?)).await?)
            }
            #[cfg(feature = "postgres")]
            Rows::Database(database) => database.claim(due, lease_ms, limit).await,
        }
    }

    /// Takes over what gateways that have ended have left in a journal of several. A file has one gateway, which has done
    /// so at its start.
    pub async fn take_over(&self, now_ms: i64) -> Result<()> {
        match &self.rows {
            Rows::File(_) => {
                let _ = now_ms;
                Ok(())
            }
            #[cfg(feature = "postgres")]
            Rows::Database(database) => database.take_over(now_ms).await,
        }
    }

    /// The same place with another password is used with that from now on. `false` when it is another place.
    pub fn adopt(&self, open: &Place, place: &Place) -> Result<bool> {
        match (&self.rows, open, place) {
            #[cfg(feature = "postgres")]
            (Rows::Database(database), Place::Database(open), Place::Database(shared)) if open.url == shared.url => {
                database.adopt(shared).map(|()| true)
            }
            (_, open, place) => Ok(open == place),
        }
    }

    /// Payments, the latest change first, at most a thousand.
    pub async fn list(&self, state: Option<PaymentState>, limit: usize) -> Result<Vec<Payment>> {
        let limit = i64::try_from(limit.min(LONGEST_LIST)).unwrap_or(0);
        match &self.rows {
            Rows::File(store) => Ok(store.read(move |connection| file::list(connection, state, limit)).await?),
            #[cfg(feature = "postgres")]
            Rows::Database(database) => database.list(state, limit).await,
        }
    }

    /// What people should see of a payment.
    pub async fn events(&self, id: &str) -> Result<Vec<Event>> {
        match &self.rows {
            Rows::File(store) => {
                let id = id.to_owned();
                Ok(store.read(move |connection| file::events(connection, &id)).await?)
            }
            #[cfg(feature = "postgres")]
            Rows::Database(database) => database.events(id).await,
        }
    }

    /// How many payments wait for a person, and how many tries are undecided.
    pub async fn figures(&self) -> Result<(u64, u64)> {
        match &self.rows {
            Rows::File(store) => Ok(store.read(file::figures).await?),
            #[cfg(feature = "postgres")]
            Rows::Database(database) => database.figures().await,
        }
    }

    /// One operation on one payment, which nobody else changes meanwhile; all of it is on the disk afterwards, or nothing.
    async fn change<T: Send + 'static>(
        &self,
        id: &str,
        op: impl FnOnce(&mut Draft) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        match &self.rows {
            Rows::File(store) => {
                let id = id.to_owned();
                let op = move |connection: &rusqlite::Connection| {
                    let mut draft = Draft::of(&id, file::view(connection, &id)?);
                    let done = op(&mut draft)?;
                    file::save(connection, &draft)?;
                    Ok(done)
                };
                Ok(store.write(op).await?)
            }
            #[cfg(feature = "postgres")]
            Rows::Database(database) => database.change(id, op).await,
        }
    }
}

fn open_file(path: &Path, now_ms: i64) -> Result<Store> {
    let store = Store::open(path, MIGRATIONS, Options::default())?;
    // A connection of its own: the writer's answers need a runtime, and there is none yet.
    let connection = rusqlite::Connection::open(path)?;
    connection.busy_timeout(LONGEST_LOCK)?;
    let lost = file::recover(&connection, now_ms)?;
    if lost > 0 {
        tracing::warn!(target: "tidegate::payments", lost, "payments were under way when the gateway stopped");
    }
    Ok(store)
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}
