//! What is remembered: over reloads, at the cap, by the sweep, for an operator.

use super::*;

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
