//! A kill at every step that touches the disk, and at every word that is said.
//!
//! One request is promised, sent and answered; another is promised and withdrawn. Afterwards the files must hold what was
//! said, and nothing that would let a request be sent twice.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use tidegate_durable::Synchronous;

use super::super::core::{Entry, Id, State, Verdict};
use super::super::{Deferred, RespondAsync, Shelf, Submitted, resolved};
use super::shelf::{NOW, deferral, letter, on_disk};
use crate::kill_points::{at_every, folder, say};

const CHILD: &str = "respond_async::tests::kills::the_child_with_a_life";

fn open(folder: &Path) -> Arc<Deferred> {
    let shelf = Arc::new(Shelf::open(folder, "disk", Synchronous::Full, on_disk()).unwrap());
    Arc::new(Deferred::open("later".into(), Some(shelf), RespondAsync::default().rules("user"), Duration::ZERO))
}

async fn promise(book: &Arc<Deferred>, key: u8) -> Id {
    let Submitted::New(id) = deferral(book, key, 1).submit(letter("{}"), "orders", NOW).await.unwrap() else {
        panic!("not new")
    };
    say(&format!("promised {id}"));
    id
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_child_with_a_life() {
    let Some(folder) = folder() else { return };
    let book = open(&folder);
    let (first, second) = (promise(&book, 1).await, promise(&book, 2).await);
    let sent = book.due(NOW).send;
    assert_eq!((sent.len(), sent[0].id), (1, first));
    assert_eq!(book.running(&sent).await.unwrap().len(), 1);
    say(&format!("sent {first}"));
    let answer = (Some(resolved(StatusCode::CREATED, "made".to_owned())), "answered 201".to_owned());
    book.ended(sent[0].seq, Verdict::Answered, answer, || NOW).await;
    say(&format!("answered {first}"));
    assert!(book.act(second, Entry::cancel, None, "withdrawn".to_owned(), NOW).await.unwrap());
    say(&format!("withdrawn {second}"));
}

/// What the files hold must be what was said.
async fn holds(folder: &Path, said: &[String]) {
    let (book, place) = (open(folder), format!("having said {said:?}"));
    let heard = |word: &str, id: Id| said.contains(&format!("{word} {id}"));
    for id in said.iter().filter_map(|words| words.strip_prefix("promised ")) {
        let id: Id = id.parse().expect("an id");
        let entry = book.view(id, NOW).await.unwrap().unwrap_or_else(|| panic!("{place}: a promise is gone")).entry;
        let answer = book.answer(id).await.unwrap();
        match entry.state {
            State::Done => assert_eq!(answer.and_then(|answer| answer.body).as_deref(), Some(&b"made"[..]), "{place}"),
            // Withdrawn, or about to be and not yet: it was never sent.
            State::Cancelled => assert!(!heard("sent", id), "{place}"),
            // It would be sent again.
            State::Queued => assert!(!heard("sent", id) && !heard("withdrawn", id), "{place}"),
            State::Unknown => assert!(entry.doubt && !heard("answered", id), "{place}"),
            other => panic!("{place}: {other:?}"),
        }
        if heard("answered", id) {
            assert_eq!(entry.state, State::Done, "{place}");
        }
    }
    // Whoever lives on takes up what is left, and what is left only.
    let due = book.due(NOW).send;
    assert!(due.iter().all(|entry| !heard("sent", entry.id)), "{place}: something would be sent twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_at_any_write_to_the_files_breaks_no_promise_and_sends_nothing_twice() {
    assert!(at_every("pwrite64", CHILD, holds).await >= 8, "a life is written down in several steps");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_at_any_wait_for_the_disk_breaks_no_promise_and_sends_nothing_twice() {
    assert!(at_every("fsync,fdatasync", CHILD, holds).await >= 4, "two promises, a sending, an answer");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_at_any_word_breaks_no_promise_and_sends_nothing_twice() {
    assert!(at_every("write", CHILD, holds).await >= 5, "every word is said in a call of its own");
}
