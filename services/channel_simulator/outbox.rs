//! The callbacks that are still to be acknowledged, and when each is tried next.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::dialects::schedule;
use super::rows::{self, Payment};

/// A callback to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Due {
    /// The same at every attempt.
    pub(super) notify_id: String,
    pub(super) payment: Payment,
    /// Attempts before this one.
    pub(super) attempts: u32,
    /// Copies sent at the same time, on the first attempt only.
    pub(super) copies: u32,
    /// Preceded by one with a wrong signature, on the first attempt only.
    pub(super) probe: bool,
}

/// What became of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The receiver said that it need not be told again.
    Acknowledged,
    /// Anything else.
    Failed,
}

/// The callbacks due at `now_ms`, the longest due first, and when the first of the others is due.
pub(super) fn due(connection: &Connection, now_ms: i64, most: usize) -> rusqlite::Result<(Vec<Due>, Option<i64>)> {
    let sql =
        "SELECT c.notify_id, c.attempts, c.copies, c.probe, p.* FROM callbacks c JOIN payments p USING (payment_no)
        WHERE c.state = 'pending' AND c.due_ms <= ?1 ORDER BY c.due_ms LIMIT ?2";
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let due = connection.prepare_cached(sql)?.query_map(params![now_ms, most], message)?.collect::<Result<_, _>>()?;
    let sql = "SELECT min(due_ms) FROM callbacks WHERE state = 'pending' AND due_ms > ?1";
    let next = connection.prepare_cached(sql)?.query_row([now_ms], |row| row.get(0))?;
    Ok((due, next))
}

fn message(row: &Row<'_>) -> rusqlite::Result<Due> {
    let attempts: u32 = row.get("attempts")?;
    let first = attempts == 0;
    Ok(Due {
        notify_id: row.get("notify_id")?,
        payment: rows::payment(row)?,
        attempts,
        copies: if first { row.get("copies")? } else { 0 },
        probe: first && row.get("probe")?,
    })
}

/// Records an attempt that ended at `now_ms`. `None` when the callback is not pending any more, else its new state.
pub(super) fn record(
    connection: &Connection,
    notify_id: &str,
    outcome: Outcome,
    time_scale: f64,
    now_ms: i64,
) -> rusqlite::Result<Option<&'static str>> {
    let sql = "SELECT c.attempts, p.dialect FROM callbacks c JOIN payments p USING (payment_no)
        WHERE c.notify_id = ?1 AND c.state = 'pending'";
    let row = |row: &Row<'_>| Ok((row.get::<_, u32>(0)?, row.get(1)?));
    let Some((attempts, dialect)) = connection.prepare_cached(sql)?.query_row([notify_id], row).optional()? else {
        return Ok(None);
    };
    let (state, due_ms) = match (outcome, schedule(dialect).get(attempts as usize)) {
        (Outcome::Acknowledged, _) => ("acknowledged", now_ms),
        (Outcome::Failed, Some(wait)) => ("pending", now_ms + scaled(*wait, time_scale)),
        (Outcome::Failed, None) => ("given_up", now_ms),
    };
    let sql = "UPDATE callbacks SET attempts = attempts + 1, state = ?2, due_ms = ?3 WHERE notify_id = ?1";
    connection.prepare_cached(sql)?.execute(params![notify_id, state, due_ms])?;
    Ok(Some(state))
}

/// At least a millisecond: a callback due at the very moment it failed would be tried without end.
fn scaled(wait_ms: i64, time_scale: f64) -> i64 {
    ((wait_ms as f64 * time_scale).round() as i64).max(1)
}

#[cfg(test)]
mod tests {
    use super::super::course::Seen;
    use super::super::{plan::Plan, schema};
    use super::*;
    use crate::support::dialect::Dialect;

    fn with_one_callback(dialect: Dialect) -> Connection {
        let connection = Connection::open_in_memory().expect("a connection");
        connection.execute_batch(schema::SCHEMA).expect("the tables");
        let wanted = rows::Wanted {
            payment_no: "p".to_owned(),
            amount: 5,
            currency: "CNY".to_owned(),
            subject: String::new(),
            notify_url: "http://127.0.0.1:1/".to_owned(),
            scene: None,
            expires_ms: None,
            dialect,
            extra: String::new(),
        };
        let numbers = rows::Numbers { trade_no: "t".to_owned(), notify_id: "n".to_owned() };
        let fate = Plan::default().fate("p");
        let now = rows::Now { ms: 1_000, clock_ms: 1_000 };
        rows::create(&connection, wanted, "p", &numbers, Some((&fate, &Seen::default())), now).expect("a payment");
        connection
    }

    #[test]
    fn a_failed_callback_comes_again_as_its_dialect_schedules_and_is_given_up_in_the_end() {
        // Repeats and the minutes they are spread over: WeChat Pay says 24 hours and 4 minutes, Alipay less than 25 hours.
        let known = [(Dialect::Wechat, 15, 24 * 60 + 4), (Dialect::Alipay, 7, 24 * 60 + 24), (Dialect::Epay, 5, 204)];
        for (dialect, repeats, minutes) in known {
            let waits = schedule(dialect);
            assert_eq!((waits.len(), waits.iter().sum::<i64>() / 60_000), (repeats, minutes), "{dialect:?}");
        }
        for dialect in [Dialect::Json, Dialect::Wechat, Dialect::Alipay, Dialect::Epay] {
            let connection = with_one_callback(dialect);
            let mut now = 1_000;
            for wait in schedule(dialect) {
                assert_eq!(record(&connection, "n", Outcome::Failed, 0.5, now).expect("a row"), Some("pending"));
                now += wait / 2;
                assert_eq!(due(&connection, now - 1, 9).expect("rows"), (Vec::new(), Some(now)));
                assert_eq!(due(&connection, now, 9).expect("rows").0.len(), 1);
            }
            assert_eq!(record(&connection, "n", Outcome::Failed, 0.5, now).expect("a row"), Some("given_up"));
            assert_eq!(due(&connection, i64::MAX, 9).expect("rows"), (Vec::new(), None));
            assert_eq!(record(&connection, "n", Outcome::Acknowledged, 0.5, now).expect("a row"), None);
        }
    }

    #[test]
    fn the_identity_is_the_same_at_every_attempt() {
        let connection = with_one_callback(Dialect::Json);
        let first = due(&connection, 1_000, 9).expect("rows").0.remove(0);
        record(&connection, "n", Outcome::Failed, 1.0, 1_000).expect("a row");
        assert_eq!(first.payment.due, None, "it is decided");
        let second = due(&connection, 2_000, 9).expect("rows").0.remove(0);
        assert_eq!((first.notify_id, first.attempts, second.attempts), (second.notify_id, 0, 1));
    }
}
