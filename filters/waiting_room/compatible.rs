//! The 25 members that programs written for Cloudflare Waiting Room read. Waits are in whole minutes there.

use serde::Serialize;

use super::document::Standing;
use super::line::{Outlook, Reason, State};
use super::pace::Estimate;
use super::rules::Method;

/// The object `cfWaitingRoom`; names and units are Cloudflare's.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(clippy::struct_excessive_bools, reason = "another product's document")]
pub struct Compatible {
    in_waiting_room: bool,
    wait_time_known: bool,
    wait_time: u64,
    #[serde(rename = "waitTime25Percentile")]
    wait_time_25: u64,
    #[serde(rename = "waitTime50Percentile")]
    wait_time_50: u64,
    #[serde(rename = "waitTime75Percentile")]
    wait_time_75: u64,
    wait_time_formatted: String,
    queue_is_full: bool,
    queue_all: bool,
    last_updated: String,
    refresh_interval_seconds: u64,
    queueing_method: &'static str,
    #[serde(rename = "isFIFOQueue")]
    is_fifo_queue: bool,
    is_random_queue: bool,
    is_passthrough_queue: bool,
    is_reject_queue: bool,
    is_event_active: bool,
    is_event_prequeueing: bool,
    time_until_event_start: u64,
    time_until_event_start_formatted: String,
    time_until_event_end: u64,
    time_until_event_end_formatted: String,
    shuffle_at_event_start: bool,
    turnstile: &'static str,
    infinite_queue: bool,
}

impl Compatible {
    /// Of a visitor who stands so and will wait as estimated.
    #[must_use]
    pub fn new(outlook: &Outlook, standing: Standing, estimate: Option<Estimate>) -> Self {
        let minutes = |seconds: f64| (seconds / 60.0).ceil() as u64;
        let part = |pick: fn(&Estimate) -> f64| estimate.as_ref().map_or(0, |estimate| minutes(pick(estimate)));
        let method = outlook.limits.method;
        let chance = method == Method::Random;
        let by_chance = |pick: fn(&Estimate) -> f64| if chance { part(pick) } else { 0 };
        let until = |at: Option<u64>| at.map_or(0, |at| at.saturating_sub(outlook.at).div_ceil(60_000));
        let start = until(outlook.event.map(|(start, _)| start).filter(|start| *start > outlook.at));
        let end = until(outlook.event.map(|(_, end)| end));
        Self {
            in_waiting_room: !matches!(standing, Standing::Admitted(..) | Standing::Open | Standing::Left),
            wait_time_known: estimate.is_some(),
            wait_time: part(|estimate| estimate.expected),
            wait_time_25: by_chance(|estimate| estimate.p25),
            wait_time_50: by_chance(|estimate| estimate.p50),
            wait_time_75: by_chance(|estimate| estimate.p75),
            wait_time_formatted: formatted(estimate.map(|estimate| minutes(estimate.expected))),
            queue_is_full: standing == Standing::Rejected(Reason::QueueFull),
            queue_all: outlook.state == State::QueueAll,
            last_updated: rfc3339(outlook.at),
            refresh_interval_seconds: if method == Method::Reject { 0 } else { outlook.refresh / 1_000 },
            queueing_method: method.as_str(),
            is_fifo_queue: method == Method::Fifo,
            is_random_queue: chance,
            is_passthrough_queue: method == Method::Passthrough,
            is_reject_queue: method == Method::Reject,
            is_event_active: outlook.event.is_some_and(|(start, _)| start <= outlook.at),
            is_event_prequeueing: outlook.state == State::EventPrequeueing,
            time_until_event_start: start,
            time_until_event_start_formatted: formatted(outlook.event.map(|_| start)),
            time_until_event_end: end,
            time_until_event_end_formatted: formatted(outlook.event.map(|_| end)),
            shuffle_at_event_start: outlook.shuffles,
            turnstile: "off",
            infinite_queue: false,
        }
    }
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
