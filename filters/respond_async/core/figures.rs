//! What operators and clients are told of a book.

use std::sync::Arc;
use std::time::Duration;

use super::book::{Book, Lane};
use super::record::{Class, Entry, State, millis};

/// How many wait for an upstream, by class.
#[derive(Clone, Debug, PartialEq)]
pub struct Depth {
    /// The upstream.
    pub upstream: Arc<str>,
    /// In the line, the least important class first.
    pub waiting: [(Class, usize); 3],
    /// Under way.
    pub in_flight: usize,
    /// Requests a second that may go out now.
    pub rate: f64,
    /// Sent since the process began.
    pub sent: u64,
    /// Whether nobody may be asked now.
    pub paused: bool,
}

/// Figures of a book.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    /// Records that are not over.
    pub records: usize,
    /// Bytes of their bodies.
    pub bytes: u64,
    /// Records by state.
    pub states: Vec<(State, usize)>,
    /// Age of the oldest that waits.
    pub oldest: Duration,
    /// By upstream.
    pub lanes: Vec<Depth>,
}

impl Book {
    /// About how many leave before this one, and when it leaves; `None` while it is in no line.
    #[must_use]
    pub fn place_of(&self, entry: &Entry, now: Duration) -> Option<(usize, Duration)> {
        let lane =
            self.lanes.get(usize::from(entry.lane)).filter(|_| entry.state == State::Queued && entry.due == 0)?;
        let ahead = lane.line.ahead(entry.class, entry.party, entry.seq);
        let interval = self.rules.rate.interval().div_f64(lane.pace.factor(now));
        let line = interval.saturating_mul(u32::try_from(ahead).unwrap_or(u32::MAX));
        Some((ahead, line + lane.pace.next(self.rules.rate, now).saturating_sub(now)))
    }

    /// Figures for operators.
    #[must_use]
    pub fn figures(&self, now: Duration) -> Figures {
        let states = State::ALL.iter().map(|state| (*state, self.counts[*state as usize])).collect();
        let oldest = self.waiting.first().and_then(|seq| self.entries.get(seq));
        let oldest = oldest.map_or(0, |entry| millis(now).saturating_sub(entry.created));
        let depth = |lane: &Lane| Depth {
            upstream: lane.upstream.clone(),
            waiting: Class::ALL.map(|class| (class, lane.line.length_of(class))),
            in_flight: lane.in_flight,
            rate: lane.pace.factor(now) / self.rules.rate.interval().as_secs_f64(),
            sent: lane.sent,
            paused: lane.pace.is_paused(now),
        };
        let lanes = self.lanes.iter().map(depth).collect();
        Figures {
            records: self.room.records(),
            bytes: self.room.bytes(),
            states,
            oldest: Duration::from_millis(oldest),
            lanes,
        }
    }
}
