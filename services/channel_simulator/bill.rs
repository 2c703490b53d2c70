//! Bills: what the ledger says about one day, as WeChat Pay and Alipay write it down, and where it can be fetched.
//!
//! The bill of a day is there when the day is over by the channel's own clock. The address of a download is good for as
//! long as with the real channels: five minutes and thirty seconds. The plan can leave payments out of bills and change
//! their amounts.

use std::fs::File;
use std::io::{Read, Seek};
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use ring::digest;
use rusqlite::{Connection, Row};
use serde::Deserialize;
use serde_json::{Value, json};
use subtle::ConstantTimeEq;

use super::channel::Channel;
use super::dialects::{alipay, wechat};
use super::http::{Answer, Shared};
use super::plan::Bill;
use crate::reconciliation::Channel as Format;
use crate::reconciliation::bill::{self, Entry, Kind};
use crate::reconciliation::day::Day;
use crate::support::dialect::params::Params;
use crate::support::{Problem, hex, signature, unix_ms};

/// The method of Alipay that says where a bill can be fetched.
pub(super) const ALIPAY_METHOD: &str = "alipay.data.dataservice.bill.downloadurl.query";

/// What the channel keeps of a payment, in hundredths of a percent.
const FEE_BASIS_POINTS: i64 = 60;

/// How long the address of a download is good, in seconds.
const WECHAT_SECONDS: u64 = 300;
const ALIPAY_SECONDS: u64 = 30;

/// Bytes read from the file at once.
const CHUNK: usize = 64 * 1024;

/// Where bills are fetched.
pub(super) fn routes() -> Router<Arc<Channel>> {
    Router::new().route("/bill/download", get(download)).route("/v3/billdownload/file", get(download_signed))
}

/// The bill of a day as a file; absent while the day is not over.
async fn make(channel: &Channel, format: Format, day: Day) -> Result<Option<File>, Problem> {
    if channel.now().clock_ms < day.end_ms() {
        return Ok(None);
    }
    let plan = channel.plan().bill;
    let written = channel.store.read(move |connection| Ok(write(connection, format, day, &plan))).await?;
    written.map(Some).map_err(|error| {
        tracing::error!(%error, %day, "a bill could not be written");
        Problem::internal()
    })
}

/// Why a bill was not written; for the log.
type Failure = Box<dyn std::error::Error + Send + Sync>;

fn write(connection: &Connection, format: Format, day: Day, plan: &Bill) -> Result<File, Failure> {
    let mut statement = connection.prepare_cached(
        "SELECT l.kind, l.payment_no, p.trade_no, l.refund_no, l.amount, l.at_ms, p.subject FROM ledger l
         JOIN payments p USING (payment_no) WHERE l.kind IN ('charge', 'refund') AND l.at_ms >= ?1 AND l.at_ms < ?2
         ORDER BY l.seq",
    )?;
    let rows = statement.query_map([day.begin_ms(), day.end_ms()], entry)?;
    let mut failure = None;
    let entries = rows
        .map_while(|row| row.map_err(|error| failure = Some(error)).ok())
        .filter(|entry| !plan.omit.contains(&entry.out_trade_no))
        .map(|entry| {
            let wrong = i64::from(plan.wrong_amount.contains(&entry.out_trade_no));
            Entry { amount: entry.amount + wrong, ..entry }
        });
    let mut file = tempfile::tempfile()?;
    bill::write(format, day, entries, &mut file)?;
    if let Some(error) = failure {
        return Err(error.into());
    }
    file.rewind()?;
    Ok(file)
}

fn entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    let kind = if row.get_ref(0)?.as_str()? == "charge" { Kind::Payment } else { Kind::Refund };
    let amount: i64 = row.get(4)?;
    let fee = (amount * FEE_BASIS_POINTS + 5_000) / 10_000;
    Ok(Entry {
        kind,
        out_trade_no: row.get(1)?,
        trade_no: row.get(2)?,
        refund_no: row.get::<_, Option<String>>(3)?.unwrap_or_default(),
        amount,
        fee: if kind == Kind::Payment { fee } else { -fee },
        at_ms: row.get(5)?,
        subject: row.get(6)?,
        line: 0,
    })
}

/// Alipay's answer to [`ALIPAY_METHOD`].
pub(super) async fn alipay(channel: &Channel, kind: &str, day: &str) -> Result<Value, Problem> {
    let day = day.parse().map_err(Problem::invalid)?;
    if kind != "trade" {
        return Err(Problem::invalid("bill_type must be trade"));
    }
    if make(channel, Format::Alipay, day).await?.is_none() {
        return Ok(alipay::failure("40004", "Business Failed", "isp.bill_not_exist"));
    }
    Ok(alipay::success(json!({ "bill_download_url": address(channel, Format::Alipay, day) })))
}

