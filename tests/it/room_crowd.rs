//! Virtual visitors over HTTP, a tenth of them bots, a fifth who leave; and the same, a hundred times as many, in process.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::{Gateway, Origin, one_route};

/// The driver lies beside this test. Cargo builds examples along with all tests, not for one.
fn driver() -> PathBuf {
    let driver = PathBuf::from(env!("CARGO_BIN_EXE_tidegate")).with_file_name("examples").join("visitors");
    if !driver.exists() {
        let built = Command::new(env!("CARGO")).args(["build", "--quiet", "--example", "visitors"]).status();
        assert!(built.is_ok_and(|status| status.success()), "the driver cannot be built");
    }
    driver
}

fn visitors(arguments: &[&str]) -> Value {
    let output = Command::new(driver()).arg("--json").args(arguments).output().expect("the driver runs");
    let report = serde_json::from_slice(&output.stdout);
    let report: Value = report.unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    assert!(output.status.success(), "{report}");
    report
}

fn file(origin: SocketAddr, folder: &Path) -> String {
    let key = folder.join("room.key");
    std::fs::write(&key, "0f".repeat(32)).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let rooms = format!(
        "waiting_rooms:
  - name: drop
    total_active_users: 36
    new_users_per_minute: 720
    session_duration: 3s
    polling: {{min: 500ms, max: 2s}}
waiting_room_keys: [{{kid: 1, secret_file: \"{}\"}}]",
        key.display()
    );
    one_route(origin, "", "    filters: [{waiting_room: drop}]", &rooms)
}

#[test]
fn a_crowd_over_http_is_served_in_order_and_bots_without_cookies_get_no_number() {
    let origin = Origin::ok();
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(&file(origin.address, folder.path()));
    let page = format!("http://{}/drop", gateway.public());
    let report = visitors(&["--target", &page, "--count", "150", "--within", "3s", "--stay", "1s"]);
    let count = |name: &str| report[name].as_u64().unwrap();
    assert_eq!((count("inversions"), count("numbers_of_bots"), count("failures")), (0, 0, 0), "{report}");
    assert_eq!(count("admitted") + count("left"), 135, "{report}");
    assert!(count("most_in_a_minute") <= 720 && count("wait_p99_ms") > 3_000, "{report}");
    assert!(report["eta_error"].as_f64().is_none_or(|error| error < 0.5), "{report}");
    assert!(gateway.metric("tidegate_waiting_room_joins_total") <= 135.0);
}

#[test]
fn ten_thousand_in_process_are_treated_alike() {
    let limits = ["--total-active-users", "2000", "--new-users-per-minute", "1200"];
    let report = visitors(&[&["--count", "10000"][..], &limits[..]].concat());
    let count = |name: &str| report[name].as_u64().unwrap();
    assert_eq!((count("inversions"), count("numbers_of_bots")), (0, 0), "{report}");
    assert!(count("most_in_a_minute") <= 1_200, "{report}");
    assert!(report["eta_error"].as_f64().is_some_and(|error| error < 0.25), "{report}");
}
