//! A kill at every step that touches the disk, and at every word that is said.
//!
//! A child of this test takes one request through its life: promised, being sent, sent, answered; another is promised and
//! withdrawn. It says each word once what it speaks of is durable. strace kills it with SIGKILL as it enters a call of the
//! system: at the first write to a file, then at the second, and so on until it survives; then at each fsync; then at each
//! word it says. Between two of those calls nothing outside the process changes, so this is every place that a kill can
//! find. Afterwards the files must hold what was said, and nothing that would let a request be sent twice.

use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use tidegate_durable::Synchronous;

use super::super::core::{Entry, Id, State, Verdict};
use super::super::{Deferred, RespondAsync, Shelf, Submitted, resolved};
use super::shelf::{NOW, deferral, letter};

/// Set for the child only: the folder.
const FOLDER: &str = "DEFERRED_KILLS_FOLDER";
/// More calls than one life has.
const MANY: usize = 200;

fn open(folder: &Path) -> Arc<Deferred> {
    let shelf = Arc::new(Shelf::open(folder, "disk", Synchronous::Full).unwrap());
    Arc::new(Deferred::open("later".into(), Some(shelf), RespondAsync::default().rules("user"), Duration::ZERO))
}

/// One call of the system for each word.
fn say(word: &str, id: Id) {
    std::io::stdout().write_all(format!("said {word} {id}\n").as_bytes()).unwrap();
}

async fn promise(book: &Arc<Deferred>, key: u8) -> Id {
    let Submitted::New(id) = deferral(book, key, 1).submit(letter("{}"), "orders", NOW).await.unwrap() else {
        panic!("not new")
    };
    say("promised", id);
    id
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_child_with_a_life() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let book = open(Path::new(&folder));
    let (first, second) = (promise(&book, 1).await, promise(&book, 2).await);
    let sent = book.due(NOW).send;
    assert_eq!((sent.len(), sent[0].id), (1, first));
    assert_eq!(book.running(&sent).await.unwrap().len(), 1);
    say("sent", first);
    let answer = (Some(resolved(StatusCode::CREATED, "made".to_owned())), "answered 201".to_owned());
    book.ended(sent[0].seq, Verdict::Answered, answer, || NOW).await;
    say("answered", first);
    assert!(book.act(second, Entry::cancel, None, "withdrawn".to_owned(), NOW).await.unwrap());
    say("withdrawn", second);
}

/// Runs the child until it is killed as it enters the call of that name for the `at`-th time; what it said, and whether it
/// survived.
fn life(folder: &Path, call: &str, at: usize) -> (Vec<(String, Id)>, bool) {
    let child = Command::new("strace")
        .args(["-f", "-qq", "-o", "/dev/null"])
        .args(["-e", &format!("trace={call}"), "-e", &format!("inject={call}:signal=SIGKILL:when={at}")])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "respond_async::tests::kills::the_child_with_a_life", "--nocapture", "--test-threads=1"])
        .env(FOLDER, folder)
        .output()
        .expect("strace is installed; ./dev test does that");
    let text = String::from_utf8_lossy(&child.stdout).into_owned();
    let words = text.lines().filter_map(|line| line.split_once("said ")?.1.split_once(' '));
    (words.map(|(word, id)| (word.to_owned(), id.parse().expect("an id"))).collect(), child.status.success())
}

/// What the files hold must be what was said.
async fn holds(folder: &Path, said: &[(String, Id)], place: &str) {
    let book = open(folder);
    let heard = |word: &str, id: Id| said.iter().any(|(known, of)| known == word && *of == id);
    for (_, id) in said.iter().filter(|(word, _)| word == "promised") {
        let entry = book.view(*id, NOW).await.unwrap().unwrap_or_else(|| panic!("{place}: a promise is gone")).entry;
        let answer = book.answer(*id).await.unwrap();
        match entry.state {
            State::Done => assert_eq!(answer.and_then(|answer| answer.body).as_deref(), Some(&b"made"[..]), "{place}"),
            // Withdrawn, or about to be and not yet: it was never sent.
            State::Cancelled => assert!(!heard("sent", *id), "{place}"),
            // It would be sent again.
            State::Queued => assert!(!heard("sent", *id) && !heard("withdrawn", *id), "{place}"),
            State::Unknown => assert!(entry.doubt && !heard("answered", *id), "{place}"),
            other => panic!("{place}: {other:?}"),
        }
        if heard("answered", *id) {
            assert_eq!(entry.state, State::Done, "{place}");
        }
    }
    // Whoever lives on takes up what is left, and what is left only.
    let due = book.due(NOW).send;
    assert!(due.iter().all(|entry| !heard("sent", entry.id)), "{place}: something would be sent twice");
}

/// Kills at every call of that name; how many there were.
async fn at_every(call: &str) -> usize {
    for at in 1..MANY {
        let folder = tempfile::tempdir().unwrap();
        let (said, survived) = life(folder.path(), call, at);
        holds(folder.path(), &said, &format!("{call} {at}, having said {said:?}")).await;
        if survived {
            assert_eq!(said.len(), 5, "{said:?}");
            return at - 1;
        }
    }
    panic!("a life has more than {MANY} calls of {call}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_at_any_write_to_the_files_breaks_no_promise_and_sends_nothing_twice() {
    assert!(at_every("pwrite64").await >= 8, "a life is written down in several steps");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_at_any_wait_for_the_disk_breaks_no_promise_and_sends_nothing_twice() {
    assert!(at_every("fsync,fdatasync").await >= 4, "two promises, a sending, an answer");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_at_any_word_breaks_no_promise_and_sends_nothing_twice() {
    assert!(at_every("write").await >= 5, "every word is said in a call of its own");
}
