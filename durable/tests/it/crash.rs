//! What was acknowledged is there after a kill.
//!
//! The test starts itself again as a child that writes and prints every acknowledgement, kills it with SIGKILL at a
//! different moment each round, and looks for every acknowledged entry in the file. This proves the order "commit,
//! then acknowledge" and the recovery of the file; it does not prove the fsync, for that the power would have to go.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tidegate_durable::{Options, Store};

/// Set for the child only: the file it is to write.
const CHILD: &str = "DURABLE_TEST_CHILD";

const SCHEMA: &[&str] = &["CREATE TABLE acks (worker INTEGER, n INTEGER, PRIMARY KEY (worker, n)) STRICT;"];

const WORKERS: i64 = 16;
const ROUNDS: u64 = 10;

fn open(path: &Path) -> Store {
    Store::open(path, SCHEMA, Options::default()).expect("the store opens after a kill")
}

/// Writes until it is killed, with several workers so that batches hold more than one operation.
async fn write_for_ever(path: PathBuf) {
    let store = open(&path);
    let mut workers = tokio::task::JoinSet::new();
    for worker in 0..WORKERS {
        let store = store.clone();
        workers.spawn(async move {
            let mut n: i64 = store
                .read(move |connection| {
                    connection
                        .query_row("SELECT coalesce(max(n), 0) FROM acks WHERE worker = ?1", [worker], |row| row.get(0))
                })
                .await
                .expect("the child reads");
            loop {
                n += 1;
                store
                    .write(move |connection| connection.execute("INSERT INTO acks VALUES (?1, ?2)", (worker, n)))
                    .await
                    .expect("the child writes");
                // One write per line, so that a kill cannot tear two acknowledgements into one.
                let line = format!("ack {worker} {n}\n");
                std::io::stdout().write_all(line.as_bytes()).expect("the parent listens");
            }
        });
    }
    workers.join_next().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_writes_survive_a_kill() {
    if let Some(path) = std::env::var_os(CHILD) {
        return write_for_ever(path.into()).await;
    }
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("store.sqlite");
    let mut acknowledged = Vec::new();
    for round in 0..ROUNDS {
        let before = acknowledged.len();
        // A different moment each round.
        acknowledged.extend(run_and_kill(&path, Duration::from_millis(round * 17)));
        assert!(acknowledged.len() > before, "the child of round {round} acknowledged nothing");
        let store = open(&path);
        let found: std::collections::HashSet<(i64, i64)> = store
            .read(|connection| {
                connection
                    .prepare("SELECT worker, n FROM acks")?
                    .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
                    .collect()
            })
            .await
            .expect("the file reads");
        let lost: Vec<_> = acknowledged.iter().filter(|ack| !found.contains(ack)).collect();
        assert!(lost.is_empty(), "round {round}: acknowledged but lost: {lost:?}");
    }
}

fn run_and_kill(path: &Path, after: Duration) -> Vec<(i64, i64)> {
    let mut child = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "crash::acknowledged_writes_survive_a_kill", "--nocapture", "--test-threads=1"])
        .env(CHILD, path)
        .stdout(Stdio::piped())
        .spawn()
        .expect("the child starts");
    let output = BufReader::new(child.stdout.take().expect("a pipe"));
    let (first, first_ack) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        let acks = output.lines().map_while(Result::ok).filter_map(|line| parse(&line));
        // Nobody listens any more after the first.
        acks.inspect(|_| _ = first.send(())).collect::<Vec<_>>()
    });
    // The clock starts with the first acknowledgement, however long a busy machine takes for the child's start.
    first_ack.recv_timeout(Duration::from_secs(60)).expect("the child acknowledges something");
    std::thread::sleep(after);
    child.kill().expect("the child is killed");
    child.wait().expect("the child is gone");
    reader.join().expect("the reader ends")
}

fn parse(line: &str) -> Option<(i64, i64)> {
    // The test harness prints its own words in front of the first line.
    let (_, rest) = line.split_once("ack ")?;
    let (worker, n) = rest.split_once(' ')?;
    Some((worker.parse().ok()?, n.parse().ok()?))
}
