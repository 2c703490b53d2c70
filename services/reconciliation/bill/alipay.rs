//! The trade bill of Alipay (`bill_type=trade`): a ZIP file with a GBK text `…_业务明细.csv` in it.
//!
//! Lines that begin with `#` frame the list: what the bill is about, begin and end of the list, and after it one line of
//! totals for payments and one for refunds. Fields are padded with tabs. Amounts of refunds and fees that are kept from
//! us are negative. The file with the sums (`…_业务明细(汇总).csv`) says nothing that the lines do not say.
//!
//! No byte of a two-byte GBK character is a comma, a quote or a line break, so lines can be taken apart before they are
//! decoded.

use std::borrow::Cow;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;

use csv::ByteRecord;
use encoding_rs::GBK;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use super::field::{fen, yuan};
use super::{BillError, Entries, Entry, Kind, Totals};
use crate::reconciliation::day::{self, Day};

/// The columns in their order.
const HEADER: [&str; 25] = [
    "支付宝交易号",
    "商户订单号",
    "业务类型",
    "商品名称",
    "创建时间",
    "完成时间",
    "门店编号",
    "门店名称",
    "操作员",
    "终端号",
    "对方账户",
    "订单金额（元）",
    "商家实收（元）",
    "支付宝红包（元）",
    "集分宝（元）",
    "支付宝优惠（元）",
    "商家优惠（元）",
    "券核销金额（元）",
    "券名称",
    "商家红包消费金额（元）",
    "卡消费金额（元）",
    "退款批次号/请求号",
    "服务费（元）",
    "分润（元）",
    "备注",
];

/// Where in a line a field is.
mod at {
    pub(super) const TRADE_NO: usize = 0;
    pub(super) const OUT_TRADE_NO: usize = 1;
    pub(super) const KIND: usize = 2;
    pub(super) const SUBJECT: usize = 3;
    pub(super) const TIME: usize = 5;
    pub(super) const AMOUNT: usize = 11;
    pub(super) const RECEIVED: usize = 12;
    pub(super) const REFUND_NO: usize = 21;
    pub(super) const FEE: usize = 22;
}

const BEGIN: &str = "#-----------------------------------------业务明细列表----------------------------------------";
const END: &str = "#-----------------------------------------业务明细列表结束------------------------------------";

/// Opens the ZIP file, or the text in it.
pub(super) fn open(path: &Path) -> Result<Entries, BillError> {
    let mut file = File::open(path)?;
    let mut begin = Vec::new();
    Read::by_ref(&mut file).take(4).read_to_end(&mut begin)?;
    file.seek(SeekFrom::Start(0))?;
    if begin.starts_with(b"PK") { read(unzip(file)?) } else { read(Box::new(file)) }
}

/// The text of the list. It is read from where it lies in the file: what the library hands out lives no longer than the
/// archive it borrows from.
fn unzip(file: File) -> Result<Box<dyn Read + Send>, BillError> {
    let broken =
        |error: zip::result::ZipError| BillError::Io(std::io::Error::other(format!("no good ZIP file: {error}")));
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(broken)?;
    let mut found = None;
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index).map_err(broken)?;
        if name(entry.name_raw()).ends_with("业务明细.csv") {
            let begin = entry.data_start().ok_or_else(|| BillError::at(1, "the list in the ZIP file has no place"))?;
            found = Some((begin, entry.compressed_size(), entry.compression()));
        }
    }
    let Some((begin, length, method)) = found else {
        return Err(BillError::Io(std::io::Error::other("no file in the ZIP file is called …业务明细.csv")));
    };
    let mut file = archive.into_inner();
    file.seek(SeekFrom::Start(begin))?;
    let packed = file.take(length);
    match method {
        CompressionMethod::Stored => Ok(Box::new(packed)),
        CompressionMethod::Deflated => Ok(Box::new(flate2::bufread::DeflateDecoder::new(packed))),
        other => Err(BillError::Io(std::io::Error::other(format!("packed in a way that is not known: {other}")))),
    }
}

/// Names in real bills are GBK, those of many ZIP programs UTF-8.
fn name(raw: &[u8]) -> Cow<'_, str> {
    std::str::from_utf8(raw).map_or_else(|_| GBK.decode_without_bom_handling(raw).0, Cow::Borrowed)
}

