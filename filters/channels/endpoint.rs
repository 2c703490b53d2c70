//! Whether one address of a channel can be used: so many bad signs in a row and it is out, so many good ones and it is in.
//!
//! Probes and refused connections are bad signs alike; only probes bring an endpoint back, since nobody else asks one
//! that is out. An answer to ordinary traffic ends a row of bad signs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

/// How many signs in a row change an endpoint's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Streaks {
    /// Bad ones until it is out.
    pub out: u32,
    /// Good ones until it is in.
    pub back: u32,
}

/// What is known about one endpoint. Kept over reloads.
pub struct EndpointHealth {
    /// `host:port`, as written.
    pub address: Arc<str>,
    is_out: AtomicBool,
    row: AtomicU32,
}

impl EndpointHealth {
    /// An endpoint that nothing bad is known about.
    #[must_use]
    pub fn new(address: Arc<str>) -> Self {
        Self { address, is_out: AtomicBool::new(false), row: AtomicU32::new(0) }
    }

    /// Whether it can be used.
    #[must_use]
    pub fn is_in(&self) -> bool {
        !self.is_out.load(Relaxed)
    }

    /// A probe ended well or badly. True when the state changed.
    pub fn probed(&self, well: bool, streaks: Streaks) -> bool {
        if well == self.is_in() {
            self.row.store(0, Relaxed);
            return false;
        }
        let row = self.row.fetch_add(1, Relaxed) + 1;
        let needed = if well { streaks.back } else { streaks.out };
        if row < needed {
            return false;
        }
        self.row.store(0, Relaxed);
        // Whoever changes it says so: a probe and a refused connection may come together.
        self.is_out.swap(!well, Relaxed) == well
    }

    /// A connection for ordinary traffic was refused. True when the state changed.
    pub fn refused(&self, streaks: Streaks) -> bool {
        self.is_in() && self.probed(false, streaks)
    }

    /// It answered ordinary traffic.
    pub fn answered(&self) {
        if self.is_in() && self.row.load(Relaxed) != 0 {
            self.row.store(0, Relaxed);
        }
    }

    /// Nobody probes it any more, so nobody would bring it back: nothing bad is held against it.
    pub fn forgive(&self) {
        self.row.store(0, Relaxed);
        self.is_out.store(false, Relaxed);
    }
}
