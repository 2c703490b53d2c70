//! The status resource: who may look, what is told, and when.

use super::*;
use crate::support::eventually;

/// Reads events until the stream is silent for good or has told the end; id and name of each.
fn events(raw: &mut Raw) -> Vec<(u32, String)> {
    let mut text = String::new();
    loop {
        let byte = raw.bytes(1);
        if byte.is_empty() {
            break;
        }
        text.push_str(&String::from_utf8_lossy(&byte));
        if text.contains("event: end") && text.ends_with("\n\n") {
            break;
        }
    }
    let ids = text.lines().filter_map(|line| line.strip_prefix("id: ")?.parse().ok());
    let names = text.lines().filter_map(|line| Some(line.strip_prefix("event: ")?.to_owned()));
    ids.zip(names).collect()
}

fn listen(gateway: &Gateway, place: &str, headers: &str) -> Raw {
    let mut raw = Raw::connect(gateway.public());
    raw.patience(PATIENCE);
    raw.send(format!("GET {place}/events HTTP/1.1\r\nHost: shop.test\r\n{headers}\r\n"));
    raw
}

#[test]
fn only_its_sender_can_look_at_a_request() {
    let origin = shop(Duration::ZERO);
    let identity = "identity:\n  merchant:\n    - {header: x-merchant}\n";
    let yaml = format!("{}{identity}", with(origin.address, ", when: always, scope: merchant"));
    let gateway = Gateway::start(&yaml);
    let place = place(&post(&gateway, "X-Merchant: a\r\n", "{}"));
    let ask = |method: &str, what: &str, merchant: &str| {
        let head = format!("{method} {place}{what} HTTP/1.1\r\nHost: shop.test\r\nPrefer: wait=10\r\n");
        exchange(gateway.public(), &format!("{head}X-Merchant: {merchant}\r\n\r\n")).status
    };
    assert_eq!(ask("GET", "/result", "a"), 201);
    for (method, what) in [("GET", ""), ("GET", "/result"), ("GET", "/events"), ("DELETE", "")] {
        assert_eq!(ask(method, what, "b"), 404, "{method} {what}");
    }
    assert_eq!(get(gateway.public(), "/.tidegate/async/0123456789abcdef0123456789abcdef", "").status, 404);
    assert_eq!(get(gateway.public(), "/.tidegate/async/x", "").status, 404);
    assert_eq!(ask("PUT", "", "a"), 405);
    assert_eq!(origin.seen().len(), 1, "asking is no business of the upstream's");
}

#[test]
fn changes_are_told_as_they_come_and_none_of_them_twice() {
    let origin = shop(Duration::from_millis(500));
    let gateway = Gateway::start(&with(origin.address, ", when: always"));
    let place = place(&post(&gateway, "", "{}"));
    let mut first = listen(&gateway, &place, "");
    let head = first.head().expect("a head");
    assert_eq!((head.status, head.header("content-type")), (200, Some("text/event-stream")));
    let seen = events(&mut first);
    assert_eq!(seen.last().map(|(_, name)| name.as_str()), Some("end"), "{seen:?}");
    assert!(seen.is_sorted_by(|a, b| a.0 < b.0), "{seen:?}");
    // Who comes back is told what it has not seen.
    let (last, before) = (seen.last().expect("an end").0, seen[0].0);
    let mut again = listen(&gateway, &place, &format!("Last-Event-ID: {before}\r\n"));
    assert_eq!(again.head().map(|head| head.status), Some(200));
    assert_eq!(events(&mut again), [(last, "end".to_owned())]);
    let mut told = listen(&gateway, &place, &format!("Last-Event-ID: {last}\r\n"));
    assert_eq!(told.answer().map(|answer| answer.status), Some(204), "an EventSource stops at 204");
}

#[test]
fn who_polls_can_wait_for_the_next_change() {
    let origin = shop(Duration::from_millis(600));
    let gateway = Gateway::start(&with(origin.address, ", when: always"));
    let place = place(&post(&gateway, "", "{}"));
    eventually("it is under way", PATIENCE, || status(&gateway, &place) == "RUNNING");
    let now = get(gateway.public(), &place, "");
    let tag = now.header("etag").expect("a tag").to_owned();
    assert_eq!(get(gateway.public(), &place, &format!("If-None-Match: {tag}\r\n")).status, 304);
    let early = get(gateway.public(), &format!("{place}/result"), "");
    assert_eq!((early.status, early.json()["code"].as_str()), (409, Some("deferred-pending")));
    let next = get(gateway.public(), &place, &format!("If-None-Match: {tag}\r\nPrefer: wait=10\r\n"));
    assert_eq!((next.status, next.json()["status"].as_str()), (200, Some("DONE")), "{next:?}");
    assert_eq!(next.header("preference-applied"), Some("wait=10"));
}

