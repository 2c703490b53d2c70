//! What `rate_limit` promises, on made-up times.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use serde_json::json;

use super::*;
use crate::engine::{
    BuildContext, ChainLink, CheckContext, FilterChain, FilterSpec, HeaderPair, LinkCounters, Mode, Nanos, Problems,
    Reply, State, StateRegistry,
};

const SECOND: u64 = 1_000_000_000;
const USER: IdentityId = IdentityId(3);

/// A gateway's memory, which reloads share.
struct World {
    states: StateRegistry,
    hasher: KeyHasher,
    identities: BTreeMap<String, IdentityId>,
}

impl World {
    fn new() -> Self {
        let names = [("client", 0), ("route", 1), ("global", 2), ("user", 3), ("merchant", 4)];
        let identities = names.into_iter().map(|(name, id)| (name.to_owned(), IdentityId(id))).collect();
        Self { states: StateRegistry::new(), hasher: KeyHasher::fixed(), identities }
    }

    fn load(&self, mode: Mode, settings: serde_json::Value) -> FilterChain {
        let spec: RateLimit = serde_json::from_value(settings).unwrap();
        let (name, states, hasher, identities): (Arc<str>, _, _, _) =
            ("limits".into(), &self.states, &self.hasher, &self.identities);
        let mut cx = BuildContext { name: name.clone(), mode, states, hasher, identities, acquired: Vec::new() };
        let filter = spec.build(&mut cx).unwrap();
        filter.activate();
        let counters = Arc::new(LinkCounters::new(name.clone()));
        FilterChain::new(vec![ChainLink { filter, name, mode, counters }])
    }

    fn chain(&self, settings: serde_json::Value) -> FilterChain {
        self.load(Mode::Enforce, settings)
    }

    fn context(&self, user: Option<&str>, now: u64) -> RequestContext {
        let mut cx = RequestContext::new(Nanos(now), IpAddr::V4(Ipv4Addr::LOCALHOST));
        let mut set = |id, text: &str| cx.set_identity(id, Identity::new(&self.hasher, id, text));
        set(IdentityId::CLIENT, "127.0.0.1");
        set(IdentityId::ROUTE, "pay");
        set(IdentityId::GLOBAL, "");
        user.into_iter().for_each(|user| set(USER, user));
        cx
    }

    fn buckets(&self, policy: &str) -> Arc<Buckets> {
        let all = self.states.all::<Buckets>();
        all.into_iter().find(|(_, buckets)| buckets.policy() == policy).unwrap().1
    }

    fn problems(&self, settings: serde_json::Value) -> Vec<(String, String)> {
        let spec: RateLimit = serde_json::from_value(settings).unwrap();
        let identities: Vec<String> = self.identities.keys().cloned().collect();
        let mut problems = Problems::default();
        spec.check(&CheckContext { identities: &identities, stores: &[] }, &mut problems);
        problems.0.into_iter().map(|problem| (problem.path, problem.message)).collect()
    }
}

fn head<'a>(path: &'a str, headers: &'a [HeaderPair<'a>]) -> RequestHead<'a> {
    RequestHead { method: "POST", target: path, path, host: "shop", secure: false, headers }
}

fn ask(chain: &FilterChain, cx: &mut RequestContext) -> Option<Box<Reply>> {
    ask_with(chain, &head("/", &[]), cx)
}

fn ask_with(chain: &FilterChain, head: &RequestHead<'_>, cx: &mut RequestContext) -> Option<Box<Reply>> {
    match chain.on_request(head, cx) {
        Decision::Continue => None,
        Decision::Respond(reply) => Some(reply),
        Decision::Wait(_) | Decision::NeedBody { .. } => panic!("a limit neither waits nor reads"),
    }
}

fn one(key: &str, rate: &str) -> serde_json::Value {
    json!({ "policies": [{ "name": key, "key": key, "rate": rate }] })
}

