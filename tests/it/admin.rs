//! The admin side: what it shows, to whom, and what it does not let happen.

use std::time::Duration;

use crate::support::{Gateway, Origin, Raw, eventually, exchange, get, one_route};

fn gateway(origin: &Origin) -> Gateway {
    let filter = "filters:
  quota:
    rate_limit:
      policies: [{name: client, key: client, rate: 100/h}]";
    Gateway::start(&one_route(origin.address, "", "    filters: [quota]", filter))
}

fn ask(gateway: &Gateway, line: &str, headers: &str, body: &str) -> crate::support::Answer {
    let request =
        format!("{line} HTTP/1.1\r\n{headers}Connection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    exchange(gateway.address("admin"), &request)
}

#[test]
fn health_readiness_metrics_and_routes_are_shown() {
    let origin = Origin::ok();
    let gateway = gateway(&origin);
    assert_eq!(get(gateway.public(), "/", "").status, 200);
    assert_eq!(gateway.admin("GET", "/-/health").status, 200);
    assert_eq!(gateway.admin("GET", "/-/ready").status, 200);
    // A request is counted when its answer has been written, which is just after the client has read it.
    eventually("it is counted", Duration::from_secs(5), || gateway.metric("tidegate_requests_total{") > 0.5);
    let metrics = gateway.admin("GET", "/metrics");
    assert!(metrics.header("content-type").is_some_and(|kind| kind.starts_with("text/plain; version=0.0.4")));
    for name in [
        "tidegate_requests_total{route=\"all\",method=\"GET\",code=\"200\"} 1",
        "tidegate_build_info",
        "tidegate_config_last_reload_successful 1",
    ] {
        assert!(metrics.text().contains(name), "{name} in\n{}", metrics.text());
    }
    let routes = gateway.admin("GET", "/-/routes").json();
    assert_eq!(
        (&routes["routes"][0]["route"], &routes["routes"][0]["filters"][0]["filter"]),
        (&"all".into(), &"quota".into())
    );
    let explained = gateway.admin("GET", "/-/routes?path=//a/../b&method=POST").json();
    assert_eq!((&explained["path"], &explained["route"]["route"]), (&"/b".into(), &"all".into()));
    let page = gateway.admin("GET", "/");
    assert!(page.header("content-security-policy").is_some_and(|policy| policy.contains("default-src 'none'")));
    assert_eq!(gateway.admin("GET", "/-/nothing").status, 404);
    let wrong = gateway.admin("GET", "/-/reload");
    assert_eq!((wrong.status, wrong.header("allow")), (405, Some("POST")));
}

#[test]
fn the_configuration_is_shown_without_secrets_and_checked_without_effect() {
    let origin = Origin::ok();
    let gateway = gateway(&origin);
    let running = gateway.admin("GET", "/-/config").text();
    assert!(running.contains("rate: 100/h"), "{running}");
    let next = running.replace("rate: 100/h", "rate: 50/h");
    let checked = ask(&gateway, "POST /-/config/check", "Host: localhost\r\n", &next);
    assert_eq!(checked.json()["changes"][0]["fate"], "rescaled", "{}", checked.text());
    let wrong =
        ask(&gateway, "POST /-/config/check", "Host: localhost\r\n", &running.replace("rate: 100/h", "rate: lots"));
    assert_eq!(wrong.status, 422);
    assert_eq!(wrong.json()["problems"].as_array().map(Vec::len), Some(1), "{}", wrong.text());
    assert_eq!(gateway.generation(), 1);
    let large = ask(&gateway, "POST /-/config/check", "Host: localhost\r\n", &"#".repeat((4 << 20) + 1));
    assert_eq!(large.status, 413);
}

#[test]
fn without_a_token_only_this_machine_is_answered() {
    let origin = Origin::ok();
    let gateway = gateway(&origin);
    // A name of another site that resolves to this machine.
    assert_eq!(ask(&gateway, "GET /-/config", "Host: evil.test\r\n", "").status, 403);
    assert_eq!(ask(&gateway, "GET /-/health", "Host: evil.test\r\n", "").status, 200);
    for foreign in ["Origin: http://evil.test\r\n", "Sec-Fetch-Site: cross-site\r\n", "Origin: null\r\n"] {
        let answer = ask(&gateway, "POST /-/reload", &format!("Host: localhost\r\n{foreign}"), "");
        assert_eq!(answer.status, 403, "{foreign}");
    }
    assert_eq!(ask(&gateway, "POST /-/reload", "Host: localhost\r\n", "").status, 200);
    assert!(gateway.stderr().contains("changed by an operator"), "{}", gateway.stderr());
}

#[test]
fn with_a_token_everything_but_health_needs_it() {
    let origin = Origin::ok();
    let yaml = one_route(origin.address, "", "", "")
        .replace("admin:\n", "admin:\n  token: \"${NO_SUCH_VARIABLE:-a-token-for-this-test-only}\"\n");
    let gateway = Gateway::start(&yaml);
    assert_eq!(ask(&gateway, "GET /-/ready", "Host: x\r\n", "").status, 200);
    for wrong in ["", "Authorization: Bearer nonsense\r\n", "Authorization: Basic a-token-for-this-test-only\r\n"] {
        let answer = ask(&gateway, "GET /metrics", &format!("Host: x\r\n{wrong}"), "");
        assert_eq!((answer.status, answer.header("www-authenticate")), (401, Some("Bearer")), "{wrong}");
    }
    let right = "Host: x\r\nAuthorization: Bearer a-token-for-this-test-only\r\n";
    let shown = ask(&gateway, "GET /-/config", right, "");
    assert_eq!(shown.status, 200);
    assert!(!shown.text().contains("a-token-for-this-test-only"), "{}", shown.text());
}

#[test]
fn silent_connections_do_not_keep_operators_out() {
    let origin = Origin::ok();
    let gateway = gateway(&origin);
    let silent: Vec<Raw> = (0..40).map(|_| Raw::connect(gateway.address("admin"))).collect();
    assert_eq!(gateway.admin("GET", "/-/health").status, 200);
    drop(silent);
    // More than are served at once: they end by their deadline, and then there is room.
    let mut many: Vec<Raw> = (0..80).map(|_| Raw::connect(gateway.address("admin"))).collect();
    let ended = many[0].closed_within(Duration::from_secs(15));
    assert!(ended.is_some(), "a silent connection is ended");
}
