//! The storm that `./dev storm` raises for ten minutes, for half of one: every process is killed again and again, channels
//! fail in every way, callbacks come twice, late, forged or never, and then all books and bills agree.

use std::process::Command;

use super::flood::driver;

#[test]
fn under_every_fault_and_with_every_process_killed_all_that_is_charged_is_delivered_or_paid_back_once() {
    let output = Command::new(driver("storm"))
        .args(["--duration", "24s", "--kill-every", "6s", "--pay-within", "12s"])
        .args(["--config", concat!(env!("CARGO_MANIFEST_DIR"), "/config/tidegate.yaml")])
        .output()
        .expect("the driver runs");
    let (told, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{told}{errors}");
}