fn edits(cx: &RequestContext) -> Vec<String> {
    let text = |edit: &HeaderEdit| match edit {
        HeaderEdit::Set(name, value) => format!("{name}: {}", value.to_str().unwrap()),
        other => panic!("limits only set headers, not {other:?}"),
    };
    cx.to_client.iter().map(text).collect()
}

#[test]
fn a_fresh_user_has_the_burst_at_once_and_then_one_unit_an_interval() {
    let world = World::new();
    let chain = world.chain(one("user", "100/10m"));
    for _ in 0..100 {
        assert!(ask(&chain, &mut world.context(Some("ann"), 0)).is_none());
    }
    let reply = ask(&chain, &mut world.context(Some("ann"), 0)).unwrap();
    assert_eq!((reply.status, reply.code()), (StatusCode::TOO_MANY_REQUESTS, Some("quota-exceeded")));
    assert_eq!(reply.retry_after, Some(Duration::from_secs(6)));
    assert!(ask(&chain, &mut world.context(Some("ann"), 6 * SECOND - 1)).is_some());
    assert!(ask(&chain, &mut world.context(Some("ann"), 6 * SECOND)).is_none());
    assert!(ask(&chain, &mut world.context(Some("ann"), 6 * SECOND)).is_some());
    assert!(ask(&chain, &mut world.context(Some("bob"), 6 * SECOND)).is_none(), "others are not touched");
}

#[test]
fn a_fresh_key_lets_exactly_the_burst_of_many_instant_requests_pass() {
    let world = World::new();
    let chain = world.chain(one("user", "600/m"));
    let passed = (0..2_000).filter(|_| ask(&chain, &mut world.context(Some("ann"), 5)).is_none()).count();
    assert_eq!(passed, 600);
}

#[test]
fn refusals_cost_nothing_and_do_not_move_the_announced_time() {
    let world = World::new();
    let chain = world.chain(one("user", "1/s"));
    assert!(ask(&chain, &mut world.context(Some("ann"), 0)).is_none());
    for now in (0..SECOND).step_by(1_000_000) {
        let reply = ask(&chain, &mut world.context(Some("ann"), now)).unwrap();
        assert_eq!(reply.retry_after, Some(Duration::from_nanos(SECOND - now)));
    }
    assert!(ask(&chain, &mut world.context(Some("ann"), SECOND)).is_none());
}

#[test]
fn refusals_that_count_keep_a_hammering_client_out_and_let_a_patient_one_in() {
    let world = World::new();
    let mut settings = one("user", "1/s");
    settings["count_rejected"] = json!(true);
    let chain = world.chain(settings);
    assert!(ask(&chain, &mut world.context(Some("ann"), 0)).is_none());
    for tenth in 1..100 {
        let reply = ask(&chain, &mut world.context(Some("ann"), tenth * SECOND / 10)).unwrap();
        assert!(reply.retry_after.unwrap() <= Duration::from_secs(2), "the wait stays bounded");
    }
    let last = ask(&chain, &mut world.context(Some("ann"), 10 * SECOND)).unwrap().retry_after.unwrap();
    assert!(ask(&chain, &mut world.context(Some("ann"), 10 * SECOND + last.as_nanos() as u64)).is_none());
}

fn three_tiers() -> serde_json::Value {
    json!({ "policies": [
        { "name": "user", "key": "user", "rate": "5/m" },
        { "name": "api", "key": "route", "rate": "100/s" },
        { "name": "system", "key": "global", "rate": "8/m" },
    ]})
}

#[test]
fn a_refusal_by_one_policy_leaves_every_other_bucket_untouched() {
    let world = World::new();
    let chain = world.chain(three_tiers());
    let spend = |user: &str, times: usize| -> Vec<bool> {
        (0..times).map(|_| ask(&chain, &mut world.context(Some(user), 0)).is_none()).collect()
    };
    assert_eq!(spend("ann", 7), [true, true, true, true, true, false, false]);
    let left = |policy: &str, text: &str| {
        let buckets = world.buckets(policy);
        let key = buckets.rule().key(&world.hasher, text);
        buckets.peek(key, Nanos(0)).map(|view| view.remaining)
    };
    assert_eq!((left("api", "pay"), left("system", "")), (Some(95), Some(3)));
    assert_eq!(spend("bob", 4), [true, true, true, false]);
    assert_eq!((left("user", "bob"), left("api", "pay"), left("system", "")), (Some(2), Some(92), Some(0)));
    assert_eq!(spend("new", 1), [false]);
    assert_eq!(left("user", "new"), None, "a refused stranger is not even remembered");
    assert_eq!(world.buckets("user").keys(), 2);
}

