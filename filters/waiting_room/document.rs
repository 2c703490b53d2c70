//! What visitors and their programs read: the public document of a room, and the private one of a visitor.
//!
//! The public one is the same for everybody, so that a cache in front can answer a million polls. It carries cumulative
//! counts of those who wait at 64 numbers between the frontier and the tail: with them a client works out its own place
//! to a sixty-fourth of the line.
//!
//! **Units.** Moments are milliseconds since 1970, spans are in the unit that their name says. Unknown is `null`.

use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;

use super::common::Common;
use super::compatible::Compatible;
use super::line::{Outlook, Reason};
use super::pace;
use super::room::Room;

const CHECKPOINTS: u64 = 64;
/// Told with a pre-token: bringing it back is all that is asked (milliseconds).
const BRING_BACK: u64 = 1_000;

/// What a visitor stands as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Without a number: the token has to be brought back first.
    Pre,
    /// Registered for a draw under this number.
    Registered(u64),
    /// In line with this number.
    Waiting(u64),
    /// It is their turn, under this number until this moment (milliseconds since 1970).
    Ready(u64, u64),
    /// Inside until this moment (milliseconds since 1970).
    Admitted(u64, u64),
    /// The room is out of the way: everybody passes.
    Open,
    /// Gone of their own will.
    Left,
    /// Refused.
    Rejected(Reason),
    /// Their number is void.
    Expired,
}

/// A visitor's document, the object `waitingRoom`: what concerns this one, and what everybody is told at this moment.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Document {
    /// `PRE`, `PREQUEUED`, `WAITING`, `READY`, `ADMITTED`, `OPEN`, `LEFT`, `REJECTED` or `EXPIRED`.
    pub state: &'static str,
    /// The visitor's number.
    pub ticket_number: Option<u64>,
    /// The visitor's place, from 1.
    pub position: Option<u64>,
    /// People present who stand before.
    pub position_ahead: Option<u64>,
    /// Seconds to wait, as expected.
    pub wait_time_seconds: Option<u64>,
    /// Seconds within which nine in ten of those who stand here get in.
    #[serde(rename = "waitTime90Percentile")]
    pub wait_time_90_percentile: Option<u64>,
    /// Milliseconds after which it is worth looking again.
    pub poll_after_ms: u64,
    /// End of the visitor's turn.
    pub ready_until: Option<u64>,
    /// End of the visitor's visit, unless it is prolonged.
    pub admitted_until: Option<u64>,
    /// Why there is no place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    /// Seconds after which one may ask again for a place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u64>,
    /// The same, where the line is full.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_full_retry_after: Option<u64>,
    /// Only where events are offered: to those who are not far from the front.
    pub events_url: Option<String>,
    /// The request's id, as in `X-Request-Id`: what to name when asking about an answer.
    pub trace_id: Option<String>,
    /// What everybody is told; its members stand beside these.
    #[serde(skip)]
    pub common: Arc<Common>,
    /// What programs written for Cloudflare's rooms read, in an object of its own; `None` where the room has none.
    #[serde(skip)]
    pub compatible: Option<Box<Compatible>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Public<'a> {
    epoch: u32,
    frontier: u64,
    tail: u64,
    state: &'static str,
    waiting: u64,
    rate_per_sec: Option<f64>,
    live: Vec<(u64, u64)>,
    message: Option<&'a str>,
    message_level: Option<&'static str>,
    server_time: u64,
}

/// The public document: `{epoch, frontier, tail, state, waiting, ratePerSec, live, message, serverTime}`.
#[must_use]
pub fn frontier(room: &Room) -> Bytes {
    let outlook = room.outlook();
    let span = outlook.tail.saturating_sub(outlook.frontier);
    let steps = span.min(CHECKPOINTS);
    let live = |at: u64| {
        let number = outlook.frontier + span * at / steps;
        (number, room.ahead(&outlook, number + 1))
    };
    let notice = room.notice();
    let document = Public {
        epoch: outlook.epoch,
        frontier: outlook.frontier,
        tail: outlook.tail,
        state: outlook.state.as_str(),
        waiting: outlook.waiting,
        rate_per_sec: outlook.rate.map(|rate| (rate * 100.0).round() / 100.0),
        live: (1..=steps).map(live).collect(),
        message: notice.as_ref().map(|notice| &*notice.text),
        message_level: notice.as_ref().map(|notice| notice.level.as_str()),
        server_time: outlook.at,
    };
    Bytes::from(serde_json::to_vec(&document).unwrap_or_default())
}

