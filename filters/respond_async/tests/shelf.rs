//! Promises on the disk: durable, sealed, found again.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method, StatusCode};
use tidegate_durable::Synchronous;

use super::super::core::Refused;
use super::super::core::{Class, Entry, State, Verdict, millis};
use super::super::deferral::Ask;
use super::super::shelves::Shelves;
use super::super::{Afterwards, Deferral, Deferred, Letter, Prefer, RespondAsync, Shelf, Submitted, resolved};
use crate::store::{Bounds, Most, Stored};

pub(super) fn on_disk() -> Arc<Bounds> {
    Arc::new(Bounds::new(Most::ON_DISK))
}

pub(super) const NOW: Duration = Duration::from_secs(1_000_000);

pub(super) fn open(folder: &std::path::Path, idempotent: bool) -> Arc<Deferred> {
    open_bounded(folder, idempotent, on_disk())
}

fn open_bounded(folder: &std::path::Path, idempotent: bool, bounds: Arc<Bounds>) -> Arc<Deferred> {
    let shelf = Arc::new(Shelf::open(folder, "disk", Synchronous::Full, bounds).unwrap());
    let settings = RespondAsync { backend_idempotent: idempotent, ..RespondAsync::default() };
    let book = Deferred::open("later".into(), Some(shelf), settings.rules("user"), Duration::ZERO);
    assert_eq!(book.broken(), None);
    Arc::new(book)
}

pub(super) fn letter(body: &str) -> Letter {
    let mut headers = HeaderMap::new();
    headers.insert("authorization", "Bearer SECRET-TOKEN".parse().unwrap());
    Letter {
        route: "orders".to_owned(),
        method: Method::POST,
        target: "/api/orders".to_owned(),
        headers,
        body: body.to_owned().into(),
        channel: None,
        kind: None,
        amount: None,
        afterwards: Afterwards::default(),
    }
}

pub(super) fn deferral(deferred: &Arc<Deferred>, key: u8, print: u8) -> Deferral {
    Deferral {
        deferred: deferred.clone(),
        prefer: Prefer::default(),
        wait: None,
        patience: Duration::from_secs(10),
        ask: Ask { twin: Some([key; 32]), fingerprint: [print; 32], owner: 1, party: 1, class: Class::Normal },
        shelves: Shelves::default(),
        ttl: Duration::from_secs(900),
        only_known: false,
        counts_passing: false,
    }
}

async fn submit(deferred: &Arc<Deferred>, key: u8) -> Submitted {
    deferral(deferred, key, 1).submit(letter("SECRET-BODY"), "orders", NOW).await.unwrap()
}

/// Ends a book and waits until its file is free.
async fn close(deferred: Arc<Deferred>) {
    let weak = Arc::downgrade(&deferred);
    drop(deferred);
    while weak.upgrade().is_some() {
        tokio::task::yield_now().await;
    }
}