#[test]
fn a_shared_limit_answers_503_without_figures_and_names_the_policy_in_the_log() {
    let world = World::new();
    let chain = world.chain(three_tiers());
    for user in 0..8 {
        assert!(ask(&chain, &mut world.context(Some(&user.to_string()), 0)).is_none());
    }
    let mut cx = world.context(Some("late"), 0);
    let reply = ask(&chain, &mut cx).unwrap();
    assert_eq!((reply.status, reply.code()), (StatusCode::SERVICE_UNAVAILABLE, Some("temporary-reduced-capacity")));
    assert_eq!(reply.retry_after, Some(Duration::from_nanos(7_500_000_000)));
    assert!(reply.headers.is_empty() && cx.to_client.is_empty());
    assert_eq!(cx.decider.and_then(|decider| decider.part).as_deref(), Some("system"));
}

#[test]
fn the_announced_wait_is_that_of_the_slowest_policy() {
    let world = World::new();
    let chain = world.chain(json!({ "policies": [
        { "name": "quick", "key": "user", "rate": "1/s" },
        { "name": "slow", "key": "client", "rate": "1/m" },
    ]}));
    assert!(ask(&chain, &mut world.context(Some("ann"), 0)).is_none());
    let mut cx = world.context(Some("ann"), 0);
    assert_eq!(ask(&chain, &mut cx).unwrap().retry_after, Some(Duration::from_secs(60)));
    assert_eq!(cx.decider.and_then(|decider| decider.part).as_deref(), Some("quick"));
    assert!(ask(&chain, &mut world.context(Some("ann"), 60 * SECOND)).is_none());
}

#[test]
fn a_passing_response_tells_a_client_its_own_limits_only() {
    let world = World::new();
    let chain = world.chain(json!({}));
    let mut cx = world.context(Some("ann"), 0);
    assert!(ask(&chain, &mut cx).is_none());
    assert_eq!(edits(&cx), ["ratelimit-policy: \"user\";q=100;w=600", "ratelimit: \"user\";r=99;t=6"]);
    let mut cx = world.context(Some("ann"), 5 * SECOND / 2);
    assert!(ask(&chain, &mut cx).is_none());
    assert_eq!(edits(&cx)[1], "ratelimit: \"user\";r=98;t=4");
}

#[test]
fn a_refusal_tells_the_limit_that_refused() {
    let world = World::new();
    let mut settings = one("client", "1/m");
    settings["headers"] = json!("both");
    let chain = world.chain(settings);
    ask(&chain, &mut world.context(None, 0));
    let reply = ask(&chain, &mut world.context(None, SECOND / 2)).unwrap();
    let told: Vec<_> =
        reply.headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
    assert_eq!(
        told,
        [
            "ratelimit-policy: \"client\";q=1;w=60",
            "ratelimit: \"client\";r=0;t=60",
            "x-ratelimit-limit: 1",
            "x-ratelimit-remaining: 0",
            "x-ratelimit-reset: 60",
        ]
    );
}

