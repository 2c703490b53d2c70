//! Token buckets seen from outside: exact counts, exact waits, all or nothing across policies, shadows.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::support::{Gateway, Origin, get, one_route};

fn with(origin: SocketAddr, policies: &str, more: &str) -> String {
    let filter = format!("filters:\n  quota:\n{more}    rate_limit:\n      policies:\n{policies}");
    one_route(origin, "", "    filters: [quota]", &filter)
}

fn ask(gateway: &Gateway, who: &str) -> crate::support::Answer {
    get(gateway.public(), "/", &format!("X-Who: {who}\r\n"))
}

#[test]
fn a_wait_that_is_announced_is_enough_and_not_too_long() {
    let origin = Origin::ok();
    let gateway = Gateway::start(&with(origin.address, "        - {name: client, key: client, rate: 2/4s}", ""));
    let begun = Instant::now();
    assert_eq!((get(gateway.public(), "/", "").status, get(gateway.public(), "/", "").status), (200, 200));
    let refused = get(gateway.public(), "/", "");
    assert_eq!(refused.status, 429);
    assert!(
        refused.header("ratelimit-policy").is_some_and(|policy| policy.contains("\"client\";q=2;w=4")),
        "{refused:?}"
    );
    assert!(refused.header("ratelimit").is_some_and(|limit| limit.contains("\"client\";r=0")), "{refused:?}");
    let wait: u64 = refused.header("retry-after").and_then(|text| text.parse().ok()).expect("seconds");
    assert!((1..=2).contains(&wait), "{wait}");
    let start = Instant::now();
    while get(gateway.public(), "/", "").status != 200 {
        assert!(start.elapsed() < Duration::from_secs(3));
        std::thread::sleep(Duration::from_millis(20));
    }
    // A try every 20 ms, and some time for the machine.
    assert!(start.elapsed() <= Duration::from_secs(wait) + Duration::from_millis(300), "late: {:?}", start.elapsed());
    assert!(begun.elapsed() >= Duration::from_secs(2), "before its time: {:?}", begun.elapsed());
}

#[test]
fn a_refusal_by_one_policy_costs_the_others_nothing() {
    let origin = Origin::ok();
    let policies =
        "        - {name: who, key: {header: x-who}, rate: 2/h}\n        - {name: all, key: global, rate: 5/h}";
    let gateway = Gateway::start(&with(origin.address, policies, ""));
    // Ten tries of one who is allowed two: eight refusals that must not use up what all share.
    let greedy: Vec<u16> = (0..10).map(|_| ask(&gateway, "greedy").status).collect();
    assert_eq!(greedy, [200, 200, 429, 429, 429, 429, 429, 429, 429, 429]);
    assert_eq!([ask(&gateway, "b").status, ask(&gateway, "b").status, ask(&gateway, "c").status], [200; 3]);
    // Now the whole is used up: 503, for it is not this client's fault, and its own quota is not charged.
    assert_eq!([ask(&gateway, "d").status, ask(&gateway, "d").status, ask(&gateway, "d").status], [503; 3]);
    let left = gateway.admin("GET", "/-/limits?policy=who&key=d");
    assert_eq!(left.status, 200, "{left:?}");
    assert!(left.text().contains("\"remaining\":2"), "{}", left.text());
}

#[test]
fn a_shadow_counts_and_changes_nothing() {
    let origin = Origin::ok();
    let gateway =
        Gateway::start(&with(origin.address, "        - {name: client, key: client, rate: 1/h}", "    mode: shadow\n"));
    for _ in 0..5 {
        let answer = get(gateway.public(), "/", "");
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("ratelimit"), None, "a shadow is not seen");
    }
    let would = gateway.metric(
        "tidegate_filter_decisions_total{filter=\"quota\",policy=\"client\",outcome=\"reject\",mode=\"shadow\"",
    );
    assert!((would - 4.0).abs() < 0.1, "{would}\n{}", gateway.admin("GET", "/metrics").text());
    assert!(gateway.access_log(5)[4].to_string().contains("shadow"), "{:?}", gateway.access_log(5)[4]);
}

#[test]
fn an_operator_sees_and_forgets_a_debt() {
    let origin = Origin::ok();
    let gateway = Gateway::start(&with(origin.address, "        - {name: client, key: client, rate: 3/h}", ""));
    let statuses: Vec<u16> = (0..4).map(|_| get(gateway.public(), "/", "").status).collect();
    assert_eq!(statuses, [200, 200, 200, 429]);
    let seen = gateway.admin("GET", "/-/limits?policy=client&key=127.0.0.1");
    assert!(seen.text().contains("\"remaining\":0"), "{}", seen.text());
    assert_eq!(gateway.admin("DELETE", "/-/limits?policy=client&key=127.0.0.1").status / 100, 2);
    assert_eq!(get(gateway.public(), "/", "").status, 200);
}

#[test]
fn many_clients_at_once_get_exactly_what_there_is() {
    let origin = Origin::ok();
    let gateway = Gateway::start(&with(origin.address, "        - {name: all, key: global, rate: 100/h}", ""));
    let passed: usize = std::thread::scope(|scope| {
        let ask_many = || (0..50).filter(|_| get(gateway.public(), "/", "").status == 200).count();
        let clients: Vec<_> = (0..8).map(|_| scope.spawn(ask_many)).collect();
        clients.into_iter().map(|client| client.join().expect("a count")).sum()
    });
    assert_eq!(passed, 100);
    assert_eq!(origin.seen().len(), 100);
}
