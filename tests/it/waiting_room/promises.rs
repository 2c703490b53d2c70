//! What a room says about its own promises over the real `/metrics`, who may have a place, and words that outlive a kill.

use std::time::Duration;

use super::desk::{Guest, full};
use super::file_with;
use crate::support::{Answer, Gateway, Origin, eventually, exchange, get};

fn tell(gateway: &Gateway, body: &str) -> Answer {
    let head = "PUT /-/waiting_rooms/drop/message HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json";
    exchange(gateway.address("admin"), &format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
}

#[test]
fn an_operators_word_survives_a_kill_right_behind_it() {
    let (origin, folder) = (Origin::ok(), tempfile::tempdir().unwrap());
    let (mut gateway, _holder) = full(&origin, folder.path());
    for text in ["Back at noon", "Back at one"] {
        assert_eq!(tell(&gateway, &format!("{{\"message\": \"{text}\", \"level\": \"warning\"}}")).status, 200);
        gateway.kill_and_start();
        let told = get(gateway.public(), "/.tidegate/wr/drop/frontier", "").json();
        assert_eq!((&told["message"], &told["messageLevel"]), (&text.into(), &"warning".into()));
    }
    assert_eq!(gateway.admin("DELETE", "/-/waiting_rooms/drop/message").status, 200);
    assert_eq!(gateway.admin("POST", "/-/waiting_rooms/drop/sold_out").status, 200);
    gateway.kill_and_start();
    let told = get(gateway.public(), "/.tidegate/wr/drop/frontier", "").json();
    assert_eq!((told["message"].is_null(), &told["state"]), (true, &"sold_out".into()));
}

#[test]
fn a_lost_journal_shows_as_overshoot_and_a_missed_turn_as_no_show() {
    let (origin, folder) = (Origin::ok(), tempfile::tempdir().unwrap());
    let path = folder.path().join("tidegate.yaml");
    let file = |places: u32| {
        let rule =
            "rules: [{description: callbacks, action: bypass_waiting_room, expression: 'request.path == \"/pay\"'}]";
        let settings = format!(
            "total_active_users: {places}, new_users_per_minute: 600, claim_window: 1s, refresh_interval: 5s, {rule}"
        );
        file_with(origin.address, &settings, folder.path())
    };
    std::fs::write(&path, file(3)).unwrap();
    let gateway = Gateway::start_on(&path);
    let mut guests: Vec<Guest> = (0..3).map(|_| Guest::default()).collect();
    guests.iter_mut().for_each(|guest| guest.walks_in(gateway.public()));
    assert_eq!(get(gateway.public(), "/pay", "").status, 200);
    eventually("they are inside", Duration::from_secs(5), || gateway.metric("tidegate_waiting_room_active") == 3.0);
    // The journal knows them now: they are given passes for a whole visit.
    for guest in &mut guests {
        assert_eq!(guest.asks(gateway.public(), "GET", "/drop").status, 200);
    }
    let metric = |gateway: &Gateway, name: &str| gateway.metric(&format!("tidegate_waiting_room_{name}"));
    assert_eq!(metric(&gateway, "bypassed_total{room=\"drop\",rule=\"callbacks\"}"), 1.0);
    assert_eq!((metric(&gateway, "overshoot_total"), metric(&gateway, "fifo_inversions_total")), (0.0, 0.0));
    let mut waiting = Guest::default();
    waiting.joins(gateway.public());
    guests[0].asks(gateway.public(), "POST", "/.tidegate/wr/drop/leave");
    eventually("the turn is missed", Duration::from_secs(10), || {
        metric(&gateway, "no_show_ratio{") == 1.0 && metric(&gateway, "missed_total") == 1.0
    });
    assert_eq!(metric(&gateway, "abandoned_total{room=\"drop\",how=\"said\"}"), 1.0);
    gateway.signal("KILL");
    drop(gateway);

    std::fs::remove_file(folder.path().join("waiting_rooms/drop.journal")).unwrap();
    std::fs::write(&path, file(1)).unwrap();
    let gateway = Gateway::start_on(&path);
    for guest in &mut guests[1..] {
        assert_eq!(guest.asks(gateway.public(), "GET", "/drop").status, 200, "a pass is good");
    }
    eventually("it is counted", Duration::from_secs(5), || metric(&gateway, "overshoot_total") == 1.0);
}

#[test]
fn who_may_not_have_a_place_is_refused_before_a_number_is_given() {
    let (origin, folder) = (Origin::ok(), tempfile::tempdir().unwrap());
    let settings = "total_active_users: 1, new_users_per_minute: 600, \
                    eligibility: {expression: 'request.headers[\"x-member\"] == \"yes\"'}";
    let gateway = Gateway::start(&file_with(origin.address, settings, folder.path()));
    let to = gateway.public();
    let refused = get(to, "/drop", "");
    assert_eq!((refused.status, &refused.json()["waitingRoom"]["reason"]), (403, &"ineligible".into()));
    assert_eq!((refused.header("retry-after"), refused.header("set-cookie")), (None, None), "{refused:?}");
    assert_eq!(get(to, "/drop", "Accept: text/html\r\n").status, 403);
    let join =
        "POST /.tidegate/wr/drop/join HTTP/1.1\r\nHost: shop.test\r\nX-Tidegate-Room: 1\r\nContent-Length: 0\r\n";
    let refused = exchange(to, &format!("{join}\r\n"));
    assert_eq!((refused.status, &refused.json()["waitingRoom"]["reason"]), (403, &"ineligible".into()));
    assert!(gateway.metric("tidegate_waiting_room_rejected_total{room=\"drop\",reason=\"ineligible\"}") >= 3.0);
    let tail = gateway.admin("GET", "/-/waiting_rooms/drop").json()["tail"].clone();
    assert_eq!(tail, 0, "no number is used up");
    eventually("a member walks in", Duration::from_secs(5), || get(to, "/drop", "X-Member: yes\r\n").status == 200);
    assert_eq!(exchange(to, &format!("{join}X-Member: yes\r\n\r\n")).status, 202, "a member may wait");
}
