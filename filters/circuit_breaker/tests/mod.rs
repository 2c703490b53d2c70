//! Breakers on made-up times.

mod around;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::channels::{ChannelFacts, ChannelState, UpstreamFacts};
use crate::engine::{
    AttemptResult, ChainLink, ChannelSet, FilterChain, KeyHasher, Known, LinkCounters, Mode, Nanos, StateRegistry,
};

const SECOND: u64 = 1_000_000_000;
const A: ChannelId = ChannelId(0);
const B: ChannelId = ChannelId(1);

pub(super) struct World {
    states: StateRegistry,
    hasher: KeyHasher,
}

impl World {
    fn new() -> Self {
        Self { states: StateRegistry::new(), hasher: KeyHasher::fixed() }
    }

    /// A route with a breaker of these settings before channels `a` and `b`.
    fn chain(&self, settings: &str) -> FilterChain {
        self.chain_in(settings, Mode::Enforce)
    }

    fn chain_in(&self, settings: &str, mode: Mode) -> FilterChain {
        let spec: CircuitBreaker = serde_json::from_str(settings).unwrap();
        let channel = |name: &str| ChannelFacts::open(name.into(), Arc::new(ChannelState::new()));
        let upstream = UpstreamFacts::new(UpstreamId(0), "pay".into(), vec![channel("a"), channel("b")]);
        let name: Arc<str> = "guard".into();
        let (identities, upstreams) = (std::collections::BTreeMap::new(), [Arc::new(upstream)]);
        let mut cx = BuildContext {
            name: name.clone(),
            mode,
            states: &self.states,
            hasher: &self.hasher,
            identities: &identities,
            upstreams: &upstreams,
            acquired: Vec::new(),
        };
        let filter = spec.build(&mut cx).unwrap();
        filter.activate();
        let counters = Arc::new(LinkCounters::new(name.clone()));
        FilterChain::new(vec![ChainLink { filter, name, mode, counters }])
    }

    fn breaker(&self, channel: &str) -> Arc<Guarded> {
        let all = self.states.all::<Guarded>().into_iter().map(|(_, guarded)| guarded);
        all.into_iter().find(|guarded| guarded.names()[2] == channel).unwrap()
    }

    fn phase(&self, channel: &str) -> Phase {
        self.breaker(channel).breaker().phase()
    }
}

/// One request, tried step by step.
struct Try {
    cx: RequestContext,
    attempt: Attempt,
}

fn at(now: u64) -> Try {
    let cx = RequestContext::new(Nanos(now), IpAddr::V4(Ipv4Addr::LOCALHOST));
    let attempt = Attempt { number: 1, pinned: false, safe: false, candidates: ChannelSet::all(2), chosen: None };
    Try { cx, attempt }
}

impl Try {
    fn only(mut self, channel: ChannelId) -> Self {
        self.attempt.candidates = ChannelSet(1 << channel.0);
        self
    }

    fn pinned(mut self, safe: bool) -> Self {
        (self.attempt.pinned, self.attempt.safe) = (true, safe);
        self.only(A)
    }

    /// The channels left, or the wait that was announced.
    fn candidates(&mut self, chain: &FilterChain) -> Result<ChannelSet, Duration> {
        match chain.on_attempt(&mut self.attempt, &mut self.cx) {
            Verdict::Continue => Ok(self.attempt.candidates),
            Verdict::Respond(reply) => {
                assert_eq!((reply.status.as_u16(), reply.code()), (503, Some("upstream-unavailable")));
                Err(reply.retry_after.unwrap())
            }
        }
    }

    /// Enters the channel; false when it may not.
    fn enters(&mut self, chain: &FilterChain, channel: ChannelId) -> bool {
        let left = self.candidates(chain);
        let entered = left.is_ok_and(|left| left.has(channel)) && chain.on_chosen(&self.attempt, channel, &mut self.cx);
        self.cx.channel = Some(channel).filter(|_| entered).or(self.cx.channel);
        entered
    }

