//! Group commit, isolation of failures, migrations, reads.

use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use rusqlite::Connection;
use tempfile::TempDir;
use tidegate_durable::{Options, Store, StoreError, Synchronous, WriteError};

const SCHEMA: &[&str] = &["CREATE TABLE entries (id INTEGER PRIMARY KEY, word TEXT NOT NULL UNIQUE) STRICT;"];

fn open(folder: &TempDir, options: Options) -> Store {
    Store::open(&folder.path().join("store.sqlite"), SCHEMA, options).expect("a fresh store opens")
}

fn insert(connection: &Connection, word: &str) -> rusqlite::Result<i64> {
    connection.prepare_cached("INSERT INTO entries (word) VALUES (?1)")?.insert([word])
}

async fn add(store: &Store, word: String) -> Result<i64, WriteError<rusqlite::Error>> {
    store.write(move |connection| insert(connection, &word)).await
}

async fn count(store: &Store) -> i64 {
    store
        .read(|connection| connection.query_row("SELECT count(*) FROM entries", [], |row| row.get(0)))
        .await
        .expect("counting works")
}

/// Holds the writer inside an operation, so that what is sent meanwhile is known to wait together.
fn hold(store: &Store) -> mpsc::Sender<()> {
    let (release, held) = mpsc::channel::<()>();
    let (inside, entered) = mpsc::channel::<()>();
    let store = store.clone();
    tokio::spawn(async move {
        store
            .write(move |_| {
                inside.send(()).expect("the test waits");
                let _ = held.recv();
                Ok::<(), ()>(())
            })
            .await
    });
    tokio::task::block_in_place(|| entered.recv_timeout(Duration::from_secs(5)).expect("the writer is reached"));
    release
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_writes_share_commits() {
    let folder = TempDir::new().expect("a folder");
    let store = open(&folder, Options::default());
    let release = hold(&store);
    let writes: Vec<_> = (0..1_000)
        .map(|n| {
            let store = store.clone();
            tokio::spawn(async move { add(&store, format!("word-{n}")).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(50)).await;
    release.send(()).expect("the writer waits");
    for write in writes {
        write.await.expect("no panic").expect("the write succeeds");
    }
    let stats = store.stats();
    assert_eq!(stats.operations, 1_001);
    assert!(stats.commits <= 20, "1,001 operations took {} commits", stats.commits);
    assert_eq!(count(&store).await, 1_000);
}

#[tokio::test]
async fn a_lone_write_is_one_commit_and_readable_at_once() {
    let folder = TempDir::new().expect("a folder");
    let store = open(&folder, Options::default());
    for n in 0..20 {
        add(&store, format!("word-{n}")).await.expect("the write succeeds");
        assert_eq!(count(&store).await, n + 1);
    }
    assert_eq!(store.stats().commits, 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_operation_leaves_its_neighbours_alone() {
    let folder = TempDir::new().expect("a folder");
    let store = open(&folder, Options::default());
    let release = hold(&store);
    let good = tokio::spawn({
        let store = store.clone();
        async move { add(&store, "good".to_owned()).await }
    });
    let bad = tokio::spawn({
        let store = store.clone();
        async move {
            store
                .write(|connection| {
                    insert(connection, "half done").map_err(|_| "insert")?;
                    Err::<(), _>("changed my mind")
                })
                .await
        }
    });
    let late = tokio::spawn({
        let store = store.clone();
        async move { add(&store, "late".to_owned()).await }
    });
    tokio::time::sleep(Duration::from_millis(30)).await;
    release.send(()).expect("the writer waits");
    good.await.expect("no panic").expect("the first is kept");
    late.await.expect("no panic").expect("the last is kept");
    assert!(matches!(bad.await.expect("no panic"), Err(WriteError::Op("changed my mind"))));
    assert_eq!(count(&store).await, 2);
}

#[tokio::test]
async fn a_panic_is_rolled_back_and_the_writer_lives_on() {
    let folder = TempDir::new().expect("a folder");
    let store = open(&folder, Options::default());
    let outcome = store
        .write(|connection| {
            insert(connection, "doomed")?;
            assert!(connection.is_autocommit(), "an operation runs inside a transaction");
            Ok::<(), rusqlite::Error>(())
        })
        .await;
    assert!(matches!(outcome, Err(WriteError::Store(StoreError::Panicked))));
    add(&store, "after".to_owned()).await.expect("the writer still works");
    assert_eq!(count(&store).await, 1);
}

#[tokio::test]
async fn an_operation_that_ends_the_transaction_is_not_acknowledged() {
    let folder = TempDir::new().expect("a folder");
    let store = open(&folder, Options::default());
    let outcome = store
        .write(|connection| {
            insert(connection, "lost")?;
            connection.execute_batch("ROLLBACK")
        })
        .await;
    assert!(matches!(outcome, Err(WriteError::Store(StoreError::BatchLost))));
    add(&store, "after".to_owned()).await.expect("the writer still works");
    assert_eq!(count(&store).await, 1);
}

#[tokio::test]
async fn a_commit_that_fails_acknowledges_nobody() {
    let folder = TempDir::new().expect("a folder");
    let schema = "CREATE TABLE parents (id INTEGER PRIMARY KEY) STRICT;
        CREATE TABLE children (parent INTEGER REFERENCES parents (id) DEFERRABLE INITIALLY DEFERRED) STRICT;";
    let store = Store::open(&folder.path().join("s.sqlite"), &[schema], Options::default()).expect("opens");
    // A deferred foreign key is the one way to make COMMIT itself fail without a broken disk.
    let orphan = store.write(|connection| connection.execute("INSERT INTO children VALUES (7)", [])).await;
    assert!(matches!(orphan, Err(WriteError::Store(StoreError::Sqlite(_)))));
    store.write(|connection| connection.execute("INSERT INTO parents VALUES (7)", [])).await.expect("goes on");
}

#[tokio::test]
async fn a_reader_cannot_write() {
    let folder = TempDir::new().expect("a folder");
    let store = open(&folder, Options::default());
    let outcome = store.read(|connection| insert(connection, "sneaky")).await;
    assert!(matches!(outcome, Err(StoreError::Sqlite(_))));
    assert_eq!(count(&store).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_refuses_instead_of_piling_up() {
    let folder = TempDir::new().expect("a folder");
    let store = open(&folder, Options { queue: 1, ..Options::default() });
    let release = hold(&store);
    let waiting = tokio::spawn({
        let store = store.clone();
        async move { add(&store, "waits".to_owned()).await }
    });
    tokio::time::sleep(Duration::from_millis(30)).await;
    let refused = add(&store, "refused".to_owned()).await;
    assert!(matches!(refused, Err(WriteError::Store(StoreError::Full))));
    release.send(()).expect("the writer waits");
    waiting.await.expect("no panic").expect("what was queued is done");
}

#[test]
fn migrations_run_once_and_a_newer_file_is_refused() {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("deep/down/store.sqlite");
    let all =
        &["CREATE TABLE a (x) STRICT;".replace("(x)", "(x INTEGER)"), "CREATE TABLE b (y TEXT) STRICT;".to_owned()];
    let scripts: Vec<&str> = all.iter().map(String::as_str).collect();
    let version = |path: &Path| -> i64 {
        let connection = Connection::open(path).expect("the file opens");
        connection.pragma_query_value(None, "user_version", |row| row.get(0)).expect("a version")
    };
    drop(Store::open(&path, &scripts[..1], Options::default()).expect("first version opens"));
    assert_eq!(version(&path), 1);
    drop(Store::open(&path, &scripts, Options::default()).expect("second version opens"));
    drop(Store::open(&path, &scripts, Options::default()).expect("and opens again"));
    assert_eq!(version(&path), 2);
    let outcome = Store::open(&path, &scripts[..1], Options::default());
    assert!(matches!(outcome, Err(StoreError::NewerSchema { found: 2, known: 1 })));
}

#[tokio::test]
async fn dropping_the_last_handle_finishes_the_queue() {
    let folder = TempDir::new().expect("a folder");
    let store = open(&folder, Options::default());
    for n in 0..50 {
        let store = store.clone();
        // Polled once, so that the operation is queued, and abandoned.
        let mut write = Box::pin(async move { add(&store, format!("word-{n}")).await });
        let _ = tokio::time::timeout(Duration::ZERO, &mut write).await;
    }
    drop(store);
    let path = folder.path().join("store.sqlite");
    let mut found = 0;
    for _ in 0..100 {
        let connection = Connection::open(&path).expect("the file opens");
        found = connection.query_row("SELECT count(*) FROM entries", [], |row| row.get(0)).expect("a count");
        if found == 50 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(found, 50, "queued operations were lost");
}

/// Goes off when it is dropped, as a destructor with a mistake in it does.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        #[expect(clippy::panic, reason = "what is tested")]
        {
            panic!("a destructor panics")
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_nobody_waits_for_cannot_take_the_threads_along() {
    let folder = TempDir::new().expect("a folder");
    let store = open(&folder, Options { readers: 1, ..Options::default() });
    for round in 0..2 {
        let release = hold(&store);
        let asker = {
            let store = store.clone();
            tokio::spawn(async move { store.write(|_| Ok::<_, ()>(Bomb)).await.map(std::mem::forget) })
        };
        let reader = {
            let store = store.clone();
            let (inside, entered) = mpsc::channel::<()>();
            let (go, wait) = mpsc::channel::<()>();
            let task = tokio::spawn(async move {
                let read = move |_: &Connection| {
                    inside.send(()).expect("the test waits");
                    let _ = wait.recv();
                    Ok(Bomb)
                };
                store.read(read).await.map(std::mem::forget)
            });
            tokio::task::block_in_place(|| {
                entered.recv_timeout(Duration::from_secs(5)).expect("the reader is reached")
            });
            (task, go)
        };
        tokio::time::sleep(Duration::from_millis(20)).await;
        // Both callers go away before they are answered.
        asker.abort();
        reader.0.abort();
        assert!(asker.await.expect_err("aborted").is_cancelled());
        assert!(reader.0.await.expect_err("aborted").is_cancelled());
        drop((release, reader.1));
        add(&store, format!("after round {round}")).await.expect("the writer lives");
    }
    assert_eq!(count(&store).await, 2, "the reader lives");
}

#[test]
fn a_file_that_cannot_have_a_log_is_refused() {
    // Without the log, readers and the writer would shut each other out; here they would even see different files.
    let opened = Store::open(Path::new(":memory:"), SCHEMA, Options::default());
    assert!(matches!(opened, Err(StoreError::NoLog(_))), "{opened:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_is_written_without_a_pause_is_moved_to_the_file_and_begins_anew() {
    let folder = TempDir::new().expect("a folder");
    // What is to be seen is how much is written, not that it is synced.
    let store = open(&folder, Options { synchronous: Synchronous::Off, ..Options::default() });
    let size = |name: &str| std::fs::metadata(folder.path().join(name)).expect("it is there").len();
    // Five logs' worth: each of them is moved after 16 MiB.
    for n in 0..1_300 {
        add(&store, format!("{n}-{}", "x".repeat(64 * 1_024))).await.expect("written");
    }
    let (log, file) = (size("store.sqlite-wal"), size("store.sqlite"));
    assert!(file > 40 << 20, "only {file} bytes have reached the file");
    assert!(log < 100 << 20, "the log has grown to {log} bytes and never began anew");
    assert_eq!(count(&store).await, 1_300);
}
