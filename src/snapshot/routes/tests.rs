//! The table against examples, and against a model that compares every route with every request.

use std::cmp::Reverse;
use std::sync::Arc;

use http::Method;
use proptest::prelude::*;
use tidegate_filters::engine::{Priority, RequestHead};

use super::{Found, RouteTable};
use crate::config::{Listener, PathMatch, Route, RouteMatch};
use crate::snapshot::path::{fold_case, normalise};

fn listener(name: &str) -> Listener {
    Listener { name: name.into(), address: String::new(), h1: true, h2c: false, tls: None }
}

fn route(number: usize, listener: &str, matches: RouteMatch) -> Route {
    Route {
        name: Arc::from(format!("r{number}")),
        listener: listener.into(),
        matches,
        priority: Priority::Normal,
        filters: Vec::new(),
        upstream: String::new(),
        payments: None,
        websocket: true,
        max_body_size: None,
        timeout: None,
    }
}

fn path(pattern: &str) -> PathMatch {
    pattern.strip_suffix("/**").map_or_else(|| PathMatch::Exact(pattern.into()), |p| PathMatch::Prefix(p.into()))
}

fn pattern(host: &str, pattern: &str, methods: &[Method], headers: &[(&str, &str)]) -> RouteMatch {
    RouteMatch {
        host: (!host.is_empty()).then(|| host.into()),
        path: path(pattern),
        methods: methods.to_vec(),
        headers: headers.iter().map(|(n, v)| ((*n).into(), (!v.is_empty()).then(|| (*v).into()))).collect(),
    }
}

fn table(matches: Vec<RouteMatch>) -> RouteTable {
    let routes: Vec<Route> = matches.into_iter().enumerate().map(|(n, m)| route(n, "public", m)).collect();
    RouteTable::new(&routes, &[listener("public")], false)
}

fn head<'a>(method: &'a str, host: &'a str, path: &'a str, headers: &'a [(&'a [u8], &'a [u8])]) -> RequestHead<'a> {
    RequestHead { method, target: path, path, host, secure: false, headers }
}

fn get(table: &RouteTable, host: &str, path: &str) -> Found {
    table.find(0, &head("GET", host, path, &[]))
}

#[test]
fn a_prefix_ends_at_a_segment() {
    let table = table(vec![pattern("", "/a/**", &[], &[])]);
    for path in ["/a", "/a/", "/a/x", "/a/x/y"] {
        assert_eq!(get(&table, "", path), Found::Route(0), "{path}");
    }
    for path in ["/ab", "/", "/b/a", "*"] {
        assert_eq!(get(&table, "", path), Found::None, "{path}");
    }
}

#[test]
fn the_most_specific_path_wins_whatever_the_order() {
    let table = table(vec![
        pattern("", "/**", &[], &[]),
        pattern("", "/a/**", &[], &[]),
        pattern("", "/a/b/**", &[], &[]),
        pattern("", "/a/b", &[], &[]),
    ]);
    for (path, route) in [("/a/b", 3), ("/a/b/", 2), ("/a/b/c", 2), ("/a/c", 1), ("/a", 1), ("/x", 0), ("/", 0)] {
        assert_eq!(get(&table, "", path), Found::Route(route), "{path}");
    }
}

#[test]
fn an_exact_host_wins_over_a_longer_wildcard_over_a_shorter_over_none() {
    let table = table(vec![
        pattern("", "/x", &[], &[]),
        pattern("*.example.com", "/x", &[], &[]),
        pattern("*.pay.example.com", "/**", &[], &[]),
        pattern("a.pay.example.com", "/**", &[], &[]),
    ]);
    for (host, route) in [
        ("a.pay.example.com", 3),
        ("b.pay.example.com", 2),
        ("c.b.pay.example.com", 2),
        ("pay.example.com", 1),
        ("example.com", 0),
        (".example.com", 0),
        ("evil-example.com", 0),
        ("", 0),
    ] {
        assert_eq!(get(&table, host, "/x"), Found::Route(route), "{host}");
    }
    assert_eq!(get(&table, "pay.example.com", "/y"), Found::None);
}

#[test]
fn a_more_specific_host_without_that_path_gives_way() {
    let table = table(vec![pattern("shop.test", "/a", &[], &[]), pattern("", "/b", &[], &[])]);
    assert_eq!(get(&table, "shop.test", "/b"), Found::Route(1));
}

