//! The books of the order service, read from its file beside it.
//!
//! One read transaction over the whole run, so that all payments are seen at one moment; in WAL mode it makes nobody
//! wait. Rows come a page at a time along the primary key, which is the order of the join: nothing is sorted or kept.

use std::collections::VecDeque;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, params};

use super::model::Channel;
use super::ours::{OurPayment, OurRefund, Ours, OursError, Standing};

/// Name of the order service's file inside the data folder.
pub(super) const FILE: &str = "order.sqlite";

/// Rows of one page.
const PAGE: u32 = 2_000;

/// The writer may hold the file for a moment.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

const SELECT: &str =
    "SELECT p.payment_no, p.order_no, p.amount, p.currency, p.status, p.updated_ms, p.trade_no, p.refund,
    CASE p.refund WHEN 'DONE' THEN (SELECT max(e.at_ms) FROM order_events e WHERE e.order_no = p.order_no
        AND e.kind = 'REFUND_DONE' AND e.detail = p.payment_no) END
    FROM payments p";

/// The payments of one channel.
pub struct Orders {
    connection: Connection,
    channel: Channel,
    from_ms: i64,
    to_ms: i64,
    page: VecDeque<OurPayment>,
    /// The last number seen; absent after the last page.
    after: Option<String>,
}

impl Orders {
    /// Looks at payments that changed within `from_ms..to_ms`.
    ///
    /// # Errors
    /// When there is no such file or it is not the order service's.
    pub fn open(path: &Path, channel: Channel, from_ms: i64, to_ms: i64) -> Result<Self, OursError> {
        // Not SQLITE_OPEN_READ_ONLY: that cannot recover the shared index of a file left by a crash.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)
            .map_err(|error| OursError(format!("{}: {error}", path.display())))?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.pragma_update(None, "query_only", true)?;
        connection.execute_batch("BEGIN")?;
        Ok(Self { connection, channel, from_ms, to_ms, page: VecDeque::new(), after: Some(String::new()) })
    }

    fn turn_page(&mut self) -> Result<(), OursError> {
        let Some(after) = self.after.take() else { return Ok(()) };
        let sql = format!(
            "{SELECT} WHERE p.channel = ?1 AND p.payment_no > ?2 AND ((p.updated_ms >= ?3 AND p.updated_ms < ?4) OR
             (p.refund = 'DONE' AND EXISTS (SELECT 1 FROM order_events e WHERE e.order_no = p.order_no AND
             e.kind = 'REFUND_DONE' AND e.detail = p.payment_no AND e.at_ms >= ?3 AND e.at_ms < ?4)))
             ORDER BY p.payment_no LIMIT ?5"
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let rows =
            statement.query_map(params![self.channel.as_str(), after, self.from_ms, self.to_ms, PAGE], payment)?;
        self.page = rows.collect::<Result<_, _>>()?;
        if self.page.len() == PAGE as usize {
            self.after = self.page.back().map(|last| last.out_trade_no.clone());
        }
        Ok(())
    }
}

fn payment(row: &Row<'_>) -> rusqlite::Result<OurPayment> {
    let (out_trade_no, amount): (String, i64) = (row.get(0)?, row.get(2)?);
    let status: String = row.get(4)?;
    let refund: Option<String> = row.get(7)?;
    let refund = match refund {
        Some(_) => Some(OurRefund { refund_no: format!("{out_trade_no}-refund"), amount, done_ms: row.get(8)? }),
        None => None,
    };
    Ok(OurPayment {
        out_trade_no,
        intent: row.get(1)?,
        amount,
        currency: row.get(3)?,
        standing: match status.as_str() {
            "CREATED" | "PENDING" => Standing::Waiting,
            "SUCCESS" => Standing::Paid,
            "DECLINED" | "CLOSED" | "FAILED" => Standing::Dead,
            _ => Standing::Unknown,
        },
        status,
        at_ms: row.get(5)?,
        trade_no: row.get(6)?,
        refund,
    })
}

impl Iterator for Orders {
    type Item = Result<OurPayment, OursError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.page.is_empty()
            && let Err(error) = self.turn_page()
        {
            return Some(Err(error));
        }
        self.page.pop_front().map(Ok)
    }
}

impl Ours for Orders {
    fn look_up(&mut self, out_trade_no: &str) -> Result<Option<OurPayment>, OursError> {
        let sql = format!("{SELECT} WHERE p.payment_no = ?1 AND p.channel = ?2");
        let mut statement = self.connection.prepare_cached(&sql)?;
        Ok(statement.query_row([out_trade_no, self.channel.as_str()], payment).optional()?)
    }
}
