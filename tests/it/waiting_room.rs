//! A waiting room in front of a real backend: who waits gets in when there is room, and a kill costs nobody their place.

mod browser;
mod changes;
pub(crate) mod desk;
mod events;
mod files;
mod operators;
mod promises;
mod stock;
mod told;

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::{Answer, Gateway, Origin, eventually, get, one_route};

fn file(origin: SocketAddr, places: u32, folder: &Path) -> String {
    let more = "enabled_origin_commands: [revoke]";
    file_with(origin, &format!("total_active_users: {places}, new_users_per_minute: 600, {more}"), folder)
}

/// A file with one room, `drop`, before every path of the origin.
pub(crate) fn file_with(origin: SocketAddr, settings: &str, folder: &Path) -> String {
    let key = folder.join("room.key");
    std::fs::write(&key, "0f".repeat(32)).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let rooms = format!(
        "waiting_rooms:
  - {{name: drop, {settings}}}
waiting_room_keys: [{{kid: 1, secret_file: \"{}\"}}]",
        key.display()
    );
    one_route(origin, "", "    filters: [{waiting_room: drop}]", &rooms)
        .replace("DATA_DIR", &folder.display().to_string())
}

/// A visitor that keeps the token it is given.
#[derive(Default)]
struct Visitor(Option<String>);

impl Visitor {
    fn asks(&mut self, gateway: &Gateway) -> Answer {
        let header = self.0.as_ref().map(|ticket| format!("X-Tidegate-Ticket: {ticket}\r\n")).unwrap_or_default();
        let answer = get(gateway.public(), "/drop", &header);
        if let Some(ticket) = answer.header("x-tidegate-ticket") {
            self.0 = Some(ticket.to_owned());
        }
        answer
    }

    fn number(&mut self, gateway: &Gateway) -> u64 {
        let answer = self.asks(gateway);
        assert_eq!(answer.status, 503, "{answer:?}");
        answer.json()["waitingRoom"]["ticketNumber"].as_u64().expect("a number")
    }
}

#[test]
fn who_waits_is_told_so_and_gets_in_within_a_second_of_more_room() {
    let origin = Origin::ok();
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(&file(origin.address, 1, folder.path()));
    let (mut inside, mut waiting) = (Visitor::default(), Visitor::default());
    eventually("somebody walks in", Duration::from_secs(5), || inside.asks(&gateway).status == 200);
    let first = waiting.asks(&gateway);
    assert_eq!((first.status, first.json()["code"].as_str()), (503, Some("waiting-room")));
    assert!(first.header("retry-after").is_some() && first.header("set-cookie").is_some(), "{first:?}");
    let number = waiting.number(&gateway);
    assert_eq!(waiting.number(&gateway), number);
    assert_eq!(inside.asks(&gateway).status, 200);
    gateway.reload(&file(origin.address, 2, folder.path()));
    let start = Instant::now();
    eventually("the one who waits gets in", Duration::from_secs(5), || waiting.asks(&gateway).status == 200);
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert_eq!(inside.asks(&gateway).status, 200);
    let prediction = gateway.admin("GET", "/-/waiting_rooms/drop/predict?total_active_users=4").json();
    let rate = |when: &str| prediction[when]["rate_per_minute"].as_f64();
    assert!(rate("then") > rate("now"), "{prediction}");
    assert_eq!(gateway.admin("POST", "/-/waiting_rooms/drop/sold_out").status, 200);
    eventually("nothing is left", Duration::from_secs(2), || {
        gateway.admin("GET", "/-/waiting_rooms/drop").json()["state"] == "sold_out"
    });
    assert_eq!(Visitor::default().asks(&gateway).json()["waitingRoom"]["reason"], "sold_out");
    assert_eq!(gateway.admin("POST", "/-/waiting_rooms/drop/reopen").status, 200);
    assert_eq!(gateway.admin("GET", "/-/waiting_rooms/drip").status, 404);
    eventually("both are counted", Duration::from_secs(2), || gateway.metric("tidegate_waiting_room_active") > 1.5);
}

#[test]
fn a_kill_costs_nobody_their_place_and_lets_nobody_in_too_many() {
    let origin = Origin::ok();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tidegate.yaml");
    std::fs::write(&path, file(origin.address, 1, folder.path())).unwrap();
    let gateway = Gateway::start_on(&path);
    let (mut inside, mut early, mut late) = (Visitor::default(), Visitor::default(), Visitor::default());
    eventually("somebody walks in", Duration::from_secs(5), || inside.asks(&gateway).status == 200);
    early.asks(&gateway);
    let number = early.number(&gateway);
    gateway.signal("KILL");
    drop(gateway);

    let gateway = Gateway::start_on(&path);
    assert_eq!(early.number(&gateway), number, "the place is kept");
    assert_eq!(inside.asks(&gateway).status, 200, "the pass is good");
    late.asks(&gateway);
    assert!(late.number(&gateway) > number, "no number is given twice");
    for _ in 0..3 {
        assert_eq!(early.asks(&gateway).status, 503);
        assert_eq!(late.asks(&gateway).status, 503);
    }
}
