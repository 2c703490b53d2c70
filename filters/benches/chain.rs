//! What a chain costs: eight filters that do nothing, the shipped limits with their headers, and the choice of a channel.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use http::StatusCode;
use tidegate_filters::channels::{ChannelFacts, ChannelState, UpstreamFacts};
use tidegate_filters::circuit_breaker::CircuitBreaker;
use tidegate_filters::engine::{
    Attempt, AttemptEnd, AttemptResult, BuildContext, ChainLink, ChannelId, ChannelSet, Decision, Filter, FilterChain,
    FilterSpec, Identity, IdentityId, KeyHasher, Known, LinkCounters, Mode, Nanos, RequestContext, RequestHead, Stages,
    StateRegistry, UpstreamId, Verdict,
};
use tidegate_filters::failover::Failover;
use tidegate_filters::headers::Headers;
use tidegate_filters::rate_limit::RateLimit;

struct Nothing;

impl Filter for Nothing {
    fn stages(&self) -> Stages {
        Stages::REQUEST
    }
    fn on_request(&self, _: &RequestHead<'_>, cx: &mut RequestContext) -> Decision {
        black_box(cx.now);
        Decision::Continue
    }
}

/// A gateway's surroundings.
struct World {
    states: StateRegistry,
    hasher: KeyHasher,
    identities: BTreeMap<String, IdentityId>,
    known: Vec<(IdentityId, Identity)>,
    upstreams: [Arc<UpstreamFacts>; 1],
}

impl World {
    fn new() -> Self {
        let names = [("client", 0), ("route", 1), ("global", 2), ("user", 3)];
        let hasher = KeyHasher::fixed();
        let known = names.map(|(name, id)| (IdentityId(id), Identity::new(&hasher, IdentityId(id), name)));
        let identities = names.map(|(name, id)| (name.to_owned(), IdentityId(id))).into();
        let channel = |name: &str, weight| {
            let state = Arc::new(ChannelState::new());
            ChannelFacts { weight, ..ChannelFacts::open(name.into(), state) }
        };
        let backup = ChannelFacts { backup: true, ..channel("union", 1) };
        let channels = vec![channel("alipay", 70), channel("wechat", 30), backup];
        let upstreams = [Arc::new(UpstreamFacts::new(UpstreamId(0), "pay".into(), channels))];
        Self { states: StateRegistry::new(), hasher, identities, known: known.into(), upstreams }
    }

    fn link(&self, name: &str, spec: &dyn FilterSpec) -> ChainLink {
        let name: Arc<str> = name.into();
        let mut cx = BuildContext {
            name: name.clone(),
            mode: Mode::Enforce,
            states: &self.states,
            hasher: &self.hasher,
            identities: &self.identities,
            upstreams: &self.upstreams,
            acquired: Vec::new(),
        };
        let filter = spec.build(&mut cx).unwrap();
        ChainLink { filter, counters: Arc::new(LinkCounters::new(name.clone())), name, mode: Mode::Enforce }
    }

    fn context(&self, now: u64) -> RequestContext {
        let mut cx = RequestContext::new(Nanos(now), IpAddr::V4(Ipv4Addr::LOCALHOST));
        self.known.iter().for_each(|(id, identity)| cx.set_identity(*id, identity.clone()));
        cx
    }

    fn run(&self, c: &mut Criterion, name: &str, chain: &FilterChain, step: u64) {
        let head = RequestHead { method: "GET", target: "/", path: "/", host: "shop", secure: false, headers: &[] };
        let mut now = 0;
        c.bench_function(name, |b| {
            b.iter(|| {
                now += step;
                let mut cx = self.context(now);
                black_box(matches!(chain.on_request(&head, &mut cx), Decision::Continue))
            });
        });
    }
}

