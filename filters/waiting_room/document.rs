//! What visitors and their programs read: the public document of a room, and the private one of a visitor.
//!
//! The public one is the same for everybody, so that a cache in front can answer a million polls. It carries cumulative
//! counts of those who wait at 64 numbers between the frontier and the tail: with them a client works out its own place
//! to a sixty-fourth of the line.

use bytes::Bytes;
use serde_json::{Value, json};

use super::line::{Outlook, Reason, State};
use super::pace::{self, Estimate};
use super::room::Room;
use super::rules::Method;

const CHECKPOINTS: u64 = 64;

/// What a visitor stands as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Without a number: the token has to be brought back first.
    Pre,
    /// Registered for a draw under this number.
    Registered(u64),
    /// In line with this number.
    Waiting(u64),
    /// Inside until this moment (milliseconds since 1970).
    Admitted(u64, u64),
    /// Refused.
    Rejected(Reason),
    /// Their number is void.
    Expired,
}

/// A visitor's document, and when it is worth looking again.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    /// The object `waitingRoom`.
    pub document: Value,
    /// Milliseconds.
    pub poll_after: u64,
}

/// The public document: `{epoch, frontier, tail, state, ratePerSec, live, serverTime}`.
#[must_use]
pub fn frontier(room: &Room) -> Bytes {
    let outlook = room.outlook();
    let span = outlook.tail.saturating_sub(outlook.frontier);
    let live = |at: u64| {
        let number = outlook.frontier + span * at / CHECKPOINTS;
        json!([number, room.ahead(&outlook, number + 1)])
    };
    let live: Vec<Value> = if span == 0 { Vec::new() } else { (1..=CHECKPOINTS).map(live).collect() };
    let document = json!({
        "epoch": outlook.epoch,
        "frontier": outlook.frontier,
        "tail": outlook.tail,
        "state": outlook.state.as_str(),
        "ratePerSec": rounded(outlook.rate),
        "live": live,
        "serverTime": outlook.at / 1_000,
    });
    Bytes::from(document.to_string())
}

/// A visitor's document. `spread` from 0 to 1 makes clients come at different times.
#[must_use]
pub fn status(room: &Room, standing: Standing, spread: f64) -> Status {
    let outlook = room.outlook();
    let number = match standing {
        Standing::Registered(number) | Standing::Waiting(number) | Standing::Admitted(number, _) => Some(number),
        Standing::Pre | Standing::Rejected(_) | Standing::Expired => None,
    };
    let ahead = match standing {
        Standing::Waiting(number) => Some(room.ahead(&outlook, number)),
        Standing::Pre => Some(outlook.waiting),
        _ => None,
    };
    let estimate = ahead.and_then(|ahead| outlook.estimate(ahead));
    let poll_after = match (standing, ahead) {
        (Standing::Registered(_), _) => until_start(&outlook, spread),
        // Bringing the token back is all that is asked.
        (Standing::Pre, _) => 1_000,
        (_, ahead) => pace::poll_after(outlook.polling, outlook.rough_wait(ahead.unwrap_or(0)), spread),
    };
    let whole = |seconds: f64| seconds.ceil() as u64;
    let mut document = json!({
        "state": state(standing),
        "room": &**room.name(),
        "roomState": outlook.state.as_str(),
        "epoch": outlook.epoch,
        "ticketNumber": number,
        "servingNumber": outlook.frontier,
        "position": ahead.map(|ahead| ahead + 1),
        "positionAhead": ahead,
        "queueLength": outlook.waiting,
        "waitTimeSeconds": estimate.map(|estimate| whole(estimate.expected)),
        "waitTime90Percentile": estimate.map(|estimate| whole(estimate.p90)),
        "ratePerMinute": outlook.rate.map(|rate| (rate * 60.0).round()),
        "pollAfterMs": poll_after,
        "soldOut": outlook.state == State::SoldOut,
        "degraded": room.is_degraded(),
        "serverTime": outlook.at / 1_000,
    });
    if let Standing::Rejected(reason) = standing {
        document["reason"] = json!(reason.as_str());
        document["retryAfter"] = json!(poll_after.div_ceil(1_000));
    }
    if let Standing::Admitted(_, until) = standing {
        document["admittedUntil"] = json!(until / 1_000);
    }
    add(&mut document, &compatible(&outlook, standing, estimate));
    Status { document, poll_after }
}

