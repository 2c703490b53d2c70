//! Idle connections, the latest first: the one used last is the least likely to have been closed meanwhile.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::conn::Conn;

/// Idle connections kept to one address.
const MOST_IDLE: usize = 64;

/// Idle connections by address and protocol. Outlives reloads.
#[derive(Default)]
pub(super) struct Pool {
    idle: Mutex<HashMap<(SocketAddr, bool), Vec<(Instant, Conn)>>>,
}

impl Pool {
    /// A connection that was idle for less than `longest` and is still sound; `None` when there is none.
    pub(super) fn take(&self, to: (SocketAddr, bool), longest: Duration) -> Option<Conn> {
        let mut idle = self.idle.lock();
        let kept = idle.get_mut(&to)?;
        while let Some((since, conn)) = kept.pop() {
            if since.elapsed() >= longest {
                // The ones below have been idle for longer.
                kept.clear();
                return None;
            }
            if conn.sound() {
                return Some(conn);
            }
        }
        None
    }

    /// Keeps a connection for the next request.
    pub(super) fn put(&self, to: (SocketAddr, bool), conn: Conn) {
        let mut idle = self.idle.lock();
        let kept = idle.entry(to).or_default();
        if kept.len() < MOST_IDLE {
            kept.push((Instant::now(), conn));
        }
    }
}
