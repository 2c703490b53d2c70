//! The pace is changed while requests wait and leave.

use super::bursts::{CLIENTS, EACH, crowd};
use super::*;
use crate::support::eventually;

#[test]
fn a_reload_loses_nobody_and_changes_the_pace_of_those_who_wait() {
    let origin = shop(Duration::ZERO);
    let gateway = Gateway::start(&with(origin.address, ", when: always, rate: 1/10s"));
    let places: Vec<String> = (0..20).map(|key| place(&post(&gateway, &keyed(&key.to_string()), "{}"))).collect();
    gateway.reload(&with(origin.address, ", when: always, rate: 1000/s"));
    // All but the first would have waited for minutes.
    for place in &places {
        assert_eq!(result(&gateway, place).status, 201);
    }
    assert_eq!(origin.seen().len(), 20);
}

#[test]
fn a_far_lower_rate_holds_for_those_on_their_way_too_and_they_can_be_withdrawn_again() {
    let origin = shop(Duration::ZERO);
    let at = |rate: &str| with(origin.address, &format!(", when: always, rate: {rate}"));
    let gateway = Gateway::start(&at("1/10s"));
    crowd(&gateway, 0);
    let last = place(&post(&gateway, &keyed("last"), "{}"));
    gateway.reload(&at("1000/s"));
    eventually("the line is on its way", PATIENCE, || origin.seen().len() > 500);
    gateway.reload(&at("1/10s"));
    let running = || {
        let books = gateway.admin("GET", "/-/async").json();
        books["filters"][0]["states"]["RUNNING"].as_u64().unwrap_or_default()
    };
    eventually("what cannot leave soon waits in the line", PATIENCE, || running() <= 4);
    let sent = origin.seen().len();
    assert!(sent < CLIENTS * EACH, "all had left before the pace became slower");
    let (from, watched) = (std::time::Instant::now(), Duration::from_secs(3));
    std::thread::sleep(watched);
    let more = origin.seen().len() - sent;
    assert!(more <= 2, "{more} within {:?}", from.elapsed());
    let withdrawn = exchange(gateway.public(), &format!("DELETE {last} HTTP/1.1\r\nHost: shop.test\r\n\r\n"));
    assert_eq!(withdrawn.status, 200, "{withdrawn:?}");
}