impl World {
    /// A try from the choice of its channel to its end, well.
    fn attempt(&self, c: &mut Criterion, name: &str, chain: &FilterChain) {
        let facts = &self.upstreams[0];
        let mut now = 0;
        c.bench_function(name, |b| {
            b.iter(|| {
                now += 1_000_000;
                let mut cx = self.context(now);
                let candidates = facts.eligible(ChannelSet::all(3), &mut cx).channels;
                let mut attempt = Attempt { number: 1, pinned: false, safe: false, candidates, chosen: None };
                assert!(matches!(chain.on_attempt(&mut attempt, &mut cx), Verdict::Continue));
                let channel = attempt.chosen.unwrap_or(ChannelId(0));
                assert!(chain.on_chosen(&attempt, channel, &mut cx));
                let end = AttemptEnd {
                    channel,
                    result: AttemptResult::Status(StatusCode::OK),
                    known: Known::Final,
                    took: Duration::from_millis(5),
                    replayable: false,
                };
                facts.channels[usize::from(channel.0)].state.record.note(&end, cx.now);
                black_box(chain.on_attempt_end(&end, &mut cx))
            });
        });
    }
}

fn channels(c: &mut Criterion) {
    let world = World::new();
    let guard: CircuitBreaker = serde_json::from_value(serde_json::json!({})).unwrap();
    let weighted: Failover = serde_json::from_value(serde_json::json!({ "policy": "weighted" })).unwrap();
    let score: Failover = serde_json::from_value(serde_json::json!({ "policy": "score" })).unwrap();
    let (guard, weighted, score) =
        (world.link("guard", &guard), world.link("pick", &weighted), world.link("best", &score));
    world.attempt(c, "attempt/context and record alone", &FilterChain::new(Vec::new()));
    world.attempt(c, "attempt/closed breakers before three channels", &FilterChain::new(vec![guard.clone()]));
    world.attempt(c, "attempt/breakers and weights", &FilterChain::new(vec![guard.clone(), weighted]));
    world.attempt(c, "attempt/breakers and scores", &FilterChain::new(vec![guard, score]));
}

fn settings(json: serde_json::Value) -> RateLimit {
    serde_json::from_value(json).unwrap()
}

fn chain(c: &mut Criterion) {
    let world = World::new();
    let nothing = |number: u32| {
        let name: Arc<str> = format!("nothing{number}").into();
        let counters = Arc::new(LinkCounters::new(name.clone()));
        ChainLink { filter: Arc::new(Nothing), name, mode: Mode::Enforce, counters }
    };
    world.run(c, "chain/the context alone", &FilterChain::new(Vec::new()), 1);
    world.run(c, "chain/8 filters that do nothing", &FilterChain::new((0..8).map(nothing).collect()), 1);

    // Seven seconds a step: the user's bucket never runs dry. One nanosecond: it is dry after a hundred.
    let limits = world.link("limits", &settings(serde_json::json!({})));
    world.run(c, "chain/shipped limits, passed", &FilterChain::new(vec![limits.clone()]), 7_000_000_000);
    world.run(c, "chain/shipped limits, refused", &FilterChain::new(vec![limits.clone()]), 1);
    let silent = world.link("silent", &settings(serde_json::json!({ "headers": "none" })));
    world.run(c, "chain/shipped limits without headers, passed", &FilterChain::new(vec![silent]), 7_000_000_000);
    let tiers = serde_json::json!({
        "policies": [{ "name": "user", "key": "user", "rate": "100/10m" }],
        "overrides": [{ "match": "identity.user == 'vip'", "rate": "1000/10m" }],
    });
    let native = world.link("native", &settings(tiers.clone()));
    world.run(c, "chain/one policy with a native override", &FilterChain::new(vec![native]), 7_000_000_000);
    let mut tiers = tiers;
    tiers["overrides"][0]["match"] = "size(identity.user) > 9".into();
    let interpreted = world.link("interpreted", &settings(tiers));
    world.run(c, "chain/one policy with an interpreted override", &FilterChain::new(vec![interpreted]), 7_000_000_000);

    let edits: Headers = serde_json::from_value(serde_json::json!({ "response": { "set": { "x-a": "1" } } })).unwrap();
    let edits = world.link("edits", &edits);
    let mut eight: Vec<ChainLink> = (0..6).map(nothing).collect();
    eight.insert(0, limits);
    eight.push(edits);
    world.run(
        c,
        "chain/8 filters: shipped limits, 6 that do nothing, headers",
        &FilterChain::new(eight),
        7_000_000_000,
    );
}

criterion_group!(benches, chain, channels);
criterion_main!(benches);