/// The lines of a bill.
pub(super) fn read(text: Box<dyn Read + Send>) -> Result<Entries, BillError> {
    // With CRLF as one end the library counts the line after it too late; the rest of the CR goes with the padding.
    let mut csv = csv::ReaderBuilder::new();
    csv.has_headers(false).flexible(true).terminator(csv::Terminator::Any(b'\n'));
    let csv = csv.from_reader(BufReader::new(text));
    let mut reader =
        Reader { csv, record: ByteRecord::new(), totals: Totals::default(), received: [0, 0], ended: false };
    loop {
        if !reader.next_line()? {
            return Err(BillError::at(reader.line(), "there is no list: not an Alipay trade bill, or it was cut"));
        }
        if !reader.record.as_slice().starts_with(b"#") {
            break;
        }
    }
    let fields = reader.fields()?;
    if fields != HEADER {
        return Err(BillError::at(reader.line(), "not the header of an Alipay trade bill"));
    }
    Ok(Box::new(reader))
}

struct Reader<R> {
    csv: csv::Reader<R>,
    record: ByteRecord,
    totals: Totals,
    /// What the seller got of payments and lost by refunds: the summary speaks of that.
    received: [i64; 2],
    ended: bool,
}

impl<R: Read> Reader<R> {
    /// The line of the record.
    fn line(&self) -> u64 {
        self.record.position().map_or(1, csv::Position::line)
    }

    fn next_line(&mut self) -> Result<bool, BillError> {
        let line = self.csv.position().line();
        self.csv
            .read_byte_record(&mut self.record)
            .map_err(|error| BillError::at(line, format!("cannot be read: {error}")))
    }

