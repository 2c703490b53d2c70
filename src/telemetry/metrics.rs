//! Counters that belong to no route: connections, the door, reloads.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use parking_lot::Mutex;

use super::OpenConnection;

/// Label values and the count they have.
pub(super) type Counts<K> = Mutex<BTreeMap<K, u64>>;

/// How the last reload ended.
#[derive(Clone, Debug, Default)]
pub(super) struct ReloadState {
    pub(super) successful: bool,
    pub(super) success_unix: f64,
    pub(super) generation: u64,
    pub(super) hash: String,
}

/// The process's counters.
#[derive(Default)]
pub struct Metrics {
    /// By listener number.
    pub(super) open: Mutex<Vec<Arc<AtomicI64>>>,
    pub(super) refused_connections: Counts<&'static str>,
    pub(super) door_refusals: Counts<&'static str>,
    pub(super) reloads: Counts<(String, String)>,
    pub(super) state_actions: Counts<String>,
    pub(super) watch_events: Counts<String>,
    pub(super) reload: Mutex<ReloadState>,
}

fn add<K: Ord>(counts: &Counts<K>, key: K) {
    *counts.lock().entry(key).or_insert(0) += 1;
}

impl Metrics {
    /// A connection was accepted at that listener; it is open until the result is dropped.
    #[must_use]
    pub fn connection_opened(&self, listener: usize) -> OpenConnection {
        let mut open = self.open.lock();
        while open.len() <= listener {
            open.push(Arc::default());
        }
        OpenConnection::count(&open[listener])
    }

    /// A connection was turned away: `total` or `client`.
    pub fn connection_refused(&self, bound: &'static str) {
        add(&self.refused_connections, bound);
    }

    /// A head or body was refused before there was a request.
    pub fn door_refused(&self, reason: &'static str) {
        add(&self.door_refusals, reason);
    }

    /// A reload ended.
    pub fn reloaded(&self, result: &str, source: &str) {
        add(&self.reloads, (result.to_owned(), source.to_owned()));
    }

    /// Where the configuration stands after a reload, good or bad. `success_unix`: seconds, of the last good one.
    pub fn reload_state(&self, successful: bool, success_unix: f64, generation: u64, hash: &str) {
        *self.reload.lock() = ReloadState { successful, success_unix, generation, hash: hash.to_owned() };
    }

    /// What a reload did with a filter's state: `kept`, `rescaled`, `reset`, `new`, `dropped`.
    pub fn state_action(&self, action: &str) {
        add(&self.state_actions, action.to_owned());
    }

    /// Something happened to a watched file.
    pub fn watch_event(&self, kind: &str) {
        add(&self.watch_events, kind.to_owned());
    }

    /// Connections open now at that listener.
    #[must_use]
    pub fn connections(&self, listener: usize) -> i64 {
        self.open.lock().get(listener).map_or(0, |open| open.load(Relaxed))
    }
}
