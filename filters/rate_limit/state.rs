//! What a policy remembers: one number a key, in shards, bounded, and carried over every reload.
//!
//! A shard is a lock around a table. Under the lock a decision is a few instructions, so the lock is held about as long
//! as a compare-exchange would be retried; what the lock buys is that a reload re-measures a shard's buckets in one step
//! while requests of the old snapshot still run, and that a request's buckets can be charged all at once (`take.rs`).

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};
use std::time::Duration;

use parking_lot::RwLock;

use super::gcra::{Quota, Standing};
use super::shard::{Desk, Inner, Lone, Plan, Shard};
use super::table::Cell;
use super::take::{Claim, Counting, Held, Refusal, take_all};
use crate::engine::{Identity, IdentityId, Key, KeyHasher, Mode, Nanos, Sample, SampleKind, State};

/// Number of shards: at a million keys a shard holds 4,000, so whatever walks one is done in tens of microseconds.
const SHARDS: usize = 256;
/// Places looked at in one shard for a bucket to forget: about a cache line's worth of misses, not a scan.
const PLACES: usize = 16;
/// Places looked at in all shards together, once the key's own had nothing to forget.
const PLACES_ELSEWHERE: usize = 512;
/// New keys that may be on their way in at once: above the most threads a gateway runs.
const MOST_AT_ONCE: usize = 1_024;
/// How long a search that found nothing is not repeated, in nanoseconds: a flood of new keys must stay cheap.
const SEARCH_PAUSE: u64 = 10_000_000;

/// Which part of a request names the bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyRule {
    /// A verified identity.
    Identity {
        /// Its name in the file.
        name: String,
        /// Its number.
        id: IdentityId,
    },
    /// The first value of a request header; nobody has verified it.
    Header(String),
}

/// Header values are hashed in a domain that no identity number reaches.
const HEADER_DOMAIN: u64 = 1 << 32;
/// The one bucket of all requests without a key lives in a domain of its own.
const SHARED_DOMAIN: u64 = 1 << 33;

impl KeyRule {
    /// The key of a text: an identity's text, or a header's value.
    #[must_use]
    pub fn key(&self, hasher: &KeyHasher, text: &str) -> Key {
        match self {
            Self::Identity { id, .. } => Identity::new(hasher, *id, text).key,
            Self::Header(_) => Self::header_key(hasher, text.as_bytes()),
        }
    }

    pub(super) fn header_key(hasher: &KeyHasher, value: &[u8]) -> Key {
        hasher.key(HEADER_DOMAIN, value)
    }

    pub(super) fn shared_key(hasher: &KeyHasher) -> Key {
        hasher.key(SHARED_DOMAIN, b"")
    }

    /// Whether the bucket belongs to everybody rather than to one client.
    #[must_use]
    pub fn shared(&self) -> bool {
        matches!(self, Self::Identity { id, .. } if [IdentityId::ROUTE, IdentityId::GLOBAL].contains(id))
    }
}

impl Hash for KeyRule {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Self::Identity { name, id } => (0u8, name, id.0).hash(state),
            Self::Header(name) => (1u8, name).hash(state),
        }
    }
}

/// A bucket as an operator sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BucketView {
    /// Whole units left.
    pub remaining: u32,
    /// Units of a full bucket.
    pub burst: u32,
    /// Until one unit can be taken; zero when one can be taken now.
    pub retry_after: Duration,
    /// When the bucket is full, if nothing is taken.
    pub full_at: Nanos,
}

/// All buckets of one policy.
pub struct Buckets {
    /// Counts up with every policy that is made: the order of locking.
    birth: u64,
    filter: Arc<str>,
    policy: Arc<str>,
    rule: KeyRule,
    /// Everybody's one key needs no table.
    solo: bool,
    shared: bool,
    version: AtomicU64,
    plan: RwLock<Arc<Plan>>,
    shards: Box<[Shard]>,
    /// The bucket of a policy with one key; otherwise the one that new keys share while there is no room.
    lone: Lone,
    keys: AtomicUsize,
    max_keys: AtomicUsize,
    search_again: AtomicU64,
    swept: AtomicU64,
    made_room: AtomicU64,
    overflowed: AtomicU64,
}

impl Buckets {
    /// Empty buckets. `quotas` begins with the policy's own limit; its overrides follow.
    #[must_use]
    pub fn new(filter: Arc<str>, policy: Arc<str>, rule: KeyRule, quotas: Vec<Quota>, max_keys: usize) -> Self {
        let plan = Arc::new(Plan { version: 0, quotas: quotas.into() });
        let solo = matches!(rule, KeyRule::Identity { id: IdentityId::GLOBAL, .. });
        let shards = (0..if solo { 0 } else { SHARDS }).map(|_| Shard::new(plan.clone())).collect();
        static BORN: AtomicU64 = AtomicU64::new(0);
        Self {
            birth: BORN.fetch_add(1, Relaxed),
            filter,
            policy,
            shared: rule.shared(),
            rule,
            solo,
            version: AtomicU64::new(0),
            lone: Lone::new(plan.clone()),
            plan: RwLock::new(plan),
            shards,
            keys: AtomicUsize::new(0),
            max_keys: AtomicUsize::new(max_keys),
            search_again: AtomicU64::new(0),
            swept: AtomicU64::new(0),
            made_room: AtomicU64::new(0),
            overflowed: AtomicU64::new(0),
        }
    }

