//! The bills of payment channels: what each of them says about one day, read and written.
//!
//! A reader is an iterator of [`Entry`], one at a time, so that a bill of any size needs no memory. It believes nothing:
//! every error names the line, and a bill that ends before its summary, or whose summary says something else than its
//! lines, is refused. Such a file was cut or changed on the way, and differences found with it would be made up.
//!
//! The writers make the same files. They are for whoever plays the channel.

mod alipay;
mod field;
mod wechat;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::path::Path;

use super::day::Day;
use super::model::Channel;

/// What a line of a bill is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Money from a payer.
    Payment,
    /// Money back to a payer.
    Refund,
}

/// One line of a bill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Payment or refund.
    pub kind: Kind,
    /// Our number of the payment, also on a refund.
    pub out_trade_no: String,
    /// The channel's number of the payment.
    pub trade_no: String,
    /// Our number of the refund; empty on a payment.
    pub refund_no: String,
    /// Fen, never negative.
    pub amount: i64,
    /// What the channel keeps, in fen; negative when it gives some back with a refund.
    pub fee: i64,
    /// When the channel booked it, in milliseconds since 1970.
    pub at_ms: i64,
    /// What was bought, as the payer saw it.
    pub subject: String,
    /// The line in the file, from 1.
    pub line: u64,
}

/// Sums over the lines of a bill, in fen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Lines about payments.
    pub payments: u64,
    /// Their sum.
    pub paid: i64,
    /// Lines about refunds.
    pub refunds: u64,
    /// Their sum.
    pub refunded: i64,
    /// The sum of fees.
    pub fees: i64,
}

impl Totals {
    /// Counts one more line.
    pub fn add(&mut self, entry: &Entry) {
        match entry.kind {
            Kind::Payment => {
                self.payments += 1;
                self.paid += entry.amount;
            }
            Kind::Refund => {
                self.refunds += 1;
                self.refunded += entry.amount;
            }
        }
        self.fees += entry.fee;
    }
}

/// Why a bill cannot be believed.
#[derive(Debug, thiserror::Error)]
pub enum BillError {
    /// The file cannot be read at all.
    #[error("the bill cannot be read: {0}")]
    Io(#[from] std::io::Error),
    /// Something is wrong with one line.
    #[error("line {line}: {what}")]
    Line {
        /// From 1, in the text of the bill (behind any compression).
        line: u64,
        /// What is wrong, and what was expected.
        what: String,
    },
}

impl BillError {
    fn at(line: u64, what: impl Into<String>) -> Self {
        Self::Line { line, what: what.into() }
    }
}

/// The lines of a bill, in its order. After an error nothing comes any more.
pub type Entries = Box<dyn Iterator<Item = Result<Entry, BillError>> + Send>;

/// Opens the bill of a channel: for WeChat a text or a GZIP file, for Alipay a ZIP file or the text in it.
///
/// # Errors
/// [`BillError`] when there is no such file, or when it does not begin as such a bill does. Anything behind that is
/// found while reading.
pub fn open(channel: Channel, path: &Path) -> Result<Entries, BillError> {
    match channel {
        Channel::Wechat => wechat::read(Box::new(gunzip(File::open(path)?)?)),
        Channel::Alipay => alipay::open(path),
    }
}

/// Writes the bill of a channel for one day. `entries` come in any order; the subject and all numbers must be free of
/// line breaks.
///
/// # Errors
/// When the target refuses.
pub fn write(
    channel: Channel,
    day: Day,
    entries: impl Iterator<Item = Entry>,
    target: impl Write + std::io::Seek,
) -> std::io::Result<()> {
    match channel {
        Channel::Wechat => wechat::write(entries, target),
        Channel::Alipay => alipay::write(day, entries, target),
    }
}

/// Writes a WeChat bill as it comes when asked for with `tar_type=GZIP`.
///
/// # Errors
/// When the target refuses.
pub fn write_wechat_gzip(entries: impl Iterator<Item = Entry>, target: impl Write) -> std::io::Result<()> {
    let mut packed = flate2::write::GzEncoder::new(target, flate2::Compression::fast());
    wechat::write(entries, &mut packed)?;
    packed.finish()?.flush()
}

/// The text behind GZIP, or the text itself.
fn gunzip(mut file: File) -> std::io::Result<Box<dyn Read + Send>> {
    const MAGIC: [u8; 2] = [0x1F, 0x8B];
    let mut begin = Vec::new();
    Read::by_ref(&mut file).take(2).read_to_end(&mut begin)?;
    let packed = begin == MAGIC;
    let whole = std::io::Cursor::new(begin).chain(file);
    Ok(if packed { Box::new(flate2::read::MultiGzDecoder::new(BufReader::new(whole))) } else { Box::new(whole) })
}
