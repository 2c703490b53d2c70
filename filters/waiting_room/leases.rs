//! Who is inside, and until when.

use std::collections::HashMap;

use super::deadlines::Deadlines;

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
    /// Whether the visitor has ordered and goes to pay.
    pub(super) held: bool,
}

/// All visits, by number.
#[derive(Debug, Default)]
pub(super) struct Leases {
    by_number: HashMap<u64, Lease, ahash::RandomState>,
    ends: Deadlines,
    held: u64,
    /// Numbers whose `until` the journal does not know yet.
    changed: Vec<u64>,
}

impl Leases {
    pub(super) fn len(&self) -> u64 {
        self.by_number.len() as u64
    }

    /// Visits of those who go to pay.
    pub(super) fn held(&self) -> u64 {
        self.held
    }

    /// Notes that the visitor goes to pay. False when that was known.
    pub(super) fn hold(&mut self, number: u64) -> bool {
        let news = self.by_number.get_mut(&number).is_some_and(|lease| !std::mem::replace(&mut lease.held, true));
        self.held += u64::from(news);
        news
    }

    pub(super) fn get(&self, number: u64) -> Option<&Lease> {
        self.by_number.get(&number)
    }

    pub(super) fn put(&mut self, number: u64, lease: Lease) {
        self.ends.add(lease.until, number);
        self.held += u64::from(lease.held);
        let before = self.by_number.insert(number, lease);
        self.held -= u64::from(before.is_some_and(|before| before.held));
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

    /// Notes that the visitor has brought the pass back.
    pub(super) fn confirm(&mut self, number: u64) {
        if let Some(lease) = self.by_number.get_mut(&number) {
            lease.short = false;
        }
    }

    pub(super) fn remove(&mut self, number: u64) -> Option<Lease> {
        let lease = self.by_number.remove(&number)?;
        self.held -= u64::from(lease.held);
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
