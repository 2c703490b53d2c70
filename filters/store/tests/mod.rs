//! Every behaviour of records, in every kind of store.

mod kills;
mod memory;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "postgres")]
mod server;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use tempfile::TempDir;

use super::{
    Answer, Bounds, Claim, Claimed, End, Fingerprint, MemoryRecords, Most, RecordId, RecordStore, Settle,
    SqliteRecords, StoreError, Stored,
};

const HOUR: Duration = Duration::from_secs(3_600);
const LEASE: Duration = Duration::from_secs(10);
/// A plausible moment.
const START: Duration = Duration::from_secs(1_700_000_000);

fn on_disk() -> Arc<Bounds> {
    Arc::new(Bounds::new(Most::ON_DISK))
}

/// Room for two records and one answer.
fn two() -> Arc<Bounds> {
    Arc::new(Bounds::new(Most { records: 2, bytes: 150 }))
}

fn answered<T>(answer: Answer<T>) -> T {
    match answer {
        Answer::Now(result) => result,
        Answer::Later(future) => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
            runtime.block_on(future)
        }
    }
    .expect("the store answers")
}

fn id(number: u8) -> RecordId {
    RecordId([number; 32])
}

/// A claim of record `number` for request `request` by `token` at `seconds`.
fn wish(number: u8, request: u8, token: u128, seconds: u64) -> Claim {
    let now = START + Duration::from_secs(seconds);
    Claim {
        id: id(number),
        fingerprint: Fingerprint([request; 32]),
        token,
        now,
        lease: LEASE,
        keep: HOUR,
        again: false,
    }
}

fn stored(text: &str) -> Arc<Stored> {
    let headers = vec![(HeaderName::from_static("x-shop"), HeaderValue::from_static("yes"))];
    Arc::new(Stored { status: StatusCode::CREATED, headers, body: Some(Bytes::copy_from_slice(text.as_bytes())) })
}

fn settle(number: u8, token: u128, end: End) -> Settle {
    Settle { id: id(number), token, end, until: START + HOUR }
}

fn fence(claimed: &Claimed) -> u64 {
    match claimed {
        Claimed::New { fence } => *fence,
        other => panic!("not new: {other:?}"),
    }
}

/// What every kind of store does; each check begins with an empty one.
pub(super) const CHECKS: [fn(&dyn RecordStore); 8] = [
    one_claims_and_the_others_learn_what_becomes_of_it,
    a_released_claim_is_free_with_a_higher_fence,
    only_who_claimed_settles,
    a_lost_lease_is_unknown_and_not_free,
    what_is_unknown_is_claimed_again_only_on_demand,
    records_are_forgotten_when_their_time_is_over,
    an_answer_without_its_body_says_so,
    a_claim_that_is_dropped_and_posted_away_leaves_nothing,
];

#[test]
fn memory_and_files_do_what_every_store_does() {
    for check in CHECKS {
        check(&MemoryRecords::default());
        let folder = TempDir::new().expect("a folder");
        check(&SqliteRecords::open(folder.path(), "test", on_disk()).expect("opens"));
    }
}

#[test]
fn a_store_that_has_as_much_as_it_may_forgets_nothing_that_was_carried_out() {
    has_room_for_two(&MemoryRecords::new(two()));
    let folder = TempDir::new().expect("a folder");
    has_room_for_two(&SqliteRecords::open(folder.path(), "test", two()).expect("opens"));
    // What it has is counted again when it is opened.
    let store = SqliteRecords::open(folder.path(), "test", two()).expect("opens again");
    assert_eq!(claimed(&store, wish(3, 1, 31, 5)), Err(StoreError::Full));
    answers_make_room(&MemoryRecords::new(two()), || ());
    answers_make_room(&SqliteRecords::open(folder.path(), "other", two()).expect("opens"), || ());
}

