//! One request against all its buckets: all of them give, or none does.
//!
//! Every bucket's lock is taken first, in one order that all requests keep (those of single clients before those that
//! everybody shares, each kind by age), then all are asked, then all are charged or none. So a request that one
//! limit refuses never touches the others, not even for a moment: there is no refund that could be wrong. The shared
//! locks come last and are held for arithmetic only, while the cache misses of the others are already over.

use std::time::Duration;

use parking_lot::MutexGuard;
use smallvec::SmallVec;

use super::gcra::{Quota, Standing};
use super::shard::{Desk, Inner, LoneInner};
use super::state::Buckets;
use super::table::Cell;
use crate::engine::{Key, Nanos};

/// What a request wants of one policy.
#[derive(Clone, Copy)]
pub struct Claim<'a> {
    /// The policy's buckets.
    pub buckets: &'a Buckets,
    /// Whose bucket.
    pub key: Key,
    /// Units; at least 1, at most the burst.
    pub cost: u32,
    /// Which limit: 0 is the policy's own, overrides follow in file order.
    pub lane: u8,
}

/// How a decision is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counting {
    /// For the figures: the decision is only looked at.
    pub shadow: bool,
    /// Whether a refusal costs as much as a pass (a client that hammers then stays refused).
    pub rejected: bool,
}

/// Why a request was refused. Nothing was taken from any bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Number of the first claim that could not be met.
    pub claim: usize,
    /// How its bucket stands.
    pub standing: Standing,
    /// When all claims can be met, if nobody else takes anything; exact.
    pub wait: Duration,
}

/// One standing a claim, in the order of the claims.
pub type Standings = SmallVec<[Standing; 4]>;

/// A bucket under its lock.
pub(super) enum Held<'a> {
    /// A known key, at that place of the table.
    Known(MutexGuard<'a, Inner>, usize),
    /// A new key, already counted.
    New(MutexGuard<'a, Inner>),
    /// A bucket of its own.
    Lone(MutexGuard<'a, LoneInner>),
}

impl Held<'_> {
    fn cell(&self) -> Cell {
        match self {
            Self::Known(shard, at) => *shard.table.at(*at),
            Self::New(shard) => shard.fresh(),
            Self::Lone(lone) => lone.cell,
        }
    }

    fn desk(&self) -> &Desk {
        match self {
            Self::Known(shard, _) | Self::New(shard) => &shard.desk,
            Self::Lone(lone) => &lone.desk,
        }
    }

    fn count(&mut self, shadow: bool, refused: bool) {
        let desk = match self {
            Self::Known(shard, _) | Self::New(shard) => &mut shard.desk,
            Self::Lone(lone) => &mut lone.desk,
        };
        desk.decided[usize::from(shadow)][usize::from(refused)] += 1;
    }

    fn put(&mut self, key: Key, cell: Cell) {
        match self {
            Self::Known(shard, at) => *shard.table.at_mut(*at) = cell,
            Self::New(shard) => shard.table.insert(key.0, cell),
            Self::Lone(lone) => lone.cell = cell,
        }
    }
}

/// What a held bucket answers to a claim.
struct Answer {
    quota: Quota,
    lane: u8,
    full_at: u64,
    next: Result<u64, u64>,
}

impl Answer {
    fn of(held: &Held<'_>, claim: &Claim<'_>, now: Nanos) -> Self {
        let plan = &held.desk().plan;
        let lane = plan.lane(claim.lane);
        let full_at = plan.measure(&held.cell(), lane, now);
        let quota = plan.quota(lane);
        Self { quota, lane, full_at, next: quota.decide(full_at, claim.cost, now) }
    }
}

/// A claim, the bucket it draws on, and what that says.
struct Asked<'a> {
    /// Its number.
    claim: usize,
    held: Held<'a>,
    answer: Answer,
}

/// Locks and asks every claim's bucket, in the order of locks.
fn ask_all<'a>(claims: &[Claim<'a>], asked: &mut SmallVec<[Asked<'a>; 4]>, now: Nanos) {
    let rank = |claim: &Claim<'_>| claim.buckets.lock_rank();
    let ask = |number: usize| {
        let claim = &claims[number];
        let held = claim.buckets.hold(claim.key, now);
        let answer = Answer::of(&held, claim, now);
        asked.push(Asked { claim: number, held, answer });
    };
    // Files list the limits of single clients first, nearly always.
    if claims.is_sorted_by_key(rank) {
        (0..claims.len()).for_each(ask);
    } else {
        let mut order: SmallVec<[usize; 4]> = (0..claims.len()).collect();
        order.sort_unstable_by_key(|i| rank(&claims[*i]));
        order.into_iter().for_each(ask);
    }
}

/// Takes every claim, or none. No two claims may be of one policy.
///
/// # Errors
/// When a claim cannot be met now.
pub fn take_all(claims: &[Claim<'_>], counting: Counting, now: Nanos) -> Result<Standings, Refusal> {
    let mut asked = SmallVec::new();
    ask_all(claims, &mut asked, now);
    if asked.iter().any(|one| one.answer.next.is_err()) {
        return Err(refuse(claims, &mut asked, counting, now));
    }
    let mut standings = Standings::new();
    standings.resize(claims.len(), Standing::default());
    for Asked { claim, held, answer } in &mut asked {
        let full_at = answer.next.unwrap_or(answer.full_at);
        held.put(claims[*claim].key, Cell { full_at, lane: answer.lane });
        held.count(counting.shadow, false);
        standings[*claim] = answer.quota.standing(full_at, now);
    }
    Ok(standings)
}

fn refuse(claims: &[Claim<'_>], asked: &mut [Asked<'_>], counting: Counting, now: Nanos) -> Refusal {
    let (mut first, mut wait) = (None, 0);
    for one in asked {
        let Asked { claim, held, answer } = one;
        if matches!(held, Held::New(_)) {
            claims[*claim].buckets.uncount();
        }
        if let Err(until) = answer.next {
            wait = wait.max(until);
            if first.as_ref().is_none_or(|known: &&mut Asked<'_>| *claim < known.claim) {
                first = Some(one);
            }
        }
    }
    let Asked { claim, held, answer } = first.expect("invariant: a claim was refused");
    let Answer { quota, lane, mut full_at, .. } = *answer;
    held.count(counting.shadow, true);
    if counting.rejected && !matches!(held, Held::New(_)) {
        let Claim { key, cost, .. } = claims[*claim];
        full_at = quota.penalise(full_at, cost, now);
        held.put(key, Cell { full_at, lane });
        wait = wait.max(quota.decide(full_at, cost, now).err().unwrap_or(0));
    }
    Refusal { claim: *claim, standing: quota.standing(full_at, now), wait: Duration::from_nanos(wait) }
}
