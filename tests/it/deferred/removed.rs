//! A filter that is taken out of the file, or gets another name: what it has promised is kept.

use super::*;
use crate::support::eventually;

/// The same route without the filter.
fn without(origin: SocketAddr) -> String {
    one_route(origin, "", "    filters: []", "stores: {disk: {type: sqlite}}\n")
}

fn renamed(yaml: &str) -> String {
    yaml.replace("filters: [later]", "filters: [afterwards]").replace("  later:", "  afterwards:")
}

#[test]
fn every_promise_of_a_filter_that_is_gone_is_kept_also_behind_a_restart() {
    let origin = shop(Duration::ZERO);
    let mut gateway = Gateway::start(&with(origin.address, ", when: always, rate: 4/s"));
    let places: Vec<String> = (0..24).map(|key| place(&post(&gateway, &keyed(&key.to_string()), "{}"))).collect();
    gateway.reload(&without(origin.address));
    let books = gateway.admin("GET", "/-/async").json();
    assert_eq!((&books["filters"][0]["filter"], &books["filters"][0]["configured"]), (&"later".into(), &false.into()));
    assert!(gateway.metric("tidegate_deferred_orphaned{filter=\"disk/later\"}") >= 1.0);
    // Its sender is told how it stands, may wait for it and withdraw it.
    let last = places.last().expect("some");
    assert_eq!(status(&gateway, last), "QUEUED");
    let withdrawn = exchange(gateway.public(), &format!("DELETE {last} HTTP/1.1\r\nHost: shop.test\r\n\r\n"));
    assert_eq!(withdrawn.status, 200, "{withdrawn:?}");
    assert_eq!(result(&gateway, &places[0]).status, 201);
    gateway.kill_and_start();
    let stands = || -> Vec<String> { places.iter().map(|at| status(&gateway, at)).collect() };
    assert_eq!(stands()[23], "CANCELLED");
    assert!(stands().contains(&"QUEUED".to_owned()), "it goes on at its pace: {:?}", stands());
    let over = |stand: &String| ["DONE", "UNKNOWN", "CANCELLED"].contains(&stand.as_str());
    eventually("all are over", PATIENCE, || stands().iter().all(over));
    assert!(stands().iter().filter(|stand| *stand == "DONE").count() >= 20, "{:?}", stands());
    // What was answered can be fetched; new requests are none of its business.
    assert_eq!(get(gateway.public(), &format!("{}/result", places[0]), "").status, 201);
    let sent = origin.seen().len();
    assert_eq!(post(&gateway, &keyed("0"), "{}").status, 201);
    assert_eq!(origin.seen().len(), sent + 1);
}

#[test]
fn a_filter_with_another_name_recognises_the_keys_of_the_old_one() {
    let origin = shop(Duration::ZERO);
    let yaml = with(origin.address, ", when: always, rate: 1/10s");
    let gateway = Gateway::start(&yaml);
    let places: Vec<String> = (0..3).map(|key| place(&post(&gateway, &keyed(&key.to_string()), "{}"))).collect();
    assert_eq!(result(&gateway, &places[0]).status, 201);
    gateway.reload(&renamed(&yaml));
    let again = post(&gateway, &keyed("2"), "{}");
    assert_eq!(place(&again), places[2], "one key, one request");
    assert_eq!(post(&gateway, &keyed("2"), "{\"other\":1}").status, 422);
    let done = post(&gateway, &keyed("0"), "{}");
    assert_eq!((done.status, done.header("idempotent-replayed")), (201, Some("true")), "{done:?}");
    // And back: the file has it again, with its line.
    gateway.reload(&yaml.replace("rate: 1/10s", "rate: 100/s"));
    for place in &places {
        assert_eq!(result(&gateway, place).status, 201);
    }
    assert_eq!(origin.seen().len(), 3);
}

#[test]
fn a_shadow_beside_them_hides_no_promise() {
    let origin = shop(Duration::ZERO);
    let yaml = with(origin.address, ", when: always, rate: 1/10s");
    let gateway = Gateway::start(&yaml);
    let places: Vec<String> = (0..2).map(|key| place(&post(&gateway, &keyed(&key.to_string()), "{}"))).collect();
    let shadow = "  aside: {mode: shadow, respond_async: {store: disk}}\n  afterwards:";
    gateway.reload(&renamed(&yaml).replace("  afterwards:", shadow));
    assert_eq!(place(&post(&gateway, &keyed("1"), "{}")), places[1]);
    let listed = gateway.admin("GET", "/-/async/requests");
    assert_eq!((listed.status, listed.json()["requests"].as_array().map(Vec::len)), (200, Some(2)), "{listed:?}");
    let id = places[1].rsplit('/').next().expect("a name");
    assert_eq!(gateway.admin("GET", &format!("/-/async/requests/{id}")).status, 200);
    assert_eq!(gateway.admin("GET", &format!("/-/async/requests/{}", "0".repeat(id.len()))).status, 404);
}

#[test]
fn a_filter_with_another_store_recognises_the_keys_in_the_old_one() {
    let origin = shop(Duration::ZERO);
    let yaml = with(origin.address, ", when: always, rate: 1/10s");
    let moved = yaml.replace("{disk: {", "{other: {").replace("store: disk", "store: other");
    let mut gateway = Gateway::start(&yaml);
    let places: Vec<String> = (0..3).map(|key| place(&post(&gateway, &keyed(&key.to_string()), "{}"))).collect();
    assert_eq!(result(&gateway, &places[0]).status, 201);
    gateway.reload(&moved);
    assert_eq!(place(&post(&gateway, &keyed("2"), "{}")), places[2], "one key, one request");
    assert_eq!(post(&gateway, &keyed("2"), "{\"other\":1}").status, 422);
    assert_eq!(post(&gateway, &keyed("0"), "{}").header("idempotent-replayed"), Some("true"));
    // Nor does it overtake itself where there is no need to wait.
    gateway.reload(&moved.replace("when: always", "when: overload"));
    assert_eq!(place(&post(&gateway, &keyed("2"), "{}")), places[2]);
    assert_eq!(origin.seen().len(), 1);
    // The old file is found again behind a restart.
    gateway.kill_and_start();
    assert_eq!(place(&post(&gateway, &keyed("2"), "{}")), places[2]);
}
