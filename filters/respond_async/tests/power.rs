//! The power goes. A kill leaves the system's page cache whole, so it cannot show whether the disk was waited for; this can.
//!
//! A child of this test writes requests down and says so after each, watched by strace. From the trace the files are put
//! together as the disk would have them if the power had gone right behind the last word: every write that an fsync of its
//! file had followed, and no other. What was promised must be in them. The same with `synchronous = OFF` must find losses,
//! or the test would prove nothing.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use tidegate_durable::Synchronous;

use super::super::core::Id;
use super::super::{Deferred, RespondAsync, Shelf, Submitted};
use super::shelf::{NOW, deferral, letter, on_disk};

/// Set for the child only: the folder, and how much the disk is waited for.
const FOLDER: &str = "DEFERRED_TEST_FOLDER";
const SYNCHRONOUS: &str = "DEFERRED_TEST_SYNCHRONOUS";
const PROMISES: u8 = 20;

fn open(folder: &Path, synchronous: Synchronous) -> Arc<Deferred> {
    let shelf = Arc::new(Shelf::open(folder, "disk", synchronous, on_disk()).unwrap());
    let rules = RespondAsync::default().rules("user");
    Arc::new(Deferred::open("later".into(), Some(shelf), rules, Duration::ZERO))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_child_that_promises() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let off = std::env::var_os(SYNCHRONOUS).is_some_and(|how| how == "off");
    let book = open(Path::new(&folder), if off { Synchronous::Off } else { Synchronous::Full });
    for key in 0..PROMISES {
        let Submitted::New(id) = deferral(&book, key, 1).submit(letter("{}"), "orders", NOW).await.unwrap() else {
            panic!("not new")
        };
        // One call of the system for each word.
        std::io::stdout().write_all(format!("promised {id}\n").as_bytes()).unwrap();
    }
}

/// A call of the system as strace writes it: its name and everything behind it. Calls that others interrupt are put
/// together again.
fn calls(trace: &str) -> Vec<(String, String)> {
    let mut begun: HashMap<&str, &str> = HashMap::new();
    let mut calls = Vec::new();
    for line in trace.lines() {
        let Some((thread, text)) = line.split_once(' ') else { continue };
        let text = text.trim_start();
        let whole = if let Some(start) = text.strip_suffix(" <unfinished ...>") {
            begun.insert(thread, start);
            continue;
        } else if text.starts_with("<... ") {
            let rest = text.split_once("resumed>").map_or("", |(_, rest)| rest);
            format!("{}{rest}", begun.remove(thread).unwrap_or_default())
        } else {
            text.to_owned()
        };
        if let Some((name, arguments)) = whole.split_once('(') {
            calls.push((name.to_owned(), arguments.to_owned()));
        }
    }
    calls
}

/// The path of a descriptor that strace has written out: `7</tmp/file>, …`.
fn path_of(arguments: &str) -> Option<&str> {
    arguments.split_once('<')?.1.split_once('>').map(|(path, _)| path)
}

/// A text that strace has written in hexadecimal.
fn bytes_of(arguments: &str) -> Option<Vec<u8>> {
    let quoted = arguments.split('"').nth(1)?;
    let digits: Vec<&str> = quoted.split("\\x").skip(1).collect();
    digits.into_iter().map(|digits| u8::from_str_radix(digits, 16).ok()).collect()
}

type Writes = BTreeMap<String, Vec<(u64, Vec<u8>)>>;

/// What was promised, and the writes that an fsync had followed by the last promise.
fn replay(trace: &str) -> (Vec<Id>, Writes) {
    let (mut promised, mut waiting, mut safe) = (Vec::new(), Writes::new(), Writes::new());
    for (name, arguments) in calls(trace) {
        let Some(path) = path_of(&arguments) else { continue };
        match name.as_str() {
            "pwrite64" => {
                let call = arguments.rsplit_once(')').map(|(call, _)| call);
                let offset = call.and_then(|call| call.rsplit(", ").next()?.trim().parse().ok());
                let bytes = bytes_of(&arguments).expect("a text");
                waiting.entry(path.to_owned()).or_default().push((offset.expect("an offset"), bytes));
            }
            "fsync" | "fdatasync" => {
                let written = waiting.remove(path).unwrap_or_default();
                safe.entry(path.to_owned()).or_default().extend(written);
            }
            "write" => {
                let text = String::from_utf8(bytes_of(&arguments).unwrap_or_default()).unwrap_or_default();
                if let Some((_, id)) = text.trim_end().split_once("promised ") {
                    promised.push(id.parse().expect("an id"));
                    if promised.len() == usize::from(PROMISES) {
                        // The power goes.
                        return (promised, safe);
                    }
                }
            }
            _ => (),
        }
    }
    panic!("the child has promised {} only", promised.len());
}

fn copy(from: &Path, to: &Path) {
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

/// How many promises are lost when the power goes.
async fn lost(how: &str) -> usize {
    let (live, after) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    // The file is there already: its making is not what is looked at.
    drop(open(live.path(), Synchronous::Full));
    settled(live.path());
    copy(live.path(), after.path());
    let trace = live.path().with_extension(format!("{how}.strace"));
    let child = Command::new("strace")
        .args(["-f", "-y", "-xx", "-s", "1000000", "-e", "trace=pwrite64,write,fsync,fdatasync", "-o"])
        .arg(&trace)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "respond_async::tests::power::the_child_that_promises", "--nocapture", "--test-threads=1"])
        .env(FOLDER, live.path())
        .env(SYNCHRONOUS, how)
        .output()
        .expect("strace is installed; ./dev test does that");
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stderr));
    let text = std::fs::read_to_string(&trace).unwrap();
    let _ = std::fs::remove_file(&trace);
    let (promised, safe) = replay(&text);
    for (path, writes) in safe {
        let Ok(name) = PathBuf::from(plain(&path)).strip_prefix(live.path()).map(Path::to_owned) else { continue };
        // The folder itself has no bytes.
        if name.as_os_str().is_empty() {
            continue;
        }
        let file = std::fs::File::options().write(true).create(true).truncate(false).open(after.path().join(name));
        let file = file.unwrap();
        for (offset, bytes) in writes {
            file.write_all_at(&bytes, offset).unwrap();
        }
    }
    let book = open(after.path(), Synchronous::Full);
    let mut lost = 0;
    for id in promised {
        lost += usize::from(book.view(id, NOW).await.unwrap().is_none());
    }
    lost
}

/// A path that may be written in hexadecimal.
fn plain(path: &str) -> String {
    match bytes_of(&format!("\"{path}\"")) {
        Some(bytes) if path.starts_with("\\x") => String::from_utf8(bytes).unwrap_or_default(),
        _ => path.to_owned(),
    }
}

/// Waits until a book's file is closed: its log is gone then.
fn settled(folder: &Path) {
    let log = folder.join("disk.deferred.sqlite-wal");
    let begun = std::time::Instant::now();
    while log.exists() {
        assert!(begun.elapsed() < Duration::from_secs(10), "the file stays open");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_promised_is_there_when_the_power_comes_back() {
    assert_eq!(lost("full").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_is_not_waited_for_loses_promises_so_the_other_test_can_fail() {
    assert!(lost("off").await > 0, "nothing was lost although nobody waited for the disk");
}
