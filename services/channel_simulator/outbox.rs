//! The callbacks that are still to be acknowledged, and when each is tried next.

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::json;

/// Milliseconds from an attempt to the next one. A receiver that was restarting is tried again after a second; from
/// there on these are the intervals of a large real channel, which gives up after a day.
const SCHEDULE_MS: [i64; 16] = [
    1_000, 15_000, 15_000, 30_000, 180_000, 600_000, 1_200_000, 1_800_000, 1_800_000, 1_800_000, 3_600_000, 10_800_000,
    10_800_000, 10_800_000, 21_600_000, 21_600_000,
];

/// A callback as it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) notify_id: String,
    pub(super) url: String,
    /// The same bytes at every attempt.
    pub(super) body: Vec<u8>,
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
    let sql = "SELECT c.notify_id, c.attempts, c.copies, c.probe, p.notify_url, p.payment_no, p.trade_no, p.amount,
            p.currency, p.status, p.code
        FROM callbacks c JOIN payments p USING (payment_no)
        WHERE c.state = 'pending' AND c.due_ms <= ?1 ORDER BY c.due_ms LIMIT ?2";
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let due = connection.prepare_cached(sql)?.query_map(params![now_ms, most], message)?.collect::<Result<_, _>>()?;
    let sql = "SELECT min(due_ms) FROM callbacks WHERE state = 'pending' AND due_ms > ?1";
    let next = connection.prepare_cached(sql)?.query_row([now_ms], |row| row.get(0))?;
    Ok((due, next))
}

fn message(row: &Row<'_>) -> rusqlite::Result<Due> {
    let notify_id: String = row.get("notify_id")?;
    let mut body = json!({
        "notify_id": notify_id,
        "payment_no": row.get::<_, String>("payment_no")?,
        "trade_no": row.get::<_, String>("trade_no")?,
        "amount": row.get::<_, i64>("amount")?,
        "currency": row.get::<_, String>("currency")?,
        "status": row.get::<_, String>("status")?,
    });
    if let Some(code) = row.get::<_, Option<String>>("code")? {
        body["code"] = code.into();
    }
    let attempts: u32 = row.get("attempts")?;
    let first = attempts == 0;
    Ok(Due {
        notify_id,
        url: row.get("notify_url")?,
        body: body.to_string().into_bytes(),
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
    let sql = "SELECT attempts FROM callbacks WHERE notify_id = ?1 AND state = 'pending'";
    let attempts: Option<u32> = connection.prepare_cached(sql)?.query_row([notify_id], |row| row.get(0)).optional()?;
    let Some(attempts) = attempts else {
        return Ok(None);
    };
    let (state, due_ms) = match (outcome, SCHEDULE_MS.get(attempts as usize)) {
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
    use super::super::{plan::Plan, rows, schema};
    use super::*;

    fn with_one_callback() -> Connection {
        let connection = Connection::open_in_memory().expect("a connection");
        for script in schema::MIGRATIONS {
            connection.execute_batch(script).expect("the tables");
        }
        let wanted = rows::Wanted {
            payment_no: "p".to_owned(),
            amount: 5,
            currency: "CNY".to_owned(),
            subject: String::new(),
            notify_url: "http://127.0.0.1:1/".to_owned(),
            scene: None,
            expires_ms: None,
        };
        let numbers = rows::Numbers { trade_no: "t".to_owned(), notify_id: "n".to_owned() };
        let fate = Plan::default().fate("p");
        let now = rows::Now { ms: 1_000, clock_ms: 1_000 };
        rows::create(&connection, wanted, "p", &numbers, Some((&fate, &Seen::default())), now).expect("a payment");
        connection
    }

    #[test]
    fn a_failed_callback_comes_again_as_scheduled_and_is_given_up_in_the_end() {
        let connection = with_one_callback();
        let mut now = 1_000;
        for wait in SCHEDULE_MS {
            assert_eq!(record(&connection, "n", Outcome::Failed, 0.5, now).expect("a row"), Some("pending"));
            now += wait / 2;
            assert_eq!(due(&connection, now - 1, 9).expect("rows"), (Vec::new(), Some(now)));
            assert_eq!(due(&connection, now, 9).expect("rows").0.len(), 1);
        }
        assert_eq!(record(&connection, "n", Outcome::Failed, 0.5, now).expect("a row"), Some("given_up"));
        assert_eq!(due(&connection, i64::MAX, 9).expect("rows"), (Vec::new(), None));
        assert_eq!(record(&connection, "n", Outcome::Acknowledged, 0.5, now).expect("a row"), None);
    }

    #[test]
    fn the_body_is_the_same_at_every_attempt() {
        let connection = with_one_callback();
        let first = due(&connection, 1_000, 9).expect("rows").0.remove(0);
        record(&connection, "n", Outcome::Failed, 1.0, 1_000).expect("a row");
        let second = due(&connection, 2_000, 9).expect("rows").0.remove(0);
        assert_eq!((first.body, first.attempts, second.attempts), (second.body, 0, 1));
    }
}
