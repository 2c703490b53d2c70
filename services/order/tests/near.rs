//! Proofs of the cache: one question for a crowd, no question for what does not exist, old values while nobody answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::super::near::{FRESH_MS, Near, about, is_fresh};
use super::super::stock::Unreachable;

/// Answers with what it is told to, and counts.
#[derive(Default)]
struct Source(AtomicU32);

impl Source {
    async fn say<T>(&self, answer: Result<Option<T>, Unreachable>) -> Result<Option<T>, Unreachable> {
        self.0.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(20)).await;
        answer
    }

    fn asked(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

fn down<T>() -> Result<Option<T>, Unreachable> {
    Err(Unreachable("nobody answers".to_owned()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_that_wants_the_same_is_one_question() {
    let (near, source) = (Arc::new(Near::new()), Arc::new(Source::default()));
    let crowd: Vec<_> = (0..100)
        .map(|_| {
            let (near, source) = (Arc::clone(&near), Arc::clone(&source));
            tokio::spawn(async move { near.get("card", 0, source.say(Ok(Some(7)))).await.expect("an answer") })
        })
        .collect();
    for one in crowd {
        let found = one.await.expect("nobody panics");
        assert_eq!((found.value.as_deref(), found.fresh), (Some(&7), true));
    }
    assert_eq!((source.asked(), near.asked.get(), near.hits.get()), (1, 1, 99));
    // A second later it is asked for once more.
    assert_eq!(
        near.get("card", FRESH_MS + 100, source.say(Ok(Some(8)))).await.expect("known").value.as_deref(),
        Some(&8)
    );
    assert_eq!(source.asked(), 2);
}

#[tokio::test]
async fn what_does_not_exist_is_not_asked_for_again_and_again() {
    let (near, source) = (Near::<u8>::new(), Source::default());
    for now_ms in [0, 100, 2_000, 4_000] {
        assert!(near.get("made-up", now_ms, source.say(Ok(None))).await.expect("an answer").value.is_none());
    }
    assert_eq!(source.asked(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_nobody_answers_the_last_value_is_shown_and_one_caller_in_a_second_waits() {
    let (near, source) = (Arc::new(Near::new()), Arc::new(Source::default()));
    near.get("card", 0, source.say(Ok(Some(7)))).await.expect("an answer");
    let later = 60_000;
    let crowd: Vec<_> = (0..50)
        .map(|_| {
            let (near, source) = (Arc::clone(&near), Arc::clone(&source));
            tokio::spawn(async move { near.get("card", later, source.say(down())).await.expect("the old one") })
        })
        .collect();
    for one in crowd {
        let found = one.await.expect("nobody panics");
        assert_eq!((found.value.as_deref(), found.fresh), (Some(&7), false));
    }
    assert_eq!(source.asked(), 2);
    // What was never known fails, for a second without asking.
    for _ in 0..5 {
        assert!(near.get("other", later, source.say(down())).await.is_err());
    }
    assert_eq!(source.asked(), 3);
}

#[tokio::test]
async fn what_was_asked_for_before_a_sale_costs_its_first_buyer_nothing() {
    let (near, source) = (Near::new(), Source::default());
    near.warm("card", 0, source.say(Ok(Some(7)))).await.expect("an answer");
    assert_eq!(near.get("card", 500, source.say(down())).await.expect("near").value.as_deref(), Some(&7));
    assert_eq!((source.asked(), near.hits.get()), (1, 1));
    // Warming asks, however fresh the value is.
    near.warm("card", 600, source.say(Ok(Some(8)))).await.expect("an answer");
    assert_eq!(near.get("card", 700, source.say(down())).await.expect("near").value.as_deref(), Some(&8));
}

#[test]
fn a_value_of_the_time_to_come_may_be_of_any_age() {
    let hour = 3_600_000;
    assert!(is_fresh(1_000, 1_000) && is_fresh(1_000, 1_999) && !is_fresh(1_000, 2_000) && !is_fresh(hour, 1_000));
}

#[test]
fn what_was_read_together_is_not_forgotten_together() {
    let kept: Vec<Duration> = (0..1_000).map(|_| about(Duration::from_secs(1_800))).collect();
    let (first, last) = (kept.iter().min().expect("many"), kept.iter().max().expect("many"));
    let whole = Duration::from_secs(1_620)..Duration::from_secs(1_980);
    assert!(whole.contains(first) && whole.contains(last), "a tenth either way: {first:?} to {last:?}");
    // A thousand of them spread over two tenths of half an hour: the chance of less than 300 s is nil.
    assert!(*last - *first > Duration::from_secs(300), "only from {first:?} to {last:?}");
}
