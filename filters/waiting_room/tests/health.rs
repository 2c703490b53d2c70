//! The rate follows what the backend can take.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use super::support::START;
use crate::channels::{ChannelFacts, ChannelState, UpstreamFacts};
use crate::engine::{AttemptEnd, AttemptResult, ChannelId, Known, UpstreamId};
use crate::waiting_room::backends::Backends;
use crate::waiting_room::{Aimd, Control, Health};

/// A backend that is slow as soon as it is asked for more than `capacity` a minute.
fn run(control: &mut Control, from: u64, seconds: u64, capacity: u32) -> u32 {
    let mut rate = 0;
    for tick in 0..seconds * 10 {
        let now = from + tick * 100;
        let p95 = Some(if rate > capacity { 900 } else { 80 });
        rate = control.decide(&Aimd::default(), 1_200, Health { p95, ..Health::default() }, now);
    }
    rate
}

#[test]
fn a_backend_that_halves_is_followed_in_seconds_and_back() {
    let mut control = Control::new(1_200, 0);
    assert_eq!(run(&mut control, 0, 5, 2_000), 1_200);
    let halved = run(&mut control, 5_000, 5, 600);
    assert!((400..=720).contains(&halved), "{halved}");
    assert_eq!(run(&mut control, 10_000, 30, 2_000), 1_200);
}

#[test]
fn an_open_breaker_brings_the_least_rate_at_once_and_errors_lower_it() {
    let mut control = Control::new(1_200, 0);
    let errors = Health { error_ratio: 0.1, ..Health::default() };
    assert_eq!(control.decide(&Aimd::default(), 1_200, errors, 100), 840);
    assert_eq!(control.decide(&Aimd::default(), 1_200, errors, 200), 840, "not twice for the same trouble");
    let open = Health { breaker_open: true, ..Health::default() };
    assert_eq!(control.decide(&Aimd::default(), 1_200, open, 300), 60);
    assert_eq!(control.decide(&Aimd::default(), 30, open, 400), 30, "never above what is configured");
}

#[test]
fn a_higher_configured_rate_holds_at_once_where_nothing_held_the_old_one_back() {
    let mut control = Control::new(600, 0);
    assert_eq!(control.decide(&Aimd::default(), 600, Health::default(), 100), 600);
    assert_eq!(control.decide(&Aimd::default(), 6_000, Health::default(), 200), 6_000);
    assert_eq!(control.decide(&Aimd::default(), 6_000, Health { error_ratio: 0.5, ..Health::default() }, 300), 4_200);
    assert!(control.decide(&Aimd::default(), 9_000, Health::default(), 400) < 4_300, "trouble is not forgotten");
}

/// A backend under a clock that a test moves.
struct Backend {
    state: Arc<ChannelState>,
    backends: Backends,
    now: u64,
}

impl Backend {
    fn new() -> Self {
        let state = Arc::new(ChannelState::new());
        let facts = vec![ChannelFacts::open("shop".into(), state.clone())];
        let mut backends = Backends::default();
        backends.watch(&[Arc::new(UpstreamFacts::new(UpstreamId(0), "shop".into(), facts))]);
        Self { state, backends, now: START }
    }

    fn answer(&self, status: u16, millis: u64) {
        let (result, took) =
            (AttemptResult::Status(StatusCode::from_u16(status).unwrap()), Duration::from_millis(millis));
        let end = AttemptEnd { channel: ChannelId(0), result, known: Known::Final, took, replayable: false };
        self.state.vitals.note(&end);
    }

    /// Seconds in which ten tries each end like this; the rate at their end.
    fn answers(&mut self, seconds: u64, status: u16, millis: u64) -> u32 {
        let ticks = (0..seconds * 10).map(|_| {
            self.answer(status, millis);
            self.tick(false)
        });
        ticks.last().unwrap()
    }

    fn tick(&mut self, rests: bool) -> u32 {
        self.now += 100;
        self.backends.decide(&Aimd::default(), 1_200, self.now, &|_| rests)
    }
}

#[test]
fn slow_answers_and_failures_lower_the_rate_and_good_ones_bring_it_back() {
    let mut backend = Backend::new();
    assert_eq!(backend.answers(5, 200, 20), 1_200);
    assert!(backend.answers(5, 200, 900) <= 600);
    assert_eq!(backend.answers(30, 200, 20), 1_200);
    assert!(backend.answers(6, 503, 5) <= 600, "fast, and useless");
    assert_eq!(backend.answers(30, 404, 20), 1_200, "not found is an answer");
    assert!(backend.answers(6, 429, 5) <= 600, "it says itself that it is too much");
}

#[test]
fn what_was_lowered_for_is_not_lowered_for_again() {
    let mut backend = Backend::new();
    backend.answers(5, 200, 20);
    (0..4).for_each(|_| backend.answer(503, 20));
    assert_eq!(backend.answers(1, 200, 20), 840);
    let after = backend.answers(3, 200, 20);
    assert!(after > 840, "the failures are from before it was lowered: {after}");
}

#[test]
fn silence_is_slow_and_a_breaker_is_the_least() {
    let mut backend = Backend::new();
    backend.answers(2, 200, 20);
    let hanging = backend.state.begin();
    let silent = (0..50).map(|_| backend.tick(false)).last().unwrap();
    assert!(silent <= 420, "{silent}");
    drop(hanging);
    assert_eq!((0..300).map(|_| backend.tick(false)).last(), Some(1_200), "nobody asks, so nothing is wrong");
    assert_eq!(backend.tick(true), 60);
    let (rate, health) = backend.backends.last().unwrap();
    assert!(rate == 60 && health.breaker_open);
}

#[test]
fn three_tries_say_nothing() {
    let mut backend = Backend::new();
    for _ in 0..3 {
        let result = AttemptResult::ConnectFailed;
        let took = Duration::ZERO;
        let end = AttemptEnd { channel: ChannelId(0), result, known: Known::NotSent, took, replayable: true };
        backend.state.vitals.note(&end);
    }
    assert_eq!((0..30).map(|_| backend.tick(false)).min(), Some(1_200));
}