fn claimed(store: &dyn RecordStore, claim: Claim) -> Result<Claimed, StoreError> {
    match store.claim(claim) {
        Answer::Now(result) => result,
        Answer::Later(future) => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
            runtime.block_on(future)
        }
    }
}

/// One is under way and one is unknown: neither goes for a third, and both are still known.
fn has_room_for_two(store: &dyn RecordStore) {
    fence(&answered(store.claim(wish(1, 1, 11, 0))));
    fence(&answered(store.claim(wish(2, 1, 21, 0))));
    answered(store.settle(settle(2, 21, End::Unknown)));
    assert_eq!(claimed(store, wish(3, 1, 31, 1)), Err(StoreError::Full));
    assert_eq!(answered(store.claim(wish(1, 1, 12, 1))), Claimed::Running);
    assert_eq!(answered(store.claim(wish(2, 1, 22, 1))), Claimed::Unknown);
    // One that has ended stays, too, for its time.
    answered(store.settle(settle(1, 11, End::Done(stored("yes")))));
    assert_eq!(claimed(store, wish(3, 1, 32, 2)), Err(StoreError::Full));
    assert_eq!(answered(store.claim(wish(1, 1, 13, 2))), Claimed::Done(stored("yes")));
    // One that did nothing makes room.
    answered(store.settle(settle(2, 21, End::Released)));
    assert_eq!(claimed(store, wish(3, 1, 33, 3)), Err(StoreError::Full), "what was unknown may have been done");
}

/// Answers go before records do, that which came first in front, whichever was claimed first.
fn answers_make_room(store: &dyn RecordStore, settled: impl Fn()) {
    let long = "x".repeat(80);
    for (number, token) in [(32, 21), (16, 11)] {
        fence(&answered(store.claim(wish(number, 1, token, 0))));
    }
    for (number, token) in [(16, 11), (32, 21)] {
        answered(store.settle(settle(number, token, End::Done(stored(&long)))));
    }
    settled();
    let Claimed::Done(first) = answered(store.claim(wish(16, 1, 12, 1))) else { panic!("not done") };
    assert_eq!((first.status, &first.body), (StatusCode::CREATED, &None), "known, without its answer");
    assert_eq!(answered(store.claim(wish(32, 1, 22, 1))), Claimed::Done(stored(&long)));
    assert_eq!(store.len(), 2);
}

fn one_claims_and_the_others_learn_what_becomes_of_it(store: &dyn RecordStore) {
    fence(&answered(store.claim(wish(1, 1, 11, 0))));
    assert_eq!(answered(store.claim(wish(1, 1, 12, 1))), Claimed::Running);
    assert_eq!(answered(store.claim(wish(1, 2, 13, 1))), Claimed::Mismatch);
    answered(store.settle(settle(1, 11, End::Done(stored("yes")))));
    assert_eq!(answered(store.claim(wish(1, 1, 14, 2))), Claimed::Done(stored("yes")));
    assert_eq!(answered(store.claim(wish(1, 2, 15, 2))), Claimed::Mismatch);
    assert_eq!(store.len(), 1);
}

fn a_released_claim_is_free_with_a_higher_fence(store: &dyn RecordStore) {
    let first = fence(&answered(store.claim(wish(1, 1, 11, 0))));
    answered(store.settle(settle(1, 11, End::Released)));
    assert_eq!(store.len(), 0);
    let second = fence(&answered(store.claim(wish(1, 2, 12, 1))));
    assert!(first < second, "{first} {second}");
}

fn only_who_claimed_settles(store: &dyn RecordStore) {
    fence(&answered(store.claim(wish(1, 1, 11, 0))));
    for end in [End::Released, End::Unknown, End::Done(stored("no"))] {
        answered(store.settle(settle(1, 99, end)));
    }
    assert_eq!(answered(store.claim(wish(1, 1, 12, 1))), Claimed::Running);
}

