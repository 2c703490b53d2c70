//! Bounds on connections: in all, and for each client address. A request that goes on without its client needs a seat, too:
//! else a client could open and leave streams of one connection as fast as it likes, and have an upstream work on them all.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use ahash::RandomState;
use parking_lot::Mutex;

use crate::config::Limits;
use crate::snapshot::client_prefix;

/// Shards of the count by address; connections come and go on every worker at once.
const SHARDS: usize = 16;

/// Who is connected.
#[derive(Default)]
pub struct Seats {
    total: AtomicUsize,
    streams: AtomicUsize,
    hasher: RandomState,
    by_client: [Mutex<std::collections::HashMap<IpAddr, usize, RandomState>>; SHARDS],
}

/// One connection's seat, free again when dropped.
pub(crate) struct Seat {
    seats: Arc<Seats>,
    client: IpAddr,
}

/// A running stream of HTTP/2, until this is dropped; its connection may end before.
pub(crate) struct Stream(Arc<Seats>);

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Relaxed);
    }
}

/// Why there is no seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// The gateway has all connections it may have.
    All,
    /// This address has all connections it may have.
    Client,
}

impl Seats {
    /// Whether there are connections, or requests that have outlived theirs.
    #[must_use]
    pub fn any(&self) -> bool {
        self.total.load(Relaxed) + self.streams.load(Relaxed) > 0
    }

    /// A stream of HTTP/2 begins.
    pub(crate) fn stream(self: &Arc<Self>) -> Stream {
        self.streams.fetch_add(1, Relaxed);
        Stream(self.clone())
    }

    /// Takes a seat for a client.
    pub(crate) fn take(self: &Arc<Self>, client: IpAddr, limits: &Limits) -> Result<Seat, Full> {
        let client = client_prefix(client);
        if self.total.fetch_add(1, Relaxed) >= limits.max_connections {
            self.total.fetch_sub(1, Relaxed);
            return Err(Full::All);
        }
        let mut shard = self.shard(client).lock();
        let count = shard.entry(client).or_insert(0);
        if *count >= limits.max_connections_per_client {
            drop(shard);
            self.total.fetch_sub(1, Relaxed);
            return Err(Full::Client);
        }
        *count += 1;
        drop(shard);
        Ok(Seat { seats: self.clone(), client })
    }

    fn shard(&self, client: IpAddr) -> &Mutex<std::collections::HashMap<IpAddr, usize, RandomState>> {
        let hash = usize::try_from(self.hasher.hash_one(client) & 0xffff).unwrap_or(0);
        &self.by_client[hash % SHARDS]
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.total.fetch_sub(1, Relaxed);
        let mut shard = self.seats.shard(self.client).lock();
        if let Some(count) = shard.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                shard.remove(&self.client);
                // A crowd that left must not hold its table's memory.
                if shard.capacity() > 1_024 && shard.len() * 4 < shard.capacity() {
                    shard.shrink_to_fit();
                }
            }
        }
    }
}
