//! Idle connections, the latest first: the one used last is the least likely to have been closed meanwhile.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::conn::Conn;

/// Idle connections kept to one address.
const MOST_IDLE: usize = 64;

/// An address, whether HTTP/2 is spoken there, and under which TLS settings.
pub(super) type Place = (SocketAddr, bool, Option<u64>);

/// Idle connections with the moment until which they may be used. Outlives reloads.
#[derive(Default)]
pub(super) struct Pool {
    idle: Mutex<HashMap<Place, Vec<(Instant, Conn)>>>,
}

impl Pool {
    /// A connection that is still sound; `None` when there is none.
    pub(super) fn take(&self, to: Place) -> Option<Conn> {
        let mut idle = self.idle.lock();
        let kept = idle.get_mut(&to)?;
        let now = Instant::now();
        while let Some((until, conn)) = kept.pop() {
            if now < until && conn.sound() {
                return Some(conn);
            }
        }
        None
    }

    /// Keeps a connection for the next request within `idle`.
    pub(super) fn put(&self, to: Place, conn: Conn, idle: Duration) {
        let mut all = self.idle.lock();
        let kept = all.entry(to).or_default();
        if kept.len() < MOST_IDLE {
            kept.push((Instant::now() + idle, conn));
        }
    }

    /// Closes what is old or broken; a channel that is gone from the configuration is asked for by nobody else.
    pub(super) fn sweep(&self) {
        let now = Instant::now();
        self.idle.lock().retain(|_, kept| {
            kept.retain(|(until, conn)| now < *until && conn.sound());
            !kept.is_empty()
        });
    }
}
