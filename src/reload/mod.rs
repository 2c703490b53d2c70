//! Takes over a changed configuration file while traffic flows: all of it, or nothing of it.
//!
//! A reload is: read and check ([`config::load`]), refuse what only a restart can change, compile
//! ([`snapshot::build`]), swap one pointer. Until the swap nothing that serves has been touched, so an error on the way
//! leaves the old file serving. States are found by what they are for and not made anew, so nobody's debt is forgiven.
//!
//! Compiling finds or makes states, so it is first rehearsed among states of its own: a text that is only asked about, or
//! that cannot be compiled, leaves no trace, and what is said about kept and new memory is true.
//!
//! `watch` notices changes of the file; SIGHUP and the admin side ask for a reload by themselves.

mod compare;
mod edit;
mod files;
mod report;
#[cfg(test)]
pub(crate) mod tests;
mod watch;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tidegate_filters::engine::{Kinds, StateRegistry};

use crate::config::{self, Loaded};
use crate::deferred::Worker;
use crate::gateway::{Gateway, Shared};
use crate::payments::Payments;
use crate::snapshot::{self, Snapshot};
use crate::telemetry::{AccessLogTarget, Telemetry};

use compare::compare;
pub use compare::{Change, Fate};
pub use edit::Plan;
use report::Done;
pub use report::{Attempt, Preview, ReloadError, Source, Status, Version};

/// How many good configurations can be gone back to.
const KEPT_VERSIONS: usize = 10;
/// How long a filter's memory outlives its filter: long enough to undo an edit.
const LINGER: Duration = Duration::from_secs(600);
/// How often states forget what no longer matters.
const SWEEP: Duration = Duration::from_secs(1);

/// Looks up an environment variable.
pub type Environment = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// Reloads one gateway's configuration.
pub struct Reloader {
    file: PathBuf,
    kinds: Arc<Kinds>,
    env: Environment,
    gateway: Arc<Gateway>,
    /// One reload at a time.
    turn: Mutex<()>,
    memory: Mutex<Memory>,
}

/// What is remembered about past reloads.
struct Memory {
    versions: VecDeque<(Version, Arc<Loaded>)>,
    last: Option<Attempt>,
    last_success_unix: f64,
    warnings: Vec<config::Problem>,
    /// The file and what it names; what the watcher looks at.
    files: Vec<PathBuf>,
    /// Hash of the text on disk that a rollback left behind: only a change of the file, or an operator, applies again.
    passed_over: Option<String>,
    /// The file on disk was refused when it was last read.
    refused: bool,
}

impl Reloader {
    /// A reloader of `file`, whose contents `first` are being served already.
    #[must_use]
    pub fn new(file: PathBuf, kinds: Arc<Kinds>, env: Environment, gateway: Arc<Gateway>, first: &Loaded) -> Self {
        let at = unix(&gateway);
        let first = first.clone();
        let version = Version { generation: 1, hash: first.hash.clone(), at_unix: at, source: Source::Start };
        gateway.shared.telemetry.metrics().reload_state(true, at, 1, &first.hash);
        let memory = Memory {
            last: None,
            last_success_unix: at,
            warnings: first.warnings.clone(),
            files: first.files.clone(),
            passed_over: None,
            refused: false,
            versions: VecDeque::from([(version, Arc::new(first))]),
        };
        Self { file, kinds, env, gateway, turn: Mutex::new(()), memory: Mutex::new(memory) }
    }

    /// Watches the file, answers SIGHUP and sweeps states, for ever.
    pub async fn run(self: Arc<Self>) {
        let sweeping = tokio::spawn(sweep(self.gateway.clone()));
        watch::run(self).await;
        sweeping.abort();
    }

    /// Reads the file and takes it over. Blocks on files and on name lookups.
    ///
    /// # Errors
    /// [`ReloadError`]; the running configuration goes on.
    pub fn reload(&self, source: Source) -> Result<Attempt, ReloadError> {
        let _turn = self.turn.lock();
        let result = self.take_file(source);
        self.conclude(source, result)
    }

