//! The books of the order service, read from its files beside it.
//!
//! One read transaction a file over the whole run, so that all payments of a file are seen at one moment; in WAL mode it
//! makes nobody wait. Rows come a page at a time along the primary key, which is the order of the join: nothing is sorted
//! or kept. Between the files the smallest number comes first.

use std::collections::VecDeque;
use std::path::Path;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::model::Channel;
use super::ours::{OurPayment, OurRefund, Ours, OursError, Standing};
use crate::order::SERVICE;
use crate::support::{Files, Shard, look_into};

/// Rows of one page.
const PAGE: u32 = 2_000;

const SELECT: &str =
    "SELECT p.payment_no, p.order_no, p.amount, p.currency, p.status, p.updated_ms, p.trade_no, p.refund,
    CASE p.refund WHEN 'DONE' THEN (SELECT max(e.at_ms) FROM order_events e WHERE e.order_no = p.order_no
        AND e.kind = 'REFUND_DONE' AND e.detail = p.payment_no) END
    FROM payments p";

/// The payments of one channel.
pub struct Orders {
    files: Files,
    all: Vec<OrderFile>,
}

impl Orders {
    /// Looks at payments that changed within `from_ms..to_ms`.
    ///
    /// # Errors
    /// When there are no such files in the folder or they are not the order service's.
    pub fn open(folder: &Path, channel: Channel, from_ms: i64, to_ms: i64) -> Result<Self, OursError> {
        let none = || OursError(format!("{}: no files of the order service", folder.display()));
        let files = Files::found(folder, SERVICE).ok_or_else(none)?;
        let open = |name: String| OrderFile::open(&folder.join(name), channel, from_ms, to_ms);
        Ok(Self { files, all: files.names(SERVICE).map(open).collect::<Result<_, _>>()? })
    }

    /// The file whose next payment has the smallest number, or one that cannot be read.
    fn first(&mut self) -> Result<Option<&mut OrderFile>, OursError> {
        let mut first: Option<&mut OrderFile> = None;
        for file in &mut self.all {
            let Some(number) = file.peek()? else { continue };
            if first.as_ref().and_then(|best| best.page.front()).is_none_or(|best| *number < *best.out_trade_no) {
                first = Some(file);
            }
        }
        Ok(first)
    }
}

/// One file.
struct OrderFile {
    connection: Connection,
    channel: Channel,
    from_ms: i64,
    to_ms: i64,
    page: VecDeque<OurPayment>,
    /// The last number seen; absent after the last page.
    after: Option<String>,
}

impl OrderFile {
    fn open(path: &Path, channel: Channel, from_ms: i64, to_ms: i64) -> Result<Self, OursError> {
        let connection = look_into(path).map_err(|error| OursError(format!("{}: {error}", path.display())))?;
        connection.execute_batch("BEGIN")?;
        Ok(Self { connection, channel, from_ms, to_ms, page: VecDeque::new(), after: Some(String::new()) })
    }

    /// The number of the next payment.
    fn peek(&mut self) -> Result<Option<&str>, OursError> {
        if self.page.is_empty() {
            self.turn_page()?;
        }
        Ok(self.page.front().map(|payment| payment.out_trade_no.as_str()))
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
        match self.first() {
            Ok(file) => file.and_then(|file| file.page.pop_front()).map(Ok),
            Err(error) => Some(Err(error)),
        }
    }
}

impl Ours for Orders {
    fn look_up(&mut self, out_trade_no: &str) -> Result<Option<OurPayment>, OursError> {
        let shard = out_trade_no.split('-').next().and_then(Shard::of_number);
        let sql = format!("{SELECT} WHERE p.payment_no = ?1 AND p.channel = ?2");
        for (at, file) in self.all.iter().enumerate() {
            // A bill can speak of anything; what is no number of ours is in no file in particular.
            if shard.is_none_or(|shard| self.files.of(shard) == at) {
                let mut statement = file.connection.prepare_cached(&sql)?;
                let found = statement.query_row([out_trade_no, file.channel.as_str()], payment).optional()?;
                if found.is_some() {
                    return Ok(found);
                }
            }
        }
        Ok(None)
    }
}
