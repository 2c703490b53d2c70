//! Who is inside, and until when.

use std::collections::HashMap;

use super::deadlines::Deadlines;

/// What a visitor is there for, as far as that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aim {
    /// Looks for a piece.
    Looks,
    /// The same before a kill, and was not heard since.
    Restored,
    /// Was not heard for so long since a kill that what became of them may have been lost with it.
    Silent,
    /// Looks for nothing any more: has ordered and goes to pay, or was told that nothing is left.
    Settled,
}

impl Aim {
    fn counts(self) -> bool {
        matches!(self, Aim::Looks | Aim::Restored)
    }
}

/// One visit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lease {
    /// When it began.
    pub(super) began: u64,
    /// When it ends.
    pub(super) until: u64,
    /// When it ends as far as the journal knows: no pass may promise more.
    pub(super) durable: u64,
    /// Whether the visitor has not yet brought the pass back.
    pub(super) short: bool,
    /// Whose it is; 0 when nobody is known.
    pub(super) subject: u64,
    /// What the visitor is there for.
    pub(super) aim: Aim,
}

/// All visits, by number.
#[derive(Debug, Default)]
pub(super) struct Leases {
    by_number: HashMap<u64, Lease, ahash::RandomState>,
    ends: Deadlines,
    /// Visits of those who look for a piece.
    looking: u64,
    /// Numbers whose `until` the journal does not know yet.
    changed: Vec<u64>,
}

impl Leases {
    pub(super) fn len(&self) -> u64 {
        self.by_number.len() as u64
    }

    /// Visits of those who look for a piece.
    pub(super) fn looking(&self) -> u64 {
        self.looking
    }

    /// Notes that the visitor looks for nothing any more. False when that was known.
    pub(super) fn settle(&mut self, number: u64) -> bool {
        self.set_aim(number, Aim::Settled).is_some_and(|before| before != Aim::Settled)
    }

    /// Notes that the visitor was heard.
    pub(super) fn heard(&mut self, number: u64) {
        if self.by_number.get(&number).is_some_and(|lease| matches!(lease.aim, Aim::Restored | Aim::Silent)) {
            self.set_aim(number, Aim::Looks);
        }
    }

    /// Notes that those who were not heard since a kill have had the time for it.
    pub(super) fn fall_silent(&mut self) {
        let restored = self.by_number.values_mut().filter(|lease| lease.aim == Aim::Restored);
        self.looking -= restored.map(|lease| lease.aim = Aim::Silent).count() as u64;
    }

    fn set_aim(&mut self, number: u64, aim: Aim) -> Option<Aim> {
        let lease = self.by_number.get_mut(&number)?;
        let before = std::mem::replace(&mut lease.aim, aim);
        self.looking = self.looking + u64::from(aim.counts()) - u64::from(before.counts());
        Some(before)
    }

    pub(super) fn get(&self, number: u64) -> Option<&Lease> {
        self.by_number.get(&number)
    }

    pub(super) fn put(&mut self, number: u64, lease: Lease) {
        self.ends.add(lease.until, number);
        self.looking += u64::from(lease.aim.counts());
        let before = self.by_number.insert(number, lease);
        self.looking -= u64::from(before.is_some_and(|before| before.aim.counts()));
        self.changed.push(number);
    }

    /// Makes a visit end at `until`. False when there is none.
    pub(super) fn end_at(&mut self, number: u64, until: u64) -> bool {
        let Some(lease) = self.by_number.get_mut(&number) else { return false };
        if lease.until != until {
            lease.until = until;
            self.ends.add(until, number);
            self.changed.push(number);
        }
        true
    }

    /// Notes that a pass promises no more than `durable`, and whether it has yet to be brought back.
    pub(super) fn promise(&mut self, number: u64, durable: u64, short: bool) {
        if let Some(lease) = self.by_number.get_mut(&number) {
            (lease.durable, lease.short) = (durable, short);
        }
    }

    /// Notes when a visit began of which only the end was known.
    pub(super) fn began_at(&mut self, number: u64, began: u64) {
        if let Some(lease) = self.by_number.get_mut(&number) {
            lease.began = began;
        }
    }

    /// Notes that the visitor has brought the pass back.
    pub(super) fn confirm(&mut self, number: u64) {
        if let Some(lease) = self.by_number.get_mut(&number) {
            lease.short = false;
        }
    }

    pub(super) fn remove(&mut self, number: u64) -> Option<Lease> {
        let lease = self.by_number.remove(&number)?;
        self.looking -= u64::from(lease.aim.counts());
        Some(lease)
    }

    /// Removes and returns one visit that has ended.
    pub(super) fn ended(&mut self, now: u64) -> Option<(u64, Lease)> {
        while let Some(number) = self.ends.due(now) {
            if self.by_number.get(&number).is_some_and(|lease| lease.until <= now) {
                return self.remove(number).map(|lease| (number, lease));
            }
        }
        None
    }

    /// The visits that were changed since the last call.
    pub(super) fn take_changed(&mut self) -> Vec<(u64, Lease)> {
        let mut changed = std::mem::take(&mut self.changed);
        changed.sort_unstable();
        changed.dedup();
        changed.into_iter().filter_map(|number| Some((number, *self.by_number.get(&number)?))).collect()
    }

    /// Takes note that the journal knows this end of a visit.
    pub(super) fn known(&mut self, number: u64, until: u64) {
        if let Some(lease) = self.by_number.get_mut(&number) {
            lease.durable = until;
        }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (u64, &Lease)> {
        self.by_number.iter().map(|(number, lease)| (*number, lease))
    }
}
