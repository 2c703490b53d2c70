//! Which channel a request goes to, by weights and by what channels serve.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::support::{Answer, Gateway, Moody, Raw, channel, channels_file, exchange, get};

fn by(answer: &Answer) -> String {
    answer.header("tidegate-channel").unwrap_or("none").to_owned()
}

#[test]
fn weights_are_kept() {
    let (a, b, c) = (Moody::well(), Moody::well(), Moody::well());
    let channels = [
        channel("a", a.address(), "weight: 70"),
        channel("b", b.address(), "weight: 30"),
        channel("c", c.address(), "backup: true"),
    ];
    let filters = ["pick: {failover: {policy: weighted}}"];
    let gateway = Gateway::start(&channels_file(&channels, &[], &filters, "pick"));
    let mut raw = Raw::connect(gateway.public());
    for _ in 0..10_000 {
        raw.send("POST /pay HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi");
        assert_eq!(raw.answer().expect("an answer").status, 200);
    }
    assert_eq!((a.asked("/pay"), b.asked("/pay"), c.asked("/pay")), (7_000, 3_000, 0));
    assert!((gateway.metric("tidegate_channel_weight{upstream=\"pay\",channel=\"a\"}") - 70.0).abs() < 0.1);
}

/// A window that begins in two hours and lasts one, in UTC.
fn closed_now() -> String {
    let hour = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs() / 3_600 % 24;
    format!("hours: \"{:02}:00-{:02}:00 UTC\"", (hour + 2) % 24, (hour + 3) % 24)
}

#[test]
fn settings_rule_channels_out_and_a_pinned_query_reaches_them_all_the_same() {
    let origins: Vec<Moody> = (0..5).map(|_| Moody::well()).collect();
    let more = ["enabled: false", &closed_now(), "types: [alipay]", "amount: {min: 100, max: 5000}", "quota: 2/d"];
    let names = ["off", "closed", "alipay", "small", "few"];
    let channels: Vec<String> = names
        .iter()
        .zip(&origins)
        .zip(more)
        .map(|((name, origin), more)| channel(name, origin.address(), more))
        .collect();
    let filters = ["pick: {failover: {policy: priority, type: {header: x-type}}}"];
    let gateway = Gateway::start(&channels_file(&channels, &[], &filters, "pick"));
    let pay = |kind: &str, amount: &str| {
        let headers = format!("X-Type: {kind}\r\nPayment-Amount: {amount}\r\n");
        exchange(gateway.public(), &format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n{headers}\r\n"))
    };
    assert_eq!(by(&pay("alipay", "50")), "alipay");
    assert_eq!(by(&pay("wechat", "5000")), "small");
    assert_eq!(by(&pay("wechat", "5001")), "few");
    assert_eq!(by(&pay("wechat", "99")), "few");
    let answer = pay("wechat", "99");
    assert_eq!((answer.status, answer.header("tidegate-outcome")), (503, Some("not-sent")), "its quota is used up");
    assert!(answer.header("retry-after").is_some());
    for name in names {
        let pin = format!("Tidegate-Channel: {name}\r\n");
        assert_eq!(by(&get(gateway.public(), "/state", &pin)), name, "a query reaches who knows");
    }
    let pin = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nTidegate-Channel: off\r\n\r\n";
    assert_eq!(exchange(gateway.public(), pin).status, 503, "a payment does not");
    let view = gateway.admin("GET", "/-/channels").json();
    let why: Vec<_> = view["channels"].as_array().expect("a list").iter().map(|one| one["why_not"].clone()).collect();
    let expected = serde_json::json!(["disabled", "outside its hours", null, null, "quota used up"]);
    assert_eq!(serde_json::Value::from(why), expected, "{view}");
}

#[test]
fn without_a_filter_that_chooses_settings_hold_and_backups_wait() {
    let (a, b, c) = (Moody::well(), Moody::well(), Moody::well());
    let channels = [
        channel("a", a.address(), "backup: true"),
        channel("b", b.address(), ""),
        channel("c", c.address(), "enabled: false"),
    ];
    let gateway = Gateway::start(&channels_file(&channels, &[], &["pick: {failover: {}}"], ""));
    for _ in 0..6 {
        assert_eq!(by(&get(gateway.public(), "/", "")), "b");
    }
}

#[test]
fn max_changes_bounds_how_many_channels_a_request_tries() {
    let last = Moody::well();
    let mut channels: Vec<String> =
        ["a", "b"].iter().map(|name| channel(name, ([127, 0, 0, 1], crate::support::free_port()).into(), "")).collect();
    channels.push(channel("c", last.address(), ""));
    let file = |most: u32| {
        let pick = format!("pick: {{failover: {{max_changes: {most}}}}}");
        channels_file(&channels, &[], &[&pick], "pick")
    };
    let gateway = Gateway::start(&file(2));
    let answer = get(gateway.public(), "/", "");
    assert_eq!((by(&answer).as_str(), answer.header("tidegate-attempts")), ("c", Some("3")));
    gateway.reload(&file(1));
    let answer = get(gateway.public(), "/", "");
    assert_eq!((answer.status, answer.header("tidegate-outcome")), (503, Some("not-sent")));
    assert_eq!(last.asked("/"), 1);
}

#[test]
fn callbacks_are_tried_once() {
    let b = Moody::well();
    let dead = ([127, 0, 0, 1], crate::support::free_port()).into();
    let channels = [channel("a", dead, ""), channel("b", b.address(), "")];
    let filters = ["pick: {failover: {policy: priority}}"];
    let gateway = Gateway::start(&channels_file(&channels, &["class: callback"], &filters, "pick"));
    assert_eq!((get(gateway.public(), "/", "").status, b.asked("/")), (503, 0));
}
