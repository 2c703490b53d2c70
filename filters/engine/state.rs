//! What filters remember, kept outside every snapshot so that a reload forgets nothing.
//!
//! A state is found by kind, name and shape. The shape hashes only what would make old contents meaningless (the rule
//! that makes a key, the store) and never what is tunable (a rate, a size), so a tuned filter finds its old memory. The
//! idea of identity without tunables is limitador's; the lingering of unused states is Caddy's.

use std::any::Any;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::Nanos;
use crate::store::Stores;

/// What a filter remembers between requests. Lives in the registry, not in a snapshot.
pub trait State: Any + Send + Sync {
    /// Forgets what no longer matters; returns how many entries are left. Called about once a second, off the workers.
    fn sweep(&self, _now: Nanos) -> usize {
        0
    }

    /// Whether it is needed although no snapshot uses it: it owes somebody something.
    fn must_stay(&self) -> bool {
        false
    }

    /// Figures for the metrics page. No key values in labels.
    fn samples(&self, _out: &mut Vec<Sample>) {}
}

/// One figure of a state.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Full metric name.
    pub name: &'static str,
    /// One line of help.
    pub help: &'static str,
    /// How it behaves.
    pub kind: SampleKind,
    /// Label names and values.
    pub labels: Vec<(&'static str, String)>,
    /// The figure.
    pub value: f64,
}

/// How a figure behaves over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SampleKind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// Who a state belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StateKey {
    /// The filter's kind.
    pub kind: &'static str,
    /// The filter's name, and the part of it, as in `limits/user`.
    pub name: Arc<str>,
    /// Hash of the settings that would make old contents meaningless.
    pub shape: u64,
}

impl StateKey {
    /// The key of a state whose old contents a change of `shape` would make meaningless.
    pub fn shaped(kind: &'static str, name: Arc<str>, shape: impl Hash) -> Self {
        // Fixed seeds: a shape must hash alike in every generation of one process.
        Self { kind, name, shape: ahash::RandomState::with_seeds(11, 13, 17, 19).hash_one(shape) }
    }
}

/// Whether a state was there already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acquired {
    /// Which state.
    pub key: StateKey,
    /// True when it was found, false when it was made.
    pub found: bool,
}

struct Entry {
    state: Arc<dyn State>,
    unused_since: Option<Nanos>,
}

/// All states of the process, and the stores that filters may keep records in.
#[derive(Default)]
pub struct StateRegistry {
    entries: Mutex<HashMap<StateKey, Entry>>,
    /// One state is made at a time, and nobody who looks for another one waits for it.
    making: Mutex<()>,
    stores: Stores,
}

impl StateRegistry {
    /// An empty registry.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty registry with these stores.
    #[must_use]
    pub fn with_stores(stores: Stores) -> Self {
        Self { stores, ..Self::default() }
    }

    /// The stores; of a registry made without any, stand-ins in memory.
    #[must_use]
    pub fn stores(&self) -> &Stores {
        &self.stores
    }

    /// The living state of that key, or a new one. `create` may block on files, and acquires no other state.
    pub fn acquire<S: State>(&self, key: &StateKey, create: impl FnOnce() -> S) -> (Arc<S>, bool) {
        let _one = self.making.lock();
        let living = self.living(key);
        let found = living.is_some();
        let any: Arc<dyn Any + Send + Sync> = living.unwrap_or_else(|| {
            let state: Arc<dyn State> = Arc::new(create());
            self.entries.lock().insert(key.clone(), Entry { state: state.clone(), unused_since: None });
            state
        });
        (any.downcast().expect("invariant: one kind has one state type"), found)
    }

    /// The state of that key, which is in use from now on.
    fn living(&self, key: &StateKey) -> Option<Arc<dyn State>> {
        let mut entries = self.entries.lock();
        let entry = entries.get_mut(key)?;
        entry.unused_since = None;
        Some(entry.state.clone())
    }

    /// The living state of that key; `None` when there is none or it is of another type.
    #[must_use]
    pub fn find<S: State>(&self, key: &StateKey) -> Option<Arc<S>> {
        let entries = self.entries.lock();
        let any: Arc<dyn Any + Send + Sync> = entries.get(key)?.state.clone();
        any.downcast().ok()
    }

    /// Whether there is a state of that key, in use or lingering.
    #[must_use]
    pub fn contains(&self, key: &StateKey) -> bool {
        self.entries.lock().contains_key(key)
    }

    /// All states of one type, with their keys, in the order of the keys.
    #[must_use]
    pub fn all<S: State>(&self) -> Vec<(StateKey, Arc<S>)> {
        let mut found: Vec<_> = {
            let entries = self.entries.lock();
            let states = entries.iter().filter_map(|(key, entry)| {
                let any: Arc<dyn Any + Send + Sync> = entry.state.clone();
                Some((key.clone(), any.downcast().ok()?))
            });
            states.collect()
        };
        found.sort_by(|(a, _), (b, _)| a.cmp(b));
        found
    }

    /// Figures of every state.
    pub fn samples(&self, out: &mut Vec<Sample>) {
        for state in self.handles() {
            state.samples(out);
        }
    }

    /// Lets every state forget what no longer matters, then drops states that no snapshot has used for `linger` and
    /// that owe nobody anything.
    ///
    /// The sweeping itself runs outside the lock: a reload must not wait for a million keys.
    pub fn sweep(&self, now: Nanos, linger: Duration) {
        for state in self.handles() {
            state.sweep(now);
        }
        self.entries.lock().retain(|_, entry| {
            if Arc::strong_count(&entry.state) > 1 || entry.state.must_stay() {
                entry.unused_since = None;
                return true;
            }
            let since = *entry.unused_since.get_or_insert(now);
            now.since(since) < linger
        });
    }

    fn handles(&self) -> Vec<Arc<dyn State>> {
        self.entries.lock().values().map(|entry| entry.state.clone()).collect()
    }
}
