//! Notifications of the channels: `/notify/{channel}`, in the dialect that the channel speaks.
//!
//! The order of things is fixed: signature on the raw bytes, who it is for, then one transaction with the inbox, the
//! checks, the payment, the order and the task to deliver; the answer comes after its commit, in exactly the words of
//! the dialect. A repetition finds the inbox row and gets the same answer. A probe with a wrong signature is a wrong
//! signature. For a payment whose channel is not known, or is another one, the sender's word is not enough: the channel
//! that it comes from is asked before. Money is never refused because the order is in the wrong state: `settle` finds a
//! use for it.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::channel::{self, Reply};
use super::desk::Desk;
use super::merchant::{Delivered, Notice, Untrue};
use super::model::{Channel, Method, Refusal};
use super::payments;
use super::settle::{self, Report, Told};
use crate::support::{Problem, signature, unix_ms};

/// Longest notification id and payment number in bytes.
const MAX_ID: usize = 128;

/// The members every notification in plain JSON has; those that say where the payment stands are read by
/// [`channel::report`].
#[derive(Debug, Deserialize)]
struct Plain {
    notify_id: String,
    payment_no: String,
    amount: i64,
    currency: String,
}

/// What came of a notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Taken {
    Now,
    Earlier,
    Mismatch,
}

/// Takes a notification in.
pub(super) async fn receive(
    State(desk): State<Arc<Desk>>,
    Path(channel): Path<String>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let Some(by) = Method::parse(&channel) else {
        return Problem::new(StatusCode::NOT_FOUND, "UNKNOWN_CHANNEL", "There is no such channel.").into_response();
    };
    let merchant = by.channel().and_then(|channel| desk.channels.merchant(channel));
    let now_ms = unix_ms();
    let now_seconds = u64::try_from(now_ms / 1_000).unwrap_or(0);
    let read = match merchant {
        Some(merchant) => {
            let delivered = Delivered { uri: &uri, headers: &headers, body: &body, now_seconds };
            merchant.notice(&delivered).map_err(Problem::from)
        }
        None => plain(&desk, &headers, &body, now_seconds).map(Some),
    };
    let done = match read {
        Ok(Some(notice)) => take(&desk, by, notice, now_ms).await,
        Ok(None) => Ok(()),
        Err(problem) => {
            if problem.status == StatusCode::UNAUTHORIZED {
                desk.counters.bad_signatures.add(1);
            }
            Err(problem)
        }
    };
    match (done, merchant) {
        (Ok(()), Some(merchant)) => merchant.acknowledged(),
        (Ok(()), None) => axum::Json(json!({ "code": "SUCCESS" })).into_response(),
        (Err(problem), Some(merchant)) => {
            tracing::debug!(channel, code = problem.code, "a notification was refused");
            merchant.refused(problem.status, problem.code)
        }
        (Err(problem), None) => problem.into_response(),
    }
}

impl From<Untrue> for Problem {
    fn from(untrue: Untrue) -> Self {
        let (status, code) = match untrue {
            Untrue::Forged => (StatusCode::UNAUTHORIZED, "BAD_SIGNATURE"),
            Untrue::NotOurs => (StatusCode::BAD_REQUEST, "OTHER_MERCHANT"),
            Untrue::Unreadable => (StatusCode::BAD_REQUEST, "INVALID_REQUEST"),
        };
        Self::new(status, code, untrue.to_string())
    }
}

fn plain(desk: &Desk, headers: &HeaderMap, body: &[u8], now_seconds: u64) -> Result<Notice, Problem> {
    let signed = headers.get(signature::HEADER).and_then(|value| value.to_str().ok());
    signature::verify(desk.settings.channel_secret.bytes(), signed, now_seconds, body).map_err(|_| Untrue::Forged)?;
    let value: Value = serde_json::from_slice(body).map_err(|error| Problem::invalid(error.to_string()))?;
    let read = Plain::deserialize(&value).map_err(|error| Problem::invalid(error.to_string()))?;
    let Plain { notify_id, payment_no, amount, currency } = read;
    let report =
        channel::report(&value, &payment_no).ok_or_else(|| Problem::invalid("status is missing or unknown"))?;
    Ok(Notice { notify_id, payment_no, report: Report { amount: Some(amount), currency: Some(currency), ..report } })
}

