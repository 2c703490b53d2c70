//! A filter as written in the file: parsing, checking, building, and the table of kinds.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::DeserializeOwned;

use super::{Acquired, Filter, IdentityId, KeyHasher, Mode, State, StateKey, StateRegistry};
use crate::channels::UpstreamFacts;

/// Where a kind belongs in a chain; the order is checked when a file is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// May stand anywhere (header edits, custom filters).
    Anywhere,
    /// Limits: before anything that waits or stores.
    Limit,
    /// Waits: queues, waiting rooms.
    Wait,
    /// Deduplication and deferral.
    Once,
    /// Breakers.
    Guard,
    /// Choice of a channel: last.
    Choose,
}

/// One thing wrong with a filter's settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecProblem {
    /// Path inside the filter's settings, as in `policies[1].rate`; empty for the whole filter.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What to write instead, if that is known.
    pub help: Option<String>,
}

/// Everything wrong with a filter's settings, not only the first thing.
#[derive(Debug, Default)]
pub struct Problems(pub Vec<SpecProblem>);

impl Problems {
    /// Adds a problem without advice.
    pub fn add(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.0.push(SpecProblem { path: path.into(), message: message.into(), help: None });
    }

    /// Adds a problem and what to write instead.
    pub fn add_with_help(&mut self, path: impl Into<String>, message: impl Into<String>, help: impl Into<String>) {
        self.0.push(SpecProblem { path: path.into(), message: message.into(), help: Some(help.into()) });
    }
}

/// What a check may know about the rest of the file.
pub struct CheckContext<'a> {
    /// Names of identities the file defines, with the built-in ones.
    pub identities: &'a [String],
    /// Names of stores the file defines.
    pub stores: &'a [String],
    /// Names of those that outlive the process.
    pub durable: &'a [String],
}

/// What a filter is built from besides its settings.
pub struct BuildContext<'a> {
    /// The filter's name: its identity over reloads.
    pub name: Arc<str>,
    /// Enforced or only counted.
    pub mode: Mode,
    /// Where state is found.
    pub states: &'a StateRegistry,
    /// Makes keys.
    pub hasher: &'a KeyHasher,
    /// Identities by name, with the built-in ones.
    pub identities: &'a BTreeMap<String, IdentityId>,
    /// The upstreams of the routes that list this filter.
    pub upstreams: &'a [Arc<UpstreamFacts>],
    /// Which states were acquired, for the reload's report.
    pub acquired: Vec<Acquired>,
}

impl BuildContext<'_> {
    /// The state of this filter (of one `part` of it, if it has several), found or made.
    ///
    /// `shape` is whatever would make old contents meaningless, and nothing tunable.
    pub fn state<S: State>(
        &mut self,
        kind: &'static str,
        part: Option<&str>,
        shape: impl Hash,
        create: impl FnOnce() -> S,
    ) -> Arc<S> {
        let name = part.map_or_else(|| self.name.clone(), |part| format!("{}/{part}", self.name).into());
        let key = StateKey::shaped(kind, name, shape);
        let (state, found) = self.states.acquire(&key, create);
        self.acquired.push(Acquired { key, found });
        state
    }

    /// The number of an identity; an error names the ones there are.
    ///
    /// # Errors
    /// When the file defines no identity of that name.
    pub fn identity(&self, name: &str) -> Result<IdentityId, BuildError> {
        self.identities.get(name).copied().ok_or_else(|| {
            let known: Vec<_> = self.identities.keys().map(String::as_str).collect();
            BuildError(format!("no identity is named `{name}` (there are: {})", known.join(", ")))
        })
    }
}

/// Why a filter could not be built; the gateway adds route and name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildError(pub String);

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BuildError {}

/// One filter as written: a serde struct with `deny_unknown_fields`.
pub trait FilterSpec: fmt::Debug + Send + Sync + 'static {
    /// Where it belongs in a chain.
    fn step(&self) -> Step {
        Step::Anywhere
    }

    /// Ranges, combinations and names. Adds every problem it finds.
    fn check(&self, cx: &CheckContext<'_>, problems: &mut Problems);

    /// Identities that must be known before the chain runs.
    fn identities(&self) -> Vec<String> {
        Vec::new()
    }

    /// Makes the runtime half. Acquires state, starts nothing, changes nothing shared.
    ///
    /// # Errors
    /// When a name cannot be resolved or a resource cannot be had; the old configuration then stays.
    fn build(&self, cx: &mut BuildContext<'_>) -> Result<Arc<dyn Filter>, BuildError>;
}

type ParseFn = fn(&mut dyn erased_serde::Deserializer<'_>) -> erased_serde::Result<Arc<dyn FilterSpec>>;

/// How settings of one kind are read and described.
#[derive(Clone, Copy)]
pub struct Kind {
    /// Reads the settings.
    pub parse: ParseFn,
    /// Describes them for editors.
    pub schema: fn(&mut SchemaGenerator) -> Schema,
}

/// The kinds of filters a gateway knows.
#[derive(Clone, Default)]
pub struct Kinds {
    kinds: BTreeMap<&'static str, Kind>,
}

impl Kinds {
    /// No kinds at all.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// Adds a kind, or replaces the one of that name.
    #[must_use]
    pub fn register<S: FilterSpec + DeserializeOwned + JsonSchema>(mut self, name: &'static str) -> Self {
        let parse: ParseFn = |from| Ok(Arc::new(erased_serde::deserialize::<S>(from)?));
        self.kinds.insert(name, Kind { parse, schema: |generator| generator.subschema_for::<S>() });
        self
    }

    /// The kind of that name; `None` when there is none.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Kind> {
        self.kinds.get(name).copied()
    }

    /// All kinds by name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, Kind)> + '_ {
        self.kinds.iter().map(|(name, kind)| (*name, *kind))
    }
}
