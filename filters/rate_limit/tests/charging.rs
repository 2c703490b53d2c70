//! Who pays how much for what, and what is told.

use super::*;

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
