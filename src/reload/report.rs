//! What a reload did, for people, programs and metrics.

use std::fmt;

use serde::Serialize;

use crate::config::{Problem, Report};
use crate::snapshot::{BuiltFilter, Snapshot};

/// What caused a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The gateway started with it.
    Start,
    /// The file changed.
    Watch,
    /// SIGHUP.
    Signal,
    /// The admin side.
    Admin,
    /// An operator went back to an earlier one.
    Rollback,
}

impl Source {
    /// The word used in logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Watch => "watch",
            Self::Signal => "signal",
            Self::Admin => "admin",
            Self::Rollback => "rollback",
        }
    }
}

/// What became of a filter's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Fate {
    /// Settings and memory are the same.
    Kept,
    /// Settings changed; the memory stayed and counts by the new ones.
    Rescaled,
    /// Some memory means something else now and began anew.
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
    /// What became of its memory.
    pub fate: Fate,
}

/// Each filter of both configurations, those of the new one first.
pub(super) fn compare(old: &Snapshot, new: &Snapshot) -> Vec<Change> {
    let change = |built: &BuiltFilter, fate| Change { filter: built.name.to_string(), kind: built.kind.clone(), fate };
    let before = |name: &str| old.filters.iter().find(|built| &*built.name == name);
    let gone = old.filters.iter().filter(|built| !new.filters.iter().any(|other| other.name == built.name));
    let stay = new.filters.iter().map(|built| change(built, fate(before(&built.name), built)));
    stay.chain(gone.map(|built| change(built, Fate::Dropped))).collect()
}

fn fate(before: Option<&BuiltFilter>, after: &BuiltFilter) -> Fate {
    let all_found = after.acquired.iter().all(|acquired| acquired.found);
    let Some(before) = before else {
        // Back within ten minutes: what it knew is still there.
        return if all_found && !after.acquired.is_empty() { Fate::Kept } else { Fate::New };
    };
    if before.kind != after.kind || !all_found {
        Fate::Reset
    } else if before.fingerprint == after.fingerprint {
        Fate::Kept
    } else {
        Fate::Rescaled
    }
}

/// How an accepted reload ended.
pub(super) enum Done {
    /// The new configuration serves.
    Applied(Vec<Change>),
    /// It was the running one already.
    Unchanged,
}

/// One reload, as it is remembered.
#[derive(Clone, Debug, Serialize)]
pub struct Attempt {
    /// When, in seconds since 1970.
    pub at_unix: f64,
    /// What caused it.
    pub source: Source,
    /// `applied`, `unchanged` or `refused`.
    pub result: &'static str,
    /// The configuration that serves since.
    pub generation: u64,
    /// What became of each filter; empty unless applied.
    pub changes: Vec<Change>,
    /// Why it was refused, in a sentence; absent otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What is wrong with the file, place by place.
    pub problems: Vec<Problem>,
}

impl Attempt {
    pub(super) fn new(at_unix: f64, source: Source, generation: u64, result: &Result<Done, ReloadError>) -> Self {
        let (result, changes, error, problems) = match result {
            Ok(Done::Applied(changes)) => ("applied", changes.clone(), None, Vec::new()),
            Ok(Done::Unchanged) => ("unchanged", Vec::new(), None, Vec::new()),
            Err(error) => ("refused", Vec::new(), Some(error.to_string()), error.problems().to_vec()),
        };
        Self { at_unix, source, result, generation, changes, error, problems }
    }
}

/// A configuration that was served.
#[derive(Clone, Debug, Serialize)]
pub struct Version {
    /// Its number.
    pub generation: u64,
    /// SHA-256 of the file and what it refers to.
    pub hash: String,
    /// When it took effect, in seconds since 1970.
    pub at_unix: f64,
    /// What brought it.
    pub source: Source,
}

/// Where things stand.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// The file.
    pub file: String,
    /// The running configuration's number.
    pub generation: u64,
    /// SHA-256 of the running configuration.
    pub hash: String,
    /// Since when it runs, in seconds since 1970.
    pub since_unix: f64,
    /// The last reload; absent before the first.
    pub last_reload: Option<Attempt>,
    /// What is allowed in the running configuration and still deserves a word.
    pub warnings: Vec<Problem>,
}

/// Why a configuration was not taken over.
#[derive(Clone, Debug)]
pub enum ReloadError {
    /// The file has problems.
    Problems(Report),
    /// It changes what only a restart can change.
    RestartRequired(Vec<&'static str>),
    /// It is well-formed and cannot be carried out.
    Build(String),
    /// No such version is kept.
    UnknownVersion(u64),
}

impl ReloadError {
    /// The places that are wrong; empty when it is not about places.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        match self {
            Self::Problems(report) => &report.problems,
            Self::RestartRequired(_) | Self::Build(_) | Self::UnknownVersion(_) => &[],
        }
    }
}

impl fmt::Display for ReloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Problems(report) => report.fmt(f),
            Self::RestartRequired(names) => write!(f, "only a restart can change {}", names.join(", ")),
            Self::Build(why) => f.write_str(why),
            Self::UnknownVersion(generation) => write!(f, "no version {generation} is kept"),
        }
    }
}

impl std::error::Error for ReloadError {}
