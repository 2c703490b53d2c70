//! Changes of the file that operators ask for: what is said of them is true of the file.

use std::io;

use serde_json::{Map, Value, json};

use super::Case;
use crate::config::RoomEdit;

fn file() -> String {
    let key = "0f".repeat(32);
    super::file("").replace(
        "routes:",
        &format!(
            "waiting_rooms: [{{name: drop, total_active_users: 2, new_users_per_minute: 60}}]\n\
             waiting_room_keys: [{{kid: 1, secret: \"${{KEY:-{key}}}\"}}]\nroutes:"
        ),
    )
}

fn places(count: u32) -> RoomEdit {
    let settings: Map<String, Value> = [("total_active_users".to_owned(), json!(count))].into_iter().collect();
    RoomEdit::Change("drop".to_owned(), settings)
}

fn total(case: &Case) -> u32 {
    case.gateway.snapshot().config.rooms[0].rules.limits.total_active_users
}

#[test]
fn a_change_holds_although_its_folder_is_not_on_the_disk_and_that_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let text = file().replace("server: {", &format!("server: {{data_dir: {}, ", data.display()));
    std::fs::write(folder.path().join("tidegate.yaml"), text).unwrap();
    let case = Case::on(folder);
    let attempt = case.reloader.edit_through(&places(5), &|_| Err(io::Error::other("no space"))).unwrap();
    assert_eq!((attempt.result, total(&case)), ("applied", 5));
    assert!(
        attempt.warning.as_ref().is_some_and(|why| why.contains("a power cut may undo it: no space")),
        "{attempt:?}"
    );
    assert!(std::fs::read_to_string(case.file()).unwrap().contains("total_active_users: 5"));
    assert_eq!(case.reloader.status().last_reload.unwrap().warning, attempt.warning);
    let attempt = case.reloader.edit(&places(6)).unwrap();
    assert_eq!((attempt.result, attempt.warning, total(&case)), ("applied", None, 6));
}
