//! A kill at every place where it can make a difference.
//!
//! A child of a test (another test of the same binary) lives one life on a folder and says each thing once it is durable.
//! strace kills it with SIGKILL as it enters a call of the system: the first of that name, then the second, and so on until
//! it survives. Between two calls that write nothing outside the process changes, so these are all places there are.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Set for the child only: its folder.
const FOLDER: &str = "KILL_POINTS_FOLDER";
/// More calls than one life has.
const MANY: usize = 200;

/// The folder of a child; `None` in the run of all tests.
pub(crate) fn folder() -> Option<PathBuf> {
    std::env::var_os(FOLDER).map(PathBuf::from)
}

/// Says something, in one call of the system.
pub(crate) fn say(words: &str) {
    std::io::stdout().write_all(format!("said {words}\n").as_bytes()).unwrap();
}

/// One life that ends as it enters a call for the `at`-th time: what was said, and whether it survived.
fn life(child: &str, folder: &Path, call: &str, at: usize) -> (Vec<String>, bool) {
    let ended = Command::new("strace")
        .args(["-f", "-qq", "-o", "/dev/null"])
        .args(["-e", &format!("trace={call}"), "-e", &format!("inject={call}:signal=SIGKILL:when={at}")])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", child, "--nocapture", "--test-threads=1"])
        .env(FOLDER, folder)
        .output()
        .expect("strace is installed; ./dev test does that");
    let text = String::from_utf8_lossy(&ended.stdout);
    let said = text.lines().filter_map(|line| Some(line.split_once("said ")?.1.to_owned())).collect();
    (said, ended.status.success())
}

/// Kills the child at every call of that name, each time on a fresh folder; `check` looks at the folder and at what was
/// said. How many such calls a life has.
pub(crate) async fn at_every(call: &str, child: &str, check: impl AsyncFn(&Path, &[String])) -> usize {
    for at in 1..MANY {
        let folder = tempfile::tempdir().unwrap();
        let (said, survived) = life(child, folder.path(), call, at);
        check(folder.path(), &said).await;
        if survived {
            assert!(!said.is_empty(), "it has said nothing");
            return at - 1;
        }
    }
    panic!("a life has more than {MANY} calls of {call}")
}