fn a_lost_lease_is_unknown_and_not_free(store: &dyn RecordStore) {
    fence(&answered(store.claim(wish(1, 1, 11, 0))));
    assert_eq!(answered(store.claim(wish(1, 1, 12, 9))), Claimed::Running);
    assert_eq!(answered(store.claim(wish(1, 1, 13, 10))), Claimed::Unknown);
    // Whoever gave it up cannot free it any more, and an answer that comes late is still the answer.
    answered(store.settle(settle(1, 11, End::Released)));
    assert_eq!(answered(store.claim(wish(1, 1, 14, 11))), Claimed::Unknown);
    answered(store.settle(settle(1, 11, End::Done(stored("late")))));
    assert_eq!(answered(store.claim(wish(1, 1, 15, 12))), Claimed::Done(stored("late")));
}

fn what_is_unknown_is_claimed_again_only_on_demand(store: &dyn RecordStore) {
    let first = fence(&answered(store.claim(wish(1, 1, 11, 0))));
    answered(store.settle(settle(1, 11, End::Unknown)));
    assert_eq!(answered(store.claim(wish(1, 1, 12, 1))), Claimed::Unknown);
    assert_eq!(answered(store.claim(Claim { again: true, ..wish(1, 2, 13, 1) })), Claimed::Mismatch);
    let second = fence(&answered(store.claim(Claim { again: true, ..wish(1, 1, 14, 1) })));
    assert!(first < second, "{first} {second}");
    // The first one's late answer is not the second one's.
    answered(store.settle(settle(1, 11, End::Done(stored("old")))));
    assert_eq!(answered(store.claim(wish(1, 1, 15, 1))), Claimed::Running);
    assert_eq!(store.len(), 1);
}

fn records_are_forgotten_when_their_time_is_over(store: &dyn RecordStore) {
    for number in 1..=3 {
        fence(&answered(store.claim(wish(number, 1, number.into(), 0))));
    }
    answered(store.settle(settle(1, 1, End::Done(stored("a")))));
    answered(store.settle(settle(2, 2, End::Unknown)));
    store.purge(START + HOUR - Duration::from_secs(1));
    assert_eq!(answered(store.claim(wish(1, 1, 9, 3_599))), Claimed::Done(stored("a")));
    assert_eq!(store.len(), 3);
    // Also before anybody has purged it, a record is no longer there when its time is over.
    fence(&answered(store.claim(wish(1, 1, 10, 3_600))));
    store.purge(START + HOUR);
    assert_eq!(answered(store.claim(wish(1, 1, 11, 3_600))), Claimed::Running);
    fence(&answered(store.claim(wish(2, 1, 12, 3_600))));
    // The third was running all the time: it is unknown, and gone an hour behind its lease.
    assert_eq!(answered(store.claim(wish(3, 1, 13, 3_600))), Claimed::Unknown);
    assert_eq!(answered(store.claim(wish(3, 1, 14, 3_609))), Claimed::Unknown);
    fence(&answered(store.claim(wish(3, 1, 15, 3_610))));
}

fn an_answer_without_its_body_says_so(store: &dyn RecordStore) {
    fence(&answered(store.claim(wish(1, 1, 11, 0))));
    let without = Arc::new(Stored { status: StatusCode::OK, headers: Vec::new(), body: None });
    answered(store.settle(settle(1, 11, End::Done(without.clone()))));
    assert_eq!(answered(store.claim(wish(1, 1, 12, 1))), Claimed::Done(without));
}

fn a_claim_that_is_dropped_and_posted_away_leaves_nothing(store: &dyn RecordStore) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(async {
        if let Answer::Later(mut future) = store.claim(wish(1, 1, 11, 0)) {
            // Asked and not waited for, as when a client leaves.
            std::future::poll_fn(|cx| std::task::Poll::Ready(future.as_mut().poll(cx).is_ready())).await;
        }
    });
    store.post(settle(1, 11, End::Released));
    fence(&answered(store.claim(wish(1, 1, 12, 0))));
    assert_eq!(store.len(), 1);
}

