//! The flood that `./dev flood` sends, at a smaller scale: it lands in the waiting room, people are let in at the configured
//! pace, what there is is sold once, and all who still wait are told.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use super::set_up::Shop;

/// A driver lies beside the gateway's binary; cargo builds examples along with all tests, not for one.
pub(super) fn driver(name: &str) -> PathBuf {
    let driver = PathBuf::from(env!("CARGO_BIN_EXE_tidegate")).with_file_name("examples").join(name);
    if !driver.exists() {
        let built = Command::new(env!("CARGO")).args(["build", "--quiet", "--example", name]).status();
        assert!(built.is_ok_and(|status| status.success()), "the driver cannot be built");
    }
    driver
}

fn flood(shop: &Shop, arguments: &[&str]) -> (bool, Value) {
    let (target, admin) = (shop.url("gateway"), shop.url("admin"));
    let output = Command::new(driver("flash_sale"))
        .args(["--json", "--target", &target, "--admin", &admin])
        .args(arguments)
        .output()
        .expect("the driver runs");
    let report = serde_json::from_slice(&output.stdout);
    let report = report.unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    (output.status.success(), report)
}

#[test]
fn a_flood_waits_in_order_is_let_in_at_the_pace_and_hears_in_time_that_nothing_is_left() {
    let shop = Shop::start();
    let (passed, report) = flood(&shop, &["--users", "270", "--rate", "60/s", "--duration", "5s", "--flooder", "10%"]);
    let failed: Vec<&Value> =
        report["checks"].as_array().expect("checks").iter().filter(|check| check["passed"] == false).collect();
    assert!(passed && failed.is_empty(), "{failed:?}\n{report:#}");
    let said = |words: &str| {
        report["checks"].as_array().is_some_and(|checks| {
            checks.iter().any(|check| check["what"].as_str().is_some_and(|what| what.contains(words)))
        })
    };
    assert!(
        said("while people waited") && said("heard within a second"),
        "the room was not put to the test: {report:#}"
    );
    assert_eq!(report["delivered"], 100, "{report:#}");
    assert!(report["waited_in_line"].as_u64() > Some(50), "{report:#}");
}
