//! What the file may say.

use super::*;

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
