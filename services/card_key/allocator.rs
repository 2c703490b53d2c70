//! Which keys are free, in memory: the answer to "is there stock" without asking the database.
//!
//! A flash sale asks for the same few rows thousands of times a second. Selecting free rows in SQL would make every
//! buyer read and fight over the first ones; here a buyer takes ids off a list, and only those ids are then changed in
//! the file. The file stays the truth: lists are built from it at start, ids are taken inside the writer's thread, and
//! a row that is not free is never handed out even if a list says so (see `rows`).

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

/// The free keys of one SKU, oldest first.
#[derive(Debug, Default)]
pub(super) struct FreeList(Mutex<VecDeque<i64>>);

impl FreeList {
    /// How many keys are free at this moment.
    pub(super) fn len(&self) -> usize {
        self.0.lock().len()
    }

    /// Takes the oldest free key, if there is one. It is put back unless [`Taken::keep`] is called in the end.
    pub(super) fn take_into(&self, taken: &mut Taken) -> Option<i64> {
        let id = self.0.lock().pop_front()?;
        taken.ids.push(id);
        Some(id)
    }

    /// Adds keys that have become free for the first time; they are sold after all others.
    pub(super) fn add(&self, ids: &[i64]) {
        self.0.lock().extend(ids);
    }

    /// Puts back keys that were taken before; they are sold first, in their old order.
    pub(super) fn put_back(&self, ids: &[i64]) {
        let mut free = self.0.lock();
        for id in ids.iter().rev() {
            free.push_front(*id);
        }
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
            self.list.put_back(&self.ids);
        }
    }
}

/// The free lists of all SKUs.
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