    fn ends(&mut self, chain: &FilterChain, now: u64, result: AttemptResult, known: Known) {
        let took = Nanos(now).since(self.cx.now);
        self.cx.now = Nanos(now);
        let channel = self.cx.channel.unwrap();
        let _ = chain.on_attempt_end(&AttemptEnd { channel, result, known, took, replayable: true }, &mut self.cx);
    }
}

fn answer(status: u16) -> AttemptResult {
    AttemptResult::Status(StatusCode::from_u16(status).unwrap())
}

/// A whole try on `channel` that begins and ends at `now`.
fn one(chain: &FilterChain, channel: ChannelId, now: u64, result: AttemptResult) -> bool {
    let mut request = at(now).only(channel);
    let entered = request.enters(chain, channel);
    if entered {
        request.ends(chain, now, result, Known::Final);
    }
    entered
}

fn fail(chain: &FilterChain, times: usize, now: u64) {
    for _ in 0..times {
        assert!(one(chain, A, now, answer(500)));
    }
}

#[test]
fn five_failures_in_a_row_open_it_and_the_next_request_goes_elsewhere() {
    let world = World::new();
    let chain = world.chain("{}");
    fail(&chain, 4, 0);
    assert!(one(&chain, A, 0, answer(200)), "a success begins the row anew");
    fail(&chain, 4, 0);
    assert_eq!(at(0).candidates(&chain), Ok(ChannelSet::all(2)));
    fail(&chain, 1, 0);
    assert_eq!(at(0).candidates(&chain), Ok(ChannelSet(1 << B.0)));
    assert_eq!((world.phase("a"), world.phase("b")), (Phase::Open, Phase::Closed));
}

#[test]
fn it_counts_what_is_the_channels_fault_and_nothing_else() {
    let faults = [
        AttemptResult::ConnectFailed,
        AttemptResult::Broken,
        AttemptResult::TimedOut,
        answer(500),
        answer(502),
        answer(503),
        answer(504),
        answer(408),
    ];
    for fault in faults {
        let world = World::new();
        let chain = world.chain("{}");
        (0..5).for_each(|_| assert!(one(&chain, A, 0, fault)));
        assert_eq!(world.phase("a"), Phase::Open, "{fault:?}");
    }
    let others = [AttemptResult::Declined { hard: true }, AttemptResult::Declined { hard: false }];
    for fine in [200, 302, 400, 401, 404, 409, 422, 429].map(answer).into_iter().chain(others) {
        let world = World::new();
        let chain = world.chain("{}");
        (0..50).for_each(|_| assert!(one(&chain, A, 0, fine), "{fine:?}"));
        assert_eq!(world.phase("a"), Phase::Closed, "{fine:?}");
    }
}

#[test]
fn an_answer_that_leaves_the_outcome_unknown_is_a_failure() {
    let world = World::new();
    let chain = world.chain("{}");
    for _ in 0..5 {
        let mut request = at(0).only(A);
        assert!(request.enters(&chain, A));
        request.ends(&chain, 0, answer(200), Known::Unknown);
    }
    assert_eq!(world.phase("a"), Phase::Open);
}

#[test]
fn being_busy_neither_counts_nor_ends_a_row() {
    let world = World::new();
    let chain = world.chain("{}");
    fail(&chain, 4, 0);
    assert!(one(&chain, A, 0, answer(429)));
    fail(&chain, 1, 0);
    assert_eq!(world.phase("a"), Phase::Open);
}

#[test]
fn five_slow_answers_open_it_and_one_that_is_just_not_slow_does_not() {
    for (took, phase) in [(3 * SECOND, Phase::Open), (3 * SECOND - 1, Phase::Closed)] {
        let world = World::new();
        let chain = world.chain("{}");
        for _ in 0..5 {
            let mut request = at(0).only(A);
            assert!(request.enters(&chain, A));
            request.ends(&chain, took, answer(200), Known::Final);
        }
        assert_eq!(world.phase("a"), phase);
    }
}

