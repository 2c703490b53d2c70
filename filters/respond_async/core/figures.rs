//! What operators and clients are told of a book.

use std::sync::Arc;
use std::time::Duration;

use super::book::Book;
use super::lane::{Gate, Lane};
use super::record::{Class, Entry, State, millis};

/// How many wait for an upstream, by class.
#[derive(Clone, Debug, PartialEq)]
pub struct Depth {
    /// The upstream.
    pub upstream: Arc<str>,
    /// In the line, the least important class first.
    pub waiting: [(Class, usize); 3],
    /// Its channels, each with a pace of its own.
    pub channels: Vec<Drain>,
}

/// How a channel is sent to.
#[derive(Clone, Debug, PartialEq)]
pub struct Drain {
    /// The channel; empty while nobody has said which channels there are.
    pub channel: Arc<str>,
    /// Under way.
    pub in_flight: usize,
    /// Requests a second that may go out now.
    pub rate: f64,
    /// Sent since the process began.
    pub sent: u64,
    /// Whether it may not be asked now.
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
        // While as many are under way as may be, nobody knows when the next has its turn: not before the pace lets it.
        let next = lane.next(&self.rules, now).map_or(now, |(_, next)| next);
        let open = lane.gates.iter().filter(|gate| gate.in_use && !gate.pace.is_paused(now));
        let share: f64 = open.map(|gate| gate.pace.factor(now)).sum();
        let interval = self.rules.rate.interval().div_f64(if share > 0.0 { share } else { 1.0 });
        let line = interval.saturating_mul(u32::try_from(ahead).unwrap_or(u32::MAX));
        Some((ahead, line + next.saturating_sub(now)))
    }

    /// Figures for operators.
    #[must_use]
    pub fn figures(&self, now: Duration) -> Figures {
        let states = State::ALL.iter().map(|state| (*state, self.counts[*state as usize])).collect();
        let oldest = self.waiting.first().and_then(|seq| self.entries.get(seq));
        let oldest = oldest.map_or(0, |entry| millis(now).saturating_sub(entry.created));
        let drain = |gate: &Gate| Drain {
            channel: gate.channel.clone(),
            in_flight: gate.in_flight,
            rate: gate.pace.factor(now) / self.rules.rate.interval().as_secs_f64(),
            sent: gate.sent,
            paused: gate.pace.is_paused(now),
        };
        let depth = |lane: &Lane| Depth {
            upstream: lane.upstream.clone(),
            waiting: Class::ALL.map(|class| (class, lane.line.length_of(class))),
            // One that the file does not have any more is told of while something is under way there.
            channels: lane.gates.iter().filter(|gate| gate.in_use || gate.in_flight > 0).map(drain).collect(),
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
