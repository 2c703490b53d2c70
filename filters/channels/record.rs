//! What a channel's latest tries have shown: how many succeeded, and how long an answer took.
//!
//! The last 200 outcomes, none older than ten minutes. An outcome that nobody knows counts half until somebody does; a
//! decline that every channel would give, and a request that was wrong itself, say nothing about the channel.

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::Mutex;

use crate::engine::{AttemptEnd, AttemptResult, Known, Nanos};

/// Outcomes that are remembered.
const MOST: usize = 200;
/// How long they are.
const LONGEST: Duration = Duration::from_secs(600);
/// Figures are worked out anew after this time at the earliest: sorting 200 numbers for each request would be waste.
const FRESH: Duration = Duration::from_millis(100);

/// What the end of a try says about its channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judged {
    /// It works: it answered, whatever it answered.
    Good,
    /// It does not.
    Failed,
    /// It said that it has too much to do (429).
    Busy,
}

/// What a try's end says about its channel: connections that fail or break, silence, 5xx, 408, and any answer that
/// leaves the outcome unknown are failures; declines and other 4xx are answers.
#[must_use]
pub fn judge(end: &AttemptEnd) -> Judged {
    match end.result {
        _ if end.known == Known::Unknown => Judged::Failed,
        // It refused properly, as HTTP/2 servers do that are being replaced.
        AttemptResult::Broken if end.known == Known::NotProcessed => Judged::Busy,
        AttemptResult::ConnectFailed | AttemptResult::Broken | AttemptResult::TimedOut => Judged::Failed,
        AttemptResult::Status(status) if status.is_server_error() || status.as_u16() == 408 => Judged::Failed,
        AttemptResult::Status(status) if status.as_u16() == 429 => Judged::Busy,
        AttemptResult::Status(_) | AttemptResult::Declined { .. } => Judged::Good,
    }
}

/// A channel's latest figures.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Figures {
    /// Outcomes that count.
    pub samples: u32,
    /// Successes among them; an unknown outcome is half of one.
    pub successes: f64,
    /// Median time to an answer; `None` without any.
    pub latency: Option<Duration>,
}

impl Figures {
    /// Share of successes, 0 to 1; `None` without samples.
    #[must_use]
    pub fn success_rate(&self) -> Option<f64> {
        (self.samples > 0).then(|| self.successes / f64::from(self.samples))
    }

    /// Lower end of Wilson's 95 % interval for the success rate (Wilson 1927): few samples promise little. 0 without any.
    #[must_use]
    pub fn lower_bound(&self) -> f64 {
        const Z: f64 = 1.96;
        let Some(rate) = self.success_rate() else { return 0.0 };
        let n = f64::from(self.samples);
        let centre = rate + Z * Z / (2.0 * n);
        let margin = Z * (rate * (1.0 - rate) / n + Z * Z / (4.0 * n * n)).sqrt();
        ((centre - margin) / (1.0 + Z * Z / n)).max(0.0)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark {
    Success,
    Unknown,
    Failure,
}

struct Entry {
    at: Nanos,
    mark: Mark,
    answered_in: Option<Duration>,
}

#[derive(Default)]
struct Ring {
    entries: VecDeque<Entry>,
    figures: Option<(Nanos, Figures)>,
}

/// The latest outcomes of one channel.
#[derive(Default)]
pub struct Record {
    ring: Mutex<Ring>,
}

impl Record {
    /// Notes how a try ended.
    pub fn note(&self, end: &AttemptEnd, now: Nanos) {
        let mark = match end.result {
            _ if end.known == Known::Unknown => Mark::Unknown,
            AttemptResult::Declined { hard: true } => return,
            AttemptResult::Status(status) if status.is_client_error() && judge(end) == Judged::Good => return,
            AttemptResult::Status(_) if judge(end) == Judged::Good => Mark::Success,
            _ => Mark::Failure,
        };
        let answered = matches!(end.result, AttemptResult::Status(_) | AttemptResult::Declined { .. });
        let mut ring = self.ring.lock();
        if ring.entries.len() == MOST {
            ring.entries.pop_front();
        }
        ring.entries.push_back(Entry { at: now, mark, answered_in: answered.then_some(end.took) });
    }

    /// An outcome that was unknown is known now. Unknown ones are alike, so it is the oldest that changes.
    pub fn resolved(&self, succeeded: bool) {
        let mut ring = self.ring.lock();
        if let Some(entry) = ring.entries.iter_mut().find(|entry| entry.mark == Mark::Unknown) {
            entry.mark = if succeeded { Mark::Success } else { Mark::Failure };
            ring.figures = None;
        }
    }

    /// A try whose outcome is unknown is made once more: one payment counts once, so the new try takes its place.
    pub fn again(&self) {
        let mut ring = self.ring.lock();
        if let Some(at) = ring.entries.iter().rposition(|entry| entry.mark == Mark::Unknown) {
            ring.entries.remove(at);
            ring.figures = None;
        }
    }

    /// The latest figures, at most a tenth of a second old.
    #[must_use]
    pub fn figures(&self, now: Nanos) -> Figures {
        let mut ring = self.ring.lock();
        if let Some((at, figures)) = ring.figures
            && now.since(at) < FRESH
        {
            return figures;
        }
        while ring.entries.front().is_some_and(|entry| now.since(entry.at) > LONGEST) {
            ring.entries.pop_front();
        }
        let mut figures = Figures::default();
        let mut times = Vec::with_capacity(ring.entries.len());
        for entry in &ring.entries {
            figures.samples += 1;
            figures.successes += match entry.mark {
                Mark::Success => 1.0,
                Mark::Unknown => 0.5,
                Mark::Failure => 0.0,
            };
            times.extend(entry.answered_in);
        }
        times.sort_unstable();
        figures.latency = times.get(times.len() / 2).copied();
        ring.figures = Some((now, figures));
        figures
    }
}
