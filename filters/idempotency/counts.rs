//! What has been decided how often, and how long the store took.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::engine::{Sample, SampleKind};

/// What became of a request with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Result {
    New,
    Replay,
    Coalesced,
    Conflict,
    Mismatch,
    Unknown,
    Refused,
    StoreError,
}

const RESULTS: [(Result, &str); 8] = [
    (Result::New, "new"),
    (Result::Replay, "replay"),
    (Result::Coalesced, "coalesced"),
    (Result::Conflict, "conflict"),
    (Result::Mismatch, "mismatch"),
    (Result::Unknown, "unknown"),
    (Result::Refused, "refused"),
    (Result::StoreError, "store_error"),
];

/// Counters of one filter.
pub(super) struct Counts {
    filter: Arc<str>,
    results: [AtomicU64; RESULTS.len()],
    asked: AtomicU64,
    asked_ns: AtomicU64,
}

impl Counts {
    pub(super) fn new(filter: Arc<str>) -> Self {
        Self { filter, results: Default::default(), asked: AtomicU64::new(0), asked_ns: AtomicU64::new(0) }
    }

    pub(super) fn count(&self, result: Result) {
        self.results[result as usize].fetch_add(1, Relaxed);
    }

    /// The store took so long for a claim.
    pub(super) fn asked(&self, took: Duration) {
        self.asked.fetch_add(1, Relaxed);
        self.asked_ns.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    #[expect(clippy::cast_precision_loss, reason = "a metric is a double by definition")]
    pub(super) fn samples(&self, live: usize, (records, commits): (usize, u64), out: &mut Vec<Sample>) {
        let label = || ("filter", self.filter.to_string());
        let mut push = |name, help, kind, labels, value: f64| out.push(Sample { name, help, kind, labels, value });
        let (counter, gauge) = (SampleKind::Counter, SampleKind::Gauge);
        for (result, word) in RESULTS {
            let labels = vec![label(), ("result", word.to_owned())];
            let value = self.results[result as usize].load(Relaxed) as f64;
            push("tidegate_idempotency_total", "Requests with a key, by what became of them.", counter, labels, value);
        }
        let help = "Requests with a key that are being carried out.";
        push("tidegate_idempotency_in_flight", help, gauge, vec![label()], live as f64);
        push("tidegate_idempotency_records", "Records in the store.", gauge, vec![label()], records as f64);
        let help = "Commits of the store to its file, each with one wait for the disk.";
        push("tidegate_idempotency_commits_total", help, counter, vec![label()], commits as f64);
        let (asked, nanos) = (self.asked.load(Relaxed) as f64, self.asked_ns.load(Relaxed) as f64);
        push("tidegate_idempotency_store_claims_total", "Claims asked of the store.", counter, vec![label()], asked);
        let help = "Time the store took for them.";
        push("tidegate_idempotency_store_seconds_total", help, counter, vec![label()], nanos / 1e9);
    }
}
