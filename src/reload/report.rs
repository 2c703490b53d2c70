//! What a reload did, for people, programs and metrics.

use std::fmt;

use serde::Serialize;

use super::compare::Change;
use crate::config::{EditError, Problem, Report};

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

/// What a configuration would do.
#[derive(Clone, Debug, Serialize)]
pub struct Preview {
    /// Its hash.
    pub hash: String,
    /// Whether it is the running one, so that a reload would do nothing.
    pub unchanged: bool,
    /// What would become of each filter.
    pub changes: Vec<Change>,
    /// What is allowed and still deserves a word.
    pub warnings: Vec<Problem>,
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
    /// What is true of an accepted one and nobody would expect, in a sentence; mostly absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
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
        Self { at_unix, source, result, generation, changes, error, warning: None, problems }
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReloadError {
    /// The file has problems.
    Problems(Report),
    /// It changes what only a restart can change.
    RestartRequired(Vec<&'static str>),
    /// It is well-formed and cannot be carried out.
    Build(String),
    /// No such version is kept.
    UnknownVersion(u64),
    /// The file cannot be changed so.
    Edit(EditError),
    /// The file cannot be written.
    NotWritten(String),
}

impl ReloadError {
    /// The places that are wrong; empty when it is not about places.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        match self {
            Self::Problems(report) => &report.problems,
            Self::RestartRequired(_) | Self::Build(_) | Self::UnknownVersion(_) => &[],
            Self::Edit(_) | Self::NotWritten(_) => &[],
        }
    }
}

impl fmt::Display for ReloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Problems(report) => report.fmt(f),
            Self::RestartRequired(names) => {
                write!(f, "only a restart can change `{}`: undo that, or restart the gateway", names.join("`, `"))
            }
            Self::Build(why) => f.write_str(why),
            Self::Edit(error) => error.fmt(f),
            Self::NotWritten(why) => write!(f, "the file cannot be written: {why}"),
            Self::UnknownVersion(generation) => write!(f, "no version {generation} is kept"),
        }
    }
}

impl std::error::Error for ReloadError {}
