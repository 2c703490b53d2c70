//! Waiting for real: calls, drops and reloads, with the clock of the machine.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::task::Poll;
use std::time::Instant;

use proptest::prelude::*;

use super::super::inner::Reason;
use super::*;
use crate::engine::State;

#[test]
fn a_place_that_comes_back_goes_to_the_one_in_front() {
    run(async {
        let queue = queue(places(1));
        let first = passes(&queue, at(0));
        let (second, third) =
            (waits(&queue, Priority::Normal, NOBODY, at(0)), waits(&queue, Priority::Normal, NOBODY, at(0)));
        drop(first);
        let (_, result) = second.wait().await;
        let permit = result.expect("called").expect("a place");
        assert_eq!((queue.view(at(0)).waiting, queue.view(at(0)).in_service), (1, 1));
        drop(permit);
        drop(third.wait().await);
        assert_eq!((queue.view(at(0)).waiting, queue.view(at(0)).in_service), (0, 0));
    });
}

#[test]
fn who_leaves_gives_the_place_to_the_next() {
    run(async {
        let queue = queue(places(1));
        let first = passes(&queue, at(0));
        let second = waits(&queue, Priority::Normal, NOBODY, at(0));
        let third = waits(&queue, Priority::Normal, NOBODY, at(0));
        let fourth = waits(&queue, Priority::Normal, NOBODY, at(0));
        drop(second);
        // The third is called and leaves before it hears of it.
        drop(first);
        drop(third);
        let (_, result) = fourth.wait().await;
        assert!(result.expect("called").is_some());
        assert_eq!(queue.view(at(0)).in_service, 0);
    });
}

#[test]
fn a_reload_with_more_places_calls_those_who_wait() {
    run(async {
        let queue = queue(places(1));
        let first = passes(&queue, at(0));
        let second = waits(&queue, Priority::Normal, NOBODY, at(0));
        queue.retune(places(2));
        let (_, result) = second.wait().await;
        let second = result.expect("called");
        assert_eq!(queue.view(at(0)).in_service, 2);
        // With fewer places nobody is thrown out, and nobody comes in.
        queue.retune(places(1));
        drop(first);
        assert!(matches!(queue.enter(Priority::Normal, NOBODY, at(0)), Entered::Waits(_)));
        drop(second);
    });
}

#[test]
fn a_reload_with_a_pace_keeps_the_line() {
    run(async {
        let queue = queue(places(1));
        let _first = passes(&queue, at(0));
        let turn = waits(&queue, Priority::Normal, NOBODY, at(0));
        let mut waiting = pin!(turn.wait());
        let polled = poll_fn(|cx| Poll::Ready(waiting.as_mut().poll(cx).is_pending())).await;
        assert!(polled);
        queue.retune(paced("100/s"));
        let (_, result) = waiting.await;
        assert!(result.expect("called").is_none(), "a pace gives no places");
    });
}

/// When this thread stood still, from a task that does nothing but look at the clock.
async fn stalls(begin: Instant, over: Arc<AtomicBool>) -> Vec<(Duration, Duration)> {
    let (mut then, mut seen) = (begin.elapsed(), Vec::new());
    while !over.load(SeqCst) {
        tokio::time::sleep(ms(5)).await;
        let now = begin.elapsed();
        if now - then >= ms(20) {
            seen.push((then, now));
        }
        then = now;
    }
    seen
}

/// When 899 leave who wait at 400 a second, and when their thread stood still meanwhile.
async fn a_paced_line() -> (Vec<Duration>, Vec<(Duration, Duration)>) {
    let (queue, begin, over) = (queue(paced("400/s")), Instant::now(), Arc::default());
    let watch = tokio::spawn(stalls(begin, Arc::clone(&over)));
    let mut all = Vec::new();
    for _ in 0..900 {
        if let Entered::Waits(turn) = queue.enter(Priority::Normal, NOBODY, at(0)) {
            all.push(tokio::spawn(async move {
                let (_, result) = turn.wait().await;
                result.expect("called");
                begin.elapsed()
            }));
        }
    }
    assert_eq!(all.len(), 899, "the first passes at once");
    let mut times = Vec::new();
    for task in all {
        times.push(task.await.expect("no panic"));
    }
    over.store(true, SeqCst);
    (times, watch.await.expect("no panic"))
}

/// How long a thread stood still in a second at most for that second to count.
const MOSTLY_AWAKE: Duration = Duration::from_millis(500);

/// For how long it stood still between two moments, and how often.
fn stood_still(stalls: &[(Duration, Duration)], from: Duration, to: Duration) -> (Duration, usize) {
    let parts = stalls.iter().map(|(begin, end)| (*end).min(to).saturating_sub((*begin).max(from)));
    parts.filter(|part| !part.is_zero()).fold((Duration::ZERO, 0), |(sum, count), part| (sum + part, count + 1))
}

