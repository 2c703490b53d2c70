//! Sorts the lines of a bill by number, in bounded memory.
//!
//! Lines are gathered until they need [`BUDGET`], sorted, and written to a temporary file; in the end the files are
//! merged. A bill that fits is never written. The files have no name and are gone with the process.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{BufReader, BufWriter, Seek, SeekFrom, Write};
use std::path::Path;

use csv::StringRecord;

use super::bill::{BillError, Entry, Kind};

/// Memory for lines that are being gathered, in bytes. More makes fewer files, which is hardly faster.
const BUDGET: usize = 8 * 1024 * 1024;

/// What a line needs beside its texts, in bytes.
const OVERHEAD: usize = 160;

/// A line in the order of the join: by number, payments before refunds, then as they were booked.
#[derive(Debug, PartialEq, Eq)]
struct Row(Entry);

impl Row {
    fn key(&self) -> (&str, Kind, i64, &str, u64) {
        (&self.0.out_trade_no, self.0.kind, self.0.at_ms, &self.0.trade_no, self.0.line)
    }
}

impl Ord for Row {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

impl PartialOrd for Row {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The sorted lines. Their subjects are gone: nobody compares them.
pub(super) struct Sorted {
    runs: Vec<Run>,
    heap: BinaryHeap<Reverse<(Row, usize)>>,
}

enum Run {
    Memory(std::vec::IntoIter<Row>),
    File(Box<csv::StringRecordsIntoIter<BufReader<File>>>),
}

/// Sorts everything; `each` sees every line in the order of the bill. Temporary files are made in `folder`.
///
/// # Errors
/// The bill's own, and those of temporary files.
pub(super) fn sort(
    entries: impl Iterator<Item = Result<Entry, BillError>>,
    folder: &Path,
    mut each: impl FnMut(&Entry),
) -> Result<Sorted, BillError> {
    sort_within(entries, folder, BUDGET, &mut each)
}

fn sort_within(
    entries: impl Iterator<Item = Result<Entry, BillError>>,
    folder: &Path,
    budget: usize,
    each: &mut dyn FnMut(&Entry),
) -> Result<Sorted, BillError> {
    let mut runs = Vec::new();
    let (mut rows, mut bytes) = (Vec::new(), 0);
    for entry in entries {
        let entry = entry?;
        each(&entry);
        bytes += OVERHEAD + entry.out_trade_no.len() + entry.trade_no.len() + entry.refund_no.len();
        rows.push(Row(Entry { subject: String::new(), ..entry }));
        if bytes >= budget {
            rows.sort_unstable();
            runs.push(spill(&rows, folder)?);
            rows.clear();
            bytes = 0;
        }
    }
    rows.sort_unstable();
    runs.push(Run::Memory(rows.into_iter()));
    let mut sorted = Sorted { runs, heap: BinaryHeap::new() };
    for run in 0..sorted.runs.len() {
        sorted.refill(run)?;
    }
    Ok(sorted)
}

fn spill(rows: &[Row], folder: &Path) -> Result<Run, BillError> {
    let mut writer = csv::Writer::from_writer(BufWriter::new(tempfile::tempfile_in(folder)?));
    let broken = |error: csv::Error| BillError::Io(std::io::Error::other(error));
    for Row(entry) in rows {
        let numbers = [entry.amount, entry.fee, entry.at_ms].map(|number| number.to_string());
        let kind = if entry.kind == Kind::Refund { "R" } else { "P" };
        let line = entry.line.to_string();
        let texts = [kind, &entry.out_trade_no, &entry.trade_no, &entry.refund_no];
        let fields = texts.into_iter().chain(numbers.iter().map(String::as_str)).chain([line.as_str()]);
        writer.write_record(fields).map_err(broken)?;
    }
    let buffered = writer.into_inner().map_err(|error| BillError::Io(error.into_error()))?;
    let mut file = buffered.into_inner().map_err(|error| BillError::Io(error.into_error()))?;
    file.flush()?;
    file.seek(SeekFrom::Start(0))?;
    let reader = csv::ReaderBuilder::new().has_headers(false).from_reader(BufReader::new(file));
    Ok(Run::File(Box::new(reader.into_records())))
}

/// A line as it was written to a temporary file.
fn restore(record: &StringRecord) -> Option<Row> {
    let text = |at: usize| record.get(at).map(str::to_owned);
    let number = |at: usize| record.get(at)?.parse::<i64>().ok();
    Some(Row(Entry {
        kind: if record.get(0)? == "R" { Kind::Refund } else { Kind::Payment },
        out_trade_no: text(1)?,
        trade_no: text(2)?,
        refund_no: text(3)?,
        amount: number(4)?,
        fee: number(5)?,
        at_ms: number(6)?,
        subject: String::new(),
        line: record.get(7)?.parse().ok()?,
    }))
}

impl Sorted {
    /// Puts the next line of a run where it can be compared with those of the others.
    fn refill(&mut self, run: usize) -> Result<(), BillError> {
        let row = match &mut self.runs[run] {
            Run::Memory(rows) => rows.next(),
            Run::File(records) => match records.next().transpose().map_err(std::io::Error::other)? {
                None => None,
                Some(record) => {
                    Some(restore(&record).ok_or_else(|| std::io::Error::other("a temporary file was changed"))?)
                }
            },
        };
        self.heap.extend(row.map(|row| Reverse((row, run))));
        Ok(())
    }
}

impl Iterator for Sorted {
    type Item = Result<Entry, BillError>;

    fn next(&mut self) -> Option<Self::Item> {
        let Reverse((Row(entry), run)) = self.heap.pop()?;
        Some(self.refill(run).map(|()| entry))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(n: u64) -> Entry {
        // Every number three times: a payment, the same again, a refund.
        let mixed = n.wrapping_mul(6_364_136_223_846_793_005) >> 20;
        let kind = if n % 3 == 2 { Kind::Refund } else { Kind::Payment };
        Entry {
            kind,
            out_trade_no: format!("{:x},\"{}", (n / 3).wrapping_mul(0x9E37_79B9_7F4A_7C15), "é"),
            trade_no: format!("T{mixed}"),
            refund_no: if kind == Kind::Refund { format!("R{n}") } else { String::new() },
            amount: i64::try_from(n).expect("small"),
            fee: -3,
            at_ms: i64::try_from(mixed % 1_000).expect("small"),
            subject: String::new(),
            line: n,
        }
    }

    #[test]
    fn sorting_in_little_memory_is_sorting() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut expected: Vec<Row> = (0..5_000).map(|n| Row(entry(n))).collect();
        expected.sort();
        let expected: Vec<Entry> = expected.into_iter().map(|row| row.0).collect();
        for budget in [10_000, 100_000, BUDGET] {
            let mut seen = 0;
            let sorted = sort_within((0..5_000).map(|n| Ok(entry(n))), folder.path(), budget, &mut |_| seen += 1);
            let sorted: Vec<Entry> = sorted.expect("sorted").map(|entry| entry.expect("a line")).collect();
            assert_eq!(seen, 5_000);
            assert!(sorted == expected, "with {budget} bytes");
        }
    }
}
