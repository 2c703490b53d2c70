//! What conditions promise.

use std::net::{IpAddr, Ipv4Addr};

use super::*;
use crate::engine::{HeaderPair, Identity, KeyHasher, Nanos};

const USER: IdentityId = IdentityId(3);

fn compile(text: &str) -> Result<Condition, String> {
    Condition::compile(text, |name| match name {
        "user" => Some(USER),
        "merchant" => Some(IdentityId(4)),
        _ => None,
    })
}

fn holds(text: &str) -> bool {
    let hasher = KeyHasher::fixed();
    let mut cx = RequestContext::new(Nanos(0), IpAddr::V4(Ipv4Addr::LOCALHOST));
    cx.set_identity(USER, Identity::new(&hasher, USER, "ann"));
    cx.set_identity(IdentityId::ROUTE, Identity::new(&hasher, IdentityId::ROUTE, "pay"));
    let headers: [HeaderPair<'_>; 2] = [(b"X-Tier", b"gold"), (b"x-tier", b"late")];
    let head = RequestHead {
        method: "POST",
        target: "/v1/pay",
        path: "/v1/pay",
        host: "shop",
        secure: true,
        headers: &headers,
    };
    compile(text).unwrap().holds(&head, &cx)
}

#[test]
fn the_native_and_the_interpreted_form_agree() {
    let cases = [
        ("identity.user == 'ann'", true),
        ("'ann' == identity.user", true),
        ("identity.user != 'ann'", false),
        ("identity.user in ['bob', 'ann']", true),
        ("identity.user in []", false),
        ("identity.merchant == 'x'", false),
        ("identity.merchant != 'x'", false),
        ("!(identity.merchant == 'x')", false),
        ("identity.merchant == 'x' || route == 'pay'", true),
        ("identity.merchant == 'x' && route == 'pay'", false),
        ("!(identity.merchant == 'x' && route == 'other')", true),
        ("request.method == 'POST' && request.path.startsWith('/v1/')", true),
        ("request.path.startsWith('/v2/')", false),
        ("request.headers['x-tier'] == 'gold'", true),
        ("request.headers['X-Tier'] == 'gold'", false),
        ("request.headers['x-none'] == 'gold'", false),
    ];
    for (text, expected) in cases {
        assert_eq!(holds(text), expected, "{text}");
        // A conditional has no native form, so this asks the interpreter.
        let interpreted = format!("({text}) ? true : false");
        assert!(!compile(&interpreted).unwrap().is_native());
        assert_eq!(holds(&interpreted), expected, "{interpreted}");
    }
}

#[test]
fn the_interpreter_knows_every_variable() {
    for text in [
        "client.ip == '127.0.0.1'",
        "size(request.path) == 7",
        "'x-tier' in request.headers",
        "has(identity.user) && !has(identity.merchant)",
        "['a', 'pay'].exists(r, r == route)",
        "identity.user.matches('^a.n$')",
        "route.contains('a')",
    ] {
        assert!(holds(text), "{text}");
    }
}

#[test]
fn what_is_no_truth_value_does_not_hold() {
    assert!(!holds("1") && !holds("'true'") && !holds("identity.user"));
}

#[test]
fn unknown_names_and_bad_syntax_are_refused_when_compiled() {
    for (text, part) in [
        ("identity.usr == 'a'", "`usr`"),
        ("user == 'a'", "`user`"),
        ("request.body == 'a'", "`request.body`"),
        ("route.name == 'a'", "`route.name`"),
        ("frobnicate(route)", "`frobnicate`"),
        ("route ==", "not a CEL expression"),
        ("", "not a CEL expression"),
    ] {
        let error = compile(text).unwrap_err();
        assert!(error.contains(part), "{text}: {error}");
    }
    let long = format!("route == '{}'", "x".repeat(LONGEST));
    assert!(compile(&long).unwrap_err().contains("at most"));
    let deep = format!("{}true{}", "(".repeat(1_500), ")".repeat(1_500));
    assert!(compile(&deep).is_err(), "depth is bounded");
}

#[test]
fn common_shapes_need_no_interpreter() {
    for text in
        ["identity.user == 'a'", "identity.user in ['a', 'b'] && !request.path.startsWith('/x')", "route != 'a'"]
    {
        assert!(compile(text).unwrap().is_native(), "{text}");
    }
}