async fn take(desk: &Desk, by: Method, notice: Notice, now_ms: i64) -> Result<(), Problem> {
    let fits = |id: &str| !id.is_empty() && id.len() <= MAX_ID;
    if !fits(&notice.notify_id) || !fits(&notice.payment_no) {
        return Err(Problem::invalid(format!("the ids must be 1 to {MAX_ID} bytes")));
    }
    let from = origin(desk, by, &notice).await?;
    let file = desk.file_of_payment(&notice.payment_no)?;
    match file.write(move |connection| take_in(connection, by, from, &notice, now_ms)).await? {
        Taken::Mismatch => {
            desk.counters.mismatches.add(1);
            let detail = "The payment has another amount or currency.";
            return Err(Problem::new(StatusCode::BAD_REQUEST, "AMOUNT_MISMATCH", detail));
        }
        Taken::Earlier => desk.counters.notified_again.add(1),
        Taken::Now => {
            desk.counters.notified.add(1);
            file.ring();
        }
    }
    Ok(())
}

/// The channel that a notification comes from. Its address says so, or nothing when the gateway chose the channel.
async fn origin(desk: &Desk, by: Method, notice: &Notice) -> Result<Option<Channel>, Problem> {
    let report = &notice.report;
    let (id, number) = (notice.notify_id.clone(), notice.payment_no.clone());
    let look = move |connection: &rusqlite::Connection| {
        Ok((payments::notified(connection, by, &id)?.is_some(), payments::get(connection, &number)?))
    };
    let (known, payment) = desk.file_of_payment(&notice.payment_no)?.read(look).await?;
    let same_trade = report.trade_no.is_some() && payment.trade_no == report.trade_no;
    let its_own = payment.channel.is_some() && by.channel() == payment.channel;
    if known || its_own || (by == payment.method && same_trade) {
        return Ok(payment.channel);
    }
    let mut silent = false;
    for channel in by.channel().map_or_else(|| Channel::ALL.to_vec(), |channel| vec![channel]) {
        match desk.channels.query(&payment, channel).await {
            Reply::Told(said) if said.state == report.state && said.trade_no == report.trade_no => {
                return Ok(Some(channel));
            }
            Reply::Told(_) | Reply::NotFound => {}
            Reply::NotSent(_) | Reply::Unknown(_) => silent = true,
        }
    }
    if silent {
        let detail = "The channel cannot be asked at the moment. Send the notification again.";
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "NOT_CONFIRMED", detail).retry_after(2));
    }
    Err(Refusal::NoPayment.into())
}

/// All that follows from a notification, inside one operation of the writer.
fn take_in(
    connection: &rusqlite::Connection,
    by: Method,
    from: Option<Channel>,
    notice: &Notice,
    now_ms: i64,
) -> Result<Taken, Refusal> {
    match payments::notified(connection, by, &notice.notify_id)? {
        Some(true) => return Ok(Taken::Earlier),
        Some(false) => return Ok(Taken::Mismatch),
        None => {}
    }
    let payment = payments::get(connection, &notice.payment_no)?;
    // While the gateway may still be trying other channels, only a charge says where the payment is.
    let early = payment.channel.is_none() && notice.report.state != Told::Success;
    let number = &notice.payment_no;
    let accepted = early || settle::apply(connection, number, from, &notice.report, "notification", now_ms)?;
    payments::remember(connection, by, &notice.notify_id, number, accepted, now_ms)?;
    Ok(if accepted { Taken::Now } else { Taken::Mismatch })
}