#[test]
fn named_methods_win_over_headers_and_more_headers_over_fewer() {
    let table = table(vec![
        pattern("", "/x", &[], &[("x-a", ""), ("x-b", "1")]),
        pattern("", "/x", &[], &[("x-a", "")]),
        pattern("", "/x", &[Method::POST], &[]),
        pattern("", "/x", &[], &[]),
    ]);
    let both: [(&[u8], &[u8]); 2] = [(b"X-A", b""), (b"x-B", b"1")];
    assert_eq!(table.find(0, &head("POST", "", "/x", &both)), Found::Route(2));
    assert_eq!(table.find(0, &head("GET", "", "/x", &both)), Found::Route(0));
    assert_eq!(table.find(0, &head("GET", "", "/x", &both[..1])), Found::Route(1));
    assert_eq!(table.find(0, &head("GET", "", "/x", &[(b"x-b", b"2")])), Found::Route(3));
}

#[test]
fn ties_go_to_the_first_in_the_file() {
    let table =
        table(vec![pattern("", "/x", &[Method::PUT, Method::GET], &[]), pattern("", "/x", &[Method::GET], &[])]);
    assert_eq!(get(&table, "", "/x"), Found::Route(0));
}

#[test]
fn head_is_answered_where_get_is() {
    let table = table(vec![pattern("", "/x", &[Method::GET], &[])]);
    assert_eq!(table.find(0, &head("HEAD", "", "/x", &[])), Found::Route(0));
}

#[test]
fn a_wrong_method_is_told_all_methods_that_would_do() {
    let purge = Method::from_bytes(b"PURGE").expect("a token");
    let table = table(vec![
        pattern("", "/x", &[Method::GET], &[]),
        pattern("", "/**", &[Method::POST, purge, Method::GET], &[]),
        pattern("", "/x", &[Method::PATCH], &[("x-internal", "")]),
        pattern("other.test", "/x", &[Method::DELETE], &[]),
    ]);
    let allow = |found| if let Found::MethodNotAllowed(allowed) = found { allowed.to_string() } else { String::new() };
    assert_eq!(allow(table.find(0, &head("PUT", "", "/x", &[]))), "GET, HEAD, POST, PURGE");
    assert_eq!(table.find(0, &head("PURGE", "", "/x", &[])), Found::Route(1));
    let lower = table.find(0, &head("get", "", "/x", &[]));
    assert!(matches!(lower, Found::MethodNotAllowed(_)), "methods are case-sensitive");
}

#[test]
fn listeners_have_routes_of_their_own() {
    let routes = [
        route(0, "public", pattern("", "/x", &[], &[])),
        route(1, "egress", pattern("", "/x", &[], &[])),
        route(2, "egress", pattern("", "/y", &[], &[])),
    ];
    let table = RouteTable::new(&routes, &[listener("public"), listener("egress")], false);
    assert_eq!(table.find(0, &head("GET", "", "/x", &[])), Found::Route(0));
    assert_eq!(table.find(1, &head("GET", "", "/x", &[])), Found::Route(1));
    assert_eq!(table.find(0, &head("GET", "", "/y", &[])), Found::None);
    assert_eq!(table.find(2, &head("GET", "", "/x", &[])), Found::None);
}

#[test]
fn no_spelling_reaches_the_catch_all_instead_of_the_guarded_route() {
    let routes =
        [route(0, "public", pattern("", "/api/orders", &[], &[])), route(1, "public", pattern("", "/**", &[], &[]))];
    for insensitive in [false, true] {
        let table = RouteTable::new(&routes, &[listener("public")], insensitive);
        for (target, guarded) in [
            ("//api/orders", true),
            ("/api/./orders", true),
            ("/%61pi/orders", true),
            ("/x/%2e./api/orders?a", true),
            ("/API/orders", insensitive),
            ("/%41pi/Orders", insensitive),
        ] {
            let path = normalise(target).expect("is a path");
            let found = table.find(0, &head("GET", "", &path, &[]));
            assert_eq!(found, Found::Route(usize::from(!guarded)), "{target}");
        }
    }
}

