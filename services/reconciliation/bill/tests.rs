//! Proofs of the bills: what is written is read, and what was cut or changed is refused with its line.

use std::io::Cursor;
use std::path::PathBuf;

use encoding_rs::GBK;
use tempfile::TempDir;

use super::*;

fn day() -> Day {
    "2026-11-20".parse().expect("a day")
}

fn entries() -> Vec<Entry> {
    let payment = |n: i64, subject: &str| Entry {
        kind: Kind::Payment,
        out_trade_no: format!("ORDER-{n}"),
        trade_no: format!("42{n:010}"),
        refund_no: String::new(),
        amount: 4_900 + n,
        fee: 29,
        at_ms: day().begin_ms() + n * 1_000,
        subject: subject.to_owned(),
        line: 0,
    };
    let refund = Entry {
        kind: Kind::Refund,
        refund_no: "ORDER-1-refund".to_owned(),
        fee: -29,
        at_ms: day().end_ms() - 1_000,
        ..payment(1, "礼品卡")
    };
    vec![payment(1, "礼品卡"), payment(2, "卡, \"五十\"元面值"), payment(3, "龘靐"), refund]
}

/// A folder with the bill of a channel in it.
fn written(channel: Channel) -> (TempDir, PathBuf) {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("bill");
    write(channel, day(), entries().into_iter(), File::create(&path).expect("a file")).expect("written");
    (folder, path)
}

fn read_all(channel: Channel, path: &Path) -> Result<Vec<Entry>, BillError> {
    open(channel, path)?.collect()
}

fn without_lines(entries: Vec<Entry>) -> Vec<Entry> {
    entries.into_iter().map(|entry| Entry { line: 0, ..entry }).collect()
}

/// The text of a bill; behind the ZIP file for Alipay.
fn text(channel: Channel) -> Vec<u8> {
    let (_folder, path) = written(channel);
    if channel == Channel::Wechat {
        return std::fs::read(path).expect("a bill");
    }
    let mut archive = zip::ZipArchive::new(File::open(path).expect("a bill")).expect("a ZIP file");
    let mut text = Vec::new();
    archive.by_index(0).expect("a list").read_to_end(&mut text).expect("readable");
    text
}

/// Reads a text as the bill of a channel.
fn read_text(channel: Channel, text: &[u8]) -> Result<Vec<Entry>, BillError> {
    let text: Box<dyn Read + Send> = Box::new(Cursor::new(text.to_vec()));
    match channel {
        Channel::Wechat => wechat::read(text)?.collect(),
        Channel::Alipay => alipay::read(text)?.collect(),
    }
}

fn refusal(channel: Channel, text: &[u8]) -> String {
    read_text(channel, text).expect_err("refused").to_string()
}

/// The text with one line changed.
fn changed(channel: Channel, from: &str, to: &str) -> Vec<u8> {
    let text = text(channel);
    let text = if channel == Channel::Wechat {
        String::from_utf8(text).expect("UTF-8")
    } else {
        GBK.decode(&text).0.into_owned()
    };
    assert!(text.contains(from), "{from} is not there");
    let text = text.replacen(from, to, 1);
    if channel == Channel::Wechat { text.into_bytes() } else { GBK.encode(&text).0.into_owned() }
}

#[test]
fn what_is_written_is_read() {
    for channel in Channel::ALL {
        let (_folder, path) = written(channel);
        let read = read_all(channel, &path).expect("a good bill");
        assert_eq!(read[0].line, if channel == Channel::Wechat { 2 } else { 6 });
        assert_eq!(without_lines(read), entries(), "{channel}");
    }
}

#[test]
fn a_wechat_bill_may_be_packed_and_may_begin_with_a_mark() {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("bill.gz");
    write_wechat_gzip(entries().into_iter(), File::create(&path).expect("a file")).expect("written");
    assert_eq!(without_lines(read_all(Channel::Wechat, &path).expect("a good bill")), entries());
    let packed = std::fs::read(&path).expect("a bill");
    std::fs::write(&path, &packed[..packed.len() - 20]).expect("cut");
    let refused = read_all(Channel::Wechat, &path).expect_err("refused").to_string();
    assert!(refused.starts_with("line ") && refused.contains("cannot be read"), "{refused}");
    let marked = ["\u{FEFF}".as_bytes(), &text(Channel::Wechat)].concat();
    assert_eq!(without_lines(read_text(Channel::Wechat, &marked).expect("a good bill")), entries());
}

