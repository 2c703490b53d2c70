//! What visitors and their programs read: the public document of a room, and the private one of a visitor.
//!
//! The public one is the same for everybody, so that a cache in front can answer a million polls. It carries cumulative
//! counts of those who wait at 64 numbers between the frontier and the tail: with them a client works out its own place
//! to a sixty-fourth of the line.
//!
//! **Units.** Moments are milliseconds since 1970, spans are in the unit that their name says. Unknown is `null`.

use bytes::Bytes;
use serde::Serialize;

use super::compatible::Compatible;
use super::line::{Outlook, Reason, State};
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

/// A visitor's document, the object `waitingRoom`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Document {
    /// `PRE`, `PREQUEUED`, `WAITING`, `READY`, `ADMITTED`, `OPEN`, `LEFT`, `REJECTED` or `EXPIRED`.
    pub state: &'static str,
    /// The room's name.
    pub room: String,
    /// What the room does.
    pub room_state: &'static str,
    /// Counts up when the room is reset.
    pub epoch: u32,
    /// The visitor's number.
    pub ticket_number: Option<u64>,
    /// Turns have come up to this number.
    pub serving_number: u64,
    /// The visitor's place, from 1.
    pub position: Option<u64>,
    /// People present who stand before.
    pub position_ahead: Option<u64>,
    /// People present in line.
    pub queue_length: u64,
    /// Seconds to wait, as expected.
    pub wait_time_seconds: Option<u64>,
    /// Seconds within which nine in ten of those who stand here get in.
    #[serde(rename = "waitTime90Percentile")]
    pub wait_time_90_percentile: Option<u64>,
    /// People let in a minute, measured.
    pub rate_per_minute: Option<f64>,
    /// Milliseconds after which it is worth looking again.
    pub poll_after_ms: u64,
    /// What a look that waits for news sends as `If-None-Match`.
    pub tag: String,
    /// So long a look may wait for news (`Prefer: wait`), in seconds.
    pub long_poll_seconds: Option<u64>,
    /// Whether nobody is let in at the moment; places are kept.
    pub paused: bool,
    /// Whether nothing is left.
    pub sold_out: bool,
    /// Whether the gateway cannot write down what it decides: nobody new is let in.
    pub degraded: bool,
    /// End of the visitor's turn.
    pub ready_until: Option<u64>,
    /// End of the visitor's visit, unless it is prolonged.
    pub admitted_until: Option<u64>,
    /// Start of the event that people are collected for.
    pub starts_at: Option<u64>,
    /// Why there is no place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    /// Seconds after which one may ask again for a place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u64>,
    /// The same, where the line is full.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_full_retry_after: Option<u64>,
    /// The operator's word to all who wait.
    pub message: Option<String>,
    /// `info` or `warning`.
    pub message_level: Option<&'static str>,
    /// The gateway's clock.
    pub server_time: u64,
    /// Where the visitor looks, and what they can do.
    #[serde(flatten)]
    pub links: Links,
    /// What programs written for Cloudflare's rooms read, in an object of its own; `None` where the room has none.
    #[serde(skip)]
    pub compatible: Option<Box<Compatible>>,
    /// Seconds after which a page without scripts looks again.
    #[serde(skip)]
    pub refresh: u64,
}

/// Addresses of a room's public side, for one visitor.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Links {
    status_url: String,
    frontier_url: String,
    /// Only where events are offered: to those who are not far from the front.
    events_url: Option<String>,
    join_url: String,
    claim_url: String,
    leave_url: String,
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
    let notice = room.notice();
    let rejected = if let Standing::Rejected(reason) = standing { Some(reason) } else { None };
    Document {
        state: state(standing),
        room: room.name().to_string(),
        room_state: outlook.state.as_str(),
        epoch: outlook.epoch,
        ticket_number: number(standing),
        serving_number: outlook.frontier,
        position: ahead.map(|ahead| ahead + 1),
        position_ahead: ahead,
        queue_length: outlook.waiting,
        wait_time_seconds: estimate.map(|estimate| whole(estimate.expected)),
        wait_time_90_percentile: estimate.map(|estimate| whole(estimate.p90)),
        rate_per_minute: outlook.rate.map(|rate| (rate * 60.0).round()),
        poll_after_ms,
        tag: room.news().tag(outlook.at),
        long_poll_seconds: room.settings().long_polls.map(|polls| polls.wait.as_secs()),
        paused: matches!(outlook.state, State::QueueAll | State::Draining) || room.is_degraded(),
        sold_out: outlook.state == State::SoldOut,
        degraded: room.is_degraded(),
        ready_until: if let Standing::Ready(_, until) = standing { Some(until) } else { None },
        admitted_until: if let Standing::Admitted(_, until) = standing { Some(until) } else { None },
        starts_at: outlook.event.map(|(start, _)| start).filter(|start| *start > outlook.at),
        reason: rejected.map(Reason::as_str),
        retry_after: rejected.filter(|reason| *reason != Reason::Ineligible).map(|_| poll_after_ms.div_ceil(1_000)),
        queue_full_retry_after: rejected
            .filter(|reason| *reason == Reason::QueueFull)
            .map(|_| poll_after_ms.div_ceil(1_000)),
        message: notice.as_ref().map(|notice| notice.text.clone()),
        message_level: notice.as_ref().map(|notice| notice.level.as_str()),
        server_time: outlook.at,
        links: links(room, ahead.filter(|_| waits)),
        compatible: room.settings().cloudflare.then(|| Box::new(Compatible::new(&outlook, standing, estimate))),
        refresh: outlook.refresh / 1_000,
    }
}

fn links(room: &Room, ahead: Option<u64>) -> Links {
    let settings = room.settings();
    let base = &settings.base;
    let events = settings.events.is_some_and(|events| ahead.is_some_and(|ahead| ahead < events.below_position));
    Links {
        status_url: format!("{base}/status"),
        frontier_url: format!("{base}/frontier"),
        events_url: events.then(|| format!("{base}/events")),
        join_url: format!("{base}/join"),
        claim_url: format!("{base}/claim"),
        leave_url: format!("{base}/leave"),
    }
}

fn number(standing: Standing) -> Option<u64> {
    match standing {
        Standing::Registered(number)
        | Standing::Waiting(number)
        | Standing::Ready(number, _)
        | Standing::Admitted(number, _) => Some(number),
        Standing::Pre | Standing::Open | Standing::Left | Standing::Rejected(_) | Standing::Expired => None,
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
        // Writing into memory does not fail, and numbers and text are always JSON.
        if let Some(theirs) = &self.compatible {
            out.extend_from_slice(b"\"cfWaitingRoom\":");
            let _ = serde_json::to_writer(&mut out, theirs);
            out.push(b',');
        }
        out.extend_from_slice(b"\"waitingRoom\":");
        let _ = serde_json::to_writer(&mut out, self);
        out.extend_from_slice(b"}\n");
        out
    }

    /// The object `waitingRoom`.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}
