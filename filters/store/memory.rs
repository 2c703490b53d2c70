//! Records in this process: gone with it, so a repeat behind a restart is a new request. For a first look and for what an
//! upstream protects by itself.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;

use super::{
    Answer, Bounds, Claim, Claimed, End, Fingerprint, Kept, Most, RecordId, RecordStore, Settle, StoreError, Stored,
};

/// Parts with a lock each.
const SHARDS: usize = 16;
/// So many that are gone may stand in the order of answers, besides one for each that is there.
const MOST_GONE: usize = 1_024;

struct Row {
    fingerprint: Fingerprint,
    token: u128,
    state: State,
    /// When a running claim counts as lost.
    lease: Duration,
    /// When it may be forgotten.
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

type Rows = HashMap<RecordId, Row>;

/// Records in memory.
pub struct MemoryRecords {
    shards: [Mutex<Rows>; SHARDS],
    /// Those that have an answer, that which came first in front; by id and token. Some are gone since.
    answered: Mutex<VecDeque<(RecordId, u128)>>,
    fence: AtomicU64,
    kept: Kept,
    bounds: Arc<Bounds>,
}

impl Default for MemoryRecords {
    fn default() -> Self {
        Self::new(Arc::new(Bounds::new(Most::IN_MEMORY)))
    }
}

impl MemoryRecords {
    pub(crate) fn new(bounds: Arc<Bounds>) -> Self {
        Self {
            shards: Default::default(),
            answered: Mutex::default(),
            fence: AtomicU64::new(0),
            kept: Kept::default(),
            bounds,
        }
    }

    fn shard(&self, id: RecordId) -> &Mutex<Rows> {
        &self.shards[usize::from(id.0[0]) % SHARDS]
    }

    /// Lets answers go, that which came first in front, until there is room.
    fn make_room(&self) {
        while self.kept.bytes() > self.bounds.bytes() {
            let Some((id, token)) = self.answered.lock().pop_front() else { return };
            let rows = &mut *self.shard(id).lock();
            let Some(row) = rows.get_mut(&id).filter(|row| row.token == token) else { continue };
            self.kept.less(0, row.size() as u64);
            if let State::Done(stored) = &mut row.state {
                *stored = Arc::new(Stored { status: stored.status, headers: Vec::new(), body: None });
            }
        }
    }

    /// Those that are gone stand in the order no longer, once they are many.
    fn tidy(&self) {
        let mut answered = self.answered.lock();
        if answered.len() > 2 * self.kept.records() + MOST_GONE {
            answered.retain(|(id, token)| self.shard(*id).lock().get(id).is_some_and(|row| row.token == *token));
        }
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
                if self.kept.records() >= self.bounds.records() {
                    return Err(StoreError::Full);
                }
                self.kept.more(1, 0);
                place.insert(row());
                Ok(Claimed::New { fence: fence() })
            }
            Entry::Occupied(mut place) => {
                let known = place.get_mut();
                if matches!(known.state, State::Running) && known.lease <= claim.now {
                    known.state = State::Unknown;
                }
                if !matches!(known.state, State::Running) && known.until <= claim.now {
                    self.kept.less(0, known.size() as u64);
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

    /// Whether an answer came with it.
    fn settle_row(&self, settle: Settle) -> bool {
        let mut rows = self.shard(settle.id).lock();
        let Entry::Occupied(mut place) = rows.entry(settle.id) else { return false };
        let row = place.get_mut();
        let open = matches!(row.state, State::Running | State::Unknown);
        if row.token != settle.token || !open {
            return false;
        }
        row.until = settle.until;
        match settle.end {
            // What was given up as unknown may have been done: it does not become free again.
            End::Released if matches!(row.state, State::Running) => {
                place.remove();
                self.kept.less(1, 0);
            }
            End::Released => (),
            End::Unknown => row.state = State::Unknown,
            End::Done(stored) => {
                self.kept.more(0, size(&stored));
                row.state = State::Done(stored);
                return true;
            }
        }
        false
    }

    fn settle_now(&self, settle: Settle) {
        let name = (settle.id, settle.token);
        if self.settle_row(settle) {
            self.answered.lock().push_back(name);
            self.make_room();
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
                // One that runs has its lease on top.
                let stays = row.until > now;
                if !stays {
                    self.kept.less(1, row.size() as u64);
                }
                stays
            });
        }
        self.tidy();
    }

    fn len(&self) -> usize {
        self.kept.records()
    }
}
