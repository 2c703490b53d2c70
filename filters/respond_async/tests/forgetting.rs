//! What is forgotten, and what is counted of it.

use std::sync::Arc;
use std::time::Duration;

use super::super::core::{Entry, millis};
use super::super::{Deferred, Submitted, resolved};
use super::shelf::{NOW, deferral, letter, open};

const LATER: Duration = Duration::from_secs(90_000);

async fn submit(book: &Arc<Deferred>, key: u8) -> Submitted {
    deferral(book, key, 1).submit(letter("{}"), "orders", NOW).await.unwrap()
}

/// One that a person has resolved.
async fn over(book: &Arc<Deferred>, key: u8) {
    let Submitted::New(id) = submit(book, key).await else { panic!("not new") };
    let answer = resolved(http::StatusCode::CREATED, "done".to_owned());
    assert!(book.act(id, Entry::resolve, Some(answer), String::new(), NOW).await.unwrap());
}

/// Lets the file forget, and waits until it has; `key`: a new one.
async fn forget(book: &Arc<Deferred>, key: u8) {
    book.shelf.as_ref().unwrap().purge("later", millis(NOW + LATER), |_| ());
    // Another write comes behind it, whatever becomes of either.
    let _ = deferral(book, key, 1).submit(letter("{}"), "orders", NOW).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_disk_did_not_forget_is_known_and_counted_still() {
    let folder = tempfile::tempdir().unwrap();
    let book = open(folder.path(), false);
    over(&book, 1).await;
    let shelf = book.shelf.as_ref().unwrap();
    let before = shelf.over();
    assert!(before.0 == 1 && before.1 > 0, "{before:?}");
    let disk = rusqlite::Connection::open(folder.path().join("disk.deferred.sqlite")).unwrap();
    // Every operation goes well, and COMMIT fails.
    let bad = "CREATE TABLE bad (seq INTEGER REFERENCES request (seq) DEFERRABLE INITIALLY DEFERRED);
               CREATE TRIGGER bad AFTER DELETE ON request BEGIN INSERT INTO bad VALUES (-1); END";
    disk.execute_batch(bad).unwrap();
    forget(&book, 201).await;
    let rows = || disk.query_row("SELECT count(*) FROM request WHERE state >= 6", [], |row| row.get::<_, i64>(0));
    assert_eq!((rows().unwrap(), shelf.over()), (1, before));
    assert!(shelf.may_know(&[1; 32]), "its key would be carried out again");
    disk.execute_batch("DROP TRIGGER bad").unwrap();
    forget(&book, 202).await;
    assert_eq!((rows().unwrap(), shelf.over()), (0, (0, 0)));
    assert!(!shelf.may_know(&[1; 32]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_of_two_records_is_known_until_both_are_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let book = open(folder.path(), false);
    over(&book, 1).await;
    let Submitted::New(second) = submit(&book, 2).await else { panic!("not new") };
    // As two filters could have it in a file of an earlier version.
    let disk = rusqlite::Connection::open(folder.path().join("disk.deferred.sqlite")).unwrap();
    let update = "UPDATE request SET twin = ?1 WHERE id = ?2";
    assert_eq!(disk.execute(update, rusqlite::params![[1_u8; 32], second.0.to_be_bytes()]).unwrap(), 1);
    forget(&book, 203).await;
    assert!(book.shelf.as_ref().unwrap().may_know(&[1; 32]), "a repeat would be let through");
    assert_eq!(submit(&book, 1).await, Submitted::Known(second));
}
