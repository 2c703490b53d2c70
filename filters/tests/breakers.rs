//! What breakers owe for every order of events.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use proptest::prelude::*;
use tidegate_filters::channels::{ChannelFacts, ChannelState, UpstreamFacts};
use tidegate_filters::circuit_breaker::{CircuitBreaker, Guarded, Phase};
use tidegate_filters::engine::{
    Attempt, AttemptEnd, AttemptResult, BuildContext, ChannelId, ChannelSet, Filter, FilterSpec, KeyHasher, Known,
    Mode, Nanos, RequestContext, StateRegistry, UpstreamId, Verdict,
};

const ONLY: ChannelId = ChannelId(0);

/// What happens next: a request comes, one that runs ends well or badly, one is lost, time passes, the file is reloaded.
#[derive(Clone, Copy, Debug)]
enum Event {
    Comes,
    Ends { which: usize, well: bool },
    Lost { which: usize },
    Passes { milliseconds: u64 },
    Reload,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        4 => Just(Event::Comes),
        4 => (any::<usize>(), prop::bool::weighted(0.4)).prop_map(|(which, well)| Event::Ends { which, well }),
        1 => any::<usize>().prop_map(|which| Event::Lost { which }),
        2 => (0u64..4_000).prop_map(|milliseconds| Event::Passes { milliseconds }),
        1 => Just(Event::Reload),
    ];
    prop::collection::vec(event, 1..300)
}

struct Running {
    cx: RequestContext,
    began: u64,
    /// How often the breaker had changed when it began.
    changes: u64,
    /// Whether it began as a probe.
    probe: bool,
}

struct World {
    states: StateRegistry,
    filter: Arc<dyn Filter>,
}

fn build(states: &StateRegistry, max_concurrent: u32) -> Arc<dyn Filter> {
    let spec: CircuitBreaker = serde_json::from_value(serde_json::json!({
        "consecutive_failures": 3, "open_for": "2s", "open_max": "8s", "jitter": 0.2,
        "half_open": { "max_concurrent": max_concurrent, "successes": 2, "max_duration": "3s" },
    }))
    .unwrap();
    let channel = ChannelFacts::open("a".into(), Arc::new(ChannelState::new()));
    let (identities, upstreams) =
        (BTreeMap::new(), [Arc::new(UpstreamFacts::new(UpstreamId(0), "pay".into(), vec![channel]))]);
    let hasher = KeyHasher::fixed();
    let mut cx = BuildContext {
        name: "guard".into(),
        mode: Mode::Enforce,
        states,
        hasher: &hasher,
        identities: &identities,
        upstreams: &upstreams,
        acquired: Vec::new(),
    };
    spec.build(&mut cx).unwrap()
}

impl World {
    fn guarded(&self) -> Arc<Guarded> {
        self.states.all::<Guarded>().remove(0).1
    }

    fn phase(&self) -> Phase {
        self.guarded().breaker().phase()
    }

    fn changes(&self) -> u64 {
        let mut samples = Vec::new();
        self.states.samples(&mut samples);
        let changes = samples.iter().filter(|sample| sample.name == "tidegate_circuit_transitions_total");
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small count")]
        changes.map(|sample| sample.value as u64).sum()
    }

    /// A request at `now`: let in, or told to come back after a time.
    fn comes(&self, now: u64) -> Result<Running, Duration> {
        let mut cx = RequestContext::new(Nanos(now), IpAddr::V4(Ipv4Addr::LOCALHOST));
        let mut attempt =
            Attempt { number: 1, pinned: false, safe: false, candidates: ChannelSet::all(1), chosen: None };
        if let Verdict::Respond(reply) = self.filter.on_attempt(&mut attempt, &mut cx) {
            return Err(reply.retry_after.unwrap());
        }
        assert!(self.filter.on_chosen(&attempt, ONLY, &mut cx), "nobody else is there to take the place");
        cx.channel = Some(ONLY);
        let probe = cx.held() > 0;
        Ok(Running { cx, began: now, changes: self.changes(), probe })
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn probes_are_bounded_late_results_change_nothing_and_announced_times_are_kept(
        events in events(),
        max_concurrent in 1u32..4,
    ) {
        let states = StateRegistry::new();
        let filter = build(&states, max_concurrent);
        let mut world = World { states, filter };
        let (mut now, mut running) = (0u64, Vec::<Running>::new());
        for event in events {
            let (phase, changes) = (world.phase(), world.changes());
            match event {
                Event::Comes => match world.comes(now) {
                    Ok(request) => running.push(request),
                    Err(wait) => {
                        prop_assert!(phase != Phase::Closed);
                        prop_assert!(!wait.is_zero() && wait <= Duration::from_secs(10));
                        let wait = u64::try_from(wait.as_nanos()).unwrap();
                        if phase == Phase::Open {
                            // A nanosecond earlier it is refused. Looking changes nothing.
                            prop_assert!(world.comes(now + wait - 1).is_err());
                        }
                        now += wait;
                        running.push(world.comes(now).map_err(|_| TestCaseError::fail("refused at the announced time"))?);
                    }
                },
                Event::Ends { which, well } if !running.is_empty() => {
                    let mut request = running.swap_remove(which % running.len());
                    let status = if well { StatusCode::OK } else { StatusCode::BAD_GATEWAY };
                    let end = AttemptEnd {
                        channel: ONLY,
                        result: AttemptResult::Status(status),
                        known: Known::Final,
                        took: Duration::from_millis(1),
                        replayable: false,
                    };
                    request.cx.now = Nanos(now);
                    let _ = world.filter.on_attempt_end(&end, &mut request.cx);
                    if request.changes != changes {
                        prop_assert_eq!((world.phase(), world.changes()), (phase, changes), "a late result counted");
                    }
                }
                Event::Lost { which } if !running.is_empty() => {
                    let at = which % running.len();
                    running.swap_remove(at);
                    prop_assert_eq!((world.phase(), world.changes()), (phase, changes));
                }
                Event::Passes { milliseconds } => now += milliseconds * 1_000_000,
                Event::Reload => {
                    world.filter = build(&world.states, max_concurrent);
                    prop_assert_eq!((world.phase(), world.changes()), (phase, changes), "a reload forgives nothing");
                }
                Event::Ends { .. } | Event::Lost { .. } => (),
            }
            // Those that hang longer than they may have given their places back.
            let alive = running.iter().filter(|request| {
                request.probe && request.changes == world.changes() && now < request.began + 3_000_000_000
            });
            prop_assert!(alive.count() <= max_concurrent as usize);
        }
    }
}
