//! Whose bucket it is.

use super::*;

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
        ["a", "b"].map(|address| {
            let mut cx = world.context(None, 0);
            cx.set_identity(IdentityId::CLIENT, Identity::new(&world.hasher, IdentityId::CLIENT, address));
            ask(&chain, &mut cx).map(|reply| (reply.status.as_u16(), reply.code().unwrap()))
        })
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