#[test]
fn a_pace_is_kept_within_five_percent_in_every_second() {
    const ROUNDS: usize = 8;
    run(async {
        for _ in 0..ROUNDS {
            let (times, stalls) = a_paced_line().await;
            assert!(times.is_sorted(), "in the order of arrival");
            let mut judged = 0;
            for from in (2..24).map(|step| ms(50 * step)) {
                let to = from + ms(1_000);
                let within = times.partition_point(|time| *time < to) - times.partition_point(|time| *time < from);
                // What this machine has held up is not made up for.
                assert!(within <= 420, "{within} in the second from {from:?}");
                let (still, often) = stood_still(&stalls, from, to);
                // So many are lost to that, and one at either end of each.
                let lost = usize::try_from(still.as_millis()).expect("a second") * 2 / 5 + 2 * often;
                assert!(within + lost >= 380, "{within} in the second from {from:?}, still for {still:?}");
                judged += usize::from(still <= MOSTLY_AWAKE);
            }
            if judged >= 10 {
                return;
            }
        }
        panic!("this machine stood still for most of nearly every second");
    });
}

/// How long ten wait who were told a time each, and how late a plain timer is for the same moments.
async fn told_and_waited() -> Vec<(Duration, Duration)> {
    let queue = queue(paced("50/s"));
    passes(&queue, at(0));
    let begin = tokio::time::Instant::now();
    let turns: Vec<_> = (0..10).map(|_| waits(&queue, Priority::Normal, NOBODY, at(0))).collect();
    let mut all = Vec::new();
    for (ahead, turn) in (1..).zip(turns) {
        let timer = tokio::spawn(async move {
            tokio::time::sleep_until(begin + ms(20 * ahead)).await;
            begin.elapsed()
        });
        all.push((tokio::spawn(turn.wait()), timer));
    }
    let mut times = Vec::new();
    for (turn, timer) in all {
        let (waited, result) = turn.await.expect("no panic");
        result.expect("called");
        times.push((waited, timer.await.expect("no panic")));
    }
    times
}

#[test]
fn waits_come_within_five_milliseconds_of_what_was_computed() {
    const ROUNDS: usize = 40;
    run(async {
        let mut least_late = [Duration::MAX; 10];
        for _ in 0..ROUNDS {
            let times = told_and_waited().await;
            for (ahead, (waited, _)) in (1..).zip(&times) {
                assert!(*waited >= ms(20 * ahead), "{waited:?} for number {ahead}: nobody goes before their time");
            }
            // What a plain timer is late by is this machine's doing. Between the two it may stand still as well, but not in
            // every round at the same place.
            for (least, (waited, timer)) in least_late.iter_mut().zip(&times) {
                *least = (*least).min(waited.saturating_sub(*timer));
            }
            if least_late.iter().all(|late| *late <= ms(5)) {
                return;
            }
        }
        panic!("later than computed in every round: {least_late:?}");
    });
}

#[test]
fn nothing_is_left_of_a_line_that_everybody_left() {
    run(async {
        let queue = queue(paced("1/10s"));
        passes(&queue, at(0));
        let mut limits = paced("1/10s");
        limits.max_wait = Duration::from_secs(100_000);
        queue.retune(limits);
        for _ in 0..500 {
            let turn = waits(&queue, Priority::Normal, NOBODY, at(0));
            let _ = tokio::time::timeout(Duration::ZERO, turn.wait()).await;
        }
        assert_eq!(queue.view(at(0)).waiting, 0);
        let mut samples = Vec::new();
        queue.samples(&mut samples);
        let left = samples.iter().find(|sample| sample.name == "tidegate_queue_left_total").expect("counted");
        assert!((left.value - 500.0).abs() < f64::EPSILON, "{}", left.value);
    });
}

#[test]
fn a_displaced_one_is_told_at_once() {
    run(async {
        let mut limits = places(1);
        limits.max_length = 1;
        let queue = queue(limits);
        let _held = passes(&queue, at(0));
        let bulk = waits(&queue, Priority::Bulk, NOBODY, at(0));
        let _high = waits(&queue, Priority::High, NOBODY, at(0));
        let (_, result) = bulk.wait().await;
        assert_eq!(result.err().map(|refusal| refusal.reason), Some(Reason::Full));
    });
}

/// What one request does in the property below.
#[derive(Clone, Copy, Debug)]
struct Plan {
    class: u8,
    flow: u8,
    /// Steps it stays in line before its client leaves, if it leaves.
    leaves: Option<u8>,
    /// Steps it holds its place.
    holds: u8,
}

fn plan() -> impl Strategy<Value = Plan> {
    let leaves = proptest::option::weighted(0.3, 0..6_u8);
    (0..4_u8, 0..5_u8, leaves, 0..6_u8).prop_map(|(class, flow, leaves, holds)| Plan { class, flow, leaves, holds })
}

