//! What becomes of each filter's memory, told before it happens.

use serde::Serialize;
use tidegate_filters::engine::{Acquired, StateRegistry};

use crate::snapshot::{BuiltFilter, Snapshot};

/// What becomes of a filter's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Fate {
    /// The memory is as it was.
    Kept,
    /// The memory stays and counts by new settings.
    Rescaled,
    /// Some memory would mean something else now and begins anew.
    Reset,
    /// The filter was not there before.
    New,
    /// The filter is gone; its memory lingers for ten minutes.
    Dropped,
}

impl Fate {
    /// The word used in logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Rescaled => "rescaled",
            Self::Reset => "reset",
            Self::New => "new",
            Self::Dropped => "dropped",
        }
    }
}

/// One filter in a reload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Its name.
    pub filter: String,
    /// Its kind.
    pub kind: String,
    /// What becomes of its memory.
    pub fate: Fate,
    /// Whether its settings are others than before.
    pub changed: bool,
    /// Why, where that is not plain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// Each filter of both configurations, those of the new one first. `states` are those before the reload.
pub(super) fn compare(old: &Snapshot, new: &Snapshot, states: &StateRegistry) -> Vec<Change> {
    let before = |name: &str| old.filters.iter().find(|built| &*built.name == name);
    let gone = old.filters.iter().filter(|built| !new.filters.iter().any(|other| other.name == built.name));
    let stay = new.filters.iter().map(|built| {
        let before = before(&built.name);
        let same = |before: &BuiltFilter| before.fingerprint == built.fingerprint && before.kind == built.kind;
        change(built, fate(before, built, states), !before.is_some_and(same))
    });
    stay.chain(gone.map(|built| change(built, (Fate::Dropped, None), true))).collect()
}

fn change(built: &BuiltFilter, (fate, why): (Fate, Option<String>), changed: bool) -> Change {
    Change { filter: built.name.to_string(), kind: built.kind.clone(), fate, changed, why }
}

fn fate(before: Option<&BuiltFilter>, after: &BuiltFilter, states: &StateRegistry) -> (Fate, Option<String>) {
    let there = |acquired: &&Acquired| states.contains(&acquired.key);
    let Some(before) = before else {
        // Back within ten minutes: what it knew is still there.
        let back = !after.acquired.is_empty() && after.acquired.iter().all(|acquired| there(&acquired));
        return if back { (Fate::Kept, Some("it was there before".to_owned())) } else { (Fate::New, None) };
    };
    if before.kind != after.kind {
        return (Fate::Reset, Some(format!("it was a `{}`", before.kind)));
    }
    let known = |acquired: &&Acquired| {
        let same_name = |old: &Acquired| old.key.kind == acquired.key.kind && old.key.name == acquired.key.name;
        before.acquired.iter().any(same_name)
    };
    let made: Vec<_> = after.acquired.iter().filter(|acquired| !there(acquired)).collect();
    // Made anew under a name that had a memory: what it counts by is another.
    let reset: Vec<_> = made.iter().copied().filter(known).map(|acquired| &*acquired.key.name).collect();
    if !reset.is_empty() {
        return (Fate::Reset, Some(format!("`{}` counts by something else", reset.join("`, `"))));
    }
    if before.fingerprint == after.fingerprint {
        return (Fate::Kept, None);
    }
    if after.acquired.is_empty() {
        return (Fate::Kept, Some("it remembers nothing".to_owned()));
    }
    let added: Vec<_> = made.iter().map(|acquired| &*acquired.key.name).collect();
    (Fate::Rescaled, (!added.is_empty()).then(|| format!("`{}` is new", added.join("`, `"))))
}
