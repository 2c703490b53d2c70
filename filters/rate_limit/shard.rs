//! What lies under one lock: buckets, the limits they are measured by, and a count of decisions.

use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use super::gcra::Quota;
use super::table::{Cell, Table};
use crate::engine::Nanos;

/// The limits in force; lane 0 is the policy's own, overrides follow in file order.
pub(super) struct Plan {
    pub(super) version: u64,
    pub(super) quotas: Box<[Quota]>,
}

impl Plan {
    /// The lane to measure by. A request of an older snapshot may name one that is gone: the policy's own then.
    pub(super) fn lane(&self, lane: u8) -> u8 {
        if usize::from(lane) < self.quotas.len() { lane } else { 0 }
    }

    /// The limit of a lane.
    pub(super) fn quota(&self, lane: u8) -> Quota {
        self.quotas[usize::from(self.lane(lane))]
    }

    /// When `cell` is full, measured by `lane` instead of the lane it was used with last.
    pub(super) fn measure(&self, cell: &Cell, lane: u8, now: Nanos) -> u64 {
        if cell.lane == lane {
            return cell.full_at;
        }
        self.quota(lane).rescale(self.quota(cell.lane), cell.full_at, now)
    }
}

/// What all buckets under one lock share.
pub(super) struct Desk {
    pub(super) plan: Arc<Plan>,
    /// By mode (enforce, shadow) and outcome (allow, reject).
    pub(super) decided: [[u64; 2]; 2],
}

impl Desk {
    fn new(plan: Arc<Plan>) -> Self {
        Self { plan, decided: [[0; 2]; 2] }
    }

    /// Re-measures the buckets by a new plan: the share that is missing of each stays the same.
    pub(super) fn adopt<'a>(&mut self, plan: Arc<Plan>, cells: impl Iterator<Item = &'a mut Cell>, now: Nanos) {
        for cell in cells {
            let old = self.plan.quota(cell.lane);
            cell.full_at = plan.quota(cell.lane).rescale(old, cell.full_at, now);
            cell.lane = plan.lane(cell.lane);
        }
        self.plan = plan;
    }
}

/// A table of buckets and what they share.
pub(super) struct Inner {
    pub(super) desk: Desk,
    pub(super) table: Table,
    /// The latest moment at which a forgotten bucket was full. A new key starts there and not at zero: should the clock
    /// go back, a key that was forgotten does not come back richer.
    forgotten: u64,
}

impl Inner {
    /// A bucket nobody has used.
    pub(super) fn fresh(&self) -> Cell {
        Cell { full_at: self.forgotten, lane: 0 }
    }

    pub(super) fn forget_full(&mut self, now: Nanos) -> usize {
        let (gone, latest) = self.table.forget_full(now.0);
        self.forgotten = self.forgotten.max(latest);
        gone
    }

    pub(super) fn forget_one(&mut self, now: Nanos, places: usize) -> bool {
        let found = self.table.forget_one(now.0, places);
        self.forgotten = self.forgotten.max(found.unwrap_or(0));
        found.is_some()
    }
}

/// One lock's worth of keys, on cache lines of its own so that neighbours do not slow each other.
#[repr(align(128))]
pub(super) struct Shard(Mutex<Inner>);

impl Shard {
    pub(super) fn new(plan: Arc<Plan>) -> Self {
        Self(Mutex::new(Inner { desk: Desk::new(plan), table: Table::default(), forgotten: 0 }))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock()
    }

    pub(super) fn try_lock(&self) -> Option<MutexGuard<'_, Inner>> {
        self.0.try_lock()
    }
}

/// A single bucket under a lock.
#[repr(align(128))]
pub(super) struct Lone(Mutex<LoneInner>);

pub(super) struct LoneInner {
    pub(super) desk: Desk,
    pub(super) cell: Cell,
}

impl Lone {
    pub(super) fn new(plan: Arc<Plan>) -> Self {
        Self(Mutex::new(LoneInner { desk: Desk::new(plan), cell: Cell { full_at: 0, lane: 0 } }))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, LoneInner> {
        self.0.lock()
    }
}
