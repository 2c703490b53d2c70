//! The journal of payments: what was asked for, which channel it went to, and what is known about it.
//!
//! One SQLite file with one writer thread and group commit (`durable/`), `synchronous = FULL`. A try's row is committed as
//! `DISPATCHING` before a connection is asked for, so whatever the process does afterwards, a byte that left has a row. A
//! row that is found `DISPATCHING` at start therefore means "nobody knows". Moving to another channel is one operation:
//! the try before it is closed and the next one opened, or neither.
//!
//! The rule that matters is an index and not code: at most one try of a payment is live
//! ([`AttemptState::is_live`]).
//!
//! Fails: when the file cannot be written nothing is sent. Grows without bound: rows are kept, a person may ask years
//! later. Wrong for: more than one gateway over the same payments; each has a file of its own.

pub mod model;
mod news;
mod rows;
#[cfg(test)]
mod stories;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::time::Duration;

use tidegate_durable::{Options, Store, StoreError};

pub use model::{Attempt, AttemptState, Event, Frozen, Payment, PaymentState, Refusal, Standing, View};
pub use rows::Observed;

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
    /// The try that this one follows, with what is known about it.
    pub closing: Option<(i64, Observed)>,
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

/// The journal. Clones share one file.
#[derive(Clone, Debug)]
pub struct Journal {
    store: Store,
}

type Result<T> = std::result::Result<T, Refusal>;

impl Journal {
    /// Opens the file, and takes note of what the process before left undone.
    pub fn open(path: &Path, now_ms: i64) -> std::result::Result<Self, StoreError> {
        let store = Store::open(path, MIGRATIONS, Options::default())?;
        // A connection of its own: the writer's answers need a runtime, and there is none yet.
        let connection = rusqlite::Connection::open(path)?;
        connection.busy_timeout(LONGEST_LOCK)?;
        let lost = rows::recover(&connection, now_ms)?;
        if lost > 0 {
            tracing::warn!(target: "tidegate::payments", lost, "payments were under way when the gateway stopped");
        }
        Ok(Self { store })
    }

    /// A payment with its tries; `None` when the number is not known.
    pub async fn view(&self, id: &str) -> Result<Option<View>> {
        let id = id.to_owned();
        Ok(self.store.read(move |connection| rows::view(connection, &id)).await?)
    }

    /// Writes a try down before it is made; resolves when that is on the disk. Returns its number.
    pub async fn begin(&self, begin: Begin, now_ms: i64) -> Result<i64> {
        Ok(self.store.write(move |connection| begin_in(connection, &begin, now_ms)).await?)
    }

    /// The live try is about to be sent to its channel once more.
    pub async fn send_again(&self, id: &str, n: i64, now_ms: i64) -> Result<()> {
        let id = id.to_owned();
        let op = move |connection: &rusqlite::Connection| {
            let attempt = rows::one(connection, &id, n)?;
            // A call that is under way is somebody else's.
            if !matches!(attempt.state, AttemptState::Unknown | AttemptState::Pending) {
                return Err(Refusal::Standing);
            }
            Ok(rows::again(connection, &id, n, now_ms, now_ms + millis(LONGEST_CALL))?)
        };
        Ok(self.store.write(op).await?)
    }

    /// Closes a try that did nothing, while its payment goes on after a pause.
    pub async fn rest(&self, id: &str, n: i64, seen: Observed, now_ms: i64) -> Result<()> {
        let id = id.to_owned();
        let op = move |connection: &rusqlite::Connection| {
            let before = rows::one(connection, &id, n)?;
            if before.state != AttemptState::Dispatching || seen.state.is_live() {
                return Err(Refusal::Standing);
            }
            Ok(rows::set_attempt(connection, &id, n, &seen, now_ms, now_ms)?)
        };
        Ok(self.store.write(op).await?)
    }

    /// No further try is coming: the payment stands as its tries say.
    pub async fn conclude(&self, id: &str, now_ms: i64) -> Result<()> {
        let id = id.to_owned();
        let op = move |connection: &rusqlite::Connection| {
            let view = rows::view(connection, &id)?.ok_or(Refusal::Missing)?;
            if view.payment.state == PaymentState::Processing {
                rows::set_payment(connection, &id, view.by_tries(), now_ms)?;
            }
            Ok(())
        };
        Ok(self.store.write(op).await?)
    }

    /// Writes down what became of a try; its payment follows.
    pub async fn settle(&self, id: &str, n: i64, seen: Observed, now_ms: i64, next_ms: i64) -> Result<Step> {
        let id = id.to_owned();
        let op = move |connection: &rusqlite::Connection| {
            let before = rows::one(connection, &id, n)?;
            if before.state == AttemptState::Succeeded {
                // A query was quicker. That the caller knows less is no contradiction; that it knows otherwise is.
                let agrees =
                    matches!(seen.state, AttemptState::Succeeded | AttemptState::Pending | AttemptState::Unknown);
                return if agrees { Ok(Step::Decided) } else { Err(Refusal::Standing) };
            }
            if !before.state.is_live() {
                if seen.state != AttemptState::Succeeded {
                    return Err(Refusal::Standing);
                }
                // The row was given up while the answer was under way. A charge is news, however late.
                let view = rows::view(connection, &id)?.ok_or(Refusal::Missing)?;
                return news::too_late(connection, &view, &before, Report::Succeeded, &seen, now_ms);
            }
            news::settle(connection, &id, n, &seen, now_ms, next_ms)
        };
        Ok(self.store.write(op).await?)
    }

