//! What a try came to, judged by what is known to have happened on the wire and by nothing else.
//!
//! Two pure functions: [`of_wire`] for a try without an answer, [`of_answer`] for one with an answer. Together they are
//! this table; the last column says whether the gateway may go to another channel.
//!
//! | # | seen | class | other channel |
//! | --- | --- | --- | --- |
//! | 1 | local: no channel, no place, no connection asked for | not sent | yes |
//! | 2 | connection refused, host unreachable, connect timeout | not sent | yes |
//! | 3 | TLS handshake failed (early data is never sent) | not sent | yes |
//! | 4 | connected, and the kernel accepted no byte of the request | not sent | yes |
//! | 5 | some bytes accepted, then an error | unknown | no |
//! | 6 | HTTP/2 `REFUSED_STREAM`; GOAWAY without an error below our stream | not processed | yes |
//! | 7 | HTTP/2 `HTTP_1_1_REQUIRED`: asked again over HTTP/1.1, whose end counts | as that | as that |
//! | 8 | HTTP/2 protocol error, other reset, GOAWAY with an error | unknown | no |
//! | 9 | a reused connection ended without a byte of an answer | unknown, unless row 4 | no |
//! | 10 | read timeout, cut or undecodable answer, a signature that is not the channel's | unknown | no |
//! | 11, 12 | 425, 429 | not processed | yes |
//! | 13 | 503 | unknown, or by a rule | by a rule |
//! | 14 | other 5xx | unknown | no |
//! | 15 | 408, 409 | unknown | no |
//! | 16 | 400, 401, 403, 404, 405, 413, 415, 422 | rejected | no |
//! | 17, 18 | 2xx and a code that means success, or pending | succeeded, pending | no |
//! | 19 | a hard decline | declined | no |
//! | 20 | a soft decline | declined | if its rule says so |
//! | 21 | 2xx and a code that means "nobody knows" | unknown | no |
//! | 22 | 2xx and a code without a rule | unknown, and an alert | no |
//! | 23 | this process died in the middle | unknown (the journal says so) | no |
//!
//! Whatever stands in no row is unknown, and unknown stops: a second charge is worse than a payment that waits.

#[cfg(test)]
mod tests;

use http::StatusCode;
use serde_json::Value;

use crate::config::{CodeRule, Codes, Flow, Meaning};

/// What is known about a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// No byte of the request reached the channel.
    NotSent,
    /// The channel did not act, and says so in a way that can be relied on.
    NotProcessed,
    /// Charged.
    Succeeded,
    /// The channel has it and will decide.
    Pending,
    /// Not charged; no other channel would do better.
    DeclinedHard,
    /// Not charged for a reason of the channel's own.
    DeclinedSoft {
        /// The gateway may try another channel by itself.
        failover: bool,
    },
    /// The request itself is wrong.
    Rejected,
    /// It may have charged.
    Unknown,
}

impl Class {
    /// The label of metrics and the word of the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotSent => "not_sent",
            Self::NotProcessed => "not_processed",
            Self::Succeeded => "succeeded",
            Self::Pending => "pending",
            Self::DeclinedHard => "declined_hard",
            Self::DeclinedSoft { .. } => "declined_soft",
            Self::Rejected => "rejected",
            Self::Unknown => "unknown",
        }
    }

    /// Whether another channel may be tried by the gateway itself.
    pub fn frees(self) -> bool {
        matches!(self, Self::NotSent | Self::NotProcessed | Self::DeclinedSoft { failover: true })
    }

    /// What this says when the same number was sent to the same channel before and nobody knows what became of it: an
    /// answer that tells of the payment counts, one that tells only of the second call proves nothing about the first.
    /// A decline is one of those: the first call may be what took the money that is missing now.
    pub fn after_unknown(self) -> Self {
        match self {
            Self::Succeeded | Self::Pending => self,
            _ => Self::Unknown,
        }
    }
}

