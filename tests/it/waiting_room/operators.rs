//! What operators do to a room over the admin side.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::desk::Guest;
use super::file_with;
use crate::support::{Answer, Gateway, Origin, eventually, exchange};

pub(super) const ROOM: &str = "/-/waiting_rooms/drop";

pub(super) struct Stage {
    pub(super) gateway: Gateway,
    file: PathBuf,
    pub(super) folder: TempDir,
    _origin: Origin,
}

impl Stage {
    pub(super) fn new(settings: &str) -> Self {
        let (origin, folder) = (Origin::ok(), tempfile::tempdir().unwrap());
        let file = folder.path().join("tidegate.yaml");
        std::fs::write(&file, file_with(origin.address, settings, folder.path())).unwrap();
        Self { gateway: Gateway::start_on(&file), file, folder, _origin: origin }
    }

    pub(super) fn sends(&self, method: &str, target: &str, body: &Value) -> Answer {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let head = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json");
        exchange(self.gateway.address("admin"), &format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
    }

    pub(super) fn text(&self) -> String {
        std::fs::read_to_string(&self.file).unwrap()
    }

    fn reads(&self, target: &str) -> Value {
        self.gateway.admin("GET", target).json()
    }
}

#[test]
fn a_limit_is_tried_dry_then_changed_holds_within_a_second_and_stands_in_the_file() {
    let mut stage = Stage::new("total_active_users: 1, new_users_per_minute: 600, polling: {min: 500ms}");
    let to = stage.gateway.public();
    let (mut inside, mut waiting) = (Guest::default(), Guest::default());
    inside.walks_in(to);
    waiting.joins(to);
    let before = stage.text();
    let change = json!({ "total_active_users": 2 });
    let dry = stage.sends("PATCH", &format!("{ROOM}?dry_run=1"), &change);
    let told = dry.json();
    assert_eq!(dry.status, 200, "{told}");
    let rate = |when: &str| told[when]["rate_per_minute"].as_f64();
    assert!(rate("then") >= rate("now") && told["changes"].is_array(), "{told}");
    assert!(told["then"]["last_in_line_waits_seconds"].as_u64() <= told["now"]["last_in_line_waits_seconds"].as_u64());
    assert_eq!(stage.text(), before, "nothing was changed");
    assert_eq!(waiting.asks(to, "GET", "/drop").status, 503);
    let begun = Instant::now();
    let done = stage.sends("PATCH", ROOM, &change);
    assert_eq!((done.status, &done.json()["waiting_room"]["name"]), (200, &"drop".into()), "{done:?}");
    eventually("there is room", Duration::from_secs(5), || {
        waiting.asks(to, "POST", "/.tidegate/wr/drop/claim").status == 200
    });
    assert!(begun.elapsed() < Duration::from_millis(1_500), "{:?}", begun.elapsed());
    assert_eq!(stage.text(), before.replace("total_active_users: 1", "total_active_users: 2"));
    stage.gateway.kill_and_start();
    assert_eq!(stage.reads(ROOM)["total_active_users"], 2);
}

#[test]
fn a_file_that_is_not_what_runs_is_not_taken_over_along_with_a_change() {
    let stage = Stage::new("total_active_users: 1, new_users_per_minute: 600");
    let before = stage.text();
    let broken = before.replace("total_active_users: 1", "total_active_users: one");
    std::fs::write(&stage.file, &broken).unwrap();
    for to in [ROOM.to_owned(), format!("{ROOM}?dry_run=1")] {
        let refused = stage.sends("PATCH", &to, &json!({ "queue_all": true }));
        assert_eq!((refused.status, &refused.json()["code"]), (409, &"file-not-changed".into()), "{refused:?}");
    }
    assert_eq!(stage.text(), broken, "it stays as somebody has left it");
    std::fs::write(&stage.file, &before).unwrap();
    assert_eq!(stage.sends("PATCH", ROOM, &json!({ "queue_all": true })).status, 200);
    assert!(stage.text().contains("queue_all: true"), "{}", stage.text());
}

#[test]
fn rooms_are_made_replaced_and_taken_away_and_what_is_wrong_changes_nothing() {
    let stage = Stage::new("total_active_users: 1, new_users_per_minute: 600");
    let settings = json!({ "name": "vip", "total_active_users": 5, "new_users_per_minute": 5 });
    let made = stage.sends("POST", "/-/waiting_rooms", &settings);
    assert_eq!((made.status, &made.json()["waiting_room"]["total_active_users"]), (201, &5.into()), "{made:?}");
    assert_eq!(stage.sends("POST", "/-/waiting_rooms", &settings).status, 409);
    let one = "/-/waiting_rooms/vip";
    let replaced = stage.sends("PUT", one, &json!({ "total_active_users": 7, "new_users_per_minute": 6 }));
    assert_eq!((replaced.status, &replaced.json()["waiting_room"]["new_users_per_minute"]), (200, &6.into()));
    let before = stage.text();
    let wrong = stage.sends("PATCH", one, &json!({ "total_active_users": 0, "sesion_duration": "5m" }));
    let problems = wrong.json();
    assert_eq!((wrong.status, problems["code"].as_str()), (422, Some("configuration-refused")));
    assert!(problems["problems"].as_array().is_some_and(|problems| problems.len() >= 2), "{problems}");
    assert_eq!(stage.sends("PATCH", "/-/waiting_rooms/none", &json!({ "queue_all": true })).status, 404);
    assert_eq!(stage.sends("PATCH", one, &json!([1])).status, 400);
    assert_eq!(stage.sends("DELETE", ROOM, &Value::Null).status, 422, "a route uses it");
    assert_eq!(stage.text(), before);
    assert_eq!(stage.sends("DELETE", &format!("{one}?dry_run=1"), &Value::Null).status, 200);
    assert_eq!(stage.reads(one)["name"], "vip");
    assert_eq!(stage.sends("DELETE", one, &Value::Null).status, 200);
    assert_eq!(stage.gateway.admin("GET", one).status, 404);
    assert!(stage.folder.path().join("waiting_rooms/vip.journal").exists(), "its line is kept");
}

#[test]
fn operators_see_status_events_rules_and_the_page() {
    let rule = "rules: [{action: bypass_waiting_room, expression: 'request.path == \"/pay\"'}]";
    let event = "events: [{name: sale, event_start_time: 2020-01-01T00:00:00+08:00, event_end_time: \
                 2020-01-01T01:00:00+08:00, queue_all: true}]";
    let stage = Stage::new(&format!("total_active_users: 1, new_users_per_minute: 600, {rule}, {event}"));
    let to = stage.gateway.public();
    Guest::default().walks_in(to);
    assert_eq!(Guest::default().asks(to, "GET", "/pay").status, 200);
    Guest::default().joins(to);
    eventually("one waits", Duration::from_secs(5), || stage.reads(&format!("{ROOM}/status"))["status"] == "queueing");
    let status = stage.reads(&format!("{ROOM}/status"));
    let (queued, active) = (&status["estimated_queued_users"], &status["estimated_total_active_users"]);
    assert_eq!((queued, active, &status["event_id"]), (&1.into(), &1.into(), &Value::Null));
    let event = stage.reads(&format!("{ROOM}/events"))["events"][0].clone();
    assert_eq!((&event["phase"], &event["queue_all"]), (&"over".into(), &true.into()));
    assert_eq!(event["event_start_time"], "2019-12-31T16:00:00Z");
    let rule = stage.reads(&format!("{ROOM}/rules"))["rules"][0].clone();
    assert_eq!((&rule["description"], &rule["requests"]), (&"rule-1".into(), &1.into()));
    let page = stage.gateway.admin("GET", &format!("{ROOM}/preview?lang=ja&state=sold_out"));
    assert!(page.status == 200 && page.text().contains("<html lang=\"ja\""), "{page:?}");
    assert!(!page.header("content-security-policy").unwrap().contains("script"), "nothing runs");
    assert_eq!(stage.gateway.admin("GET", &format!("{ROOM}/preview?state=asleep")).status, 400);
    let own = stage.sends("POST", &format!("{ROOM}/preview"), &json!("<h1>{{headline}}</h1>"));
    assert!(own.status == 200 && own.text().contains("<h1>You are in line"), "{own:?}");
    assert_eq!(stage.sends("POST", &format!("{ROOM}/preview"), &json!("{{nonsense}}")).status, 422);
    for view in ["status", "events", "rules", "preview"] {
        assert_eq!(stage.gateway.admin("GET", &format!("/-/waiting_rooms/drip/{view}")).status, 404, "{view}");
    }
}

#[test]
fn somebody_is_sent_away_and_a_room_is_emptied_and_opened_again() {
    let mut stage =
        Stage::new("total_active_users: 1, new_users_per_minute: 600, session_duration: 3s, refresh_interval: 5s");
    let to = stage.gateway.public();
    let (mut holder, mut first, mut second) = (Guest::default(), Guest::default(), Guest::default());
    holder.walks_in(to);
    let (gone, next) = (first.joins(to), second.joins(to));
    assert_eq!(stage.sends("POST", &format!("{ROOM}/revoke"), &json!({ "number": gone })).status, 200);
    assert_eq!(stage.sends("POST", &format!("{ROOM}/revoke"), &json!({ "number": gone })).status, 404);
    assert_eq!(stage.sends("POST", &format!("{ROOM}/revoke"), &json!({ "identity": "ann" })).status, 404);
    assert_eq!(stage.sends("POST", &format!("{ROOM}/revoke"), &json!({})).status, 400);
    assert_eq!(first.asks(to, "POST", "/.tidegate/wr/drop/claim").status, 410);
    assert_eq!(stage.gateway.admin("POST", &format!("{ROOM}/drain")).json()["state"], "draining");
    stage.gateway.kill_and_start();
    let to = stage.gateway.public();
    assert_eq!(stage.reads(ROOM)["state"], "draining", "a kill does not undo it");
    let begun = Instant::now();
    eventually("the visit ends although requests come", Duration::from_secs(20), || {
        holder.asks(to, "GET", "/drop").status != 200
    });
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert_eq!(second.asks(to, "GET", "/drop").json()["waitingRoom"]["paused"], true);
    assert_eq!(stage.gateway.admin("POST", &format!("{ROOM}/reopen")).status, 200);
    eventually("who kept the place gets in", Duration::from_secs(10), || second.asks(to, "GET", "/drop").status == 200);
    let number = stage.reads(ROOM)["frontier"].as_u64();
    assert!(number >= Some(next), "{number:?}");
    let revoked = stage.sends("POST", &format!("{ROOM}/revoke"), &json!({ "number": next }));
    assert_eq!((revoked.status, &revoked.json()["active"]), (200, &0.into()));
}