async fn one(queue: Arc<Queue>, plan: Plan, inside: Arc<AtomicUsize>, most: usize) -> &'static str {
    let class = [Priority::Bulk, Priority::Normal, Priority::High, Priority::Critical][usize::from(plan.class)];
    let permit = match queue.enter(class, Key(plan.flow.into()), at(0)) {
        Entered::Now(permit) => permit,
        Entered::Refused(_) => return "refused",
        Entered::Waits(turn) => {
            let mut waiting = pin!(turn.wait());
            let mut steps = plan.leaves;
            let told = poll_fn(|cx| match (waiting.as_mut().poll(cx), steps) {
                (Poll::Ready((_, told)), _) => Poll::Ready(Some(told)),
                (Poll::Pending, None) => Poll::Pending,
                (Poll::Pending, Some(0)) => Poll::Ready(None),
                (Poll::Pending, Some(left)) => {
                    steps = Some(left - 1);
                    cx.waker().wake_by_ref();
                    Poll::Pending
                }
            });
            match told.await {
                None => return "left",
                Some(Err(_)) => return "refused",
                Some(Ok(permit)) => permit,
            }
        }
    };
    assert!(inside.fetch_add(1, SeqCst) < most, "more inside than there are places");
    for _ in 0..plan.holds {
        tokio::task::yield_now().await;
    }
    inside.fetch_sub(1, SeqCst);
    drop(permit);
    "served"
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn everybody_is_served_or_refused_and_no_place_is_lost(
        plans in proptest::collection::vec(plan(), 1..60),
        most in 1..5_usize,
        room in 0..40_usize,
    ) {
        run(async move {
            let mut limits = places(most);
            limits.max_length = room;
            let queue = queue(limits);
            let inside = Arc::new(AtomicUsize::new(0));
            let tasks: Vec<_> =
                plans.into_iter().map(|plan| tokio::spawn(one(queue.clone(), plan, inside.clone(), most))).collect();
            for task in tasks {
                let end = tokio::time::timeout(Duration::from_secs(10), task).await.expect("nobody waits for ever");
                end.expect("no panic");
            }
            let view = queue.view(at(0));
            assert_eq!((view.waiting, view.in_service), (0, 0));
            // All places are there again.
            let again: Vec<_> = (0..most).map(|_| passes(&queue, at(0))).collect();
            assert_eq!(queue.view(at(0)).in_service, again.len());
        });
    }
}

#[test]
fn who_was_told_a_time_is_called_however_late_the_process_is() {
    run(async {
        let queue = queue(Limits { max_wait: ms(200), ..paced("50/s") });
        passes(&queue, at(0));
        let mut turns = Vec::new();
        while let Entered::Waits(turn) = queue.enter(Priority::Normal, NOBODY, at(0)) {
            turns.push(tokio::spawn(turn.wait()));
        }
        assert_eq!(turns.len(), 10, "the last one's time comes at the very end of what anybody may wait");
        // The process stands still now and then, so that all timers are late.
        for stall in [45, 120, 1, 300] {
            tokio::time::sleep(ms(5)).await;
            std::thread::sleep(ms(stall));
        }
        let mut waits = Vec::new();
        for turn in turns {
            let (wait, result) = turn.await.expect("no panic");
            assert!(result.is_ok(), "refused after {wait:?}");
            waits.push(wait);
        }
        // What was lost is not made up for, but for what one wake-up may be late: that would be a burst.
        assert!(waits.windows(3).all(|three| three[2].saturating_sub(three[0]) >= ms(19)), "{waits:?}");
        assert!(waits.is_sorted(), "{waits:?}");
    });
}

#[test]
fn a_slower_pace_ends_waits_that_get_too_long() {
    run(async {
        let queue = queue(Limits { max_wait: ms(1_000), ..paced("10/s") });
        passes(&queue, at(0));
        let turns: Vec<_> = (0..10).map(|_| waits(&queue, Priority::Normal, NOBODY, at(0))).collect();
        let turns: Vec<_> = turns.into_iter().map(|turn| tokio::spawn(turn.wait())).collect();
        tokio::task::yield_now().await;
        queue.retune(Limits { max_wait: ms(1_000), ..paced("2/s") });
        let mut passed = 0;
        for turn in turns {
            let (wait, result) = turn.await.expect("no panic");
            match result {
                Ok(_) => passed += 1,
                Err(refusal) => assert!(refusal.reason == Reason::Timeout && wait >= ms(1_000), "{refusal:?} {wait:?}"),
            }
        }
        assert!((2..=3).contains(&passed), "{passed}");
        assert_eq!(queue.view(at(0)).waiting, 0);
    });
}