    /// Changes limits and size. Each shard re-measures its buckets when it is next touched, by a request or a sweep: the
    /// share of every bucket that is missing stays the same, so no debt is forgiven.
    pub fn retune(&self, quotas: &[Quota], max_keys: usize) {
        self.max_keys.store(max_keys, Relaxed);
        let mut plan = self.plan.write();
        if *plan.quotas != *quotas {
            let version = plan.version + 1;
            *plan = Arc::new(Plan { version, quotas: quotas.into() });
            self.version.store(version, Release);
        }
    }

    /// Locks the bucket of `key`. A new key is counted, and not put in yet; without room it shares the lone bucket.
    pub(super) fn hold(&self, key: Key, now: Nanos) -> Held<'_> {
        if self.solo {
            return self.hold_lone(now);
        }
        let home = self.shard_number(key);
        let mut shard = self.shards[home].lock();
        self.bring_up_to_date(&mut shard, now);
        if let Some(at) = shard.table.find(key.0) {
            return Held::Known(shard, at);
        }
        if self.keys.fetch_add(1, Relaxed) < self.max_keys.load(Relaxed) || self.make_room(&mut shard, home, now) {
            return Held::New(shard);
        }
        self.uncount();
        drop(shard);
        self.overflowed.fetch_add(1, Relaxed);
        self.hold_lone(now)
    }

    /// Locks are taken in this order: shared buckets last, so that they are held shortest.
    pub(super) fn lock_rank(&self) -> (bool, u64) {
        (self.shared, self.birth)
    }

    /// A counted new key was not put in after all.
    pub(super) fn uncount(&self) {
        self.keys.fetch_sub(1, Relaxed);
    }

    /// Takes from one bucket alone; [`take_all`] takes from several at once.
    ///
    /// # Errors
    /// When there is not enough in it; nothing was taken then.
    pub fn take(&self, key: Key, cost: u32, now: Nanos) -> Result<Standing, Refusal> {
        let claim = Claim { buckets: self, key, cost, lane: 0 };
        take_all(&[claim], Counting::default(), now).map(|standings| standings[0])
    }

    /// How the bucket of `key` stands; `None` when nothing is remembered of it, which means full.
    #[must_use]
    pub fn peek(&self, key: Key, now: Nanos) -> Option<BucketView> {
        let (full_at, quota) = self.look(key, now)?;
        let Standing { remaining, .. } = quota.standing(full_at, now);
        let retry_after = Duration::from_nanos(quota.decide(full_at, 1, now).err().unwrap_or(0));
        Some(BucketView { remaining, burst: quota.burst(), retry_after, full_at: Nanos(full_at) })
    }

    /// Forgets a key's debt, on an operator's word; `false` when nothing was remembered.
    pub fn forget(&self, key: Key) -> bool {
        if self.solo {
            return std::mem::take(&mut self.lone.lock().cell.full_at) > 0;
        }
        let found = self.shards[self.shard_number(key)].lock().table.remove(key.0);
        self.keys.fetch_sub(usize::from(found), Relaxed);
        found
    }

    /// The policy's name.
    #[must_use]
    pub fn policy(&self) -> &str {
        &self.policy
    }

    /// The filter's name.
    #[must_use]
    pub fn filter(&self) -> &str {
        &self.filter
    }

    /// Which part of a request names the bucket; makes keys from text.
    #[must_use]
    pub fn rule(&self) -> &KeyRule {
        &self.rule
    }

    /// The limit in force, without overrides.
    #[must_use]
    pub fn rate(&self) -> Quota {
        self.quota(0)
    }

    /// How many keys are remembered. One key that everybody shares counts as one.
    #[must_use]
    pub fn keys(&self) -> usize {
        if self.solo { 1 } else { self.keys.load(Relaxed) }
    }

    /// Keys at most.
    #[must_use]
    pub fn max_keys(&self) -> usize {
        self.max_keys.load(Relaxed)
    }

    fn quota(&self, lane: u8) -> Quota {
        self.plan.read().quota(lane)
    }

    /// The moment a bucket is full, and the limit it was used with last.
    fn look(&self, key: Key, now: Nanos) -> Option<(u64, Quota)> {
        let seen = |desk: &Desk, cell: &Cell| (cell.full_at, desk.plan.quota(cell.lane));
        if self.solo {
            let Held::Lone(lone) = self.hold_lone(now) else { return None };
            return Some(seen(&lone.desk, &lone.cell));
        }
        let mut shard = self.shards[self.shard_number(key)].lock();
        self.bring_up_to_date(&mut shard, now);
        shard.table.get(key.0).map(|cell| seen(&shard.desk, cell))
    }

    fn hold_lone(&self, now: Nanos) -> Held<'_> {
        let mut lone = self.lone.lock();
        let inner = &mut *lone;
        self.adopt(&mut inner.desk, std::iter::once(&mut inner.cell), now);
        Held::Lone(lone)
    }

    /// The high bits: the low ones choose the place inside.
    fn shard_number(&self, key: Key) -> usize {
        (key.0 >> 120) as usize % SHARDS
    }

    fn bring_up_to_date(&self, shard: &mut Inner, now: Nanos) {
        self.adopt(&mut shard.desk, shard.table.cells_mut(), now);
    }

    fn adopt<'a>(&self, desk: &mut Desk, cells: impl Iterator<Item = &'a mut Cell>, now: Nanos) {
        if desk.plan.version != self.version.load(Acquire) {
            let plan = self.plan.read().clone();
            desk.adopt(plan, cells, now);
        }
    }

    /// Forgets a full bucket, of this shard or another, for a new key that was counted already. Other shards are only
    /// tried: to wait for one while holding another could wait for ever.
    fn make_room(&self, own: &mut Inner, home: usize, now: Nanos) -> bool {
        // A smaller limit after a reload: room is made by not taking in, until the sweep has caught up.
        if self.keys.load(Relaxed) > self.max_keys.load(Relaxed) + MOST_AT_ONCE {
            return false;
        }
        let found = own.forget_one(now, PLACES) || self.forget_elsewhere(home, now);
        if found {
            self.uncount();
            self.made_room.fetch_add(1, Relaxed);
        }
        found
    }

    fn forget_elsewhere(&self, home: usize, now: Nanos) -> bool {
        if now.0 < self.search_again.load(Relaxed) {
            return false;
        }
        let mut left = PLACES_ELSEWHERE;
        for step in 1..SHARDS {
            let Some(mut shard) = self.shards[(home + step) % SHARDS].try_lock() else { continue };
            self.bring_up_to_date(&mut shard, now);
            if shard.forget_one(now, PLACES) {
                return true;
            }
            left = left.saturating_sub(shard.table.len().min(PLACES));
            if left == 0 {
                break;
            }
        }
        self.search_again.store(now.0.saturating_add(SEARCH_PAUSE), Relaxed);
        false
    }

    /// The mode's and outcome's share of all decisions.
    fn decided(&self) -> [[u64; 2]; 2] {
        let mut sum = self.lone.lock().desk.decided;
        for shard in &self.shards {
            for (sum, add) in sum.iter_mut().flatten().zip(shard.lock().desk.decided.iter().flatten()) {
                *sum += add;
            }
        }
        sum
    }
}

