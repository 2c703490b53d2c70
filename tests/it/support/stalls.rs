//! When this machine stood still for a process: its threads had no processor, or its disk did not answer.
//!
//! A test that promises something for every second can make it hold for every second in which the machine let the process
//! run. The system tells for each thread how long it was ready and did not get a processor (`schedstat`), which counts what
//! neighbours take; a watcher's own sleeps show when everything stood still; a write to the same disk shows what that takes.

use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(5);
/// Between two writes.
const WRITE: Duration = Duration::from_millis(20);
/// From this on it counts.
const SHORTEST: Duration = Duration::from_millis(20);

type Span = (Duration, Duration);

/// Watches one process until it is dropped.
pub(crate) struct Stalls {
    seen: Arc<Mutex<Vec<Span>>>,
    over: Arc<AtomicBool>,
}

/// Time since 1970.
pub(crate) fn unix() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970")
}

impl Stalls {
    /// Watches the threads of that process that have one of these names, and the disk of `folder`.
    pub(crate) fn watch(pid: u32, threads: &'static [&'static str], folder: &Path) -> Self {
        let (seen, over): (Arc<Mutex<Vec<Span>>>, Arc<AtomicBool>) = Default::default();
        let (noted, stop) = (seen.clone(), over.clone());
        std::thread::spawn(move || look(pid, threads, &noted, &stop));
        let (noted, stop) = (seen.clone(), over.clone());
        let file = std::fs::File::create(folder.join("probe")).expect("a file beside the gateway's");
        std::thread::spawn(move || write(file, &noted, &stop));
        Self { seen, over }
    }

    /// Whether nothing stood still between these moments.
    pub(crate) fn none_in(&self, from: Duration, to: Duration) -> bool {
        !self.seen.lock().expect("no poison").iter().any(|(begin, end)| *begin < to && *end > from)
    }
}

impl Drop for Stalls {
    fn drop(&mut self) {
        self.over.store(true, SeqCst);
    }
}

/// How long the process's threads of these names have waited for a processor, each.
fn waited(pid: u32, names: &[&str]) -> Vec<(std::ffi::OsString, Duration)> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let one = |thread: std::fs::DirEntry| {
        let read = |what| std::fs::read_to_string(thread.path().join(what)).ok();
        let named = read("comm")?;
        let wait = read("schedstat")?.split(' ').nth(1)?.parse().ok()?;
        names.contains(&named.trim()).then(|| (thread.file_name(), Duration::from_nanos(wait)))
    };
    threads.filter_map(one).collect()
}

fn look(pid: u32, threads: &[&str], seen: &Mutex<Vec<Span>>, over: &AtomicBool) {
    let (mut then, mut before) = (unix(), waited(pid, threads));
    while !over.load(SeqCst) {
        std::thread::sleep(LOOK);
        let (now, after) = (unix(), waited(pid, threads));
        let since =
            |thread: &std::ffi::OsString| before.iter().find(|(known, _)| known == thread).map(|(_, wait)| *wait);
        let grown = after.iter().filter_map(|(thread, wait)| Some(wait.saturating_sub(since(thread)?)));
        if grown.max().unwrap_or_default() >= SHORTEST || now.saturating_sub(then) >= LOOK + SHORTEST {
            // A wait is counted when it is over: it may have begun before the last look.
            seen.lock().expect("no poison").push((then.saturating_sub(SHORTEST), now));
        }
        (then, before) = (now, after);
    }
}

fn write(mut file: std::fs::File, seen: &Mutex<Vec<Span>>, over: &AtomicBool) {
    while !over.load(SeqCst) {
        let from = unix();
        let written = file.write_all(b"x").and_then(|()| file.sync_data());
        let to = unix();
        if written.is_err() || to.saturating_sub(from) >= SHORTEST {
            seen.lock().expect("no poison").push((from, to));
        }
        std::thread::sleep(WRITE);
    }
}