#[test]
fn headers_can_be_legacy_or_none_and_a_window_changes_only_what_is_told() {
    let world = World::new();
    let told = |style: &str, policy: serde_json::Value| {
        let chain = World::new().chain(json!({ "headers": style, "policies": [policy] }));
        let mut cx = world.context(Some("ann"), 0);
        assert!(ask(&chain, &mut cx).is_none());
        edits(&cx)
    };
    let plain = json!({ "name": "user", "key": "user", "rate": "10/s" });
    assert_eq!(told("none", plain.clone()), Vec::<String>::new());
    let legacy = ["x-ratelimit-limit: 10", "x-ratelimit-remaining: 9", "x-ratelimit-reset: 1"];
    assert_eq!(told("legacy", plain), legacy);
    let windowed = json!({ "name": "user", "key": "user", "rate": "10/s", "burst": 50, "window": "1m" });
    assert_eq!(told("draft10", windowed)[0], "ratelimit-policy: \"user\";q=600;w=60");
    let short = json!({ "name": "user", "key": "user", "rate": "10/100ms" });
    assert_eq!(told("draft10", short)[0], "ratelimit-policy: \"user\";q=100;w=1");
}

#[test]
fn a_shadow_changes_nothing_and_counts_the_same() {
    let counted = |mode: Mode| {
        let world = World::new();
        let chain = world.load(mode, one("user", "2/m"));
        for _ in 0..5 {
            let mut cx = world.context(Some("ann"), 0);
            let refused = ask(&chain, &mut cx).is_some();
            assert!(mode == Mode::Enforce || (!refused && cx.to_client.is_empty() && cx.decider.is_none()));
        }
        let mut samples = Vec::new();
        world.buckets("user").samples(&mut samples);
        let of = |outcome: &str| {
            let labels = [("filter", "limits"), ("policy", "user"), ("outcome", outcome), ("mode", mode.as_str())];
            let labels: Vec<_> = labels.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
            let found = samples.iter().find(|s| s.name == "tidegate_filter_decisions_total" && s.labels == labels);
            found.map(|sample| sample.value)
        };
        (of("allow"), of("reject"))
    };
    assert_eq!(counted(Mode::Enforce), (Some(2.0), Some(3.0)));
    assert_eq!(counted(Mode::Shadow), (Some(2.0), Some(3.0)));
}

#[test]
fn a_request_without_the_key_falls_back_to_its_address() {
    let world = World::new();
    let chain = world.chain(one("user", "2/m"));
    let other = |address: &str| {
        let mut cx = world.context(None, 0);
        cx.set_identity(IdentityId::CLIENT, Identity::new(&world.hasher, IdentityId::CLIENT, address));
        ask(&chain, &mut cx).is_none()
    };
    assert_eq!([other("a"), other("a"), other("a"), other("b")], [true, true, false, true]);
}

#[test]
fn a_request_without_the_key_is_denied_shared_or_skipped_as_the_file_says() {
    let world = World::new();
    let ask_all = |setting: &str| {
        let mut settings = one("user", "1/m");
        settings["missing_key"] = json!(setting);
        let chain = World::new().chain(settings);
        let answers = ["a", "b"].map(|address| {
            let mut cx = world.context(None, 0);
            cx.set_identity(IdentityId::CLIENT, Identity::new(&world.hasher, IdentityId::CLIENT, address));
            ask(&chain, &mut cx).map(|reply| (reply.status.as_u16(), reply.code().unwrap()))
        });
        answers
    };
    assert_eq!(ask_all("deny"), [Some((400, "bad-request")), Some((400, "bad-request"))]);
    assert_eq!(ask_all("shared"), [None, Some((429, "quota-exceeded"))]);
    assert_eq!(ask_all("skip"), [None, None]);
}

#[test]
fn a_denied_request_without_a_key_charges_no_other_policy() {
    let world = World::new();
    let mut settings = three_tiers();
    settings["policies"].as_array_mut().unwrap().rotate_left(1);
    settings["missing_key"] = json!("deny");
    let chain = world.chain(settings);
    let mut cx = world.context(None, 0);
    assert!(ask(&chain, &mut cx).is_some());
    assert_eq!(cx.decider.and_then(|decider| decider.part).as_deref(), Some("user"));
    assert_eq!(world.buckets("api").keys(), 0);
}

