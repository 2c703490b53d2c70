//! Notices that the configuration file, or a file it names, has changed, in every way that editors, `mv` and Kubernetes
//! change files.
//!
//! Folders are watched, not files: a file that is replaced takes its watch with it. Of a symlink, the folder of every
//! link on the way is watched, which is how the `..data` swap of a ConfigMap is seen. An event is only a hint; what
//! counts is whether the files' stamps differ. A change is taken over once the stamps have been quiet for a moment, so
//! that two saves in a row are one reload and a half-written file is none. File systems that send no events are covered
//! by comparing the contents every few seconds.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::{RecursiveMode, Watcher};
use sha2::{Digest, Sha256};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::{Reloader, Source};

/// Quiet time after a change before it is taken over.
const QUIET: Duration = Duration::from_millis(250);
/// Longest wait for quiet: somebody who saves all the time is served all the same.
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// How long a file may be missing before that counts as a change.
const ABSENCE: Duration = Duration::from_secs(1);
/// How often stamps are looked at while waiting for quiet, and at most how often hints are followed.
const LOOK: Duration = Duration::from_millis(25);
/// How often contents are compared without any hint.
const POLL: Duration = Duration::from_secs(5);
/// Links followed on the way to a file; the kernel's own bound.
const MOST_LINKS: usize = 40;

/// Watches until the task is dropped.
pub(super) async fn run(reloader: Arc<Reloader>) {
    let hint = Arc::new(Notify::new());
    let mut hangup = signal(SignalKind::hangup()).ok();
    let mut poll = interval(POLL);
    poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut files = reloader.files();
    let mut watcher = arm(&files, &hint, &reloader);
    let mut seen = Seen::of(&files);
    // The file may have changed between the start and the watch.
    reload(&reloader, Source::Watch).await;
    loop {
        let changed = tokio::select! {
            () = hint.notified() => {
                sleep(LOOK).await;
                stamps(&files) != seen.stamps
            }
            _ = poll.tick() => contents(&files) != seen.contents,
            () = hung_up(&mut hangup) => {
                reload(&reloader, Source::Signal).await;
                false
            }
        };
        if changed {
            settle(&files).await;
            seen = Seen::of(&files);
            reload(&reloader, Source::Watch).await;
        } else if files == reloader.files() {
            continue;
        }
        // Folders may have been replaced together with the file, and the file may name others now.
        let now = reloader.files();
        if now != files {
            files = now;
            seen = Seen::of(&files);
        }
        drop(watcher);
        watcher = arm(&files, &hint, &reloader);
        if stamps(&files) != seen.stamps {
            hint.notify_one();
        }
    }
}

async fn hung_up(hangup: &mut Option<tokio::signal::unix::Signal>) {
    match hangup {
        Some(signal) => _ = signal.recv().await,
        None => std::future::pending().await,
    }
}

async fn reload(reloader: &Arc<Reloader>, source: Source) {
    let reloader = reloader.clone();
    // How it went stands in log, metrics and status.
    let _ = tokio::task::spawn_blocking(move || reloader.reload(source)).await;
}

/// Waits until the files have been as they are for a moment.
async fn settle(files: &[PathBuf]) {
    let begun = Instant::now();
    let mut last = stamps(files);
    let mut quiet_since = begun;
    while begun.elapsed() < LONGEST_WAIT {
        sleep(LOOK).await;
        let now = stamps(files);
        if now != last {
            last = now;
            quiet_since = Instant::now();
        }
        let missing = last.contains(&None) && begun.elapsed() < ABSENCE;
        if quiet_since.elapsed() >= QUIET && !missing {
            return;
        }
    }
}

fn arm(files: &[PathBuf], hint: &Arc<Notify>, reloader: &Arc<Reloader>) -> Option<notify::RecommendedWatcher> {
    let (hint, gateway) = (hint.clone(), reloader.gateway.clone());
    let on_event = move |event: notify::Result<notify::Event>| {
        let kind = match event.map(|event| event.kind) {
            Ok(notify::EventKind::Access(_)) => return,
            Ok(notify::EventKind::Create(_)) => "create",
            Ok(notify::EventKind::Modify(_)) => "modify",
            Ok(notify::EventKind::Remove(_)) => "remove",
            Ok(notify::EventKind::Any | notify::EventKind::Other) => "other",
            Err(_) => "error",
        };
        gateway.shared.telemetry.metrics().watch_event(kind);
        hint.notify_one();
    };
    let warn = |error: &notify::Error| {
        tracing::warn!(target: "tidegate::reload", %error, "changes are found by looking every few seconds only");
    };
    let mut watcher = notify::recommended_watcher(on_event).inspect_err(warn).ok()?;
    for folder in files.iter().flat_map(|file| folders(file)).collect::<BTreeSet<_>>() {
        let _ = watcher.watch(&folder, RecursiveMode::NonRecursive).inspect_err(warn);
    }
    Some(watcher)
}

/// The folder of the file and of every link on the way to it.
pub(super) fn folders(file: &Path) -> BTreeSet<PathBuf> {
    let mut folders = BTreeSet::new();
    let mut ways = vec![std::path::absolute(file).unwrap_or_else(|_| file.to_owned())];
    let mut links = 0;
    while let Some(way) = ways.pop() {
        folders.extend(way.parent().map(Path::to_owned));
        for part in way.ancestors() {
            let (Ok(target), Some(folder)) = (std::fs::read_link(part), part.parent()) else { continue };
            links += 1;
            if links > MOST_LINKS {
                return folders;
            }
            folders.insert(folder.to_owned());
            let rest = way.strip_prefix(part).unwrap_or(Path::new(""));
            let target = folder.join(target);
            ways.push(if rest.as_os_str().is_empty() { target } else { target.join(rest) });
        }
    }
    folders
}

/// What tells one version of a file from another without reading it; `None` when there is no such file.
type Stamp = Option<(u64, u64, i64, i64, u64)>;

fn stamps(files: &[PathBuf]) -> Vec<Stamp> {
    let stamp = |file: &PathBuf| {
        let meta = std::fs::metadata(file).ok()?;
        Some((meta.dev(), meta.ino(), meta.mtime(), meta.mtime_nsec(), meta.len()))
    };
    files.iter().map(stamp).collect()
}

fn contents(files: &[PathBuf]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for file in files {
        // A file that cannot be read differs from an empty one.
        match std::fs::read(file) {
            Ok(bytes) => {
                hash.update(bytes.len().to_le_bytes());
                hash.update(bytes);
            }
            Err(_) => hash.update([0xff]),
        }
    }
    hash.finalize().into()
}

/// The files as they were when they were last taken over.
struct Seen {
    stamps: Vec<Stamp>,
    contents: [u8; 32],
}

impl Seen {
    fn of(files: &[PathBuf]) -> Self {
        Self { stamps: stamps(files), contents: contents(files) }
    }
}
