//! Proofs of the outbox: nothing without its transaction, nothing lost by a death, each effect once, and an end to
//! trying.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use rusqlite::Connection;
use tempfile::TempDir;
use tidegate_durable::{Options, Store, WriteError};
use tokio::sync::watch;

use super::*;
use crate::support::Stop;

const SECOND: Duration = Duration::from_secs(1);

fn file() -> Connection {
    let connection = Connection::open_in_memory().expect("a connection");
    connection.execute_batch(SCHEMA).expect("the tables");
    connection
}

fn notify(connection: &Connection, id: &str) {
    push(connection, Topic::Notification, id, "k", "{}", 0).expect("written");
}

#[test]
fn a_failing_event_is_tried_after_1_2_4_then_60_three_times_and_is_parked() {
    let file = file();
    notify(&file, "e");
    let (mut now_ms, mut waits) = (0, Vec::new());
    loop {
        let taken = claim(&file, now_ms, now_ms + 60_000, 9).expect("claimed");
        assert_eq!(taken.len(), 1, "after {waits:?}");
        assert!(claim(&file, now_ms, now_ms + 60_000, 9).expect("claimed").is_empty(), "it is leased");
        let parked = failed(&file, &taken[0], SECOND, now_ms).expect("written");
        let dead = depth(&file).expect("readable").dead;
        if parked {
            break;
        }
        assert_eq!(dead, u64::from(waits.len() >= 3));
        let before_ms = now_ms;
        while !is_due(&file, now_ms) {
            now_ms += 1_000;
        }
        waits.push((now_ms - before_ms) / 1_000);
    }
    assert_eq!(waits, [1, 2, 4, 60, 60, 60]);
    assert_eq!(depth(&file).expect("readable"), Depth { parked: 1, ..Depth::default() });
    assert!(claim(&file, i64::MAX, i64::MAX, 9).expect("claimed").is_empty());
    due_now(&file, now_ms).expect("written");
    assert!(claim(&file, i64::MAX, i64::MAX, 9).expect("claimed").is_empty(), "a restart does not bring it back");
    assert_eq!(parked(&file, 9).expect("readable").iter().map(|event| &*event.id).collect::<Vec<_>>(), ["e"]);
    assert!(unpark(&file, "e", now_ms).expect("written") && !unpark(&file, "e", now_ms).expect("written"));
    assert_eq!(claim(&file, now_ms, i64::MAX, 9).expect("claimed")[0].tries, 1);
}

fn is_due(connection: &Connection, now_ms: i64) -> bool {
    let sql = "SELECT EXISTS (SELECT 1 FROM outbox WHERE next_ms <= ?1)";
    connection.query_row(sql, [now_ms], |row| row.get(0)).expect("readable")
}

#[test]
fn an_event_exists_exactly_if_its_transaction_does() {
    let mut file = file();
    let business = file.transaction().expect("a transaction");
    notify(&business, "undone");
    business.rollback().expect("rolled back");
    let business = file.transaction().expect("a transaction");
    notify(&business, "done");
    notify(&business, "done");
    business.commit().expect("committed");
    let ids: Vec<_> = claim(&file, 0, 1, 9).expect("claimed").into_iter().map(|message| message.id).collect();
    assert_eq!(ids, ["done"]);
}

#[test]
fn what_was_seen_long_ago_is_forgotten_unless_its_event_is_still_there() {
    let file = file();
    notify(&file, "waits");
    for (id, at_ms) in [("old", 10), ("waits", 10), ("new", 30)] {
        assert!(first_time(&file, "c", id, at_ms).expect("noted"));
    }
    assert_eq!(forget_seen(&file, 20, 9).expect("forgotten"), 1);
    let again = ["old", "waits", "new"].map(|id| first_time(&file, "c", id, 40).expect("noted"));
    assert_eq!(again, [true, false, false]);
    assert_eq!(forget_seen(&file, 50, 1).expect("forgotten"), 1, "a bounded number at a time");
}

#[test]
fn what_a_dead_relay_had_taken_comes_back_and_its_effect_happens_once() {
    let file = file();
    notify(&file, "e");
    let mut effects = 0;
    // The first relay dies after the consumer has committed and before the row is deleted.
    for (now_ms, deleted) in [(0, false), (100, true)] {
        let taken = claim(&file, now_ms, now_ms + 100, 9).expect("claimed");
        assert_eq!(taken.len(), 1);
        effects += u32::from(first_time(&file, "mailer", &taken[0].id, now_ms).expect("noted"));
        if deleted {
            published(&file, "e").expect("deleted");
        }
    }
    assert_eq!((effects, depth(&file).expect("readable")), (1, Depth::default()));
    assert!(first_time(&file, "another consumer", "e", 0).expect("noted"));
}

/// Fails every event four times, then counts it.
#[derive(Default)]
struct Moody(AtomicU32);

impl Publish for Moody {
    fn publish(&self, message: Message) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async move {
            if message.tries <= 4 {
                return Err("not in the mood".into());
            }
            self.0.fetch_add(1, Ordering::Relaxed);
            Ok(())
        })
    }
}

#[tokio::test]
async fn the_relay_goes_on_until_everything_is_delivered() {
    let folder = TempDir::new().expect("a folder");
    let store = Store::open(&folder.path().join("a.sqlite"), &[SCHEMA], Options::default()).expect("a file");
    let written: Result<(), WriteError<rusqlite::Error>> = store
        .write(|file| (0..20).try_for_each(|n| push(file, Topic::Notification, &n.to_string(), "k", "{}", 0)))
        .await;
    written.expect("written");
    let (moody, bell, stop) = (Arc::new(Moody::default()), watch::Sender::new(()), Stop::new());
    let (unit, sweep) = (Duration::from_millis(2), Duration::from_millis(2));
    let running =
        tokio::spawn(relay(store.clone(), Arc::clone(&moody) as _, unit, sweep, bell.subscribe(), stop.clone()));
    for _ in 0..500 {
        if store.read(depth).await.expect("readable") == Depth::default() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    stop.request();
    running.await.expect("it ends");
    assert_eq!(store.read(depth).await.expect("readable"), Depth::default());
    assert_eq!(moody.0.load(Ordering::Relaxed), 20);
}