#[test]
fn a_header_can_be_the_key_and_an_empty_one_is_missing() {
    let world = World::new();
    let chain = world.chain(json!({
        "missing_key": "deny",
        "policies": [{ "name": "key", "key": { "header": "X-Api-Key" }, "rate": "1/m" }],
    }));
    let with = |value: &'static [u8]| {
        let headers: [HeaderPair<'_>; 1] = [(b"x-api-key", value)];
        ask_with(&chain, &head("/", &headers), &mut world.context(None, 0)).map(|reply| reply.status.as_u16())
    };
    assert_eq!([with(b"one"), with(b"one"), with(b"two"), with(b"")], [None, Some(429), None, Some(400)]);
}

#[test]
fn the_first_override_that_matches_gives_the_limit_of_its_policy() {
    let world = World::new();
    let chain = world.chain(json!({
        "policies": [
            { "name": "user", "key": "user", "rate": "1/m" },
            { "name": "system", "key": "global", "rate": "1000/s" },
        ],
        "overrides": [
            { "match": "identity.user == 'vip'", "policy": "user", "rate": "3/m" },
            { "match": "identity.user in ['vip', 'big']", "policy": "user", "rate": "2/m" },
            { "match": "size(request.path) > 4", "policy": "user", "rate": "4/m" },
        ],
    }));
    let passed = |user: &str, path: &str| {
        (0..9).filter(|_| ask_with(&chain, &head(path, &[]), &mut world.context(Some(user), 0)).is_none()).count()
    };
    assert_eq!([passed("vip", "/"), passed("big", "/"), passed("ann", "/")], [3, 2, 1]);
    assert_eq!(passed("bob", "/long/path"), 4);
    let mut cx = world.context(Some("vip"), 60 * SECOND);
    ask(&chain, &mut cx);
    assert_eq!(edits(&cx)[0], "ratelimit-policy: \"user\";q=3;w=60", "the client is told its own limit");
}

