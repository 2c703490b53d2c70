//! The files of a room: only the room that runs touches them, and only what is taken over stays written.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::desk::Guest;
use super::operators::{ROOM, Stage};
use crate::support::eventually;

/// What lies below a folder: names, which file it is, when it was written, and what it says.
fn lies(folder: &Path) -> BTreeMap<PathBuf, (u64, i64, Vec<u8>)> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        let about = std::fs::metadata(&path).unwrap();
        let bytes = std::fs::read(&path).unwrap_or_default();
        all.insert(path.clone(), (about.ino(), about.mtime_nsec(), bytes));
        if about.is_dir() {
            all.extend(lies(&path));
        }
    }
    all
}

fn vip() -> Value {
    json!({ "name": "vip", "total_active_users": 5, "new_users_per_minute": 5 })
}

#[test]
fn a_dry_run_and_a_check_touch_no_file_of_a_room_that_runs_or_does_not_exist_yet() {
    let stage = Stage::new("total_active_users: 1, new_users_per_minute: 600");
    let to = stage.gateway.public();
    Guest::default().walks_in(to);
    Guest::default().joins(to);
    let (mut before, mut quiet) = (lies(stage.folder.path()), 0);
    eventually("nothing is written any more", Duration::from_secs(10), || {
        let now = lies(stage.folder.path());
        quiet = if now == before { quiet + 1 } else { 0 };
        before = now;
        quiet > 20
    });
    let tried = [
        stage.sends("PATCH", &format!("{ROOM}?dry_run=1"), &json!({ "total_active_users": 2 })),
        stage.sends(
            "PUT",
            &format!("{ROOM}?dry_run=1"),
            &json!({ "total_active_users": 2, "new_users_per_minute": 9 }),
        ),
        stage.sends("POST", "/-/waiting_rooms?dry_run=1", &vip()),
        stage.gateway.admin("POST", "/-/reload"),
    ];
    for answer in tried {
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    assert_eq!(lies(stage.folder.path()), before);
}

#[test]
fn who_joins_after_a_reload_keeps_the_place_over_a_kill() {
    let mut stage = Stage::new("total_active_users: 1, new_users_per_minute: 600, queue_all: true");
    let changed = stage.sends("PATCH", ROOM, &json!({ "new_users_per_minute": 60 }));
    assert_eq!(changed.status, 200, "{changed:?}");
    let mut guests: Vec<Guest> = (0..3).map(|_| Guest::default()).collect();
    let to = stage.gateway.public();
    let numbers: Vec<u64> = guests.iter_mut().map(|guest| guest.joins(to)).collect();
    // One of them leaves, which only the journal can know after a kill.
    assert_eq!(guests[1].asks(to, "POST", "/.tidegate/wr/drop/leave").status, 200);
    eventually("it is written", Duration::from_secs(5), || {
        let written = std::fs::read_to_string(stage.folder.path().join("waiting_rooms/drop.journal")).unwrap();
        written.contains(&format!("\"spent\":[{}]", numbers[1]))
    });
    stage.gateway.kill_and_start();
    let to = stage.gateway.public();
    for (at, waits) in [(0, true), (1, false), (2, true)] {
        let told = guests[at].asks(to, "GET", "/drop").json();
        assert_eq!(told["waitingRoom"]["ticketNumber"] == numbers[at], waits, "{told}");
    }
}

#[test]
fn a_change_that_fails_in_earnest_is_taken_out_of_the_file_again() {
    let stage = Stage::new("total_active_users: 1, new_users_per_minute: 600");
    let before = stage.text();
    // What a rehearsal does not do: the new room's secret cannot be put in its place.
    let trap = stage.folder.path().join("waiting_rooms/vip.new");
    std::fs::create_dir(&trap).unwrap();
    assert_eq!(stage.sends("POST", "/-/waiting_rooms?dry_run=1", &vip()).status, 200);
    let failed = stage.sends("POST", "/-/waiting_rooms", &vip());
    assert_eq!((failed.status, &failed.json()["code"]), (422, &"configuration-refused".into()), "{failed:?}");
    assert_eq!(stage.text(), before, "the file says what the gateway runs on");
    assert_eq!(stage.gateway.admin("GET", "/-/waiting_rooms/vip").status, 404);
    assert_eq!(stage.gateway.admin("POST", "/-/reload").json()["result"], "unchanged");
    std::fs::remove_dir(&trap).unwrap();
    assert_eq!(stage.sends("POST", "/-/waiting_rooms", &vip()).status, 201);
    assert!(stage.text().contains("vip"), "{}", stage.text());
}