/// A visitor's document. `spread` from 0 to 1 makes clients come at different times.
#[must_use]
pub fn status(room: &Room, standing: Standing, spread: f64) -> Document {
    let outlook = room.outlook_now();
    let ahead = match standing {
        Standing::Waiting(number) => Some(room.ahead(&outlook, number)),
        Standing::Ready(..) => Some(0),
        Standing::Pre => Some(outlook.waiting),
        _ => None,
    };
    let waits = matches!(standing, Standing::Pre | Standing::Waiting(_));
    let estimate = ahead.filter(|_| waits).and_then(|ahead| outlook.estimate(ahead));
    let poll_after_ms = match (standing, ahead) {
        (Standing::Registered(_), _) => until_start(&outlook, spread),
        (Standing::Pre, _) => BRING_BACK,
        (_, ahead) => outlook.poll_after(ahead.unwrap_or(0), spread),
    };
    let whole = |seconds: f64| seconds.ceil() as u64;
    let rejected = if let Standing::Rejected(reason) = standing { Some(reason) } else { None };
    let again = |reason: Option<Reason>| reason.map(|_| poll_after_ms.div_ceil(1_000));
    let settings = room.settings();
    let near = |ahead: &u64| settings.events.is_some_and(|events| *ahead < events.below_position);
    Document {
        state: state(standing),
        ticket_number: standing.number(),
        position: ahead.map(|ahead| ahead + 1),
        position_ahead: ahead,
        wait_time_seconds: estimate.map(|estimate| whole(estimate.expected)),
        wait_time_90_percentile: estimate.map(|estimate| whole(estimate.p90)),
        poll_after_ms,
        ready_until: if let Standing::Ready(_, until) = standing { Some(until) } else { None },
        admitted_until: if let Standing::Admitted(_, until) = standing { Some(until) } else { None },
        reason: rejected.map(Reason::as_str),
        retry_after: again(rejected.filter(|reason| *reason != Reason::Ineligible)),
        queue_full_retry_after: again(rejected.filter(|reason| *reason == Reason::QueueFull)),
        events_url: ahead.filter(|_| waits).filter(near).map(|_| format!("{}/events", settings.base)),
        trace_id: None,
        common: room.common(),
        compatible: settings.cloudflare.then(|| Box::new(Compatible::new(&outlook, standing, estimate))),
    }
}

impl Standing {
    pub(super) fn number(self) -> Option<u64> {
        match self {
            Standing::Registered(number)
            | Standing::Waiting(number)
            | Standing::Ready(number, _)
            | Standing::Admitted(number, _) => Some(number),
            Standing::Pre | Standing::Open | Standing::Left | Standing::Rejected(_) | Standing::Expired => None,
        }
    }
}

fn state(standing: Standing) -> &'static str {
    match standing {
        Standing::Pre => "PRE",
        Standing::Registered(_) => "PREQUEUED",
        Standing::Waiting(_) => "WAITING",
        Standing::Ready(..) => "READY",
        Standing::Admitted(..) => "ADMITTED",
        Standing::Open => "OPEN",
        Standing::Left => "LEFT",
        Standing::Rejected(_) => "REJECTED",
        Standing::Expired => "EXPIRED",
    }
}

/// Those who registered look rarely until shortly before the start.
fn until_start(outlook: &Outlook, spread: f64) -> u64 {
    let left = outlook.event.map_or(0, |(start, _)| start.saturating_sub(outlook.at));
    pace::poll_after(outlook.polling, Some(left as f64 / 1_000.0), spread)
}

impl Document {
    /// The members of an answer, as name and JSON: `waitingRoom`, and `cfWaitingRoom` where the room has it.
    pub(super) fn members(&self) -> impl Iterator<Item = (&'static str, String)> {
        let theirs = |object| ("cfWaitingRoom", serde_json::to_string(object).unwrap_or_default());
        self.compatible.as_ref().map(theirs).into_iter().chain([("waitingRoom", self.to_json())])
    }

    /// The members as one object, in a line of its own.
    pub(super) fn to_line(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(1_536);
        out.push(b'{');
        if let Some(theirs) = &self.compatible {
            out.extend_from_slice(b"\"cfWaitingRoom\":");
            write(&mut out, theirs);
            out.push(b',');
        }
        out.extend_from_slice(b"\"waitingRoom\":");
        self.write(&mut out);
        out.extend_from_slice(b"}\n");
        out
    }

    /// The object `waitingRoom`.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut out = Vec::with_capacity(1_024);
        self.write(&mut out);
        String::from_utf8(out).unwrap_or_default()
    }

    fn write(&self, out: &mut Vec<u8>) {
        write(out, self);
        // Both are objects with members: the second goes on where the first ends.
        out.pop();
        out.push(b',');
        out.extend_from_slice(&self.common.json()[1..]);
    }
}

/// Writing into memory does not fail, and numbers and text are always JSON.
fn write(out: &mut Vec<u8>, object: &impl Serialize) {
    let _ = serde_json::to_writer(out, object);
}