    /// Tries a refused file again. To be refused for the same reason as before is no news.
    fn retry(&self) {
        let _turn = self.turn.lock();
        let result = self.take_file(Source::Watch);
        let known = |error: &ReloadError| {
            let memory = self.memory.lock();
            memory.last.as_ref().is_some_and(|last| last.error.as_deref() == Some(&error.to_string()))
        };
        if !result.as_ref().err().is_some_and(known) {
            // The error stands in log, metrics and status.
            let _ = self.conclude(Source::Watch, result);
        }
    }

    /// Whether the file on disk was refused when it was last read.
    fn is_refused(&self) -> bool {
        self.memory.lock().refused
    }

    fn take_file(&self, source: Source) -> Result<Done, ReloadError> {
        let loaded = config::load(&self.file, &self.kinds, &*self.env);
        if let Ok(loaded) = &loaded {
            self.memory.lock().files.clone_from(&loaded.files);
        }
        let result = loaded.map_err(ReloadError::Problems).and_then(|loaded| self.adopt(Arc::new(loaded), source));
        self.memory.lock().refused = result.is_err();
        result
    }

    /// What a reload with this text would do. Nothing that serves changes, and nothing is remembered.
    ///
    /// # Errors
    /// What a reload with it would be refused for.
    pub fn check(&self, text: &str) -> Result<Preview, ReloadError> {
        let base = self.file.parent().unwrap_or(std::path::Path::new(""));
        let loaded = config::load_text(text, "request body", base, &self.kinds, &*self.env);
        let loaded = loaded.map_err(ReloadError::Problems)?;
        let running = self.gateway.snapshot();
        let changes = self.rehearse(&loaded, &running)?;
        Ok(Preview { unchanged: loaded.hash == running.hash, hash: loaded.hash, changes, warnings: loaded.warnings })
    }

    /// Goes back to a configuration that was served before. The file on disk stays as it is and is taken over again
    /// when it changes.
    ///
    /// # Errors
    /// [`ReloadError::UnknownVersion`] when that one is not kept (any more), and whatever else refuses it now.
    pub fn rollback(&self, generation: u64) -> Result<Attempt, ReloadError> {
        let _turn = self.turn.lock();
        let found = {
            let memory = self.memory.lock();
            let mut versions = memory.versions.iter();
            versions.find(|(version, _)| version.generation == generation).map(|(_, loaded)| loaded.clone())
        };
        let result = match found {
            None => Err(ReloadError::UnknownVersion(generation)),
            Some(loaded) => {
                let on_disk = config::load(&self.file, &self.kinds, &*self.env).map(|loaded| loaded.hash).ok();
                let done = self.adopt(loaded, Source::Rollback);
                if done.is_ok() {
                    let mut memory = self.memory.lock();
                    (memory.passed_over, memory.refused) = (on_disk, false);
                }
                done
            }
        };
        self.conclude(Source::Rollback, result)
    }

    /// The configurations that can be gone back to, newest first.
    #[must_use]
    pub fn versions(&self) -> Vec<Version> {
        self.memory.lock().versions.iter().rev().map(|(version, _)| version.clone()).collect()
    }

    /// Where things stand.
    #[must_use]
    pub fn status(&self) -> Status {
        let snapshot = self.gateway.snapshot();
        let memory = self.memory.lock();
        Status {
            file: self.file.display().to_string(),
            generation: snapshot.generation,
            hash: snapshot.hash.clone(),
            since_unix: memory.last_success_unix,
            last_reload: memory.last.clone(),
            warnings: memory.warnings.clone(),
        }
    }

    fn files(&self) -> Vec<PathBuf> {
        let files = self.memory.lock().files.clone();
        if files.is_empty() { vec![self.file.clone()] } else { files }
    }

    /// Compiles apart from everything that runs, and says what would become of each filter.
    fn rehearse(&self, loaded: &Loaded, running: &Snapshot) -> Result<Vec<Change>, ReloadError> {
        let restart = config::restart_required(&running.config, &loaded.config);
        if !restart.is_empty() {
            return Err(ReloadError::RestartRequired(restart));
        }
        let shared = &self.gateway.shared;
        let telemetry = Telemetry::new(AccessLogTarget::Off).map_err(|error| ReloadError::Build(error.to_string()))?;
        let apart = Shared {
            states: StateRegistry::new(),
            hasher: shared.hasher.clone(),
            clock: shared.clock,
            telemetry,
            payments: Payments::inert(),
            deferred: Worker::default(),
        };
        let next = compile(loaded, running, &apart)?;
        Ok(compare(running, &next, &shared.states))
    }