/// What was seen of a try that has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// No connection: refused, unreachable, timed out.
    NoConnection,
    /// The TLS handshake failed.
    NoHandshake,
    /// An error on a connection; `accepted`: bytes of the request that the kernel took.
    Broken {
        /// Bytes of the request that the kernel took.
        accepted: u64,
    },
    /// Silence.
    Silent {
        /// Bytes of the request that the kernel took.
        accepted: u64,
    },
    /// HTTP/2: the stream was refused before anything was done with it.
    Refused,
    /// HTTP/2: the connection is being closed without an error, and our stream was not begun.
    GoneAway,
    /// HTTP/2: the server wants HTTP/1.1.
    NeedsHttp11,
    /// HTTP/2: any other reset, GOAWAY with an error, broken rules.
    Protocol,
    /// The answer ended early.
    Truncated,
    /// The answer is no HTTP.
    Undecodable,
}

/// Rows 2 to 10.
pub fn of_wire(seen: Seen) -> Class {
    match seen {
        Seen::NoConnection | Seen::NoHandshake => Class::NotSent,
        Seen::Broken { accepted: 0 } | Seen::Silent { accepted: 0 } => Class::NotSent,
        Seen::Refused | Seen::GoneAway | Seen::NeedsHttp11 => Class::NotProcessed,
        Seen::Broken { .. } | Seen::Silent { .. } | Seen::Protocol | Seen::Truncated | Seen::Undecodable => {
            Class::Unknown
        }
    }
}

/// The codes of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Words {
    /// The business code.
    pub code: Option<String>,
    /// The code below it.
    pub subcode: Option<String>,
}

impl Words {
    /// Whether the answer had a code at all: whoever stands in front of a channel does not speak its language.
    pub fn any(&self) -> bool {
        self.code.is_some() || self.subcode.is_some()
    }
}

/// What was charged, as far as the request said it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Money {
    /// Minor units.
    pub amount: Option<i64>,
    /// Currency.
    pub currency: Option<String>,
}

/// What an answer has to be about.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Our number of the payment; empty: nobody knows.
    pub id: &'a str,
    /// What is charged.
    pub money: &'a Money,
}

/// An answer, judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged<T> {
    /// What it is.
    pub class: T,
    /// Its codes.
    pub words: Words,
    /// Why somebody should look at it; `None`: nothing odd.
    pub alert: Option<&'static str>,
}

/// Rows 11 to 22: what an answer to a payment means. `body`: `None` when it was too large to be read.
pub fn of_answer(codes: &Codes, status: StatusCode, body: Option<&[u8]>, asked: Asked<'_>) -> Judged<Class> {
    let Read { meaning, words, value, odd } = read(codes, Flow::Pay, status, body);
    let unknown = |alert| Judged { class: Class::Unknown, words: words.clone(), alert: Some(alert) };
    if status.is_success() && body.is_none() {
        return unknown("the answer is too large");
    }
    if let Some(alert) = value.as_ref().and_then(|value| mismatch(codes, value, asked)).or(odd) {
        return unknown(alert);
    }
    let class = match meaning {
        Some((meaning, failover)) => of_meaning(meaning, failover),
        None if status.is_success() && value.is_none() => of_wire(Seen::Undecodable),
        None if status.is_success() => return unknown("a code without a rule"),
        None => of_status(status),
    };
    // The request is ours: somebody has set something up wrongly.
    let alert = (class == Class::Rejected).then_some("the channel refuses our request");
    Judged { class, words, alert }
}

fn of_meaning(meaning: Meaning, failover: bool) -> Class {
    match meaning {
        Meaning::Succeeded => Class::Succeeded,
        Meaning::Pending => Class::Pending,
        Meaning::Declined => Class::DeclinedHard,
        Meaning::SoftDeclined => Class::DeclinedSoft { failover },
        Meaning::Rejected => Class::Rejected,
        Meaning::NotProcessed => Class::NotProcessed,
        // A payment that is closed or not known in answer to its creation is odd enough to be asked for.
        Meaning::Unknown | Meaning::Closed | Meaning::NotFound => Class::Unknown,
    }
}

/// Rows 11 to 16, where no rule fits.
fn of_status(status: StatusCode) -> Class {
    match status.as_u16() {
        425 | 429 => Class::NotProcessed,
        400 | 401 | 403 | 404 | 405 | 413 | 415 | 422 => Class::Rejected,
        _ => Class::Unknown,
    }
}

/// What a query, or the answer to a close, tells about a payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// Charged.
    Succeeded,
    /// Not decided.
    Pending,
    /// Not charged.
    DeclinedHard,
    /// Not charged for a reason of the channel's own.
    DeclinedSoft,
    /// No money will be taken any more.
    Closed,
    /// The channel does not know it, which proves nothing yet.
    NotFound,
    /// The query failed: nothing is learned.
    Nothing,
}

