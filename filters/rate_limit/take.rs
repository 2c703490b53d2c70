//! One request against all its buckets: all of them give, or none does.
//!
//! Every bucket's lock is taken first, in one order that all requests keep (those of single clients before those that
//! everybody shares, each kind by address), then all are asked, then all are charged or none. So a request that one
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

/// Takes every claim, or none. No two claims may be of one policy.
///
/// # Errors
/// When a claim cannot be met now.
pub fn take_all(claims: &[Claim<'_>], counting: Counting, now: Nanos) -> Result<Standings, Refusal> {
    let mut order: SmallVec<[usize; 4]> = (0..claims.len()).collect();
    order.sort_unstable_by_key(|i| claims[*i].buckets.lock_rank());
    let mut held: SmallVec<[Option<Held<'_>>; 4]> = SmallVec::new();
    held.resize_with(claims.len(), || None);
    for i in order {
        held[i] = Some(claims[i].buckets.hold(claims[i].key, now));
    }
    let mut held: SmallVec<[Held<'_>; 4]> = held.into_iter().flatten().collect();
    let answers: SmallVec<[Answer; 4]> =
        claims.iter().zip(&held).map(|(claim, held)| Answer::of(held, claim, now)).collect();
    if let Some(first) = answers.iter().position(|answer| answer.next.is_err()) {
        return Err(refuse(first, claims, &answers, held, counting, now));
    }
    let mut standings = Standings::new();
    for ((claim, held), answer) in claims.iter().zip(&mut held).zip(&answers) {
        let full_at = answer.next.unwrap_or(answer.full_at);
        held.put(claim.key, Cell { full_at, lane: answer.lane });
        held.count(counting.shadow, false);
        standings.push(answer.quota.standing(full_at, now));
    }
    Ok(standings)
}

fn refuse(
    first: usize,
    claims: &[Claim<'_>],
    answers: &[Answer],
    mut held: SmallVec<[Held<'_>; 4]>,
    counting: Counting,
    now: Nanos,
) -> Refusal {
    let Answer { quota, lane, mut full_at, .. } = answers[first];
    let mut wait = answers.iter().filter_map(|answer| answer.next.err()).max().unwrap_or(0);
    held[first].count(counting.shadow, true);
    if counting.rejected && !matches!(held[first], Held::New(_)) {
        full_at = quota.penalise(full_at, claims[first].cost, now);
        held[first].put(claims[first].key, Cell { full_at, lane });
        wait = wait.max(quota.decide(full_at, claims[first].cost, now).err().unwrap_or(0));
    }
    for (claim, held) in claims.iter().zip(&held) {
        if matches!(held, Held::New(_)) {
            claim.buckets.uncount();
        }
    }
    Refusal { claim: first, standing: quota.standing(full_at, now), wait: Duration::from_nanos(wait) }
}
