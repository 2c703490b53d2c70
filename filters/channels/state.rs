//! What one channel has been through, kept in the registry.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use parking_lot::Mutex;

use super::endpoint::EndpointHealth;
use super::pace::Pace;
use super::record::Record;
use super::vitals::Vitals;
use crate::engine::{Permit, Release, State};

/// A channel's memory: found by upstream and channel, whatever else changes in the file.
pub struct ChannelState {
    /// Its latest outcomes.
    pub record: Record,
    /// Counts of all its tries.
    pub vitals: Vitals,
    pub(super) pace: Pace,
    in_flight: AtomicI64,
    endpoints: Mutex<Vec<Arc<EndpointHealth>>>,
}

impl ChannelState {
    /// A channel that nothing is known about.
    #[must_use]
    pub fn new() -> Self {
        Self {
            record: Record::default(),
            vitals: Vitals::default(),
            pace: Pace::default(),
            in_flight: AtomicI64::new(0),
            endpoints: Mutex::default(),
        }
    }

    /// The endpoint of that address, found or made.
    #[must_use]
    pub fn endpoint(&self, address: &str) -> Arc<EndpointHealth> {
        let mut endpoints = self.endpoints.lock();
        if let Some(known) = endpoints.iter().find(|endpoint| &*endpoint.address == address) {
            return known.clone();
        }
        // Those that no snapshot names any more are forgotten when a new one comes.
        endpoints.retain(|endpoint| Arc::strong_count(endpoint) > 1);
        let endpoint = Arc::new(EndpointHealth::new(address.into()));
        endpoints.push(endpoint.clone());
        endpoint
    }

    /// One more request is on this channel until the permit is dropped.
    #[must_use]
    pub fn begin(self: &Arc<Self>) -> Permit {
        self.in_flight.fetch_add(1, Relaxed);
        Permit::new(self.clone(), 0)
    }

    /// Requests on this channel now.
    #[must_use]
    pub fn in_flight(&self) -> i64 {
        self.in_flight.load(Relaxed)
    }
}

impl Default for ChannelState {
    fn default() -> Self {
        Self::new()
    }
}

impl Release for ChannelState {
    fn release(&self, _token: u64) {
        self.in_flight.fetch_sub(1, Relaxed);
    }
}

impl State for ChannelState {}
