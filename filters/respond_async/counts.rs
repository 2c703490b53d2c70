//! What has been decided how often, and how it stands, as metrics.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tidegate_durable::Stats;

use super::core::{Figures, State};
use crate::engine::{Sample, SampleKind};

/// What became of a request, or of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    Accepted,
    Repeated,
    Mismatch,
    Shed,
    Quota,
    StoreError,
    Passed,
    Retried,
    DeadLetter,
    Parked,
    Unknown,
    Done,
    Cancelled,
    Expired,
    AskedTooOften,
}

const EVENTS: [(Event, &str); 15] = [
    (Event::Accepted, "accepted"),
    (Event::Repeated, "repeated"),
    (Event::Mismatch, "mismatch"),
    (Event::Shed, "shed"),
    (Event::Quota, "quota"),
    (Event::StoreError, "store_error"),
    (Event::Passed, "passed"),
    (Event::Retried, "retried"),
    (Event::DeadLetter, "dead_letter"),
    (Event::Parked, "parked"),
    (Event::Unknown, "unknown"),
    (Event::Done, "done"),
    (Event::Cancelled, "cancelled"),
    (Event::Expired, "expired"),
    (Event::AskedTooOften, "asked_too_often"),
];

impl Event {
    /// What a record's new state counts as; `None` for steps of its usual way.
    pub(super) fn of(state: State) -> Option<Self> {
        match state {
            State::Queued | State::Running => None,
            State::Retrying => Some(Event::Retried),
            State::DeadLetter => Some(Event::DeadLetter),
            State::Unknown => Some(Event::Unknown),
            State::Parked => Some(Event::Parked),
            State::Done => Some(Event::Done),
            State::Cancelled => Some(Event::Cancelled),
            State::Expired => Some(Event::Expired),
        }
    }
}

/// Counters of one filter.
#[derive(Default)]
pub(super) struct Counts([AtomicU64; EVENTS.len()]);

impl Counts {
    pub(super) fn count(&self, event: Event) {
        self.0[event as usize].fetch_add(1, Relaxed);
    }

    #[expect(clippy::cast_precision_loss, reason = "a metric is a double by definition")]
    pub(super) fn samples(
        &self,
        filter: &Arc<str>,
        figures: &Figures,
        passing: usize,
        (disk, (over, bytes)): (Stats, (usize, u64)),
        out: &mut Vec<Sample>,
    ) {
        let label = || ("filter", filter.to_string());
        let mut push = |name, help, kind, labels, value: f64| out.push(Sample { name, help, kind, labels, value });
        let (counter, gauge) = (SampleKind::Counter, SampleKind::Gauge);
        for (event, word) in EVENTS {
            let labels = vec![label(), ("event", word.to_owned())];
            let help = "What became of requests and of deferred ones.";
            push("tidegate_deferred_total", help, counter, labels, self.0[event as usize].load(Relaxed) as f64);
        }
        for (state, count) in figures.states.iter().filter(|(state, _)| !state.is_over()) {
            let labels = vec![label(), ("state", state.as_str().to_lowercase())];
            push("tidegate_deferred_records", "Deferred requests that are not over.", gauge, labels, *count as f64);
        }
        let help = "Bytes of bodies that wait on the disk.";
        push("tidegate_deferred_bytes", help, gauge, vec![label()], figures.bytes as f64);
        let help = "Deferred requests of the store that are over and still known.";
        push("tidegate_deferred_over", help, gauge, vec![label()], over as f64);
        let help = "Bytes of their answers.";
        push("tidegate_deferred_answer_bytes", help, gauge, vec![label()], bytes as f64);
        let help = "Age of the oldest request that waits.";
        push("tidegate_deferred_oldest_seconds", help, gauge, vec![label()], figures.oldest.as_secs_f64());
        let help = "Requests that were let through at once and are under way.";
        push("tidegate_deferred_passing", help, gauge, vec![label()], passing as f64);
        let help = "Commits of the disk, each with one wait for it.";
        push("tidegate_deferred_commits_total", help, counter, vec![label()], disk.commits as f64);
        for lane in &figures.lanes {
            let upstream = || ("upstream", lane.upstream.to_string());
            for (class, waiting) in lane.waiting {
                let labels = vec![label(), upstream(), ("class", class.as_str().to_owned())];
                push("tidegate_deferred_depth", "Requests in line.", gauge, labels, waiting as f64);
            }
            for drain in &lane.channels {
                let labels = || vec![label(), upstream(), ("channel", drain.channel.to_string())];
                push("tidegate_deferred_sent_total", "Tries sent.", counter, labels(), drain.sent as f64);
                push("tidegate_deferred_in_flight", "Tries under way.", gauge, labels(), drain.in_flight as f64);
                let help = "Requests a second that may be sent now.";
                push("tidegate_deferred_rate", help, gauge, labels(), drain.rate);
                let help = "Whether the channel may not be asked now.";
                push("tidegate_deferred_paused", help, gauge, labels(), f64::from(u8::from(drain.paused)));
            }
        }
    }
}

/// What a filter owes that the configuration does not have; nothing of one that it has.
#[expect(clippy::cast_precision_loss, reason = "a metric is a double by definition")]
pub(super) fn owed(filter: &Arc<str>, owed: usize) -> Sample {
    Sample {
        name: "tidegate_deferred_orphaned",
        help: "Deferred requests that are not over, of a filter that the configuration does not have.",
        kind: SampleKind::Gauge,
        labels: vec![("filter", filter.to_string())],
        value: owed as f64,
    }
}
