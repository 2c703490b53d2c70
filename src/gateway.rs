//! The running process: the current snapshot, and what outlives every snapshot.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use tidegate_filters::engine::{KeyHasher, Nanos, StateRegistry};

use crate::deferred::Worker;
use crate::payments::Payments;
use crate::snapshot::Snapshot;
use crate::telemetry::Telemetry;

/// The process's clock: monotonic nanoseconds since start, and wall time derived from it.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: Instant,
    started_unix: Duration,
}

impl Clock {
    /// A clock that starts now.
    #[must_use]
    pub fn start() -> Self {
        let started_unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { started: Instant::now(), started_unix }
    }

    /// Nanoseconds since start.
    #[must_use]
    pub fn now(&self) -> Nanos {
        Nanos(u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// Wall time of a moment of this clock, for log lines. Does not follow later changes of the system's clock.
    #[must_use]
    pub fn unix(&self, at: Nanos) -> Duration {
        self.started_unix + Duration::from_nanos(at.0)
    }
}

/// What every snapshot is built from and every reload keeps.
pub struct Shared {
    /// What filters remember.
    pub states: StateRegistry,
    /// Makes keys; its seeds live as long as the process, so keys survive a reload.
    pub hasher: KeyHasher,
    /// The only clock of the data path.
    pub clock: Clock,
    /// Metrics and the access log.
    pub telemetry: Telemetry,
    /// Payments under way, and their journal.
    pub payments: Payments,
    /// Sends requests that were deferred.
    pub deferred: Worker,
}

/// The gateway: one snapshot at a time over what is shared.
pub struct Gateway {
    /// What outlives snapshots.
    pub shared: Arc<Shared>,
    current: ArcSwap<Snapshot>,
}

impl Gateway {
    /// A gateway that serves `first`.
    #[must_use]
    pub fn new(shared: Arc<Shared>, first: Arc<Snapshot>) -> Self {
        first.activate();
        Self { shared, current: ArcSwap::new(first) }
    }

    /// The snapshot that new requests live under. The caller keeps it for the whole request.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// All that a reload does to the data path: new requests see `next`, running ones keep what they have. Returns the
    /// snapshot that was current.
    pub fn swap(&self, next: Arc<Snapshot>) -> Arc<Snapshot> {
        let before = self.current.swap(next.clone());
        next.activate();
        before
    }
}
