//! The trade bill of WeChat Pay (`bill_type=ALL`): UTF-8 text, 27 columns.
//!
//! A header, then lines whose every field begins with a backtick, so that spreadsheets leave long numbers alone; then
//! the header of the summary and one line with it. Fields are not quoted. The name of a product may contain commas,
//! which is why lines are taken apart at a comma followed by a backtick.
//!
//! A refund is a line of its own: the payment keeps its SUCCESS line on the day it was made.

use std::io::{BufRead, BufReader, Read, Write};

use super::field::{fen, yuan};
use super::{BillError, Entries, Entry, Kind, Totals};
use crate::reconciliation::day;

/// The columns in their order.
const HEADER: &str = "交易时间,公众账号ID,商户号,特约商户号,设备号,微信订单号,商户订单号,用户标识,交易类型,交易状态,付款银行,\
货币种类,应结订单金额,代金券金额,微信退款单号,商户退款单号,退款金额,充值券退款金额,退款类型,退款状态,商品名称,商户数据包,手续费,\
费率,订单金额,申请退款金额,费率备注";

/// The header of the summary.
const SUMMARY: &str = "总交易单数,应结订单总金额,退款总金额,充值券退款总金额,手续费总金额,订单总金额,申请退款总金额";

/// How many columns there are.
const COLUMNS: usize = 27;

/// Where in a line a field is.
mod at {
    pub(super) const TIME: usize = 0;
    pub(super) const TRADE_NO: usize = 5;
    pub(super) const OUT_TRADE_NO: usize = 6;
    pub(super) const STATE: usize = 9;
    pub(super) const CURRENCY: usize = 11;
    pub(super) const SETTLED: usize = 12;
    pub(super) const REFUND_NO: usize = 15;
    pub(super) const REFUND_STATE: usize = 19;
    pub(super) const SUBJECT: usize = 20;
    pub(super) const FEE: usize = 22;
    pub(super) const PAID: usize = 24;
    pub(super) const REFUNDED: usize = 25;
}

/// Longest line in bytes. A file without line breaks is no bill, and must not become memory.
const MAX_LINE: u64 = 64 * 1024;

/// The lines of a bill.
pub(super) fn read(text: Box<dyn Read + Send>) -> Result<Entries, BillError> {
    let mut reader = Reader {
        text: BufReader::with_capacity(64 * 1024, text),
        line: 0,
        buffer: Vec::new(),
        totals: Totals::default(),
        settled: 0,
        ended: false,
    };
    if !reader.next_line()? {
        return Err(BillError::at(1, "the bill is empty"));
    }
    let header = reader.text()?;
    if header.trim_start_matches('\u{FEFF}') != HEADER {
        return Err(BillError::at(1, "not the header of a WeChat trade bill with all columns"));
    }
    Ok(Box::new(reader))
}

struct Reader<R> {
    text: BufReader<R>,
    line: u64,
    buffer: Vec<u8>,
    totals: Totals,
    /// What is paid out after the channel's vouchers; the summary has it too.
    settled: i64,
    ended: bool,
}

impl<R: Read> Reader<R> {
    /// Reads one line into the buffer, without its end; `false` at the end of the file.
    fn next_line(&mut self) -> Result<bool, BillError> {
        self.buffer.clear();
        self.line += 1;
        let line = self.line;
        let read = Read::by_ref(&mut self.text).take(MAX_LINE).read_until(b'\n', &mut self.buffer);
        // A packed file that was cut says so here.
        let read = read.map_err(|error| BillError::at(line, format!("cannot be read: {error}")))?;
        if read as u64 == MAX_LINE && self.buffer.last() != Some(&b'\n') {
            return Err(BillError::at(line, format!("longer than {MAX_LINE} bytes")));
        }
        while matches!(self.buffer.last(), Some(b'\n' | b'\r')) {
            self.buffer.pop();
        }
        Ok(read > 0)
    }

    fn text(&self) -> Result<&str, BillError> {
        std::str::from_utf8(&self.buffer).map_err(|_| BillError::at(self.line, "not UTF-8"))
    }

    /// The next line about money; absent after a summary that is right.
    fn entry(&mut self) -> Result<Option<Entry>, BillError> {
        if !self.next_line()? {
            return Err(BillError::at(self.line, "the bill ends without its summary: it was cut"));
        }
        let text = self.text()?;
        if text == SUMMARY {
            self.summary()?;
            return Ok(None);
        }
        let (entry, settled) = parse(text, self.line)?;
        self.totals.add(&entry);
        self.settled += settled;
        Ok(Some(entry))
    }

    fn summary(&mut self) -> Result<(), BillError> {
        if !self.next_line()? {
            return Err(BillError::at(self.line, "the bill ends before its summary: it was cut"));
        }
        let line = self.line;
        let fields = split(self.text()?, line, 7)?;
        let amount = |at: usize| fen(fields[at]).ok_or_else(|| wrong(line, "amount", fields[at]));
        let count: u64 = fields[0].parse().map_err(|_| wrong(line, "count", fields[0]))?;
        let totals = &self.totals;
        check(line, "lines", totals.payments + totals.refunds, count)?;
        check(line, "fen settled", self.settled, amount(1)?)?;
        check(line, "fen paid", totals.paid, amount(5)?)?;
        check(line, "fen paid back", totals.refunded, amount(6)?)?;
        check(line, "fen of fees", totals.fees, amount(4)?)?;
        while self.next_line()? {
            if !self.buffer.is_empty() {
                return Err(BillError::at(self.line, "something follows the summary"));
            }
        }
        Ok(())
    }
}

