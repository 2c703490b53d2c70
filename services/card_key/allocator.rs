//! Which keys are on sale, in memory: the answer to "is there stock" without asking the database.
//!
//! A flash sale asks for the same few rows thousands of times a second. Selecting free rows in SQL would make every
//! buyer read and fight over the first ones; here a buyer takes ids off a list, and only those ids are then changed in
//! the file. The file stays the truth: lists are built from it at start, ids are taken inside the writer's thread, and
//! a row that is not free is never handed out even if a list says so (see `rows`).
//!
//! A list is a sorted set: the oldest, the newest and any given key are found in the same short time, and a key that
//! comes back stands where it stood. It costs some 20 bytes a key.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use rand::Rng;

use super::policy::Pick;

/// The keys of one SKU that are on sale: its free ones, or its shared ones.
#[derive(Debug, Default)]
pub(super) struct FreeList(Mutex<BTreeSet<i64>>);

impl FreeList {
    /// How many there are at this moment.
    pub(super) fn len(&self) -> usize {
        self.0.lock().len()
    }

    /// The key `pick` would take, which stays on the list.
    pub(super) fn peek(&self, pick: Pick) -> Option<i64> {
        choose(&self.0.lock(), pick)
    }

    /// Takes a key, if there is one. It is put back unless [`Taken::keep`] is called in the end.
    pub(super) fn take_into(&self, taken: &mut Taken, pick: Pick) -> Option<i64> {
        let mut free = self.0.lock();
        let id = choose(&free, pick)?;
        free.remove(&id);
        taken.ids.push(id);
        Some(id)
    }

    /// Takes this key; `false` when it is not on the list.
    pub(super) fn take_this(&self, taken: &mut Taken, id: i64) -> bool {
        let found = self.0.lock().remove(&id);
        if found {
            taken.ids.push(id);
        }
        found
    }

    /// Puts keys on sale, for the first time or again.
    pub(super) fn add(&self, ids: &[i64]) {
        self.0.lock().extend(ids);
    }
}

fn choose(free: &BTreeSet<i64>, pick: Pick) -> Option<i64> {
    let (first, last) = (*free.first()?, *free.last()?);
    match pick {
        Pick::Oldest | Pick::Chosen => Some(first),
        Pick::Newest => Some(last),
        Pick::Random => free.range(rand::rng().random_range(first..=last)..).next().copied(),
    }
}

/// Keys taken off a list for a change that is not durable yet. Dropped without [`Taken::keep`], on an error, a panic
/// or a failed commit, it puts them back.
#[derive(Debug)]
pub(super) struct Taken {
    list: Arc<FreeList>,
    ids: Vec<i64>,
}

impl Taken {
    /// Nothing taken yet from `list`.
    pub(super) fn from(list: &Arc<FreeList>) -> Self {
        Self { list: Arc::clone(list), ids: Vec::new() }
    }

    /// The ids taken so far.
    pub(super) fn ids(&self) -> &[i64] {
        &self.ids
    }

    /// Forgets the key taken last for good: its row turned out not to be free.
    pub(super) fn discard_last(&mut self) {
        self.ids.pop();
    }

    /// The change is durable: the keys stay off the list.
    pub(super) fn keep(mut self) {
        self.ids.clear();
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if !self.ids.is_empty() {
            self.list.add(&self.ids);
        }
    }
}

/// The lists of all SKUs.
#[derive(Debug, Default)]
pub(super) struct Stock(RwLock<HashMap<String, Arc<FreeList>>>);

impl Stock {
    /// The list of a SKU, empty when it is new.
    pub(super) fn of(&self, sku: &str) -> Arc<FreeList> {
        if let Some(list) = self.0.read().get(sku) {
            return Arc::clone(list);
        }
        Arc::clone(self.0.write().entry(sku.to_owned()).or_default())
    }
}