fn answer() -> Stored {
    resolved(StatusCode::CREATED, "SECRET-ANSWER".to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_state_is_there_after_a_restart_and_what_was_being_sent_is_unknown() {
    let folder = tempfile::tempdir().unwrap();
    let book = open(folder.path(), false);
    let mut ids = Vec::new();
    for key in 0..4 {
        let Submitted::New(id) = submit(&book, key).await else { panic!("not new") };
        ids.push(id);
    }
    let mut sent = Vec::new();
    for tick in 0..3 {
        sent.extend(book.due(NOW + Duration::from_millis(tick)).send);
    }
    // The line has let go all four within some milliseconds; the fourth is put back, as behind an open breaker.
    assert_eq!(sent.len(), 4);
    assert_eq!(book.running(&sent).await.unwrap().len(), 4);
    let now = || NOW;
    let none = || (None, "why".to_owned());
    book.ended(sent[0].seq, Verdict::Answered, (Some(answer()), "answered 201".into()), now).await;
    book.ended(sent[1].seq, Verdict::Nothing { wait: None }, none(), now).await;
    book.ended(sent[3].seq, Verdict::Postponed { wait: Duration::from_secs(5), all: true }, none(), now).await;
    close(book).await;
    let book = open(folder.path(), false);
    let mut states = Vec::new();
    for id in &ids {
        states.push(book.view(*id, NOW).await.unwrap().unwrap().entry);
    }
    let stands: Vec<State> = states.iter().map(|entry| entry.state).collect();
    assert_eq!(stands, [State::Done, State::Retrying, State::Unknown, State::Queued]);
    assert_eq!((states[1].tries, states[1].due), (1, millis(NOW) + 1_000));
    assert_eq!((states[2].doubt, states[3].doubt), (true, false));
    assert_eq!(book.answer(ids[0]).await.unwrap(), Some(answer()));
    assert_eq!(book.known(ids[1]).await.unwrap().unwrap().why, "why");
    // Keys are known, and what is known is not done again.
    assert_eq!(submit(&book, 0).await, Submitted::Known(ids[0]));
    let other = deferral(&book, 0, 9).submit(letter(""), "orders", NOW).await.unwrap();
    assert_eq!(other, Submitted::Mismatch);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_the_upstream_knows_keys_what_was_being_sent_is_sent_again() {
    let folder = tempfile::tempdir().unwrap();
    let book = open(folder.path(), true);
    submit(&book, 1).await;
    let sent = book.due(NOW).send;
    book.running(&sent).await.unwrap();
    close(book).await;
    let book = open(folder.path(), true);
    let again = book.due(NOW).send;
    assert_eq!((again.len(), again[0].id, again[0].doubt), (1, sent[0].id, true));
    assert_eq!(book.running(&again).await.unwrap()[0].1, letter("SECRET-BODY"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_was_sent_or_answered_can_be_read_in_the_files() {
    let folder = tempfile::tempdir().unwrap();
    let book = open(folder.path(), false);
    submit(&book, 1).await;
    submit(&book, 2).await;
    let sent = book.due(NOW).send;
    book.running(&sent).await.unwrap();
    book.ended(sent[0].seq, Verdict::Answered, (Some(answer()), String::new()), || NOW).await;
    let mut files = 0;
    for file in std::fs::read_dir(folder.path()).unwrap() {
        let (path, bytes) = file.map(|file| (file.path(), std::fs::read(file.path()).unwrap())).unwrap();
        files += 1;
        for secret in ["SECRET-TOKEN", "SECRET-BODY", "SECRET-ANSWER"] {
            assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()), "{secret} in {path:?}");
        }
    }
    assert!(files >= 4, "a lock, a key, a file and its log");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_withdrawn_key_is_free_and_an_old_answer_is_forgotten_with_its_key() {
    let folder = tempfile::tempdir().unwrap();
    let book = open(folder.path(), false);
    let Submitted::New(first) = submit(&book, 1).await else { panic!("not new") };
    assert!(book.act(first, Entry::cancel, None, String::new(), NOW).await.unwrap());
    let Submitted::New(second) = submit(&book, 1).await else { panic!("a withdrawn request has taken its key along") };
    assert!(book.act(second, Entry::resolve, Some(answer()), String::new(), NOW).await.unwrap());
    assert_eq!(submit(&book, 1).await, Submitted::Known(second));
    let may_know = || book.shelf.as_ref().unwrap().may_know(&[1; 32]);
    assert!(may_know());
    let day = Duration::from_secs(86_400 + 900);
    crate::engine::State::sweep(&*book, crate::engine::Nanos(u64::try_from((NOW + day).as_nanos()).unwrap()));
    while may_know() || book.view(second, NOW).await.unwrap().is_some() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(matches!(submit(&book, 1).await, Submitted::New(_)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_process_is_kept_out() {
    let folder = tempfile::tempdir().unwrap();
    let _book = open(folder.path(), false);
    let Err(error) = Shelf::open(folder.path(), "disk", Synchronous::Full, on_disk()) else { panic!("let in") };
    assert!(error.to_string().contains("another process"), "{error}");
}

#[tokio::test]
async fn what_is_over_is_bounded_and_nothing_that_was_carried_out_is_forgotten_before_its_time() {
    let folder = tempfile::tempdir().unwrap();
    let bounds = || Arc::new(Bounds::new(Most { records: 2, bytes: 300 }));
    let book = open_bounded(folder.path(), false, bounds());
    let long = "x".repeat(200);
    for key in 1..=2 {
        let Submitted::New(id) = submit(&book, key).await else { panic!("not new") };
        let now = NOW + Duration::from_secs(u64::from(key));
        let sent = book.due(now).send;
        book.running(&sent).await.unwrap();
        let answer = Some(resolved(StatusCode::CREATED, long.clone()));
        book.ended(sent[0].seq, Verdict::Answered, (answer, String::new()), || now).await;
        assert_eq!(book.answer(id).await.unwrap().unwrap().body.as_deref(), Some(long.as_bytes()));
    }
    for _ in 0..2 {
        // Both are known, the older one without its answer; another one has to wait until one of them is forgotten.
        let Submitted::Known(first) = submit(&book, 1).await else { panic!("forgotten") };
        let Submitted::Known(second) = submit(&book, 2).await else { panic!("forgotten") };
        let dropped = async {
            while book.answer(first).await.unwrap().unwrap().body.is_some() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), dropped).await.expect("the older answer goes");
        assert_eq!(book.view(first, NOW).await.unwrap().unwrap().answered, Some((201, false)));
        assert_eq!(book.answer(second).await.unwrap().unwrap().body.as_deref(), Some(long.as_bytes()));
        let Submitted::Refused(Refused::Full { wait }) = submit(&book, 3).await else { panic!("let in") };
        let day = Duration::from_secs(86_400);
        assert!(wait >= day && wait < day + Duration::from_secs(60), "{wait:?}");
    }
    close(book).await;
    let book = open_bounded(folder.path(), false, bounds());
    assert!(matches!(submit(&book, 3).await, Submitted::Refused(Refused::Full { .. })), "also behind a restart");
}

#[tokio::test]
async fn of_too_many_bytes_the_answer_that_came_first_goes_and_not_that_of_the_first_request() {
    let folder = tempfile::tempdir().unwrap();
    let book = open_bounded(folder.path(), false, Arc::new(Bounds::new(Most { records: 10, bytes: 300 })));
    let mut ids = Vec::new();
    for key in 1..=2 {
        let Submitted::New(id) = submit(&book, key).await else { panic!("not new") };
        ids.push(id);
    }
    let mut sent = Vec::new();
    for step in 0..2 {
        sent.extend(book.due(NOW + Duration::from_secs(step)).send);
    }
    book.running(&sent).await.unwrap();
    // The second is answered first.
    for (step, at) in [(2, 1), (3, 0)] {
        let answer = Some(resolved(StatusCode::CREATED, "x".repeat(200)));
        let now = NOW + Duration::from_secs(step);
        book.ended(sent[at].seq, Verdict::Answered, (answer, String::new()), || now).await;
    }
    let dropped = async {
        while book.answer(ids[1]).await.unwrap().unwrap().body.is_some() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), dropped).await.expect("the answer that came first goes");
    assert!(book.answer(ids[0]).await.unwrap().unwrap().body.is_some(), "the later one stays");
}