#[test]
fn the_announced_wait_is_exact_and_ends_with_one_probe() {
    let world = World::new();
    let chain = world.chain("{}");
    fail(&chain, 5, 7 * SECOND);
    let wait = at(10 * SECOND).only(A).candidates(&chain).unwrap_err();
    assert_eq!(wait, Duration::from_secs(27));
    assert!(at(37 * SECOND - 1).only(A).candidates(&chain).is_err());
    let mut probe = at(37 * SECOND).only(A);
    assert!(probe.enters(&chain, A));
    assert_eq!(world.phase("a"), Phase::HalfOpen);
    let wait = at(38 * SECOND).only(A).candidates(&chain).unwrap_err();
    assert_eq!(wait, Duration::from_secs(9), "until the probe's place is given back at the latest");
    probe.ends(&chain, 39 * SECOND, answer(200), Known::Final);
    assert_eq!(world.phase("a"), Phase::Closed);
    assert_eq!(at(39 * SECOND).candidates(&chain), Ok(ChannelSet::all(2)));
}

#[test]
fn two_requests_that_see_the_last_place_do_not_both_get_it() {
    let world = World::new();
    let chain = world.chain("{}");
    fail(&chain, 5, 0);
    let (mut first, mut second) = (at(30 * SECOND), at(30 * SECOND));
    assert_eq!(first.candidates(&chain), Ok(ChannelSet::all(2)));
    assert_eq!(second.candidates(&chain), Ok(ChannelSet::all(2)));
    assert!(chain.on_chosen(&first.attempt, A, &mut first.cx));
    assert!(!chain.on_chosen(&second.attempt, A, &mut second.cx));
}