    /// Whether any try is due for a look, but for those on these channels.
    pub async fn is_due(&self, now_ms: i64, but: &[String]) -> Result<bool> {
        let but = serde_json::Value::from(but).to_string();
        Ok(self.store.read(move |connection| rows::is_due(connection, now_ms, &but)).await?)
    }

    /// Takes tries that are due for a look, but for those on these channels.
    pub async fn claim(&self, now_ms: i64, lease: Duration, limit: usize, but: &[String]) -> Result<Vec<Attempt>> {
        let (lease_ms, limit) = (now_ms + millis(lease), i64::try_from(limit).unwrap_or(i64::MAX));
        let but = serde_json::Value::from(but).to_string();
        Ok(self.store.write(move |connection| Ok(rows::claim(connection, now_ms, lease_ms, limit, &but)?)).await?)
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
        let id = id.to_owned();
        Ok(self.store.write(move |connection| news::told(connection, &id, (n, sends), report, &seen, at)).await?)
    }

    /// The resolver gives up: a person has to find out. `false` when the try was decided meanwhile.
    pub async fn give_up(&self, id: &str, n: i64, why: &str, now_ms: i64) -> Result<bool> {
        let (id, why) = (id.to_owned(), why.to_owned());
        let op = move |connection: &rusqlite::Connection| {
            let attempt = rows::one(connection, &id, n)?;
            if !matches!(attempt.state, AttemptState::Unknown | AttemptState::Pending) {
                return Ok(false);
            }
            let Attempt { http, code, .. } = attempt;
            let seen = Observed { state: AttemptState::Manual, evidence: why.clone(), http, code };
            news::settle(connection, &id, n, &seen, now_ms, now_ms)?;
            rows::event(connection, &id, "MANUAL", &format!("try {n}: {why}"), now_ms)?;
            Ok(true)
        };
        Ok(self.store.write(op).await?)
    }

    /// A person has found out what became of a payment that waits for one.
    pub async fn decide(&self, id: &str, state: PaymentState, reason: &str, now_ms: i64) -> Result<()> {
        let (id, reason) = (id.to_owned(), reason.to_owned());
        let op = move |connection: &rusqlite::Connection| {
            let view = rows::view(connection, &id)?.ok_or(Refusal::Missing)?;
            if view.payment.state != PaymentState::Manual {
                return Err(Refusal::Standing);
            }
            rows::set_payment(connection, &id, state, now_ms)?;
            news::end_by_hand(connection, &view, state, &reason, now_ms)?;
            let detail = format!("{} by a person: {reason}", state.as_str());
            Ok(rows::event(connection, &id, "DECIDED", &detail, now_ms)?)
        };
        Ok(self.store.write(op).await?)
    }

    /// Notes something that a person should see.
    pub async fn event(&self, id: &str, kind: &'static str, detail: String, now_ms: i64) -> Result<()> {
        let id = id.to_owned();
        Ok(self.store.write(move |connection| Ok(rows::event(connection, &id, kind, &detail, now_ms)?)).await?)
    }

    /// Payments, the latest change first, at most a thousand.
    pub async fn list(&self, state: Option<PaymentState>, limit: usize) -> Result<Vec<Payment>> {
        let limit = i64::try_from(limit.min(LONGEST_LIST)).unwrap_or(0);
        Ok(self.store.read(move |connection| rows::list(connection, state, limit)).await?)
    }

    /// What people should see of a payment.
    pub async fn events(&self, id: &str) -> Result<Vec<Event>> {
        let id = id.to_owned();
        Ok(self.store.read(move |connection| rows::events(connection, &id)).await?)
    }

    /// How many payments wait for a person, and how many tries are undecided.
    pub async fn figures(&self) -> Result<(u64, u64)> {
        Ok(self.store.read(rows::figures).await?)
    }
}

fn begin_in(connection: &rusqlite::Connection, begin: &Begin, now_ms: i64) -> Result<i64> {
    let Begin { frozen, channel, considered, closing } = begin;
    let id = &frozen.id;
    if let Some((n, seen)) = closing {
        let before = rows::one(connection, id, *n)?;
        // The caller has decided that this frees the payment; the row must still be the one the caller sent.
        if !matches!(before.state, AttemptState::Dispatching | AttemptState::Sent) || seen.state.is_live() {
            return Err(Refusal::Standing);
        }
        rows::set_attempt(connection, id, *n, seen, now_ms, now_ms)?;
    }
    match rows::view(connection, id)? {
        None => rows::insert(connection, frozen, now_ms)?,
        Some(view) if view.payment.frozen != *frozen => return Err(Refusal::Mismatch),
        Some(view) => match view.standing() {
            Standing::Open { left } if !left.contains(channel) => {
                rows::set_payment(connection, id, PaymentState::Processing, now_ms)?;
            }
            Standing::Open { .. } | Standing::Live(_) | Standing::Decided => return Err(Refusal::Standing),
        },
    }
    let next_ms = now_ms + millis(LONGEST_CALL);
    Ok(rows::insert_attempt(connection, id, channel, considered, now_ms, next_ms)?)
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}
