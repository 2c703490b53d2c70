//! What is kept of an answer, and what filters do to it.

use super::*;
use crate::support::eventually;

/// Answers with a body of so many bytes.
fn long(bytes: usize) -> Origin {
    Origin::with(move |_, stream| {
        let head = "HTTP/1.1 201 Created\r\nLocation: /api/orders/7\r\nX-Shop: yes\r\n";
        stream.write_all(format!("{head}Content-Length: {bytes}\r\n\r\n{}", "x".repeat(bytes)).as_bytes()).is_ok()
    })
}

#[test]
fn a_long_answer_is_kept_as_it_came() {
    let origin = long(700_000);
    let gateway = Gateway::start(&with(origin.address, ", when: always"));
    let place = place(&post(&gateway, &keyed("k"), "{}"));
    let got = result(&gateway, &place);
    assert_eq!((got.status, got.body.len(), got.header("x-shop")), (201, 700_000, Some("yes")));
    let told = get(gateway.public(), &place, "").json();
    assert_eq!((told["answered"].as_u64(), told["answer_kept"].as_bool()), (Some(201), Some(true)), "{told}");
}

#[test]
fn of_an_answer_that_is_too_long_status_and_place_are_told_and_nothing_is_sent_again() {
    let origin = long(9_000);
    let gateway = Gateway::start(&with(origin.address, ", when: always, max_answer: 8KiB"));
    let place = place(&post(&gateway, &keyed("k"), "{}"));
    let got = result(&gateway, &place);
    assert_eq!((got.status, got.json()["code"].as_str()), (409, Some("answer-not-kept")));
    assert_eq!(got.header("location"), Some("/api/orders/7"));
    let told = get(gateway.public(), &place, "").json();
    assert_eq!(told["status"], "DONE", "{told}");
    assert_eq!((told["answered"].as_u64(), told["answer_kept"].as_bool()), (Some(201), Some(false)), "{told}");
    assert_eq!(post(&gateway, &keyed("k"), "{}").json()["code"], "answer-not-kept");
    assert_eq!(origin.seen().len(), 1);
}

#[test]
fn changes_of_the_routes_filters_are_made_once_whenever_the_answer_comes() {
    let origin = shop(Duration::from_millis(100));
    let filters = "
  marks: {headers: {response: {set: {x-shop: ours}, add: {x-mark: one}, remove: [x-gone]}}}
  limits: {rate_limit: {policies: [{name: mine, key: client, rate: 1000/s}], headers: draft10}}";
    let yaml = with(origin.address, ", when: always") + filters;
    let mut gateway = Gateway::start(&yaml.replace("filters: [later]", "filters: [marks, limits, later]"));
    let marks = |answer: &Answer| {
        let count = answer.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("x-mark")).count();
        (answer.header("x-shop").map(str::to_owned), count)
    };
    let once = (Some("ours".to_owned()), 1);
    // While the client waits.
    let waited = post(&gateway, &format!("Prefer: respond-async, wait=10\r\n{}", keyed("a")), "{}");
    assert_eq!((waited.status, marks(&waited)), (201, once.clone()), "{waited:?}");
    assert!(waited.header("ratelimit").is_some(), "the quota of this moment: {waited:?}");
    // When it asks; and the gateway may have died in between.
    let accepted = post(&gateway, &keyed("b"), "{}");
    assert_eq!(marks(&accepted), once, "the promise is an answer, too");
    let place = place(&accepted);
    assert_eq!(result(&gateway, &place).status, 201);
    gateway.kill_and_start();
    let later = result(&gateway, &place);
    assert_eq!((later.status, marks(&later)), (201, once.clone()), "{later:?}");
    assert_eq!((later.header("ratelimit"), later.header("set-cookie")), (None, Some("session=1")));
    let again = post(&gateway, &keyed("b"), "{}");
    assert_eq!((again.status, marks(&again), again.header("set-cookie")), (201, once, None), "{again:?}");
}

#[test]
fn a_waiting_room_hears_what_the_shop_says_of_a_visit_in_a_deferred_answer() {
    use crate::waiting_room::{desk::Guest, file_with};
    let origin = Origin::with(|seen, stream| {
        let more = if seen.method == "POST" { "X-Tidegate-Waiting-Room: complete\r\n" } else { "" };
        stream.write_all(format!("HTTP/1.1 200 OK\r\n{more}Content-Length: 2\r\n\r\nok").as_bytes()).is_ok()
    });
    let folder = tempfile::tempdir().expect("a folder");
    let room = "total_active_users: 1, new_users_per_minute: 600, enabled_origin_commands: [complete]";
    let later = "filters:\n  later: {respond_async: {store: disk, when: always}}\nstores: {disk: {type: sqlite}}\n";
    let yaml = file_with(origin.address, room, folder.path()) + later;
    let gateway =
        Gateway::start(&yaml.replace("filters: [{waiting_room: drop}]", "filters: [{waiting_room: drop}, later]"));
    let to = gateway.public();
    let (mut buyer, mut next) = (Guest::default(), Guest::default());
    buyer.walks_in(to);
    next.joins(to);
    let place = place(&exchange(to, &request(&format!("{}{}", buyer.headers(), keyed("k")), "{}")));
    let got = result(&gateway, &place);
    assert_eq!((got.status, got.header("x-tidegate-waiting-room")), (200, None), "{got:?}");
    assert!(got.header("set-cookie").is_some_and(|cookie| cookie.contains("Max-Age=0")), "{got:?}");
    eventually("the place is free", PATIENCE, || next.asks(to, "GET", "/").status == 200);
}
