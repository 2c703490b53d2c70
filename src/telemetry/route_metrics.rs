//! Counters of routes and channels. Kept in the state registry, so a reload does not reset them.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tidegate_filters::engine::State;

use super::histogram::Histogram;

/// Methods with a series of their own; anything else is `other`, so that clients cannot invent series.
pub(super) const METHODS: [&str; 8] = ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "other"];
/// Statuses with a series: 100 to 599.
pub(super) const STATUSES: std::ops::Range<u16> = 100..600;

/// Counters of one route.
pub struct RouteMetrics {
    pub(super) route: Arc<str>,
    pub(super) requests: Box<[[AtomicU64; METHODS.len()]]>,
    pub(super) duration: Histogram,
    pub(super) in_flight: AtomicI64,
}

impl RouteMetrics {
    /// Counters at zero.
    #[must_use]
    pub fn new(route: Arc<str>) -> Self {
        let requests = STATUSES.map(|_| Default::default()).collect();
        Self { route, requests, duration: Histogram::default(), in_flight: AtomicI64::new(0) }
    }

    /// A request was routed here.
    pub fn started(&self) {
        self.in_flight.fetch_add(1, Relaxed);
    }

    /// A request that had started is over.
    pub fn finished(&self, method: &str, status: u16, took: Duration) {
        let method = METHODS.iter().position(|known| *known == method).unwrap_or(METHODS.len() - 1);
        let row = usize::from(status.clamp(STATUSES.start, STATUSES.end - 1) - STATUSES.start);
        self.requests[row][method].fetch_add(1, Relaxed);
        self.duration.observe(took);
        self.in_flight.fetch_sub(1, Relaxed);
    }
}

impl State for RouteMetrics {}

/// Counters of one channel.
#[derive(Default)]
pub struct ChannelMetrics {
    pub(super) results: [AtomicU64; Self::RESULTS.len()],
}

impl ChannelMetrics {
    pub(super) const RESULTS: [&'static str; 6] =
        ["ok", "client_error", "server_error", "connect_failed", "timeout", "broken"];

    /// Counters at zero.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A status arrived.
    pub fn answered(&self, status: u16) {
        let result = match status {
            ..400 => 0,
            400..500 => 1,
            _ => 2,
        };
        self.results[result].fetch_add(1, Relaxed);
    }

    /// No connection.
    pub fn connect_failed(&self) {
        self.results[3].fetch_add(1, Relaxed);
    }

    /// No answer in time.
    pub fn timed_out(&self) {
        self.results[4].fetch_add(1, Relaxed);
    }

    /// The connection broke.
    pub fn broken(&self) {
        self.results[5].fetch_add(1, Relaxed);
    }
}

impl State for ChannelMetrics {}
