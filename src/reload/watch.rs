//! Notices that the configuration file, or a file it names, has changed, in every way that editors, `mv` and Kubernetes
//! change files.
//!
//! Folders are watched, not files: a file that is replaced takes its watch with it. Of a symlink, the folder of every
//! link on the way is watched, which is how the `..data` swap of a ConfigMap is seen. An event is only a hint; what
//! counts is whether the files' stamps differ. A change is taken over once the stamps have been quiet for a moment, so
//! that two saves in a row are one reload and a half-written file is none. File systems that send no events are covered
//! by comparing the contents every few seconds. A file that was refused is tried again as often, since the reason may lie
//! elsewhere: a name that did not resolve, a key file that was not there yet.
//!
//! Whatever touches the disk runs off the admin side's own thread: a network file system that hangs must not take the
//! health check with it.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::files::{Seen, Sights, any_absent, contents, stamps};
use super::{Reloader, Source};

/// Quiet time after a change before it is taken over.
const QUIET: Duration = Duration::from_millis(250);
/// Longest wait for quiet: somebody who saves all the time is served all the same.
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// How long a file may be missing or empty before that counts as a change.
const ABSENCE: Duration = Duration::from_secs(1);
/// How often stamps are looked at while waiting for quiet, and at most how often hints are followed.
const LOOK: Duration = Duration::from_millis(25);
/// How often contents are compared without any hint.
const POLL: Duration = Duration::from_secs(5);

/// Watches until the task is dropped.
pub(super) async fn run(reloader: Arc<Reloader>) {
    let mut hangup = signal(SignalKind::hangup())
        .inspect_err(|error| tracing::warn!(target: "tidegate::reload", %error, "SIGHUP will not reload"))
        .ok();
    let mut poll = interval(POLL);
    poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut watch = Watch::new(reloader);
    // The file may have changed between the start and the watch.
    watch.take_over().await;
    loop {
        watch.arm().await;
        tokio::select! {
            () = watch.hint.notified() => watch.hinted().await,
            _ = poll.tick() => watch.polled().await,
            () = hung_up(&mut hangup) => watch.reload(Source::Signal).await,
        }
    }
}

async fn hung_up(hangup: &mut Option<Signal>) {
    match hangup {
        Some(signal) => _ = signal.recv().await,
        None => std::future::pending().await,
    }
}

/// What the watcher knows of the files.
struct Watch {
    reloader: Arc<Reloader>,
    hint: Arc<Notify>,
    files: Vec<PathBuf>,
    seen: Seen,
    sights: Sights,
    watcher: Option<RecommendedWatcher>,
    warned: bool,
}

impl Watch {
    fn new(reloader: Arc<Reloader>) -> Self {
        let files = reloader.files();
        let (seen, sights) = (Seen::default(), Sights::default());
        Self { reloader, hint: Arc::default(), files, seen, sights, watcher: None, warned: false }
    }

    /// What `look` sees of the files; its default should the thread for it be missing.
    async fn see<T: Default + Send + 'static>(&self, look: fn(&[PathBuf]) -> T) -> T {
        let files = self.files.clone();
        tokio::task::spawn_blocking(move || look(&files)).await.unwrap_or_default()
    }

    async fn reload(&self, source: Source) {
        let reloader = self.reloader.clone();
        // How it went stands in log, metrics and status.
        let _ = tokio::task::spawn_blocking(move || reloader.reload(source)).await;
    }

    async fn hinted(&mut self) {
        sleep(LOOK).await;
        if self.see(stamps).await != self.seen.stamps {
            self.settle().await;
            self.take_over().await;
        }
    }

    async fn polled(&mut self) {
        if self.see(contents).await != self.seen.contents {
            self.settle().await;
            self.take_over().await;
        } else if self.reloader.is_refused() {
            let reloader = self.reloader.clone();
            let _ = tokio::task::spawn_blocking(move || reloader.retry()).await;
        }
    }

    /// Waits until the files have been as they are for a moment.
    async fn settle(&self) {
        let begun = Instant::now();
        let mut last = self.see(stamps).await;
        let mut quiet_since = begun;
        while begun.elapsed() < LONGEST_WAIT {
            sleep(LOOK).await;
            let now = self.see(stamps).await;
            if now != last {
                last = now;
                quiet_since = Instant::now();
            }
            let absent = any_absent(&last) && begun.elapsed() < ABSENCE;
            if quiet_since.elapsed() >= QUIET && !absent {
                return;
            }
        }
    }

    /// Reloads. What was seen is noted first, so that what changes meanwhile is a change still.
    async fn take_over(&mut self) {
        self.seen = self.see(Seen::of).await;
        self.reload(Source::Watch).await;
    }

    /// Looks where the files are now: the file may name others, and folders may have been replaced.
    async fn arm(&mut self) {
        let files = self.reloader.files();
        if files != self.files {
            self.files = files;
            // The new ones may have changed since they were read; nothing is done when they have not.
            self.take_over().await;
        }
        let sights = self.see(Sights::of).await;
        if sights == self.sights && self.watcher.is_some() {
            return;
        }
        // The old one goes when the new one is there: no gap.
        self.watcher = self.watcher_of(&sights);
        self.sights = sights;
        if self.see(stamps).await != self.seen.stamps {
            self.hint.notify_one();
        }
    }

    fn watcher_of(&mut self, sights: &Sights) -> Option<RecommendedWatcher> {
        let on_event = listener(self.reloader.clone(), self.hint.clone(), sights.paths.clone());
        let watcher = notify::recommended_watcher(on_event).and_then(|mut watcher| {
            let mut folders = sights.folders.keys();
            folders.try_for_each(|folder| watcher.watch(folder, RecursiveMode::NonRecursive))?;
            Ok(watcher)
        });
        match watcher {
            Ok(watcher) => {
                self.warned = false;
                Some(watcher)
            }
            Err(error) => {
                if !std::mem::replace(&mut self.warned, true) {
                    let every = POLL.as_secs();
                    tracing::warn!(target: "tidegate::reload", %error, "no events of the file; it is read every {every}s");
                }
                None
            }
        }
    }
}

/// Counts events of the paths that matter and gives the hint. Others of the same folder, a log's say, are nothing.
fn listener(
    reloader: Arc<Reloader>,
    hint: Arc<Notify>,
    paths: BTreeSet<PathBuf>,
) -> impl Fn(notify::Result<notify::Event>) + Send + 'static {
    move |event| {
        let kind = match event {
            Ok(event) if !event.need_rescan() && !event.paths.iter().any(|path| paths.contains(path)) => return,
            Ok(event) => match kind_of(event.kind) {
                Some(kind) => kind,
                None => return,
            },
            Err(_) => "error",
        };
        reloader.gateway.shared.telemetry.metrics().watch_event(kind);
        hint.notify_one();
    }
}

/// The metric's word for an event; `None` for those that change nothing, as our own reading is.
fn kind_of(kind: EventKind) -> Option<&'static str> {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => Some("write"),
        EventKind::Access(_) => None,
        EventKind::Create(_) => Some("create"),
        EventKind::Modify(ModifyKind::Name(_)) => Some("rename"),
        EventKind::Modify(_) => Some("modify"),
        EventKind::Remove(_) => Some("remove"),
        EventKind::Any | EventKind::Other => Some("other"),
    }
}