#[tokio::test]
async fn more_is_forgotten_than_fits_into_one_go() {
    async fn all<T: Send + 'static>(answers: Vec<Answer<T>>) {
        let mut tasks = tokio::task::JoinSet::new();
        for answer in answers {
            let Answer::Later(answer) = answer else { panic!("a file takes its time") };
            tasks.spawn(answer);
        }
        while let Some(answer) = tasks.join_next().await {
            assert!(answer.expect("joined").is_ok());
        }
    }
    let folder = TempDir::new().expect("a folder");
    let store = SqliteRecords::open(folder.path(), "test", on_disk()).expect("opens");
    let name = |number: u32| {
        let mut id = id(1);
        id.0[..4].copy_from_slice(&number.to_le_bytes());
        id
    };
    for _ in 0..3 {
        let first = u32::try_from(store.len()).expect("few");
        let numbers: Vec<u32> = (first..first + 1_500).collect();
        all(numbers.iter().map(|number| store.claim(Claim { id: name(*number), ..wish(1, 1, 1, 0) })).collect()).await;
        let unknown = |number: &u32| store.settle(Settle { id: name(*number), ..settle(1, 1, End::Unknown) });
        all(numbers.iter().map(unknown).collect()).await;
    }
    assert_eq!(store.len(), 4_500);
    store.purge(START + HOUR);
    let gone = async {
        while store.len() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone).await.expect("one word is enough");
}

#[test]
fn a_file_opened_again_knows_its_answers_and_gives_up_what_ran() {
    let folder = TempDir::new().expect("a folder");
    let before = {
        let store = SqliteRecords::open(folder.path(), "test", on_disk()).expect("opens");
        let first = fence(&answered(store.claim(wish(1, 1, 11, 0))));
        answered(store.settle(settle(1, 11, End::Done(stored("kept")))));
        fence(&answered(store.claim(wish(2, 1, 12, 0)))).max(first)
    };
    let store = SqliteRecords::open(folder.path(), "test", on_disk()).expect("opens again");
    assert_eq!(answered(store.claim(wish(1, 1, 21, 1))), Claimed::Done(stored("kept")));
    assert_eq!(answered(store.claim(wish(2, 1, 22, 1))), Claimed::Unknown);
    assert_eq!(answered(store.claim(wish(2, 1, 22, 3_000))), Claimed::Unknown, "long behind its lease, too");
    assert_eq!(store.len(), 2);
    assert!(fence(&answered(store.claim(wish(3, 1, 23, 1)))) > before);
}

#[test]
fn two_do_not_share_a_file() {
    let folder = TempDir::new().expect("a folder");
    let first = SqliteRecords::open(folder.path(), "test", on_disk()).expect("opens");
    let second = SqliteRecords::open(folder.path(), "test", on_disk()).err().expect("refused");
    assert!(second.to_string().contains("another process"), "{second}");
    SqliteRecords::open(folder.path(), "other", on_disk()).expect("another store is another file");
    drop(first);
    SqliteRecords::open(folder.path(), "test", on_disk()).expect("free again");
}

#[test]
fn an_answer_under_a_lost_key_is_not_given_and_not_made_anew() {
    let folder = TempDir::new().expect("a folder");
    {
        let store = SqliteRecords::open(folder.path(), "test", on_disk()).expect("opens");
        fence(&answered(store.claim(wish(1, 1, 11, 0))));
        answered(store.settle(settle(1, 11, End::Done(stored("sealed")))));
    }
    std::fs::remove_file(folder.path().join("test.records.key")).expect("the key is there");
    let store = SqliteRecords::open(folder.path(), "test", on_disk()).expect("opens with a new key");
    let Claimed::Done(without) = answered(store.claim(wish(1, 1, 12, 1))) else { panic!("done") };
    assert_eq!((without.status, &without.body), (StatusCode::CREATED, &None));
}