impl<R: Read> Iterator for Reader<R> {
    type Item = Result<Entry, BillError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let entry = self.entry().transpose();
        self.ended = !matches!(entry, Some(Ok(_)));
        entry
    }
}

/// The line, and what is paid out for it.
fn parse(text: &str, line: u64) -> Result<(Entry, i64), BillError> {
    let fields = split(text, line, COLUMNS)?;
    if fields[at::CURRENCY] != "CNY" {
        return Err(wrong(line, "currency (only CNY is known)", fields[at::CURRENCY]));
    }
    let kind = match (fields[at::STATE], fields[at::REFUND_STATE]) {
        ("SUCCESS", _) => Kind::Payment,
        // A refund that is under way is money that is leaving; one that has failed is not in a bill.
        ("REFUND" | "REVOKED", "SUCCESS" | "PROCESSING") => Kind::Refund,
        ("REFUND" | "REVOKED", other) => return Err(wrong(line, "state of a refund", other)),
        (other, _) => return Err(wrong(line, "state", other)),
    };
    let amount_at = if kind == Kind::Payment { at::PAID } else { at::REFUNDED };
    let amount = |at: usize| fen(fields[at]).ok_or_else(|| wrong(line, "amount", fields[at]));
    let settled = amount(at::SETTLED)?;
    let entry = Entry {
        kind,
        out_trade_no: fields[at::OUT_TRADE_NO].to_owned(),
        trade_no: fields[at::TRADE_NO].to_owned(),
        refund_no: if kind == Kind::Refund { fields[at::REFUND_NO].to_owned() } else { String::new() },
        amount: amount(amount_at)?,
        fee: amount(at::FEE)?,
        at_ms: day::moment(fields[at::TIME]).ok_or_else(|| wrong(line, "time", fields[at::TIME]))?,
        subject: fields[at::SUBJECT].to_owned(),
        line,
    };
    if entry.amount < 0 {
        return Err(wrong(line, "amount", fields[amount_at]));
    }
    if entry.out_trade_no.is_empty() || entry.trade_no.is_empty() {
        return Err(BillError::at(line, "a number is missing"));
    }
    Ok((entry, settled))
}

/// Takes a line apart.
fn split(text: &str, line: u64, columns: usize) -> Result<Vec<&str>, BillError> {
    let rest = text.strip_prefix('`').ok_or_else(|| BillError::at(line, "fields must begin with a backtick"))?;
    let fields: Vec<&str> = rest.split(",`").map(str::trim).collect();
    if fields.len() != columns {
        return Err(BillError::at(line, format!("{} fields instead of {columns}", fields.len())));
    }
    Ok(fields)
}

fn wrong(line: u64, what: &str, found: &str) -> BillError {
    BillError::at(line, format!("unknown {what}: {found:?}"))
}

fn check<T: PartialEq + std::fmt::Display>(line: u64, what: &str, found: T, said: T) -> Result<(), BillError> {
    if found == said {
        return Ok(());
    }
    Err(BillError::at(line, format!("the summary says {said} {what}, the lines have {found}")))
}

/// Writes a bill.
pub(super) fn write(entries: impl Iterator<Item = Entry>, target: impl Write) -> std::io::Result<()> {
    let mut target = std::io::BufWriter::new(target);
    let mut totals = Totals::default();
    write!(target, "{HEADER}\r\n")?;
    for entry in entries {
        totals.add(&entry);
        let refund = entry.kind == Kind::Refund;
        let (amount, zero) = (yuan(entry.amount), "0.00".to_owned());
        let [paid, refunded] = if refund { [&zero, &amount] } else { [&amount, &zero] };
        let state = if refund { "REFUND" } else { "SUCCESS" };
        let refund_state = if refund { "SUCCESS" } else { "" };
        let refund_id = if refund { format!("R{}", entry.trade_no) } else { "0".to_owned() };
        let refund_no = if refund { &entry.refund_no } else { "0" };
        write!(
            target,
            "`{},`wx0000000000000000,`1900000001,`0,`,`{},`{},`payer,`NATIVE,`{state},`OTHERS,`CNY,`{paid},`0.00,\
             `{refund_id},`{refund_no},`{refunded},`0.00,`{},`{refund_state},`{},`,`{},`0.60%,`{paid},`{refunded},`\r\n",
            day::text(entry.at_ms),
            entry.trade_no,
            entry.out_trade_no,
            if refund { "ORIGINAL" } else { "" },
            entry.subject,
            yuan(entry.fee),
        )?;
    }
    let Totals { payments, paid, refunds, refunded, fees } = totals;
    let (paid, refunded, fees) = (yuan(paid), yuan(refunded), yuan(fees));
    write!(target, "{SUMMARY}\r\n")?;
    write!(target, "`{},`{paid},`{refunded},`0.00,`{fees},`{paid},`{refunded}\r\n", payments + refunds)?;
    target.flush()
}
