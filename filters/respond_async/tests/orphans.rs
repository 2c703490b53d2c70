//! What a filter has promised that the configuration does not have any more.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use tidegate_durable::Synchronous;

use super::super::core::{State, Verdict};
use super::super::orphans::key;
use super::super::{Deferred, RespondAsync, Shelf, Submitted, orphans, resolved};
use super::shelf::{NOW, deferral, letter, on_disk};
use crate::engine::{IdentityId, Nanos, State as _, StateRegistry};
use crate::store::Stores;

/// Waits until a file is free: its writer ends a moment behind its last user.
fn reopened(folder: &std::path::Path) -> StateRegistry {
    let until = std::time::Instant::now() + Duration::from_secs(10);
    loop {
        let states = StateRegistry::with_stores(Stores::new(folder, Duration::ZERO));
        if !states.stores().shelves().is_empty() || std::time::Instant::now() > until {
            return states;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn settings(rate: &str) -> RespondAsync {
    RespondAsync { rate: rate.parse().unwrap(), scope: Some("client".to_owned()), ..RespondAsync::default() }
}

fn open(shelf: &Arc<Shelf>, name: &str, settings: &RespondAsync) -> Arc<Deferred> {
    let rules = settings.rules("client");
    let book = Deferred::open(name.into(), Some(shelf.clone()), rules.clone(), Duration::ZERO);
    let written = serde_json::to_string(settings).unwrap().into();
    book.retune(rules, Arc::new(settings.terms(IdentityId::CLIENT, "client")), &written);
    Arc::new(book)
}

fn shelf(folder: &std::path::Path) -> Arc<Shelf> {
    Arc::new(Shelf::open(folder, "disk", Synchronous::Full, on_disk()).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_book_that_owes_something_is_found_behind_a_restart_and_stays_until_it_owes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    {
        let shelf = shelf(folder.path());
        let book = open(&shelf, "later", &settings("7/s"));
        let submitted = deferral(&book, 1, 1).submit(letter("{}"), "orders", NOW).await.unwrap();
        assert!(matches!(submitted, Submitted::New(_)));
        // One that never promised anything.
        drop(open(&shelf, "idle", &settings("8/s")));
    }
    let states = reopened(folder.path());
    let found = orphans(&states, &HashSet::new());
    assert_eq!(found.iter().map(|book| &*book.name).collect::<Vec<_>>(), ["later"]);
    let book = found.into_iter().next().unwrap();
    assert_eq!(book.book.lock().rules().rate, "7/s".parse().unwrap(), "as it was promised");
    assert!(book.must_stay() && book.owed() == 1);
    assert!(orphans(&states, &HashSet::from([key(&"later".into(), "disk")])).is_empty(), "the file has it again");
    // No snapshot holds it, and it is not dropped.
    let id = {
        let sent = book.due(NOW).send;
        book.running(&sent).await.unwrap();
        let answer = Some(resolved(StatusCode::CREATED, "done".to_owned()));
        book.ended(sent[0].seq, Verdict::Answered, (answer, String::new()), || NOW).await;
        let id = sent[0].id;
        drop(book);
        id
    };
    let at = |seconds: u64| Nanos((NOW.as_secs() + seconds) * 1_000_000_000);
    for seconds in [0, 3_600, 80_000] {
        states.sweep(at(seconds), Duration::from_secs(600));
        assert_eq!(states.all::<Deferred>().len(), 1, "its answer can still be fetched");
    }
    let (_, book) = states.all::<Deferred>().pop().unwrap();
    assert_eq!(book.view(id, NOW).await.unwrap().unwrap().entry.state, State::Done);
    drop(book);
    let until = std::time::Instant::now() + Duration::from_secs(10);
    while !states.all::<Deferred>().is_empty() {
        states.sweep(at(86_500), Duration::ZERO);
        states.sweep(at(90_000), Duration::ZERO);
        assert!(std::time::Instant::now() < until, "what was forgotten owes nothing");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(orphans(&states, &HashSet::new()).is_empty(), "and it is struck off");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_known_whatever_the_filter_is_called_that_it_came_through() {
    let folder = tempfile::tempdir().unwrap();
    let shelf = shelf(folder.path());
    let (before, after) = (open(&shelf, "later", &settings("7/s")), open(&shelf, "afterwards", &settings("7/s")));
    let Submitted::New(id) = deferral(&before, 1, 1).submit(letter("{}"), "orders", NOW).await.unwrap() else {
        panic!("not new")
    };
    let again = |print| {
        let deferral = deferral(&after, 1, print);
        async move { deferral.submit(letter("{}"), "orders", NOW).await.unwrap() }
    };
    assert_eq!(again(1).await, Submitted::Known(id));
    assert_eq!(again(2).await, Submitted::Mismatch);
    assert_eq!((before.owed(), after.owed()), (1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promises_that_cannot_be_read_now_are_read_with_the_next_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let file = {
        let shelf = shelf(folder.path());
        let book = open(&shelf, "later", &settings("7/s"));
        let submitted = deferral(&book, 1, 1).submit(letter("{}"), "orders", NOW).await.unwrap();
        assert!(matches!(submitted, Submitted::New(_)));
        folder.path().join("disk.deferred.sqlite")
    };
    let states = reopened(folder.path());
    let disk = rusqlite::Connection::open(file).unwrap();
    disk.execute_batch("CREATE TRIGGER bad BEFORE INSERT ON book BEGIN SELECT RAISE(ABORT, 'a bad sector'); END")
        .unwrap();
    assert!(orphans(&states, &HashSet::new()).iter().all(|book| book.owed() == 0), "it cannot be read");
    disk.execute_batch("DROP TRIGGER bad").unwrap();
    let found = orphans(&states, &HashSet::new());
    assert_eq!(found.iter().map(|book| book.owed()).collect::<Vec<_>>(), [1]);
    assert_eq!(found[0].broken(), None);
}
