//! Records in this process: gone with it, so a repeat behind a restart is a new request. For a first look and for what an
//! upstream protects by itself.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;

use super::{Answer, Claim, Claimed, End, Fingerprint, RecordId, RecordStore, Settle, StoreError, Stored};

/// Parts with a lock each.
const SHARDS: usize = 16;
/// Records at most. One more is refused: to forget one would be to carry it out twice.
const MOST_RECORDS: usize = 500_000;
/// Bytes of answers at most.
const MOST_BYTES: usize = 256 << 20;

struct Row {
    fingerprint: Fingerprint,
    token: u128,
    state: State,
    /// When a running claim counts as lost.
    lease: Duration,
    /// When it may be forgotten, unless it runs.
    until: Duration,
}

enum State {
    Running,
    Unknown,
    Done(Arc<Stored>),
}

impl Row {
    fn size(&self) -> usize {
        match &self.state {
            State::Done(stored) => size(stored),
            State::Running | State::Unknown => 0,
        }
    }
}

fn size(stored: &Stored) -> usize {
    let headers: usize = stored.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    headers + stored.body.as_ref().map_or(0, bytes::Bytes::len)
}

/// Records in memory.
#[derive(Default)]
pub struct MemoryRecords {
    shards: [Mutex<HashMap<RecordId, Row>>; SHARDS],
    fence: AtomicU64,
    records: AtomicUsize,
    bytes: AtomicUsize,
}

impl MemoryRecords {
    fn shard(&self, id: RecordId) -> &Mutex<HashMap<RecordId, Row>> {
        &self.shards[usize::from(id.0[0]) % SHARDS]
    }

    fn claim_now(&self, claim: &Claim) -> Result<Claimed, StoreError> {
        let mut rows = self.shard(claim.id).lock();
        let row = || Row {
            fingerprint: claim.fingerprint,
            token: claim.token,
            state: State::Running,
            lease: claim.now + claim.lease,
            until: claim.now + claim.lease + claim.keep,
        };
        let fence = || self.fence.fetch_add(1, Relaxed) + 1;
        match rows.entry(claim.id) {
            Entry::Vacant(place) => {
                if self.records.load(Relaxed) >= MOST_RECORDS || self.bytes.load(Relaxed) >= MOST_BYTES {
                    return Err(StoreError::Full);
                }
                self.records.fetch_add(1, Relaxed);
                place.insert(row());
                Ok(Claimed::New { fence: fence() })
            }
            Entry::Occupied(mut place) => {
                let known = place.get_mut();
                if matches!(known.state, State::Running) && known.lease <= claim.now {
                    known.state = State::Unknown;
                }
                if !matches!(known.state, State::Running) && known.until <= claim.now {
                    self.bytes.fetch_sub(known.size(), Relaxed);
                    *known = row();
                    return Ok(Claimed::New { fence: fence() });
                }
                if known.fingerprint != claim.fingerprint {
                    return Ok(Claimed::Mismatch);
                }
                Ok(match &known.state {
                    State::Running => Claimed::Running,
                    State::Done(stored) => Claimed::Done(stored.clone()),
                    State::Unknown if claim.again => {
                        *known = row();
                        Claimed::New { fence: fence() }
                    }
                    State::Unknown => Claimed::Unknown,
                })
            }
        }
    }

    fn settle_now(&self, settle: Settle) {
        let mut rows = self.shard(settle.id).lock();
        let Entry::Occupied(mut place) = rows.entry(settle.id) else { return };
        let row = place.get_mut();
        let open = matches!(row.state, State::Running | State::Unknown);
        if row.token != settle.token || !open {
            return;
        }
        row.until = settle.until;
        match settle.end {
            // What was given up as unknown may have been done: it does not become free again.
            End::Released if matches!(row.state, State::Running) => {
                place.remove();
                self.records.fetch_sub(1, Relaxed);
            }
            End::Released => (),
            End::Unknown => row.state = State::Unknown,
            End::Done(stored) => {
                self.bytes.fetch_add(size(&stored), Relaxed);
                row.state = State::Done(stored);
            }
        }
    }
}

impl RecordStore for MemoryRecords {
    fn claim(&self, claim: Claim) -> Answer<Claimed> {
        Answer::Now(self.claim_now(&claim))
    }

    fn settle(&self, settle: Settle) -> Answer<()> {
        self.settle_now(settle);
        Answer::Now(Ok(()))
    }

    fn post(&self, settle: Settle) {
        self.settle_now(settle);
    }

    fn purge(&self, now: Duration) {
        for shard in &self.shards {
            shard.lock().retain(|_, row| {
                let stays = row.until > now || matches!(row.state, State::Running);
                if !stays {
                    self.records.fetch_sub(1, Relaxed);
                    self.bytes.fetch_sub(row.size(), Relaxed);
                }
                stays
            });
        }
    }

    fn len(&self) -> usize {
        self.records.load(Relaxed)
    }
}