#[test]
fn a_path_of_a_thousand_slashes_is_walked_no_deeper_than_the_deepest_prefix() {
    let table = table(vec![pattern("", "/a/a/**", &[], &[]), pattern("", "/b", &[], &[])]);
    assert_eq!(get(&table, "", &"/a".repeat(1000)), Found::Route(0));
    assert_eq!(get(&table, "", &"/b".repeat(1000)), Found::None);
}

/// What the table has to agree with: every route against every request.
fn model(routes: &[Route], insensitive: bool, head: &RequestHead<'_>) -> (Option<usize>, bool) {
    let fold = |text: &str| if insensitive { fold_case(text).into_owned() } else { text.to_owned() };
    let path = fold(head.path);
    let mut best = None;
    let mut refused = false;
    for (number, route) in routes.iter().enumerate() {
        let m = &route.matches;
        let host = match m.host.as_deref() {
            None => Some((2, 0)),
            Some(h) if h == head.host => Some((0, 0)),
            Some(h) => h.strip_prefix('*').and_then(|suffix| {
                (head.host.len() > suffix.len() && head.host.ends_with(suffix))
                    .then_some((1, usize::MAX - suffix.len()))
            }),
        };
        let at = match &m.path {
            PathMatch::Exact(p) => (fold(p) == path).then_some((0, 0)),
            PathMatch::Prefix(p) => {
                let p = fold(p);
                (path == p || path.starts_with(&format!("{p}/"))).then_some((1, usize::MAX - p.len()))
            }
        };
        let headers = m.headers.iter().all(|(name, value)| {
            head.headers_named(name).any(|found| value.as_ref().is_none_or(|value| value.as_bytes() == found))
        });
        let (Some(host), Some(at), true) = (host, at, headers) else { continue };
        let takes = |name: &str| m.methods.iter().any(|method| method.as_str() == name);
        if !(m.methods.is_empty() || takes(head.method) || (head.method == "HEAD" && takes("GET"))) {
            refused = true;
            continue;
        }
        let rank = (host, at, m.methods.is_empty(), Reverse(m.headers.len()), number);
        if best.as_ref().is_none_or(|best| rank < *best) {
            best = Some(rank);
        }
    }
    (best.map(|rank| rank.4), refused)
}

fn some_path() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", "A", "ab"]), 0..4)
        .prop_map(|parts| format!("/{}", parts.join("/")))
}

fn some_match() -> impl Strategy<Value = RouteMatch> {
    let host = prop::sample::select(vec!["", "", "x.test", "y.x.test", "*.test", "*.x.test"]);
    let methods = prop::sample::subsequence(vec![Method::GET, Method::POST], 0..=2);
    let headers = prop::sample::subsequence(vec![("x-a", ""), ("x-b", "1")], 0..=2);
    (host, some_path(), any::<bool>(), methods, headers).prop_map(|(host, path, prefix, methods, headers)| {
        let text = if prefix { format!("{}/**", path.trim_end_matches('/')) } else { path };
        pattern(host, &text, &methods, &headers)
    })
}

proptest! {
    #[test]
    fn the_table_agrees_with_comparing_every_route(
        matches in prop::collection::vec(some_match(), 0..24),
        insensitive in any::<bool>(),
        requests in prop::collection::vec((
            prop::sample::select(vec!["", "x.test", "y.x.test", "z.y.x.test", "test"]),
            some_path(),
            prop::sample::select(vec!["GET", "HEAD", "POST", "PUT"]),
            prop::sample::subsequence(vec![("X-A", "7"), ("x-b", "1"), ("x-b", "2")], 0..=3),
        ), 1..16),
    ) {
        let routes: Vec<Route> = matches.into_iter().enumerate().map(|(n, m)| route(n, "public", m)).collect();
        let table = RouteTable::new(&routes, &[listener("public")], insensitive);
        for (host, path, method, headers) in requests {
            let headers: Vec<_> = headers.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes())).collect();
            let head = head(method, host, &path, &headers);
            let found = table.find(0, &head);
            match model(&routes, insensitive, &head) {
                (Some(route), _) => prop_assert_eq!(found, Found::Route(route)),
                (None, true) => prop_assert!(matches!(found, Found::MethodNotAllowed(_))),
                (None, false) => prop_assert_eq!(found, Found::None),
            }
        }
    }
}
