//! Choices on made-up times.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use super::*;
use crate::channels::{ChannelFacts, ChannelState, Cost};
use crate::engine::{
    AttemptResult, ChainLink, ChannelSet, FilterChain, HeaderPair, KeyHasher, LinkCounters, Mode, Nanos, StateRegistry,
    UpstreamId,
};

const SECOND: u64 = 1_000_000_000;

#[derive(Default)]
struct World {
    states: StateRegistry,
}

fn channel(name: &str) -> ChannelFacts {
    ChannelFacts::open(name.into(), Arc::new(ChannelState::new()))
}

fn weighted(name: &str, weight: u16) -> ChannelFacts {
    ChannelFacts { weight, ..channel(name) }
}

struct Route {
    chain: FilterChain,
    facts: Arc<UpstreamFacts>,
}

impl World {
    fn route(&self, settings: &str, channels: Vec<ChannelFacts>) -> Route {
        let spec: Failover = serde_json::from_str(settings).unwrap();
        let facts = Arc::new(UpstreamFacts::new(UpstreamId(0), "pay".into(), channels));
        let (name, hasher): (Arc<str>, _) = ("pick".into(), KeyHasher::fixed());
        let (identities, upstreams) = (std::collections::BTreeMap::new(), [facts.clone()]);
        let mut cx = BuildContext {
            name: name.clone(),
            mode: Mode::Enforce,
            states: &self.states,
            hasher: &hasher,
            identities: &identities,
            upstreams: &upstreams,
            acquired: Vec::new(),
        };
        let filter = spec.build(&mut cx).unwrap();
        let counters = Arc::new(LinkCounters::new(name.clone()));
        Route { chain: FilterChain::new(vec![ChainLink { filter, name, mode: Mode::Enforce, counters }]), facts }
    }
}

fn context(now: u64) -> RequestContext {
    RequestContext::new(Nanos(now), IpAddr::V4(Ipv4Addr::LOCALHOST))
}

impl Route {
    /// Chooses as the gateway does: what settings rule out first.
    fn choose_from(&self, candidates: ChannelSet, cx: &mut RequestContext) -> Option<u8> {
        let candidates = self.facts.eligible(candidates, cx).channels;
        let mut attempt = Attempt { number: 1, pinned: false, safe: false, candidates, chosen: None };
        assert!(matches!(self.chain.on_attempt(&mut attempt, cx), Verdict::Continue));
        let chosen = attempt.chosen?;
        assert!(self.chain.on_chosen(&attempt, chosen, cx));
        cx.channel = Some(chosen);
        Some(chosen.0)
    }

    fn choose(&self, cx: &mut RequestContext) -> Option<u8> {
        self.choose_from(ChannelSet::all(self.facts.channels.len()), cx)
    }

    fn note(&self, channel: usize, times: usize, status: u16, took: Duration, now: u64) {
        let result = AttemptResult::Status(StatusCode::from_u16(status).unwrap());
        let id = ChannelId(u8::try_from(channel).unwrap());
        let end = AttemptEnd { channel: id, result, known: Known::Final, took, replayable: false };
        (0..times).for_each(|_| self.facts.channels[channel].state.record.note(&end, Nanos(now)));
    }
}

const FAST: Duration = Duration::from_millis(10);

#[test]
fn priority_takes_the_first_in_the_file_and_backups_last() {
    let world = World::default();
    let backup = ChannelFacts { backup: true, ..channel("backup") };
    let route = world.route("{}", vec![backup, channel("a"), channel("b")]);
    assert_eq!(route.choose(&mut context(0)), Some(1));
    assert_eq!(route.choose_from(ChannelSet(0b101), &mut context(0)), Some(2));
    assert_eq!(route.choose_from(ChannelSet(0b001), &mut context(0)), Some(0));
    assert_eq!(route.choose_from(ChannelSet(0), &mut context(0)), None);
}