impl State for Buckets {
    /// One shard at a time; each lock is held for a walk over its few thousand places.
    fn sweep(&self, now: Nanos) -> usize {
        if self.solo {
            return 1;
        }
        for shard in &self.shards {
            let mut shard = shard.lock();
            self.bring_up_to_date(&mut shard, now);
            let gone = shard.forget_full(now);
            drop(shard);
            self.keys.fetch_sub(gone, Relaxed);
            self.swept.fetch_add(gone as u64, Relaxed);
        }
        self.search_again.store(0, Relaxed);
        self.keys.load(Relaxed)
    }

    fn samples(&self, out: &mut Vec<Sample>) {
        let policy = || ("policy", self.policy.to_string());
        #[expect(clippy::cast_precision_loss, reason = "a metric is a double by definition")]
        let mut push = |name, help, kind, labels, value: u64| {
            out.push(Sample { name, help, kind, labels, value: value as f64 });
        };
        let help = "Keys a policy remembers.";
        push("tidegate_ratelimit_keys", help, SampleKind::Gauge, vec![policy()], self.keys() as u64);
        let reasons = [("expired", &self.swept), ("full", &self.made_room), ("overflow", &self.overflowed)];
        for (reason, count) in reasons {
            let labels = vec![policy(), ("reason", reason.to_owned())];
            let help = "Refilled buckets forgotten by the sweep (expired) or for a new key (full), and requests of new \
                        keys that shared one bucket for want of room (overflow).";
            push("tidegate_ratelimit_evictions_total", help, SampleKind::Counter, labels, count.load(Relaxed));
        }
        for (mode, counts) in [Mode::Enforce, Mode::Shadow].into_iter().zip(self.decided()) {
            for (outcome, count) in ["allow", "reject"].into_iter().zip(counts) {
                if count == 0 && mode == Mode::Shadow {
                    continue;
                }
                let labels = vec![
                    ("filter", self.filter.to_string()),
                    policy(),
                    ("outcome", outcome.to_owned()),
                    ("mode", mode.as_str().to_owned()),
                ];
                let help = "Decisions by filter, policy (empty: the filter as a whole), outcome and mode.";
                push("tidegate_filter_decisions_total", help, SampleKind::Counter, labels, count);
            }
        }
    }
}
