//! Requests that a room does not hold up, and how many there were.
//!
//! A rule's count goes by its name and outlives a reload; counting takes no lock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use arc_swap::ArcSwap;

use super::settings::Settings;
use crate::condition::Condition;

/// A rule that lets requests by.
#[derive(Debug)]
pub struct Bypass {
    /// What operators know it by.
    pub name: Arc<str>,
    /// When it holds.
    pub condition: Condition,
}

/// Why a request is not held up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// The room is out of the way.
    Suspended,
    /// Everybody passes and is counted.
    Passthrough,
    /// Browsers add no cookie to a CORS preflight.
    Preflight,
    /// The rule of this index.
    Rule(usize),
}

const NO_RULE: [&str; 3] = ["suspended", "passthrough", "preflight"];

/// How many requests were not held up, by the reason.
#[derive(Debug)]
pub(super) struct Bypassed(ArcSwap<Vec<(Arc<str>, Arc<AtomicU64>)>>);

impl Default for Bypassed {
    fn default() -> Self {
        Self(ArcSwap::from_pointee(NO_RULE.iter().map(|name| ((*name).into(), Arc::default())).collect()))
    }
}

impl Bypassed {
    /// Counts by the rules of these settings from now on. Rules of one name share a count.
    pub(super) fn follow(&self, settings: &Settings) {
        let before = self.0.load();
        let mut all: Vec<(Arc<str>, Arc<AtomicU64>)> = before.iter().take(NO_RULE.len()).cloned().collect();
        for rule in &settings.bypass {
            let count = all.iter().chain(before.iter()).find(|(name, _)| *name == rule.name);
            let count = count.map(|(_, count)| count.clone()).unwrap_or_default();
            all.push((rule.name.clone(), count));
        }
        self.0.store(Arc::new(all));
    }

    pub(super) fn count(&self, why: Why) {
        let at = match why {
            Why::Suspended => 0,
            Why::Passthrough => 1,
            Why::Preflight => 2,
            Why::Rule(at) => NO_RULE.len() + at,
        };
        if let Some((_, count)) = self.0.load().get(at) {
            count.fetch_add(1, Relaxed);
        }
    }

    /// The reasons with their counts, each name once.
    pub(super) fn all(&self) -> Vec<(Arc<str>, u64)> {
        let mut all: Vec<(Arc<str>, u64)> = Vec::new();
        for (name, count) in &**self.0.load() {
            if !all.iter().any(|(known, _)| known == name) {
                all.push((name.clone(), count.load(Relaxed)));
            }
        }
        all
    }
}