#[test]
fn a_request_is_withdrawn_while_it_waits_and_not_later() {
    let origin = shop(Duration::from_millis(700));
    let gateway = Gateway::start(&with(origin.address, ", when: always, max_in_flight: 1"));
    let first = place(&post(&gateway, &keyed("a"), "{}"));
    eventually("the first is under way", PATIENCE, || origin.seen().len() == 1);
    let second = place(&post(&gateway, &keyed("b"), "{}"));
    let third = place(&post(&gateway, &keyed("c"), "{}"));
    let waits = get(gateway.public(), &third, "").json();
    assert_eq!((waits["status"].as_str(), waits["place"].as_u64()), (Some("QUEUED"), Some(2)), "{waits}");
    let delete =
        |place: &str| exchange(gateway.public(), &format!("DELETE {place} HTTP/1.1\r\nHost: shop.test\r\n\r\n"));
    let gone = delete(&second);
    assert_eq!((gone.status, gone.json()["status"].as_str()), (200, Some("CANCELLED")));
    assert_eq!(delete(&second).status, 200, "twice is once");
    assert_eq!(result(&gateway, &second).status, 410);
    let late = delete(&first);
    assert_eq!((late.status, late.json()["code"].as_str()), (409, Some("deferred-not-cancellable")));
    assert_eq!((result(&gateway, &first).status, result(&gateway, &third).status), (201, 201));
    assert_eq!(origin.seen().len(), 2);
    // Nothing was carried out for it, so its key is free.
    assert_eq!(result(&gateway, &place(&post(&gateway, &keyed("b"), "{}"))).status, 201);
}

#[test]
fn what_waited_too_long_expires_and_is_not_carried_out() {
    let origin = shop(Duration::from_millis(1_900));
    let yaml = with(origin.address, ", when: always, max_in_flight: 1, ttl: 1s");
    let gateway = Gateway::start(&yaml.replace("read_timeout: 2s", "read_timeout: 10s"));
    let first = place(&post(&gateway, "", "{}"));
    eventually("the first is under way", PATIENCE, || origin.seen().len() == 1);
    let second = place(&post(&gateway, "", "{}"));
    let gone = result(&gateway, &second);
    assert_eq!((gone.status, gone.json()["code"].as_str()), (410, Some("deferred-expired")));
    assert_eq!(status(&gateway, &second), "EXPIRED");
    assert_eq!(result(&gateway, &first).status, 201, "what is under way does not expire");
    assert_eq!(origin.seen().len(), 1);
}

#[test]
fn who_asks_too_often_is_told_when_to_ask_again_and_a_stranger_learns_nothing_by_trying_names() {
    let origin = shop(Duration::ZERO);
    let identity = "identity:\n  merchant:\n    - {header: x-merchant}\n";
    let settings = ", when: always, scope: merchant, status_rate: 5/s";
    let gateway = Gateway::start(&format!("{}{identity}", with(origin.address, settings)));
    let place = place(&post(&gateway, "X-Merchant: a\r\n", "{}"));
    let mut raw = Raw::connect(gateway.public());
    let mut ask = |at: &str, merchant: &str| {
        raw.send(format!("GET {at} HTTP/1.1\r\nHost: shop.test\r\nX-Merchant: {merchant}\r\n\r\n"));
        raw.answer().expect("an answer")
    };
    // A name that there is and one that there is not are answered alike, and both cost.
    let nobodys = format!("/.tidegate/async/{:032x}", 7);
    let tries: Vec<Answer> = (0..40).map(|number| ask(if number % 2 == 0 { &place } else { &nobodys }, "b")).collect();
    let statuses: Vec<u16> = tries.iter().map(|answer| answer.status).collect();
    let not_found = statuses.iter().filter(|status| **status == 404).count();
    assert!((5..=10).contains(&not_found) && statuses.iter().all(|status| matches!(status, 404 | 429)), "{statuses:?}");
    assert_eq!(statuses[..5], [404; 5]);
    let told = |answer: &Answer| (answer.json()["code"].clone(), answer.json()["title"].clone());
    assert_eq!(told(&tries[0]), told(&tries[1]));
    let refused = tries.iter().find(|answer| answer.status == 429).expect("one that was refused");
    assert_eq!((refused.json()["code"].as_str(), refused.header("retry-after")), (Some("quota-exceeded"), Some("1")));
    // Its owner asks as before, and the stranger when the time has come.
    assert_eq!(ask(&place, "a").status, 200);
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(ask(&place, "b").status, 404);
    assert!(gateway.metric("tidegate_deferred_total{filter=\"later\",event=\"asked_too_often\"}") > 20.0);
}

#[test]
fn who_waits_for_news_is_seen_to_leave_behind_more_requests_than_are_read() {
    let origin = shop(Duration::ZERO);
    let gateway = Gateway::start(&with(origin.address, ", when: always, rate: 1/1m"));
    let places: Vec<String> = (0..2).map(|key| place(&post(&gateway, &keyed(&key.to_string()), "{}"))).collect();
    let mut raw = Raw::connect(gateway.public());
    let next = "GET /next HTTP/1.1\r\nHost: shop.test\r\n\r\n".repeat(4_000);
    raw.send(format!("GET {} HTTP/1.1\r\nHost: shop.test\r\nPrefer: wait=25\r\n\r\n{next}", places[1]));
    eventually("it waits", PATIENCE, || gateway.metric("tidegate_connections{listener=\"public\"}") > 0.5);
    raw.socket().shutdown(std::net::Shutdown::Both).expect("shut down");
    let left = || gateway.access_log(1).iter().any(|line| line["status"] == 499);
    eventually("it has left", Duration::from_secs(10), left);
}