    fn adopt(&self, loaded: Arc<Loaded>, source: Source) -> Result<Done, ReloadError> {
        let running = self.gateway.snapshot();
        let passed_over = self.memory.lock().passed_over.as_deref() == Some(&*loaded.hash);
        if loaded.hash == running.hash || (source == Source::Watch && passed_over) {
            return Ok(Done::Unchanged);
        }
        let changes = self.rehearse(&loaded, &running)?;
        let next = Arc::new(compile(&loaded, &running, &self.gateway.shared)?);
        self.gateway.swap(next.clone());
        let at_unix = unix(&self.gateway);
        let version = Version { generation: next.generation, hash: next.hash.clone(), at_unix, source };
        let mut memory = self.memory.lock();
        memory.passed_over = None;
        memory.last_success_unix = at_unix;
        memory.warnings.clone_from(&loaded.warnings);
        memory.versions.push_back((version, loaded));
        while memory.versions.len() > KEPT_VERSIONS {
            memory.versions.pop_front();
        }
        Ok(Done::Applied(changes))
    }

    /// Tells metrics, log and status how it went.
    fn conclude(&self, source: Source, result: Result<Done, ReloadError>) -> Result<Attempt, ReloadError> {
        let snapshot = self.gateway.snapshot();
        let metrics = self.gateway.shared.telemetry.metrics();
        let word = match &result {
            Ok(Done::Applied(_)) => "applied",
            Ok(Done::Unchanged) => "unchanged",
            Err(_) => "refused",
        };
        metrics.reloaded(word, source.as_str());
        let (at_unix, generation) = (unix(&self.gateway), snapshot.generation);
        let mut memory = self.memory.lock();
        metrics.reload_state(result.is_ok(), memory.last_success_unix, generation, &snapshot.hash);
        let attempt = Attempt::new(at_unix, source, generation, &result);
        // The watcher looks behind every change; finding nothing new is no news.
        let news = result.is_err() || source != Source::Watch || attempt.result != "unchanged";
        if news || memory.last.as_ref().is_some_and(|last| last.result == "refused") {
            memory.last = Some(attempt.clone());
        }
        drop(memory);
        match result {
            Ok(done) => {
                if let Done::Applied(changes) = &done {
                    changes.iter().for_each(|change| metrics.state_action(change.fate.as_str()));
                    log_applied(&snapshot, source, changes);
                }
                Ok(attempt)
            }
            Err(error) => {
                tracing::error!(target: "tidegate::reload", source = source.as_str(), generation, "reload refused, the running configuration goes on: {error}");
                Err(error)
            }
        }
    }
}

fn compile(loaded: &Loaded, running: &Snapshot, shared: &Shared) -> Result<Snapshot, ReloadError> {
    snapshot::build(loaded, running.generation + 1, shared).map_err(|error| ReloadError::Build(error.0))
}

fn log_applied(snapshot: &Snapshot, source: Source, changes: &[Change]) {
    let touched: Vec<String> = changes
        .iter()
        .filter(|change| change.changed || change.fate != Fate::Kept)
        .map(|change| format!("{} {}", change.filter, change.fate.as_str()))
        .collect();
    tracing::info!(
        target: "tidegate::reload",
        generation = snapshot.generation,
        hash = %snapshot.hash,
        source = source.as_str(),
        changed = %touched.join(", "),
        "configuration taken over"
    );
}

fn unix(gateway: &Gateway) -> f64 {
    gateway.shared.clock.unix(gateway.shared.clock.now()).as_secs_f64()
}

/// Lets states forget, once a second, off the threads that serve.
async fn sweep(gateway: Arc<Gateway>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        let gateway = gateway.clone();
        let swept = tokio::task::spawn_blocking(move || {
            gateway.shared.states.sweep(gateway.shared.clock.now(), LINGER);
        });
        if let Err(error) = swept.await {
            tracing::error!(target: "tidegate::reload", %error, "sweeping failed");
        }
    }
}