#[test]
fn weights_are_kept_within_a_percent_and_smoothly_also_over_reloads() {
    let world = World::default();
    let mut chosen = [0u32; 2];
    let mut row = 0;
    for part in 0..10 {
        // A reload every thousand requests, with the channels in another order each time.
        let mut channels = vec![weighted("a", 70), weighted("b", 30)];
        if part % 2 == 1 {
            channels.reverse();
        }
        let route = world.route(r#"{"policy": "weighted"}"#, channels);
        for _ in 0..1_000 {
            let at = usize::from(route.choose(&mut context(0)).unwrap());
            let is_b = &*route.facts.channels[at].name == "b";
            chosen[usize::from(is_b)] += 1;
            row = if is_b { 0 } else { row + 1 };
            assert!(row <= 3, "not smooth");
        }
    }
    assert!((6_900..=7_100).contains(&chosen[0]), "{chosen:?}");
}

#[test]
fn the_share_of_a_channel_that_is_out_goes_to_the_others() {
    let world = World::default();
    let route = world.route(r#"{"policy": "weighted"}"#, vec![weighted("a", 50), weighted("b", 30), weighted("c", 0)]);
    for _ in 0..10 {
        assert_eq!(route.choose_from(ChannelSet(0b110), &mut context(0)), Some(1));
    }
    assert_eq!(route.choose_from(ChannelSet(0b100), &mut context(0)), None, "weight 0 takes nothing new");
}

#[test]
fn score_prefers_success_then_speed_then_cost() {
    let by = r#"{"policy": "score", "score": {"exploration": 0.0}}"#;
    let world = World::default();
    let cheap = ChannelFacts { cost: "0.38%".parse::<Cost>().unwrap(), ..channel("cheap") };
    let dear = ChannelFacts { cost: "0.6%".parse::<Cost>().unwrap(), ..channel("dear") };
    let route = world.route(by, vec![dear, cheap]);
    assert_eq!(route.choose(&mut context(0)), Some(1), "alike but for the cost");
    route.note(1, 100, 200, Duration::from_millis(100), SECOND);
    route.note(0, 100, 200, FAST, SECOND);
    let now = 40 * SECOND;
    let world = World::default();
    let route = Route { chain: world.route(by, Vec::new()).chain, facts: route.facts.clone() };
    assert_eq!(route.choose(&mut context(now)), None, "a filter knows its own upstreams only");
    let world = World::default();
    let fast = world.route(by, vec![channel("slow"), channel("fast")]);
    fast.note(0, 100, 200, Duration::from_millis(100), now);
    fast.note(1, 100, 200, FAST, now);
    assert_eq!(fast.choose(&mut context(now)), Some(1));
    let world = World::default();
    let sure = world.route(by, vec![channel("fast"), channel("sure")]);
    sure.note(0, 90, 200, FAST, now);
    sure.note(0, 10, 500, FAST, now);
    sure.note(1, 100, 200, Duration::from_secs(1), now);
    assert_eq!(sure.choose(&mut context(now)), Some(1));
}

#[test]
fn few_samples_count_as_the_default_says() {
    let world = World::default();
    let by = r#"{"policy": "score", "score": {"exploration": 0.0, "default_success_rate": 0.99}}"#;
    let route = world.route(by, vec![channel("known"), channel("new")]);
    route.note(0, 100, 200, FAST, 0);
    route.note(1, 19, 500, FAST, 0);
    assert_eq!(route.choose(&mut context(0)), Some(1), "19 outcomes say nothing yet");
    let world = World::default();
    let route = world.route(by, vec![channel("known"), channel("new")]);
    route.note(0, 100, 200, FAST, 0);
    route.note(1, 20, 500, FAST, 0);
    assert_eq!(route.choose(&mut context(0)), Some(0));
}

#[test]
fn another_leads_only_after_it_was_better_for_a_while() {
    let world = World::default();
    let by = r#"{"policy": "score", "score": {"exploration": 0.0}}"#;
    let route = world.route(by, vec![channel("a"), channel("b")]);
    assert_eq!(route.choose(&mut context(0)), Some(0));
    route.note(0, 200, 500, FAST, SECOND);
    assert_eq!(route.choose(&mut context(SECOND)), Some(0));
    assert_eq!(route.choose(&mut context(31 * SECOND - 1)), Some(0));
    assert_eq!(route.choose(&mut context(31 * SECOND)), Some(1));
    assert_eq!(route.choose_from(ChannelSet(1), &mut context(31 * SECOND)), Some(0), "who is out does not lead");
}

#[test]
fn one_request_in_twenty_learns_about_another_channel() {
    let world = World::default();
    let route = world.route(r#"{"policy": "score"}"#, vec![channel("a"), channel("b"), channel("c")]);
    let mut chosen = [0u32; 3];
    for number in 0..1_000 {
        let now = number * SECOND / 5;
        let at = usize::from(route.choose(&mut context(now)).unwrap());
        chosen[at] += 1;
        route.note(at, 1, 200, FAST, now);
    }
    assert_eq!(chosen[0], 950, "{chosen:?}");
    assert!(chosen[1].abs_diff(chosen[2]) <= 1, "{chosen:?}");
}

#[test]
fn another_channel_is_asked_for_only_when_nothing_was_done_and_twice_at_most() {
    let world = World::default();
    let route = world.route("{}", vec![channel("a"), channel("b"), channel("c"), channel("d")]);
    let mut cx = context(0);
    let mut left = ChannelSet::all(4);
    let mut end = |known, expected, cx: &mut RequestContext| {
        let id = ChannelId(route.choose_from(left, cx).unwrap());
        left.remove(id);
        let end = AttemptEnd { channel: id, result: AttemptResult::ConnectFailed, known, took: FAST, replayable: true };
        assert_eq!(route.chain.on_attempt_end(&end, cx), expected);
    };
    end(Known::NotSent, Retry::Again, &mut cx);
    end(Known::NotProcessed, Retry::Again, &mut cx);
    end(Known::NotSent, Retry::Never, &mut cx);
    for known in [Known::Unknown, Known::Final] {
        let mut cx = context(0);
        let id = ChannelId(route.choose(&mut cx).unwrap());
        let result = AttemptResult::TimedOut;
        let end = AttemptEnd { channel: id, result, known, took: FAST, replayable: true };
        assert_eq!(route.chain.on_attempt_end(&end, &mut cx), Retry::NoOpinion);
    }
}

fn pay<'a>(headers: &'a [HeaderPair<'a>]) -> RequestHead<'a> {
    RequestHead { method: "POST", target: "/pay", path: "/pay", host: "pay", secure: false, headers }
}

#[test]
fn type_and_amount_come_from_headers_or_the_body_and_rule_channels_out() {
    let world = World::default();
    let channels = || {
        vec![
            ChannelFacts { types: Box::new(["alipay".into()]), ..channel("alipay") },
            ChannelFacts { amount: Some((100, 5_000)), ..channel("small") },
            channel("any"),
        ]
    };
    let route = world.route("{}", channels());
    let chosen = |route: &Route, kind: &str, amount: &str, body: &str| {
        let headers = [(&b"payment-type"[..], kind.as_bytes()), (b"payment-amount", amount.as_bytes())];
        let mut cx = context(0);
        cx.body = Some(Bytes::copy_from_slice(body.as_bytes())).filter(|body| !body.is_empty());
        let headers: &[HeaderPair<'_>] = if body.is_empty() { &headers } else { &[] };
        assert!(matches!(route.chain.on_request(&pay(headers), &mut cx), Decision::Continue));
        route.choose(&mut cx)
    };
    assert_eq!(chosen(&route, "alipay", "100", ""), Some(0));
    assert_eq!(chosen(&route, "wechat", "5000", ""), Some(1));
    assert_eq!(chosen(&route, "wechat", "5001", ""), Some(2));
    assert_eq!(chosen(&route, "wechat", "99", ""), Some(2));
    assert_eq!(route.choose(&mut context(0)), Some(0), "what is not known rules nobody out");
    let by_body = world.route(r#"{"type": {"json": "/pay/type"}, "amount": {"json": "/pay/amount"}}"#, channels());
    assert_eq!(chosen(&by_body, "", "", r#"{"pay": {"type": "wechat", "amount": 7000}}"#), Some(2));
    assert_eq!(chosen(&by_body, "", "", r#"{"pay": {"type": "alipay", "amount": "7000"}}"#), Some(0));
    assert_eq!(chosen(&by_body, "", "", "no JSON"), Some(0));
}

#[test]
fn every_channel_is_explained_once() {
    let world = World::default();
    let channels = vec![
        ChannelFacts { enabled: false, ..channel("off") },
        weighted("a", 70),
        weighted("b", 30),
        ChannelFacts { backup: true, ..channel("backup") },
    ];
    let route = world.route(r#"{"policy": "weighted"}"#, channels);
    let mut cx = context(0);
    cx.explain = true;
    assert_eq!(route.choose(&mut cx), Some(1));
    let mut lines: Vec<_> = cx.considered.iter().map(|line| (line.channel.0, line.eligible, line.why)).collect();
    lines.sort_unstable();
    let expected = [
        (0, false, "disabled"),
        (1, true, "chosen: its turn by weight"),
        (2, true, "could have been chosen"),
        (3, true, "a backup, and others can be used"),
    ];
    assert_eq!(lines, expected);
    let mut silent = context(0);
    route.choose(&mut silent);
    assert!(silent.considered.is_empty());
}

#[test]
fn nonsense_is_refused_with_its_place() {
    let nonsense = [
        ("max_changes", r#"{"max_changes": 4}"#),
        ("type", r#"{"type": {"header": "a", "json": "/a"}}"#),
        ("type.header", r#"{"type": {"header": "a b"}}"#),
        ("amount", r#"{"amount": {}}"#),
        ("amount.json", r#"{"amount": {"json": "a"}}"#),
        ("score.exploration", r#"{"score": {"exploration": 0.6}}"#),
        ("score.min_samples", r#"{"score": {"min_samples": 0}}"#),
        ("score.default_success_rate", r#"{"score": {"default_success_rate": 1.1}}"#),
    ];
    for (path, text) in nonsense {
        let spec: Failover = serde_json::from_str(text).unwrap();
        let mut problems = Problems::default();
        spec.check(&CheckContext { identities: &[], stores: &[], durable: &[] }, &mut problems);
        let paths: Vec<_> = problems.0.iter().map(|problem| problem.path.as_str()).collect();
        assert_eq!(paths, [path], "{text}");
    }
}
