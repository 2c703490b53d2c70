//! Endpoints that answer probes badly get no requests until they answer well again.

use std::time::Duration;

use crate::support::{Gateway, Moody, channel, channels_file, eventually, get};

const HEALTH: &str = "health: {path: /healthz, interval: 100ms, timeout: 100ms}";

fn file(a: &Moody, b: &Moody, upstream: &[&str]) -> String {
    let channels = [channel("a", a.address(), ""), channel("b", b.address(), "")];
    channels_file(&channels, upstream, &["pick: {failover: {policy: priority}}"], "pick")
}

fn healthy(gateway: &Gateway, channel: &str) -> bool {
    gateway.metric(&format!("tidegate_channel_healthy{{upstream=\"pay\",channel=\"{channel}\"}}")) > 0.5
}

fn answers(gateway: &Gateway) -> Option<String> {
    get(gateway.public(), "/", "").header("tidegate-channel").map(str::to_owned)
}

#[test]
fn two_bad_answers_take_it_out_and_two_good_ones_bring_it_back_over_reloads() {
    let (a, b) = (Moody::well(), Moody::well());
    let gateway = Gateway::start(&file(&a, &b, &[HEALTH]));
    let wait = Duration::from_secs(10);
    eventually("probes", wait, || a.asked("/healthz") > 1 && b.asked("/healthz") > 1);
    assert_eq!(answers(&gateway).as_deref(), Some("a"));
    a.says(503);
    eventually("it is out", wait, || !healthy(&gateway, "a"));
    assert!(healthy(&gateway, "b"));
    assert_eq!(answers(&gateway).as_deref(), Some("b"));
    let longer = HEALTH.replace("interval: 100ms", "interval: 1h");
    gateway.reload(&file(&a, &b, &[&longer]));
    assert_eq!(answers(&gateway).as_deref(), Some("b"), "a reload knows what was known");
    a.says(204);
    gateway.reload(&file(&a, &b, &[HEALTH]));
    eventually("it is in again", wait, || healthy(&gateway, "a"));
    assert_eq!(answers(&gateway).as_deref(), Some("a"));
    let log = gateway.stderr();
    assert!(log.contains("an endpoint is out") && log.contains("an endpoint is in again"), "{log}");
}

#[test]
fn one_that_hangs_is_out_and_when_all_are_out_probes_are_ignored() {
    let (a, b) = (Moody::well(), Moody::well());
    let gateway = Gateway::start(&file(&a, &b, &[HEALTH]));
    a.takes(Duration::from_millis(300));
    let wait = Duration::from_secs(10);
    eventually("it is out", wait, || !healthy(&gateway, "a"));
    b.says(500);
    eventually("both are out", wait, || !healthy(&gateway, "b"));
    assert_eq!(answers(&gateway).as_deref(), Some("a"), "the prober is the likelier culprit");
    let view = gateway.admin("GET", "/-/channels").json();
    assert_eq!(view["channels"][0]["health_ignored"], true, "{view}");
    assert!(gateway.stderr().contains("probes are ignored"), "{}", gateway.stderr());
}

#[test]
fn probes_end_with_the_setting_and_nothing_is_held_against_anybody() {
    let (a, b) = (Moody::well(), Moody::well());
    a.says(500);
    let gateway = Gateway::start(&file(&a, &b, &[HEALTH]));
    eventually("it is out", Duration::from_secs(10), || !healthy(&gateway, "a"));
    gateway.reload(&file(&a, &b, &[]));
    assert!(healthy(&gateway, "a"));
    assert_eq!(get(gateway.public(), "/", "").status, 500, "it is asked again");
    // A probe that had begun may still arrive.
    std::thread::sleep(Duration::from_millis(500));
    let asked = a.asked("/healthz");
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(a.asked("/healthz"), asked);
}

#[test]
fn an_endpoint_that_is_out_is_left_out_of_its_channel() {
    let (one, two) = (Moody::well(), Moody::well());
    let both = format!("name: a, endpoints: [\"{}\", \"{}\"]", one.address(), two.address());
    let gateway = Gateway::start(&channels_file(&[both], &[HEALTH], &["pick: {failover: {}}"], "pick"));
    one.says(500);
    let out = || gateway.admin("GET", "/-/channels").json()["channels"][0]["endpoints"][0]["healthy"] == false;
    eventually("it is out", Duration::from_secs(10), out);
    assert!(healthy(&gateway, "a"), "the channel has another");
    for _ in 0..4 {
        assert_eq!(get(gateway.public(), "/", "").status, 200);
    }
    assert_eq!((one.asked("/"), two.asked("/")), (0, 4));
}