#[test]
fn a_failed_probe_opens_it_for_longer_up_to_a_bound() {
    let world = World::new();
    let chain = world.chain(r#"{"open_max": "100s"}"#);
    fail(&chain, 5, 0);
    let mut now = 0;
    for rest in [30, 60, 100, 100] {
        assert_eq!(at(now).only(A).candidates(&chain), Err(Duration::from_secs(rest)));
        now += rest * SECOND;
        assert!(one(&chain, A, now, answer(503)));
    }
}

#[test]
fn a_probe_that_is_lost_gives_its_place_back_with_its_request() {
    let world = World::new();
    let chain = world.chain("{}");
    fail(&chain, 5, 0);
    let mut lost = at(30 * SECOND).only(A);
    assert!(lost.enters(&chain, A));
    assert!(at(30 * SECOND).only(A).candidates(&chain).is_err());
    drop(lost);
    assert!(at(30 * SECOND).only(A).enters(&chain, A));
}

#[test]
fn a_probe_that_hangs_gives_its_place_back_after_a_while_and_its_failure_still_counts() {
    let world = World::new();
    let chain = world.chain("{}");
    fail(&chain, 5, 0);
    let mut hangs = at(30 * SECOND).only(A);
    assert!(hangs.enters(&chain, A));
    assert!(at(40 * SECOND - 1).only(A).candidates(&chain).is_err());
    let mut next = at(40 * SECOND).only(A);
    assert!(next.enters(&chain, A));
    hangs.ends(&chain, 41 * SECOND, AttemptResult::TimedOut, Known::Unknown);
    assert_eq!(world.phase("a"), Phase::Open);
    next.ends(&chain, 42 * SECOND, answer(200), Known::Final);
    assert_eq!(world.phase("a"), Phase::Open, "its generation is over");
}

#[test]
fn a_probe_that_is_made_once_more_does_not_wait_for_itself() {
    let world = World::new();
    let chain = world.chain("{}");
    fail(&chain, 5, 0);
    let mut probe = at(30 * SECOND).only(A);
    assert!(probe.enters(&chain, A));
    // A kept connection had died idle: the same request chooses again.
    assert!(probe.enters(&chain, A));
    probe.ends(&chain, 31 * SECOND, answer(200), Known::Final);
    assert_eq!(world.phase("a"), Phase::Closed);
}

#[test]
fn a_late_result_of_an_earlier_generation_changes_nothing() {
    let world = World::new();
    let chain = world.chain(r#"{"consecutive_failures": 1}"#);
    let mut late: Vec<Try> = (0..3).map(|_| at(0).only(A)).collect();
    assert!(late.iter_mut().all(|request| request.enters(&chain, A)));
    late[0].ends(&chain, 0, answer(500), Known::Final);
    assert_eq!(world.phase("a"), Phase::Open);
    late[1].ends(&chain, SECOND, answer(200), Known::Final);
    assert_eq!(world.phase("a"), Phase::Open);
    assert!(one(&chain, A, 30 * SECOND, answer(200)));
    assert_eq!(world.phase("a"), Phase::Closed);
    late[2].ends(&chain, 31 * SECOND, answer(500), Known::Final);
    assert_eq!(world.phase("a"), Phase::Closed);
}

#[test]
fn half_of_twenty_in_the_window_open_it_and_what_left_the_window_does_not_count() {
    let world = World::new();
    let chain = world.chain("{}");
    for number in 0..19 {
        assert!(one(&chain, A, SECOND, answer(if number % 2 == 0 { 200 } else { 500 })));
    }
    assert_eq!(world.phase("a"), Phase::Closed, "nineteen are too few");
    assert!(one(&chain, A, 12 * SECOND, answer(500)));
    assert_eq!(world.phase("a"), Phase::Closed, "the others are too old");
    for number in 0..19 {
        assert!(one(&chain, A, 13 * SECOND, answer(if number % 2 == 0 { 500 } else { 200 })));
    }
    assert_eq!(world.phase("a"), Phase::Open);
}

#[test]
fn a_reload_keeps_an_open_breaker_open_and_counts_by_the_new_time() {
    let world = World::new();
    fail(&world.chain("{}"), 5, 0);
    let chain = world.chain(r#"{"open_for": "50s"}"#);
    assert_eq!(at(10 * SECOND).only(A).candidates(&chain), Err(Duration::from_secs(40)));
    let chain = world.chain(r#"{"open_for": "20s"}"#);
    assert_eq!(at(10 * SECOND).only(A).candidates(&chain), Err(Duration::from_secs(10)));
    assert!(at(20 * SECOND).only(A).enters(&chain, A));
}

#[test]
fn nonsense_is_refused_with_its_place() {
    let nonsense = [
        ("consecutive_failures", r#"{"consecutive_failures": 0}"#),
        ("failure_ratio", r#"{"failure_ratio": 0.0}"#),
        ("slow_ratio", r#"{"slow_ratio": 1.5}"#),
        ("open_factor", r#"{"open_factor": 0.5}"#),
        ("jitter", r#"{"jitter": -1.0}"#),
        ("open_max", r#"{"open_max": "10s"}"#),
        ("window.buckets", r#"{"window": {"buckets": 61}}"#),
        ("window.size", r#"{"window": {"size": "10ms"}}"#),
        ("half_open.max_concurrent", r#"{"half_open": {"max_concurrent": 0}}"#),
        ("half_open.max_duration", r#"{"half_open": {"max_duration": "0s"}}"#),
    ];
    for (path, text) in nonsense {
        let spec: CircuitBreaker = serde_json::from_str(text).unwrap();
        let mut problems = Problems::default();
        spec.check(&CheckContext { identities: &[], stores: &[], durable: &[] }, &mut problems);
        let paths: Vec<_> = problems.0.iter().map(|problem| problem.path.as_str()).collect();
        assert_eq!(paths, [path], "{text}");
    }
    let mut problems = Problems::default();
    CircuitBreaker::default().check(&CheckContext { identities: &[], stores: &[], durable: &[] }, &mut problems);
    assert!(problems.0.is_empty());
}
