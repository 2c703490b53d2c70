//! How much a store may keep: records in number, answers in bytes.
//!
//! A record is what keeps a request from being carried out twice, so none goes before its time: a store that has as many
//! as it may refuses new ones. Answers are a comfort: when there are too many bytes of them the oldest go, and who asks for
//! one of those is told that it was carried out and that the answer is not kept.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// The most that a store keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Most {
    /// Records that are over or under way; of deferred requests those that are over.
    pub records: usize,
    /// Bytes of answers.
    pub bytes: u64,
}

impl Most {
    /// For stores in memory.
    pub const IN_MEMORY: Self = Self { records: 500_000, bytes: 256 << 20 };
    /// For stores on disks.
    pub const ON_DISK: Self = Self { records: 5_000_000, bytes: 8 << 30 };
}

/// The bounds of a store that is open; a reload changes them.
#[derive(Debug)]
pub(crate) struct Bounds {
    records: AtomicUsize,
    bytes: AtomicU64,
}

impl Bounds {
    pub(crate) fn new(most: Most) -> Self {
        Self { records: AtomicUsize::new(most.records), bytes: AtomicU64::new(most.bytes) }
    }

    pub(crate) fn set(&self, most: Most) {
        self.records.store(most.records, Relaxed);
        self.bytes.store(most.bytes, Relaxed);
    }

    pub(crate) fn records(&self) -> usize {
        self.records.load(Relaxed)
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }
}

/// What a store keeps just now. Counted beside the file, so what a commit that failed would have changed is off until the
/// store is opened again.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    records: AtomicUsize,
    bytes: AtomicU64,
}

impl Kept {
    pub(crate) fn set(&self, records: usize, bytes: u64) {
        self.records.store(records, Relaxed);
        self.bytes.store(bytes, Relaxed);
    }

    pub(crate) fn records(&self) -> usize {
        self.records.load(Relaxed)
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    pub(crate) fn more(&self, records: usize, bytes: usize) {
        self.records.fetch_add(records, Relaxed);
        self.bytes.fetch_add(bytes as u64, Relaxed);
    }

    /// Others that share a database forget records, too: nothing goes below nothing.
    pub(crate) fn less(&self, records: usize, bytes: u64) {
        let _ = self.records.fetch_update(Relaxed, Relaxed, |count| Some(count.saturating_sub(records)));
        let _ = self.bytes.fetch_update(Relaxed, Relaxed, |count| Some(count.saturating_sub(bytes)));
    }
}