/// WeChat Pay's answer about the bill of a day.
pub(super) async fn wechat(channel: &Channel, query: &str) -> Result<Value, Problem> {
    let params = Params::parse(query.as_bytes());
    let day = params.text("bill_date").parse().map_err(Problem::invalid)?;
    if params.get("bill_type").is_some_and(|kind| kind != "ALL") || params.get("tar_type").is_some() {
        return Err(Problem::invalid("only bill_type ALL, and no tar_type"));
    }
    let none = || Problem::new(StatusCode::BAD_REQUEST, "NO_STATEMENT_EXIST", "账单文件不存在");
    let file = make(channel, Format::Wechat, day).await?.ok_or_else(none)?;
    let hash = tokio::task::spawn_blocking(move || sha1(&file)).await;
    let hash = hash.ok().and_then(Result::ok).ok_or_else(Problem::internal)?;
    let url = address(channel, Format::Wechat, day);
    Ok(json!({ "hash_type": "SHA1", "hash_value": hash, "download_url": url }))
}

/// Where a bill can be fetched, from now on for a while.
fn address(channel: &Channel, format: Format, day: Day) -> String {
    let (path, seconds) = match format {
        Format::Wechat => ("/v3/billdownload/file", WECHAT_SECONDS),
        Format::Alipay => ("/bill/download", ALIPAY_SECONDS),
    };
    let until = now_seconds() + seconds;
    let token = token(channel, format, day, until);
    channel.url(&format!("{path}?format={format}&day={day}&until={until}&token={token}"))
}

/// The SHA-1 that WeChat Pay gives with a bill. It finds a file that was cut, and proves nothing more.
fn sha1(mut file: &File) -> std::io::Result<String> {
    let mut context = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    let mut buffer = vec![0; CHUNK];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(hex(context.finish().as_ref()));
        }
        context.update(&buffer[..read]);
    }
}

fn token(channel: &Channel, format: Format, day: Day, until: u64) -> String {
    let signed = signature::sign(channel.secret.bytes(), until, format!("{format} {day}").as_bytes());
    signed.rsplit('=').next().unwrap_or_default().to_owned()
}

fn now_seconds() -> u64 {
    u64::try_from(unix_ms() / 1_000).unwrap_or(0)
}

#[derive(Deserialize)]
struct Asked {
    format: String,
    day: String,
    until: u64,
    token: String,
}

async fn download(State(channel): Shared, Query(asked): Query<Asked>) -> Answer {
    let gone = || Problem::new(StatusCode::FORBIDDEN, "LINK_EXPIRED", "This address is not good, or not any more.");
    let (format, day) = (asked.format.parse().map_err(|_| gone())?, asked.day.parse().map_err(|_| gone())?);
    let right = token(&channel, format, day, asked.until);
    if asked.until < now_seconds() || !bool::from(right.as_bytes().ct_eq(asked.token.as_bytes())) {
        return Err(gone());
    }
    let file = make(&channel, format, day).await?.ok_or_else(gone)?;
    Ok(sent(file, format, day))
}

/// The same for who signs the call, as WeChat Pay has it; the answer is not signed.
async fn download_signed(
    State(channel): Shared,
    asked: Query<Asked>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Answer {
    let keys = channel.keys().await?;
    wechat::authorized(&keys, &method, &uri, &headers, b"")
        .map_err(|forged| Problem::new(StatusCode::UNAUTHORIZED, "SIGN_ERROR", forged.to_string()))?;
    download(State(channel), asked).await
}

#[derive(Deserialize)]
pub(super) struct Wanted {
    format: String,
    day: String,
}

/// `GET /sim/bill`: the same without ceremony.
pub(super) async fn plain(State(channel): Shared, Query(wanted): Query<Wanted>) -> Answer {
    let format = wanted.format.parse().map_err(Problem::invalid)?;
    let day = wanted.day.parse().map_err(Problem::invalid)?;
    let none = || Problem::new(StatusCode::NOT_FOUND, "NO_BILL", "The day is not over by the channel's clock.");
    Ok(sent(make(&channel, format, day).await?.ok_or_else(none)?, format, day))
}

/// Sends a file as it lies on disk, in the memory of one piece.
fn sent(file: File, format: Format, day: Day) -> Response {
    let pieces = futures_util::stream::try_unfold(file, |mut file| async {
        let piece = tokio::task::spawn_blocking(move || {
            let mut buffer = vec![0; CHUNK];
            let read = file.read(&mut buffer)?;
            buffer.truncate(read);
            Ok::<_, std::io::Error>((Bytes::from(buffer), file))
        });
        let (piece, file) = piece.await.map_err(std::io::Error::other)??;
        Ok::<_, std::io::Error>((!piece.is_empty()).then_some((piece, file)))
    });
    let ending = if format == Format::Alipay { "zip" } else { "csv" };
    let name = format!("attachment; filename=\"{format}-{day}.{ending}\"");
    let mut response = Body::from_stream(pieces).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.extend(HeaderValue::from_str(&name).ok().map(|name| (header::CONTENT_DISPOSITION, name)));
    response
}