#[test]
fn an_override_without_a_policy_is_fine_where_there_is_one() {
    let world = World::new();
    let chain = world.chain(json!({
        "policies": [{ "name": "user", "key": "user", "rate": "1/m" }],
        "overrides": [{ "match": "request.headers['x-tier'] == 'gold'", "rate": "2/m" }],
    }));
    let headers: [HeaderPair<'_>; 1] = [(b"X-Tier", b"gold")];
    let gold = (0..5).filter(|_| ask_with(&chain, &head("/", &headers), &mut world.context(Some("ann"), 0)).is_none());
    assert_eq!(gold.count(), 2);
}

#[test]
fn a_reload_that_changes_nothing_forgets_nothing() {
    let world = World::new();
    let settings = one("user", "2/m");
    let old = world.chain(settings.clone());
    ask(&old, &mut world.context(Some("ann"), 0));
    let new = world.chain(settings);
    assert!(ask(&new, &mut world.context(Some("ann"), 0)).is_none());
    assert!(ask(&new, &mut world.context(Some("ann"), 0)).is_some());
}

#[test]
fn a_reload_with_another_rate_keeps_the_share_that_is_missing() {
    for (key, text) in [("user", "ann"), ("global", "")] {
        let world = World::new();
        let chain = world.chain(one(key, "100/10m"));
        for _ in 0..60 {
            ask(&chain, &mut world.context(Some("ann"), 0));
        }
        world.chain(one(key, "1000/m"));
        let buckets = world.buckets(key);
        let at = buckets.rule().key(&world.hasher, text);
        let view = buckets.peek(at, Nanos(0)).unwrap();
        assert_eq!((view.remaining, view.burst, view.full_at), (400, 1_000, Nanos(36 * SECOND)));
        world.chain(one(key, "10/s"));
        assert_eq!(buckets.peek(at, Nanos(0)).unwrap().remaining, 4);
    }
}

#[test]
fn a_request_of_the_old_snapshot_neither_refills_nor_breaks_a_bucket() {
    let world = World::new();
    let overridden = |rate: &str| {
        json!({
            "policies": [{ "name": "user", "key": "user", "rate": rate }],
            "overrides": [{ "match": "true", "rate": rate }],
        })
    };
    let old = world.chain(overridden("10/m"));
    let new = world.chain(one("user", "4/m"));
    let chains = [&old, &new];
    let passed = (0..20).filter(|i| ask(chains[i % 2], &mut world.context(Some("ann"), 0)).is_none()).count();
    assert_eq!(passed, 4);
}

#[test]
fn another_key_rule_starts_empty_and_another_name_has_its_own_memory() {
    let world = World::new();
    let by = |key: &str| json!({ "policies": [{ "name": "p", "key": key, "rate": "1/m" }] });
    let chain = world.chain(by("user"));
    ask(&chain, &mut world.context(Some("ann"), 0));
    assert!(ask(&chain, &mut world.context(Some("ann"), 0)).is_some());
    assert!(ask(&world.chain(by("client")), &mut world.context(Some("ann"), 0)).is_none());
    assert!(ask(&world.chain(by("user")), &mut world.context(Some("ann"), 0)).is_some(), "and back again");
}

#[test]
fn at_the_cap_refilled_keys_make_room_and_new_ones_share_a_bucket_until_then() {
    let world = World::new();
    let mut settings = one("user", "2/m");
    settings["max_keys"] = json!(3);
    let chain = world.chain(settings);
    let pass = |user: &str, now| ask(&chain, &mut world.context(Some(user), now)).is_none();
    assert!(["a", "b", "c"].into_iter().all(|user| pass(user, 0)));
    assert!(pass("a", 0) && !pass("a", 0), "a is at its limit");
    assert_eq!([pass("d", 0), pass("e", 0), pass("f", 0)], [true, true, false], "d, e and f share one bucket");
    assert!(!pass("a", 0), "and nobody forgot a");
    assert_eq!(world.buckets("user").keys(), 3);
    assert!(pass("g", 31 * SECOND) && pass("g", 31 * SECOND), "b has refilled, so g has a bucket of its own");
    assert_eq!(world.buckets("user").keys(), 3);
}

#[test]
fn a_sweep_forgets_what_has_refilled_and_nothing_else() {
    let world = World::new();
    let chain = world.chain(one("user", "2/m"));
    ask(&chain, &mut world.context(Some("ann"), 0));
    ask(&chain, &mut world.context(Some("ann"), 0));
    ask(&chain, &mut world.context(Some("bob"), 0));
    let buckets = world.buckets("user");
    assert_eq!((buckets.sweep(Nanos(30 * SECOND)), buckets.keys()), (1, 1));
    assert_eq!(buckets.sweep(Nanos(60 * SECOND)), 0);
    assert!(ask(&chain, &mut world.context(Some("ann"), 0)).is_some(), "not even by a clock that goes back");
}

#[test]
fn an_operator_sees_a_bucket_and_can_forget_it() {
    let world = World::new();
    let chain = world.chain(one("user", "2/m"));
    let buckets = world.buckets("user");
    let key = buckets.rule().key(&world.hasher, "ann");
    assert_eq!(buckets.peek(key, Nanos(0)), None);
    ask(&chain, &mut world.context(Some("ann"), 0));
    ask(&chain, &mut world.context(Some("ann"), 0));
    let view = buckets.peek(key, Nanos(SECOND)).unwrap();
    assert_eq!((view.remaining, view.burst, view.retry_after), (0, 2, Duration::from_secs(29)));
    assert!(buckets.forget(key) && !buckets.forget(key));
    assert!(ask(&chain, &mut world.context(Some("ann"), 0)).is_none());
    assert_eq!((buckets.keys(), buckets.rate().burst()), (1, 2));
}

#[test]
fn every_nonsense_is_reported_with_its_path() {
    let world = World::new();
    let found = world.problems(json!({
        "max_keys": 0,
        "policies": [
            { "name": "a", "key": "user", "rate": "10/s", "burst": 0 },
            { "name": "a", "key": "nobody", "rate": "2/s", "cost": 3 },
            { "name": "b c", "key": { "header": "no header" }, "rate": "10/s", "cost": 0 },
            { "name": "d", "key": "user", "rate": "1/30d", "burst": 100, "window": "10ms" },
        ],
        "overrides": [
            { "match": "identity.usr == 'x'", "policy": "a", "rate": "1/s" },
            { "match": "request.path ==", "policy": "zz", "rate": "1/s" },
            { "match": "nonsense(1)", "rate": "1/s", "burst": 0 },
        ],
    }));
    let paths: Vec<_> = found.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "max_keys",
            "policies[0].burst",
            "policies[1].name",
            "policies[1].key",
            "policies[1].rate",
            "policies[2].name",
            "policies[2].key.header",
            "policies[2].cost",
            "policies[3].rate",
            "policies[3].window",
            "overrides[0].match",
            "overrides[1].match",
            "overrides[1].policy",
            "overrides[2].match",
            "overrides[2].policy",
            "overrides[2].burst",
        ]
    );
    assert_eq!(world.problems(json!({ "policies": [] })).len(), 1);
    assert_eq!(world.problems(json!({})), []);
}