/// The 25 members that programs written for Cloudflare Waiting Room read. Waits are in whole minutes there.
#[must_use]
pub fn compatible(outlook: &Outlook, standing: Standing, estimate: Option<Estimate>) -> Value {
    let minutes = |seconds: f64| (seconds / 60.0).ceil() as u64;
    let part = |pick: fn(&Estimate) -> f64| estimate.as_ref().map_or(0, |estimate| minutes(pick(estimate)));
    let method = outlook.limits.method;
    let chance = method == Method::Random;
    let until = |at: Option<u64>| at.map_or(0, |at| at.saturating_sub(outlook.at).div_ceil(60_000));
    let start = until(outlook.event.map(|(start, _)| start).filter(|start| *start > outlook.at));
    let end = until(outlook.event.map(|(_, end)| end));
    let reject = method == Method::Reject;
    json!({
        "inWaitingRoom": !matches!(standing, Standing::Admitted(..)),
        "waitTimeKnown": estimate.is_some(),
        "waitTime": part(|estimate| estimate.expected),
        "waitTime25Percentile": if chance { part(|estimate| estimate.p25) } else { 0 },
        "waitTime50Percentile": if chance { part(|estimate| estimate.p50) } else { 0 },
        "waitTime75Percentile": if chance { part(|estimate| estimate.p75) } else { 0 },
        "waitTimeFormatted": formatted(estimate.map(|estimate| minutes(estimate.expected))),
        "queueIsFull": standing == Standing::Rejected(Reason::QueueFull),
        "queueAll": outlook.state == State::QueueAll,
        "lastUpdated": rfc3339(outlook.at),
        "refreshIntervalSeconds": if reject { 0 } else { outlook.refresh / 1_000 },
        "queueingMethod": method.as_str(),
        "isFIFOQueue": method == Method::Fifo,
        "isRandomQueue": chance,
        "isPassthroughQueue": method == Method::Passthrough,
        "isRejectQueue": reject,
        "isEventActive": outlook.event.is_some_and(|(start, _)| start <= outlook.at),
        "isEventPrequeueing": outlook.state == State::EventPrequeueing,
        "timeUntilEventStart": start,
        "timeUntilEventStartFormatted": formatted(outlook.event.map(|_| start)),
        "timeUntilEventEnd": end,
        "timeUntilEventEndFormatted": formatted(outlook.event.map(|_| end)),
        "shuffleAtEventStart": outlook.shuffles,
        "turnstile": "off",
        "infiniteQueue": false,
    })
}

fn add(to: &mut Value, more: &Value) {
    if let (Some(to), Some(more)) = (to.as_object_mut(), more.as_object()) {
        to.extend(more.iter().map(|(name, value)| (name.clone(), value.clone())));
    }
}

fn state(standing: Standing) -> &'static str {
    match standing {
        Standing::Pre => "PRE",
        Standing::Registered(_) => "PREQUEUED",
        Standing::Waiting(_) => "WAITING",
        Standing::Admitted(..) => "ADMITTED",
        Standing::Rejected(_) => "REJECTED",
        Standing::Expired => "EXPIRED",
    }
}

/// Those who registered look rarely until shortly before the start.
fn until_start(outlook: &Outlook, spread: f64) -> u64 {
    let left = outlook.event.map_or(0, |(start, _)| start.saturating_sub(outlook.at));
    pace::poll_after(outlook.polling, Some(left as f64 / 1_000.0), spread)
}

fn rounded(rate: Option<f64>) -> Value {
    rate.map_or(Value::Null, |rate| json!((rate * 100.0).round() / 100.0))
}

fn formatted(minutes: Option<u64>) -> String {
    match minutes {
        None => "unavailable".to_owned(),
        Some(1) => "1 minute".to_owned(),
        Some(minutes) if minutes < 60 => format!("{minutes} minutes"),
        Some(minutes) => format!("{} hours {} minutes", minutes / 60, minutes % 60),
    }
}

/// A moment as `2026-06-18T04:00:00Z`. The date is worked out as by Howard Hinnant's `civil_from_days`.
fn rfc3339(millis: u64) -> String {
    let seconds = millis / 1_000;
    let (days, second) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}