    /// The fields of the record, decoded and without their padding.
    fn fields(&self) -> Result<Vec<Cow<'_, str>>, BillError> {
        let decoded = self.record.iter().map(|field| {
            let trimmed = field.trim_ascii();
            GBK.decode_without_bom_handling_and_without_replacement(trimmed)
        });
        let fields: Option<Vec<_>> = decoded.collect();
        fields.ok_or_else(|| BillError::at(self.line(), "not GBK"))
    }

    /// The next line about money; absent after totals that are right.
    fn entry(&mut self) -> Result<Option<Entry>, BillError> {
        if !self.next_line()? {
            return Err(BillError::at(self.csv.position().line(), "the bill ends within its list: it was cut"));
        }
        if self.record.as_slice().starts_with(b"#") {
            self.totals()?;
            return Ok(None);
        }
        let line = self.line();
        let (entry, received) = parse(&self.fields()?, line)?;
        self.totals.add(&entry);
        self.received[usize::from(entry.kind == Kind::Refund)] += received;
        Ok(Some(entry))
    }

    /// Checks what stands behind the list.
    fn totals(&mut self) -> Result<(), BillError> {
        if self.fields()?.concat() != END {
            return Err(BillError::at(self.line(), "a remark within the list"));
        }
        let totals = self.totals;
        self.total("#交易合计：", "笔，商家实收共", totals.payments, self.received[0])?;
        self.total("#退款合计：", "笔，商家实收退款共", totals.refunds, self.received[1])?;
        while self.next_line()? {
            let text = self.record.as_slice().trim_ascii();
            if !text.is_empty() && !text.starts_with(b"#") {
                return Err(BillError::at(self.line(), "something follows the totals"));
            }
        }
        Ok(())
    }

    fn total(&mut self, begin: &str, middle: &str, count: u64, sum: i64) -> Result<(), BillError> {
        if !self.next_line()? {
            let line = self.csv.position().line();
            return Err(BillError::at(line, format!("the bill ends before {begin}: it was cut")));
        }
        let (line, text) = (self.line(), self.fields()?.concat());
        let read = || {
            let (said, rest) = text.strip_prefix(begin)?.split_once(middle)?;
            Some((said.parse::<u64>().ok()?, fen(rest.split_once('元')?.0)?))
        };
        match read() {
            Some(said) if said == (count, sum) => Ok(()),
            Some((lines, fen)) => {
                let what = format!("the total says {lines} lines and {fen} fen, the list has {count} and {sum}");
                Err(BillError::at(line, what))
            }
            None => Err(BillError::at(line, format!("{begin} is expected here"))),
        }
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

/// The line, and what the seller got by it.
fn parse(fields: &[Cow<'_, str>], line: u64) -> Result<(Entry, i64), BillError> {
    if fields.len() != HEADER.len() {
        return Err(BillError::at(line, format!("{} fields instead of {}", fields.len(), HEADER.len())));
    }
    let wrong = |what: &str, at: usize| BillError::at(line, format!("unknown {what}: {:?}", fields[at]));
    let kind = match fields[at::KIND].as_ref() {
        "交易" => Kind::Payment,
        "退款" => Kind::Refund,
        _ => return Err(wrong("kind of business", at::KIND)),
    };
    let amount = |at: usize| fen(&fields[at]).ok_or_else(|| wrong("amount", at));
    let signed = amount(at::AMOUNT)?;
    if (kind == Kind::Payment && signed < 0) || (kind == Kind::Refund && signed > 0) {
        return Err(wrong("amount", at::AMOUNT));
    }
    let entry = Entry {
        kind,
        out_trade_no: fields[at::OUT_TRADE_NO].to_string(),
        trade_no: fields[at::TRADE_NO].to_string(),
        refund_no: if kind == Kind::Refund { fields[at::REFUND_NO].to_string() } else { String::new() },
        amount: signed.abs(),
        fee: -amount(at::FEE)?,
        at_ms: day::moment(&fields[at::TIME]).ok_or_else(|| wrong("time", at::TIME))?,
        subject: fields[at::SUBJECT].to_string(),
        line,
    };
    if entry.out_trade_no.is_empty() || entry.trade_no.is_empty() {
        return Err(BillError::at(line, "a number is missing"));
    }
    Ok((entry, amount(at::RECEIVED)?))
}

/// Writes a bill. A character that GBK does not have comes out as a reference (`&#128512;`).
pub(super) fn write(day: Day, entries: impl Iterator<Item = Entry>, target: impl Write + Seek) -> std::io::Result<()> {
    let mut zip = ZipWriter::new(target);
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
    let stem = format!("20881234567890120156_{}", day.to_string().replace('-', ""));
    zip.start_file(format!("{stem}_业务明细.csv"), options)?;
    let totals = list(day, entries, &mut zip)?;
    zip.start_file(format!("{stem}_业务明细(汇总).csv"), options)?;
    let header = "门店编号,门店名称,交易订单总笔数,退款订单总笔数,订单金额（元）,商家实收（元）,服务费（元）";
    line(&mut zip, "#支付宝业务汇总查询")?;
    line(&mut zip, header)?;
    let net = yuan(totals.paid - totals.refunded);
    let fees = yuan(-totals.fees);
    line(&mut zip, &format!("合计,\t,{},{},{net},{net},{fees}", totals.payments, totals.refunds))?;
    zip.finish()?.flush()
}

fn list(day: Day, entries: impl Iterator<Item = Entry>, target: &mut impl Write) -> std::io::Result<Totals> {
    let mut target = std::io::BufWriter::new(target);
    line(&mut target, "#支付宝业务明细查询")?;
    line(&mut target, "#账号：[20881234567890120156]")?;
    let (begin, end) = (day::text(day.begin_ms()), day::text(day.end_ms()));
    line(&mut target, &format!("#起始日期：[{begin}]   终止日期：[{end}]"))?;
    line(&mut target, BEGIN)?;
    line(&mut target, &HEADER.join(","))?;
    let mut totals = Totals::default();
    for entry in entries {
        totals.add(&entry);
        let refund = entry.kind == Kind::Refund;
        let amount = yuan(if refund { -entry.amount } else { entry.amount });
        let time = day::text(entry.at_ms);
        let subject = if entry.subject.contains([',', '"']) {
            Cow::Owned(format!("\"{}\"", entry.subject.replace('"', "\"\"")))
        } else {
            Cow::Borrowed(entry.subject.as_str())
        };
        let text = format!(
            "{}\t,{}\t,{},{subject},{time},{time},,,,,pay***@example.com,{amount},{amount},0.00,0.00,0.00,0.00,0.00,,0.00,\
             0.00,{}\t,{},0.00,",
            entry.trade_no,
            entry.out_trade_no,
            if refund { "退款" } else { "交易" },
            entry.refund_no,
            yuan(-entry.fee),
        );
        line(&mut target, &text)?;
    }
    line(&mut target, END)?;
    let (paid, refunded) = (yuan(totals.paid), yuan(-totals.refunded));
    line(&mut target, &format!("#交易合计：{}笔，商家实收共{paid}元，商家优惠共0.00元", totals.payments))?;
    line(&mut target, &format!("#退款合计：{}笔，商家实收退款共{refunded}元，商家优惠退款共0.00元", totals.refunds))?;
    line(&mut target, &format!("#导出时间：[{}]", day::text(day.end_ms() + 36_000_000)))?;
    target.flush()?;
    Ok(totals)
}

fn line(target: &mut impl Write, text: &str) -> std::io::Result<()> {
    target.write_all(&GBK.encode(text).0)?;
    target.write_all(b"\r\n")
}
