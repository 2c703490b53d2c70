//! A kill at every step that touches the disk, and at every word that is said, of keys on disk.
//!
//! One request is claimed and answered, one is claimed and not sent, one is claimed and its outcome is not known.
//! Whoever comes afterwards must not be let through where something may have been sent.

use std::path::Path;

use super::*;
use crate::kill_points::{at_every, folder, say};

const CHILD: &str = "store::tests::kills::the_child_with_three_keys";

#[test]
fn the_child_with_three_keys() {
    let Some(folder) = folder() else { return };
    let store = SqliteRecords::open(&folder, "test", on_disk()).unwrap();
    let ends = [(1, "answered", End::Done(stored("made"))), (2, "freed", End::Released), (3, "lost", End::Unknown)];
    for (number, word, end) in ends {
        fence(&answered(store.claim(wish(number, 1, 7, 0))));
        // From here on it may be sent.
        say(&format!("claimed {number}"));
        answered(store.settle(settle(number, 7, end)));
        say(&format!("{word} {number}"));
    }
}

async fn holds(folder: &Path, said: &[String]) {
    let store = SqliteRecords::open(folder, "test", on_disk()).unwrap();
    let heard = |words: &str| said.iter().any(|said| said == words);
    for number in 1..=3 {
        let Answer::Later(claimed) = store.claim(wish(number, 1, 8, 1)) else { panic!("a file takes its time") };
        let claimed = claimed.await.expect("the store answers");
        let fine = match &claimed {
            Claimed::New { .. } => !heard(&format!("claimed {number}")) || number == 2,
            Claimed::Done(answer) => number == 1 && *answer == stored("made"),
            Claimed::Unknown => !heard("answered 1") || number != 1,
            Claimed::Running | Claimed::Mismatch => false,
        };
        assert!(fine, "{number} is {claimed:?}, having said {said:?}");
        assert!(number != 2 || !heard("freed 2") || matches!(claimed, Claimed::New { .. }), "a freed key is not free");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_at_any_write_to_the_file_lets_nobody_through_twice() {
    assert!(at_every("pwrite64", CHILD, holds).await >= 6, "three claims and three ends");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_at_any_wait_for_the_disk_lets_nobody_through_twice() {
    assert!(at_every("fsync,fdatasync", CHILD, holds).await >= 6, "three claims and three ends");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_at_any_word_lets_nobody_through_twice() {
    assert!(at_every("write", CHILD, holds).await >= 6, "every word is said in a call of its own");
}