#[test]
fn an_alipay_bill_is_gbk_with_chinese_names() {
    let text = text(Channel::Alipay);
    assert!(std::str::from_utf8(&text).is_err());
    let gift = [0xC0, 0xF1, 0xC6, 0xB7, 0xBF, 0xA8];
    assert!(text.windows(6).any(|bytes| bytes == gift), "礼品卡 in GBK");
    let at = text.windows(6).position(|bytes| bytes == gift).expect("there");
    let mut broken = text.clone();
    broken[at + 1] = 0xFF;
    assert_eq!(refusal(Channel::Alipay, &broken), "line 6: not GBK");
}

#[test]
fn a_bill_that_was_cut_anywhere_is_refused_with_its_line() {
    for channel in Channel::ALL {
        let text = text(channel);
        let whole = text.iter().filter(|byte| **byte == b'\n').count();
        // The last line but the time of export is part of the promise.
        let needed = if channel == Channel::Wechat { text.len() - 2 } else { text.len() - 60 };
        for end in (0..needed - 8).step_by(7) {
            let why = read_text(channel, &text[..end]).expect_err("refused").to_string();
            let line: usize =
                why.strip_prefix("line ").and_then(|rest| rest.split(':').next()?.parse().ok()).expect(&why);
            let at = text[..end].iter().filter(|byte| **byte == b'\n').count() + 1;
            assert!(line <= at + 1 && line <= whole + 1, "cut in line {at}: {why}");
        }
    }
}

#[test]
fn a_bill_that_was_changed_is_refused_with_its_line() {
    let wechat = |from, to| refusal(Channel::Wechat, &changed(Channel::Wechat, from, to));
    assert_eq!(wechat("交易时间,", "时间,"), "line 1: not the header of a WeChat trade bill with all columns");
    assert_eq!(wechat("`49.01", "`49.0x"), "line 2: unknown amount: \"49.0x\"");
    assert_eq!(wechat("`2026-11-20 00:00:02", "`2026-11-20"), "line 3: unknown time: \"2026-11-20\"");
    assert_eq!(wechat("`CNY", "`USD"), "line 2: unknown currency (only CNY is known): \"USD\"");
    assert_eq!(wechat("`SUCCESS", "`PAYERROR"), "line 2: unknown state: \"PAYERROR\"");
    assert_eq!(wechat("`OTHERS,", ""), "line 2: 26 fields instead of 27");
    assert_eq!(wechat("`2026", "2026"), "line 2: fields must begin with a backtick");
    assert_eq!(wechat("`0.29", "`0.30"), "line 7: the summary says 58 fen of fees, the lines have 59");
    assert_eq!(wechat("\r\n`4,", "\r\n`5,"), "line 7: the summary says 5 lines, the lines have 4");
    let alipay = |from, to| refusal(Channel::Alipay, &changed(Channel::Alipay, from, to));
    assert_eq!(alipay("支付宝交易号,", "交易号,"), "line 5: not the header of an Alipay trade bill");
    assert_eq!(alipay(",交易,", ",充值,"), "line 6: unknown kind of business: \"充值\"");
    assert_eq!(alipay("ORDER-2\t", "\t"), "line 7: a number is missing");
    assert_eq!(alipay("-49.01", "49.01"), "line 9: unknown amount: \"49.01\"");
    assert_eq!(
        alipay("#交易合计：3笔", "#交易合计：2笔"),
        "line 11: the total says 2 lines and 14706 fen, the list has 3 and 14706"
    );
    assert_eq!(alipay("#退款合计", "#合计"), "line 12: #退款合计： is expected here");
    assert!(alipay("业务明细列表结束", "别的").starts_with("line 10: a remark within the list"));
}

#[test]
fn a_zip_file_that_is_none_or_has_no_list_is_refused() {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("bill.zip");
    std::fs::write(&path, b"PK\x03\x04 and nothing else").expect("written");
    let refused = read_all(Channel::Alipay, &path).expect_err("refused").to_string();
    assert!(refused.contains("no good ZIP file"), "{refused}");
    let mut other = zip::ZipWriter::new(File::create(&path).expect("a file"));
    other.start_file("readme.txt", zip::write::SimpleFileOptions::default()).expect("a file");
    other.finish().expect("a ZIP file");
    let refused = read_all(Channel::Alipay, &path).expect_err("refused").to_string();
    assert!(refused.contains("…业务明细.csv"), "{refused}");
    assert!(matches!(read_all(Channel::Alipay, &folder.path().join("absent")), Err(BillError::Io(_))));
}

#[test]
fn a_file_without_line_breaks_is_no_bill() {
    let text = [text(Channel::Wechat), vec![b'x'; 200_000]].concat();
    let refused = refusal(Channel::Wechat, &text);
    assert_eq!(refused, "line 8: longer than 65536 bytes");
}
