//! Requests that are being carried out by this process: twins find each other here without asking the store.
//!
//! A flight is somebody's request from the moment its key is looked at until its end is known. There is one flight for a
//! record; who comes second waits for its end, or is told that it is under way. Flights are bounded for each principal, so
//! that nobody fills the store with claims.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::counts::Counts;
use crate::engine::{Nanos, Sample, State};
use crate::store::{Fingerprint, RecordId, RecordStore, Stored};

/// Twins that wait for one flight; more are told at once that it is under way.
const MOST_TWINS: usize = 1_000;
/// How often the store is told to forget, in nanoseconds of the clock.
const PURGE_EVERY: u64 = 30_000_000_000;

/// How a flight ended.
#[derive(Clone, Debug)]
pub(super) enum Landing {
    /// With an answer that can be given again.
    Done(Arc<Stored>),
    /// Nobody knows.
    Unknown,
    /// With nothing done, or with nothing that could be told.
    Nothing,
    /// The record is of another request.
    Mismatch,
}

/// One request under way.
pub(super) struct Flight {
    fingerprint: Fingerprint,
    landing: watch::Sender<Option<Landing>>,
}

/// What becomes of one who comes.
pub(super) enum Entered {
    /// Nobody was there.
    Leads(Arc<Flight>),
    /// Somebody is; its end comes by the receiver.
    Twin(watch::Receiver<Option<Landing>>),
    /// Somebody is, and too many wait already.
    Crowd,
    /// Somebody is, with the same key for another request.
    Mismatch,
    /// The principal has too many requests under way.
    TooMany,
}

#[derive(Default)]
struct Table {
    flights: HashMap<RecordId, Arc<Flight>>,
    by_principal: HashMap<[u8; 32], usize>,
}

/// All flights of one filter, and what it has counted. Kept over reloads.
pub(super) struct Live {
    table: Mutex<Table>,
    pub(super) store: Arc<dyn RecordStore>,
    pub(super) counts: Counts,
    epoch: std::time::Duration,
    purged_at: Mutex<Nanos>,
}

impl Live {
    pub(super) fn new(filter: Arc<str>, store: Arc<dyn RecordStore>, epoch: std::time::Duration) -> Self {
        let (table, purged_at) = (Mutex::default(), Mutex::default());
        Self { table, store, counts: Counts::new(filter), epoch, purged_at }
    }

    /// Time since 1970.
    pub(super) fn unix(&self, now: Nanos) -> std::time::Duration {
        self.epoch + std::time::Duration::from_nanos(now.0)
    }

    pub(super) fn enter(&self, id: RecordId, fingerprint: Fingerprint, principal: [u8; 32], most: usize) -> Entered {
        let mut table = self.table.lock();
        if let Some(flight) = table.flights.get(&id) {
            return match flight.fingerprint == fingerprint {
                false => Entered::Mismatch,
                true if flight.landing.receiver_count() >= MOST_TWINS => Entered::Crowd,
                true => Entered::Twin(flight.landing.subscribe()),
            };
        }
        let count = table.by_principal.entry(principal).or_default();
        if *count >= most {
            return Entered::TooMany;
        }
        *count += 1;
        let flight = Arc::new(Flight { fingerprint, landing: watch::channel(None).0 });
        table.flights.insert(id, flight.clone());
        Entered::Leads(flight)
    }

    /// The end of a flight: twins are told, and the next one asks the store.
    pub(super) fn land(&self, id: RecordId, principal: &[u8; 32], flight: &Flight, landing: Landing) {
        let mut table = self.table.lock();
        table.flights.remove(&id);
        if let Some(count) = table.by_principal.get_mut(principal) {
            *count -= 1;
            if *count == 0 {
                table.by_principal.remove(principal);
            }
        }
        drop(table);
        flight.landing.send_replace(Some(landing));
    }

    pub(super) fn len(&self) -> usize {
        self.table.lock().flights.len()
    }
}

impl State for Live {
    fn sweep(&self, now: Nanos) -> usize {
        let due = {
            let mut purged_at = self.purged_at.lock();
            let due = now.0.saturating_sub(purged_at.0) >= PURGE_EVERY;
            if due {
                *purged_at = now;
            }
            due
        };
        if due {
            self.store.purge(self.unix(now));
        }
        self.len()
    }

    fn samples(&self, out: &mut Vec<Sample>) {
        self.counts.samples(self.len(), (self.store.len(), self.store.commits()), out);
    }
}
