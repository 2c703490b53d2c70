//! The course of one call: which fault it meets, what that does to the payment, and what the caller gets to see.
//!
//! A handler asks for the course before it does anything, carries the operation out with it, and hands its answer to it
//! at the end. So every dialect fails in the same ways.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;

use super::plan::{Fate, Hit, Kind};
use super::wire::{self, Arrival, Ending};
use crate::support::Problem;

/// How long a slow body takes and a payment is processed when the plan does not say.
const DEFAULT_MS: u32 = 2_000;

/// Reasons of declines when the plan does not say: one that holds everywhere, and one that is this channel's own.
const HARD: &str = "INSUFFICIENT_FUNDS";
const SOFT: &str = "CHANNEL_MAINTENANCE";

/// Why a call is not answered with what it asked for.
#[derive(Debug)]
pub(super) enum Stopped {
    /// It was refused.
    Problem(Problem),
    /// The channel says that it does not know what happened. Every dialect has its own words for that.
    SystemError,
    /// It is not answered at all.
    Ending(Ending),
}

impl From<Problem> for Stopped {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl From<tidegate_durable::StoreError> for Stopped {
    fn from(error: tidegate_durable::StoreError) -> Self {
        Self::Problem(error.into())
    }
}

/// How a call came, for the ledger.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    /// The idempotency key it brought.
    pub(super) key: Option<String>,
    /// Number of its connection.
    pub(super) connection: Option<i64>,
    /// Bytes read from that connection.
    pub(super) bytes_read: Option<i64>,
}

impl Seen {
    /// How this call came.
    pub(super) fn of(arrival: Option<&Arrival>, headers: &HeaderMap) -> Self {
        let whole = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        Self {
            key: headers.get("idempotency-key").and_then(|key| key.to_str().ok()).map(str::to_owned),
            connection: arrival.map(|arrival| whole(arrival.connection())),
            bytes_read: arrival.map(|arrival| whole(arrival.bytes_read())),
        }
    }
}

/// The course of a call. Without a fault nothing happens to it.
#[derive(Debug, Default)]
pub(super) struct Course {
    hit: Option<Hit>,
    pub(super) seen: Seen,
}

impl Course {
    /// The course of a call that meets this fault.
    pub(super) fn new(hit: Option<Hit>, seen: Seen) -> Self {
        Self { hit, seen }
    }

    fn kind(&self) -> Option<Kind> {
        self.hit.as_ref().map(|hit| hit.kind)
    }

    /// Ends a call whose fault comes before anything is done. `charges` says whether it would decide a payment.
    pub(super) fn before(self, charges: bool) -> Result<Self, Stopped> {
        let Some(hit) = &self.hit else {
            return Ok(self);
        };
        Err(match hit.kind {
            Kind::ReadAllThenClose => Stopped::Ending(Ending::Close),
            Kind::NoChargeThenHang => Stopped::Ending(Ending::Hang),
            Kind::RefusedStream => Stopped::Ending(Ending::RefusedStream),
            Kind::Goaway => {
                let code = hit.code.as_deref().and_then(|code| code.parse().ok()).unwrap_or(0);
                Stopped::Ending(Ending::Goaway(code))
            }
            Kind::SystemErrorNotCharged => Stopped::SystemError,
            Kind::TooEarly => refused(StatusCode::TOO_EARLY, "TOO_EARLY", "Not looked at yet; send it again."),
            Kind::TooMany => refused(StatusCode::TOO_MANY_REQUESTS, "CHANNEL_THROTTLED", "Too many calls."),
            Kind::Unavailable => refused(StatusCode::SERVICE_UNAVAILABLE, "CHANNEL_UNAVAILABLE", "Not available."),
            Kind::MaintenanceWindow if hit.code.is_none() || !charges => {
                refused(StatusCode::SERVICE_UNAVAILABLE, "CHANNEL_MAINTENANCE", "The channel is being maintained.")
            }
            _ => return Ok(self),
        })
    }

    /// What the fault makes of a payment's fate.
    pub(super) fn fate(&self, mut fate: Fate) -> Fate {
        let Some(hit) = &self.hit else {
            return fate;
        };
        let code = |default: &str| Some(hit.code.clone().unwrap_or_else(|| default.to_owned()));
        let later = Some(hit.ms.unwrap_or(DEFAULT_MS));
        match hit.kind {
            Kind::DeclineHard => fate.decline = code(HARD),
            Kind::DeclineSoft | Kind::MaintenanceWindow => fate.decline = code(SOFT),
            Kind::ProcessingThenSuccess => (fate.decline, fate.after_ms) = (None, later),
            Kind::ProcessingThenFail => (fate.decline, fate.after_ms) = (code(HARD), later),
            kind if kind.charges() => fate.decline = None,
            _ => {}
        }
        fate
    }

    /// The amount that the answer names.
    pub(super) fn amount(&self, amount: i64) -> i64 {
        if self.kind() == Some(Kind::WrongAmount) { amount + 1 } else { amount }
    }

    /// Whether the answer must not carry a good signature.
    pub(super) fn forges(&self) -> bool {
        self.kind() == Some(Kind::BadSignature)
    }

    /// What the caller gets instead of the answer, or of its body.
    pub(super) async fn after(&self, response: Response) -> Result<Response, Stopped> {
        let Some(hit) = &self.hit else {
            return Ok(response);
        };
        Err(match hit.kind {
            Kind::ChargeThenHang => Stopped::Ending(Ending::Hang),
            Kind::ChargeThenRst => Stopped::Ending(Ending::Reset),
            Kind::H2ProtocolError => Stopped::Ending(Ending::ProtocolError),
            Kind::ChargeThen500 => Stopped::Problem(Problem::internal()),
            Kind::SystemErrorCharged => Stopped::SystemError,
            Kind::Truncate => return Ok(wire::truncated(response, hit.bytes).await),
            Kind::SlowBody => {
                let time = Duration::from_millis(hit.ms.unwrap_or(DEFAULT_MS).into());
                return Ok(wire::slow(response, time).await);
            }
            Kind::BadJson => return Ok(garbled(response).await),
            _ => return Ok(response),
        })
    }
}

fn refused(status: StatusCode, code: &'static str, detail: &str) -> Stopped {
    Stopped::Problem(Problem::new(status, code, detail).retry_after(1))
}

/// The answer without its last byte: whole as a message, but what it says is cut off.
async fn garbled(response: Response) -> Response {
    let (mut parts, body) = response.into_parts();
    // It is whole and in memory, so this neither fails nor waits.
    let mut body: Bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default();
    body.truncate(body.len().saturating_sub(1));
    parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    Response::from_parts(parts, Body::from(body))
}
