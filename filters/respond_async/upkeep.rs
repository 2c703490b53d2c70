//! What happens to a filter's memory without anybody asking: forgetting, figures, and staying while something is owed.

use std::sync::atomic::Ordering::Relaxed;

use super::core::millis;
use super::counts;
use super::over::Purged;
use super::state::Deferred;
use crate::engine::{Nanos, Sample, State};

/// How often the shelf is told to forget, in nanoseconds of the clock.
const PURGE_EVERY: u64 = 10_000_000_000;

impl Deferred {
    /// Notes that the running configuration does not have this filter (any more). What it has promised it keeps: with the
    /// settings it had last, for as long as anything of it is known.
    pub fn orphan(&self) {
        self.orphaned.store(true, Relaxed);
    }

    /// Whether the running configuration has it.
    #[must_use]
    pub fn is_orphaned(&self) -> bool {
        self.orphaned.load(Relaxed)
    }

    /// How many requests are not over.
    #[must_use]
    pub fn owed(&self) -> usize {
        self.book.lock().records()
    }
}

impl State for Deferred {
    fn sweep(&self, now: Nanos) -> usize {
        *self.swept_at.lock() = now;
        self.watchers.sweep();
        self.asks.sweep(now);
        let mut purged_at = self.purged_at.lock();
        let again = self.purge_again.load(Relaxed);
        if (again || now.0.saturating_sub(purged_at.0) >= PURGE_EVERY)
            && let Some(shelf) = &self.shelf
        {
            *purged_at = now;
            let again = self.purge_again.clone();
            let over = self.over.clone();
            let freed = move |purged: Purged| {
                let _ = over.fetch_update(Relaxed, Relaxed, |over| Some(over.saturating_sub(purged.records)));
                again.store(purged.more, Relaxed);
            };
            shelf.purge(&self.name, millis(self.unix(now)), freed);
        }
        self.watchers.len()
    }

    fn must_stay(&self) -> bool {
        self.owed() > 0 || self.over.load(Relaxed) > 0
    }

    fn samples(&self, out: &mut Vec<Sample>) {
        let now = self.unix(*self.swept_at.lock());
        let figures = self.figures(now);
        // Another filter may have the name by now.
        let name = match &self.shelf {
            Some(shelf) if self.is_orphaned() => format!("{}/{}", shelf.name(), self.name).into(),
            _ => self.name.clone(),
        };
        out.push(counts::owed(&name, if self.is_orphaned() { figures.records } else { 0 }));
        let over = self.shelf.as_ref().map(|shelf| shelf.over()).unwrap_or_default();
        let disk = (self.disk().unwrap_or_default(), over);
        self.counts.samples(&name, &figures, self.passing(), disk, out);
    }
}