impl Report {
    /// The label of metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Pending => "pending",
            Self::DeclinedHard => "declined_hard",
            Self::DeclinedSoft => "declined_soft",
            Self::Closed => "closed",
            Self::NotFound => "not_found",
            Self::Nothing => "nothing",
        }
    }
}

/// Reads the answer to a query. Only what speaks of the payment counts: a refused or failed query tells nothing.
pub fn of_query(
    codes: &Codes,
    flow: Flow,
    status: StatusCode,
    body: Option<&[u8]>,
    asked: Asked<'_>,
) -> Judged<Report> {
    let Read { meaning, words, value, odd } = read(codes, flow, status, body);
    let large = body.is_none().then_some("the answer is too large");
    if let Some(alert) = value.as_ref().and_then(|value| mismatch(codes, value, asked)).or(odd).or(large) {
        return Judged { class: Report::Nothing, words, alert: Some(alert) };
    }
    let class = match meaning {
        Some((Meaning::Succeeded, _)) => Report::Succeeded,
        Some((Meaning::Pending, _)) => Report::Pending,
        Some((Meaning::SoftDeclined, true)) => Report::DeclinedSoft,
        Some((Meaning::Declined | Meaning::SoftDeclined, _)) => Report::DeclinedHard,
        Some((Meaning::Closed, _)) => Report::Closed,
        Some((Meaning::NotFound, _)) => Report::NotFound,
        Some((Meaning::Rejected | Meaning::NotProcessed | Meaning::Unknown, _)) => Report::Nothing,
        // In the channel's own words only: a balancer that knows no such host says 404, too.
        None if matches!(status.as_u16(), 404 | 410) && words.any() => Report::NotFound,
        None => Report::Nothing,
    };
    Judged { class, words, alert: None }
}

/// What stands in an answer.
struct Read {
    /// By the first rule that fits.
    meaning: Option<(Meaning, bool)>,
    words: Words,
    value: Option<Value>,
    /// Why it cannot be meant as it stands.
    odd: Option<&'static str>,
}

fn read(codes: &Codes, flow: Flow, status: StatusCode, body: Option<&[u8]>) -> Read {
    let value: Option<Value> = body.and_then(|body| serde_json::from_slice(body).ok());
    let words = Words {
        code: value.as_ref().and_then(|value| text(value.pointer(&codes.code)?)),
        subcode: value.as_ref().and_then(|value| text(value.pointer(codes.subcode.as_deref()?)?)),
    };
    let fits = |wanted: &Option<String>, found: &Option<String>| wanted.is_none() || wanted == found;
    let find = |good: bool| {
        codes.rules.iter().find(|rule| {
            rule.flow.is_none_or(|only| only == flow)
                && rule.http.map_or(good, |http| http == status.as_u16())
                && fits(&rule.code, &words.code)
                && fits(&rule.subcode, &words.subcode)
        })
    };
    let rule = find(status.is_success());
    // A signature covers the words and not the status: words of a charge under a refusal are no refusal.
    let charged = |rule: &CodeRule| matches!(rule.meaning, Meaning::Succeeded | Meaning::Pending);
    let contradicts = rule.is_none() && find(true).is_some_and(charged);
    let odd = contradicts.then_some("a status that contradicts its words");
    Read { meaning: rule.map(|rule| (rule.meaning, rule.failover)), words, value, odd }
}

/// Codes are texts with most channels and numbers with some.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Another payment, or money that is not the money that was asked for.
fn mismatch(codes: &Codes, answer: &Value, Asked { id, money }: Asked<'_>) -> Option<&'static str> {
    let at = |pointer: &Option<String>| answer.pointer(pointer.as_deref()?);
    if let Some(said) = at(&codes.id).and_then(text)
        && !id.is_empty()
        && said != id
    {
        return Some("another payment");
    }
    if let (Some(asked), Some(said)) = (money.amount, at(&codes.amount))
        && !said.is_null()
        && said.as_i64() != Some(asked)
    {
        return Some("another amount");
    }
    if let (Some(asked), Some(Value::String(said))) = (&money.currency, at(&codes.currency))
        && said != asked
    {
        return Some("another currency");
    }
    None
}