#[test]
fn unknown_words_are_refused_and_the_error_names_the_known_ones() {
    let error = |settings: serde_json::Value| serde_json::from_value::<RateLimit>(settings).unwrap_err().to_string();
    assert!(error(json!({ "scope": "strict" })).contains("`local`"));
    assert!(error(json!({ "on_limit": "queue" })).contains("`reject`"));
    assert!(error(json!({ "polices": [] })).contains("policies"));
    assert!(error(json!({ "policies": [{ "name": "a", "key": "user", "rate": "0/s" }] })).contains("zero"));
    assert!(error(json!({ "policies": [{ "name": "a", "key": 3, "rate": "1/s" }] })).contains("header"));
}

#[test]
fn the_identities_of_keys_and_overrides_are_asked_for() {
    let spec: RateLimit = serde_json::from_value(json!({
        "policies": [{ "name": "a", "key": "user", "rate": "1/s" }],
        "overrides": [{ "match": "identity.merchant == 'x'", "rate": "1/s" }],
    }))
    .unwrap();
    assert_eq!(spec.identities(), ["merchant", "user"]);
}

#[test]
fn the_headers_are_structured_fields_of_the_form_the_draft_asks_for() {
    let world = World::new();
    let chain = world.chain(json!({ "policies": [
        { "name": "user", "key": "user", "rate": "100/10m" },
        { "name": "per-ip.v2", "key": "client", "rate": "20/s", "burst": 5 },
    ]}));
    let mut cx = world.context(Some("ann"), 0);
    assert!(ask(&chain, &mut cx).is_none());
    let parsed = |edit: &HeaderEdit| -> Vec<(String, Vec<(String, i64)>)> {
        let HeaderEdit::Set(_, value) = edit else { panic!("a limit sets") };
        let list = sfv::Parser::new(value.as_bytes()).parse::<sfv::List>().unwrap();
        let item = |entry: sfv::ListEntry| match entry {
            sfv::ListEntry::Item(item) => item,
            sfv::ListEntry::InnerList(_) => panic!("the draft knows no inner lists here"),
        };
        let plain = |item: sfv::Item| {
            let number = |value: &sfv::BareItem| value.as_integer().map(i64::from).unwrap();
            let parameters = item.params.iter().map(|(name, value)| (name.as_str().to_owned(), number(value)));
            (item.bare_item.as_string().unwrap().as_str().to_owned(), parameters.collect())
        };
        list.into_iter().map(item).map(plain).collect()
    };
    let told = |name: &str, first: (&str, i64), second: (&str, i64)| {
        (name.to_owned(), vec![(first.0.to_owned(), first.1), (second.0.to_owned(), second.1)])
    };
    assert_eq!(
        parsed(&cx.to_client[0]),
        [told("user", ("q", 100), ("w", 600)), told("per-ip.v2", ("q", 20), ("w", 1)),]
    );
    assert_eq!(parsed(&cx.to_client[1]), [told("user", ("r", 99), ("t", 6)), told("per-ip.v2", ("r", 4), ("t", 1))]);
}
