//! Routes: the most specific one wins, whatever way a path is written.

use std::net::SocketAddr;

use crate::support::{Gateway, Origin, exchange, get};

fn file(origin: SocketAddr, path_case: &str) -> String {
    format!(
        "version: 1
server:
  data_dir: DATA_DIR
  path_case: {path_case}
  listeners:
    - {{name: public, address: \"127.0.0.1:0\", protocols: [h1, h2c]}}
    - {{name: inner, address: \"127.0.0.1:0\", protocols: [h1]}}
admin: {{address: \"127.0.0.1:0\"}}
upstreams:
  origin: {{channels: [{{name: origin, endpoints: [\"{origin}\"]}}]}}
filters:
  closed:
    rate_limit:
      policies: [{{name: global, key: global, rate: 1/h}}]
  mark-orders: {{headers: {{request: {{set: {{x-route: orders}}}}}}}}
  mark-exact: {{headers: {{request: {{set: {{x-route: exact}}}}}}}}
  mark-host: {{headers: {{request: {{set: {{x-route: host}}}}}}}}
  mark-beta: {{headers: {{request: {{set: {{x-route: beta}}}}}}}}
  mark-inner: {{headers: {{request: {{set: {{x-route: inner}}}}}}}}
routes:
  - {{name: any, match: {{path: \"/**\"}}, upstream: origin}}
  - {{name: orders, match: {{path: \"/api/orders/**\"}}, filters: [mark-orders], upstream: origin}}
  - {{name: exact, match: {{path: /api/orders/new, methods: [POST]}}, filters: [mark-exact], upstream: origin}}
  - {{name: host, match: {{host: \"*.shop.test\", path: \"/**\"}}, filters: [mark-host], upstream: origin}}
  - {{name: beta, match: {{path: \"/api/orders/**\", headers: {{x-beta: \"1\"}}}}, filters: [mark-beta], upstream: origin}}
  - {{name: guarded, match: {{path: /guarded}}, filters: [closed], upstream: origin}}
  - {{name: inner, listener: inner, match: {{path: \"/**\"}}, filters: [mark-inner], upstream: origin}}
"
    )
}

#[test]
fn the_most_specific_route_wins() {
    let origin = Origin::ok();
    let gateway = Gateway::start(&file(origin.address, "sensitive"));
    let check = |listener: &str, request: &str, expected: Option<&str>| {
        let answer = exchange(gateway.address(listener), request);
        assert_eq!(answer.status, 200, "{request}: {answer:?}");
        let seen = origin.seen();
        assert_eq!(seen[0].header("x-route"), expected, "{request}");
        origin.forget();
    };
    check("public", "GET /x HTTP/1.1\r\nHost: a\r\n\r\n", None);
    check("public", "GET /api/orders HTTP/1.1\r\nHost: a\r\n\r\n", Some("orders"));
    check("public", "GET /api/orders/7 HTTP/1.1\r\nHost: a\r\n\r\n", Some("orders"));
    check("public", "GET /api/ordersX HTTP/1.1\r\nHost: a\r\n\r\n", None);
    check("public", "POST /api/orders/new HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", Some("exact"));
    check("public", "GET /api/orders/new HTTP/1.1\r\nHost: a\r\n\r\n", Some("orders"));
    check("public", "GET /api/orders/7 HTTP/1.1\r\nHost: a\r\nX-Beta: 1\r\n\r\n", Some("beta"));
    check("public", "GET /api/orders/7 HTTP/1.1\r\nHost: a\r\nX-Beta: 2\r\n\r\n", Some("orders"));
    check("public", "GET /x HTTP/1.1\r\nHost: eu.SHOP.test:8080\r\n\r\n", Some("host"));
    check("public", "GET /x HTTP/1.1\r\nHost: shop.test\r\n\r\n", None);
    check("inner", "GET /api/orders/7 HTTP/1.1\r\nHost: a\r\n\r\n", Some("inner"));
}

#[test]
fn no_spelling_of_a_path_slips_past_its_filters() {
    let origin = Origin::ok();
    for (case, spellings) in [
        (
            "sensitive",
            vec![
                "/guarded",
                "//guarded",
                "/./guarded",
                "/x/../guarded",
                "/%67uarded",
                "/gu%61rded",
                "/guarded?a=b",
                "/x/%2e%2e/guarded",
            ],
        ),
        ("insensitive", vec!["/guarded", "/GUARDED", "/Gu%41rded", "//gUaRdEd"]),
    ] {
        let gateway = Gateway::start(&file(origin.address, case));
        let statuses: Vec<u16> = spellings.iter().map(|path| get(gateway.public(), path, "").status).collect();
        assert_eq!(statuses[0], 200, "{case}");
        assert!(statuses[1..].iter().all(|status| *status == 503), "{case}: {spellings:?} {statuses:?}");
        let seen = origin.seen();
        assert_eq!(seen.len(), 1, "{seen:?}");
        origin.forget();
    }
}

#[test]
fn the_origin_sees_the_path_that_was_matched() {
    let origin = Origin::ok();
    let gateway = Gateway::start(&file(origin.address, "sensitive"));
    for (sent, seen_as) in [
        ("//api//orders/./7?x=//y%2f", "/api/orders/7?x=//y%2f"),
        ("/%61pi/orders/%e4%bd%a0", "/api/orders/%E4%BD%A0"),
        ("/a/b/../c", "/a/c"),
    ] {
        assert_eq!(get(gateway.public(), sent, "").status, 200);
        assert_eq!(origin.seen()[0].target, seen_as);
        origin.forget();
    }
}

#[test]
fn other_methods_are_named_and_unknown_paths_are_not_found() {
    let origin = Origin::ok();
    let yaml = file(origin.address, "sensitive")
        .replace("  - {name: any, match: {path: \"/**\"}, upstream: origin}\n", "")
        .replace(
            "  - {name: host, match: {host: \"*.shop.test\", path: \"/**\"}, filters: [mark-host], upstream: origin}\n",
            "",
        )
        .replace("{path: /guarded}", "{path: /guarded, methods: [POST]}");
    let gateway = Gateway::start(&yaml);
    let answer = get(gateway.public(), "/guarded", "");
    assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")), "{answer:?}");
    assert_eq!(get(gateway.public(), "/nothing", "").status, 404);
    assert_eq!(origin.seen().len(), 0);
}
