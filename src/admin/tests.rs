//! What the admin side shows, to whom, and what it does not let happen. Real sockets, no gateway behind them.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;
use tidegate_filters::rate_limit::Buckets;

use super::*;
use crate::reload::tests::{Case, file, limit};

const TOKEN: &str = "a-token-for-these-tests-only-0123456789";

/// An admin side on a port of its own; ends with the test.
struct Admin {
    case: Case,
    address: SocketAddr,
    stopping: Arc<AtomicBool>,
    _runtime: tokio::runtime::Runtime,
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// A header's value; empty when there is none.
    fn header(&self, name: &str) -> &str {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value)
    }

    /// Status and code of a problem document.
    fn problem(&self) -> (u16, String) {
        assert_eq!(self.header("content-type"), "application/problem+json", "{}\n{}", self.head, self.body);
        assert_eq!(self.json()["status"], self.status);
        (self.status, self.json()["code"].as_str().unwrap_or_default().to_owned())
    }
}

impl Admin {
    fn new(text: &str) -> Self {
        let (case, stopping) = (Case::new(text), Arc::new(AtomicBool::new(false)));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = AdminState {
            gateway: case.gateway.clone(),
            reloader: case.reloader.clone(),
            stopping: stopping.clone(),
            addresses: vec![("public".to_owned(), "127.0.0.1:8080".parse().unwrap())],
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.spawn(serve(listener, state));
        Self { case, address, stopping, _runtime: runtime }
    }

    fn with_limits() -> Self {
        Self::new(&file(&[limit("quota", "client", "10/h"), limit("whole", "global", "5/h")].concat()))
    }

    fn with_token(token: &str) -> String {
        file("").replace("admin: {", &format!("admin: {{token: \"${{NO_SUCH_VARIABLE:-{token}}}\", "))
    }

    fn send(&self, line: &str, headers: &str, body: &[u8]) -> Answer {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let head = format!("{line} HTTP/1.1\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n", body.len());
        stream.write_all(head.as_bytes()).unwrap();
        // A body that is refused is not read to its end.
        let _ = stream.write_all(body);
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        let text = String::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").expect("a whole head");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        Answer { status, head: head.to_owned(), body: body.to_owned() }
    }

    fn ask(&self, line: &str) -> Answer {
        self.send(line, "Host: localhost\r\n", b"")
    }

    fn tell(&self, line: &str, body: &str) -> Answer {
        self.send(line, "Host: localhost\r\n", body.as_bytes())
    }
}

#[test]
fn health_and_readiness_are_for_everybody() {
    let admin = Admin::new(&Admin::with_token(TOKEN));
    for host in ["localhost", "10.0.0.7:9901", "evil.test"] {
        let headers = format!("Host: {host}\r\n");
        assert_eq!(admin.send("GET /-/health", &headers, b"").status, 200);
        assert_eq!(admin.send("GET /-/ready", &headers, b"").status, 200);
    }
    admin.stopping.store(true, SeqCst);
    assert_eq!((admin.ask("GET /-/ready").status, admin.ask("GET /-/health").status), (503, 200));
}

#[test]
fn with_a_token_nothing_is_told_or_done_without_it() {
    let admin = Admin::new(&Admin::with_token(TOKEN));
    let paths = [
        "GET /metrics",
        "GET /-/config",
        "GET /-/config/status",
        "GET /-/config/versions",
        "GET /-/limits",
        "DELETE /-/limits?policy=one&key=1",
        "GET /-/routes",
        "POST /-/reload",
        "POST /-/config/check",
        "POST /-/config/rollback?generation=1",
        "GET /nothing",
    ];
    let short = &TOKEN[..TOKEN.len() - 1];
    let wrong = ["", &format!("Authorization: Bearer {short}\r\n"), &format!("Authorization: Basic {TOKEN}\r\n")];
    for path in paths {
        for wrong in &wrong {
            let answer = admin.send(path, &format!("Host: localhost\r\n{wrong}"), b"");
            assert_eq!(answer.problem(), (401, "unauthorized".to_owned()), "{path} {wrong}");
            assert_eq!(answer.header("www-authenticate"), "Bearer");
        }
    }
    let right = |token: &str| format!("Host: gateway.example:9901\r\nAuthorization: bearer {token}\r\n");
    let shown = admin.send("GET /-/config", &right(TOKEN), b"");
    assert_eq!((shown.status, shown.body.contains(TOKEN)), (200, false));
    // The page is open, and there is nothing on it.
    assert_eq!(admin.ask("GET /").status, 200);
    // Another token holds from the next request on.
    let another = "another-token-for-these-tests-0123456789";
    admin.case.write(&Admin::with_token(another));
    assert_eq!(admin.send("POST /-/reload", &right(TOKEN), b"").status, 200);
    assert_eq!(admin.send("GET /metrics", &right(TOKEN), b"").status, 401);
    assert_eq!(admin.send("GET /metrics", &right(another), b"").status, 200);
}

#[test]
fn without_a_token_names_and_pages_of_other_sites_get_nothing() {
    let admin = Admin::with_limits();
    for host in ["localhost", "LOCALHOST:1", "127.0.0.1:9901", "[::1]:9901"] {
        assert_eq!(admin.send("GET /-/config", &format!("Host: {host}\r\n"), b"").status, 200, "{host}");
    }
    for host in ["evil.test", "localhost.evil.test", "127.0.0.1.evil.test", "10.0.0.1", ""] {
        let answer = admin.send("GET /-/config", &format!("Host: {host}\r\n"), b"");
        assert_eq!(answer.problem(), (403, "forbidden".to_owned()), "{host}");
    }
    let from = ["Origin: https://evil.test", "Origin: null", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Site: same-site"];
    for from in from {
        for line in ["POST /-/reload", "DELETE /-/limits?policy=one&key=192.0.2.7"] {
            let answer = admin.send(line, &format!("Host: localhost:9901\r\n{from}\r\n"), b"");
            assert_eq!(answer.problem(), (403, "forbidden".to_owned()), "{line} {from}");
        }
    }
    let own = "Host: localhost:9901\r\nOrigin: http://localhost:9901\r\nSec-Fetch-Site: same-origin\r\n";
    assert_eq!(admin.send("POST /-/reload", own, b"").status, 200);
}

#[test]
fn what_is_wrong_with_a_request_is_said_in_a_problem_document() {
    let admin = Admin::with_limits();
    assert_eq!(admin.ask("GET /-/nothing").problem(), (404, "not-found".to_owned()));
    let answer = admin.ask("GET /-/reload");
    assert_eq!((answer.problem(), answer.header("allow")), ((405, "method-not-allowed".to_owned()), "POST"));
    let large = vec![b'#'; (4 << 20) + 1];
    let answer = admin.send("POST /-/config/check", "Host: localhost\r\n", &large);
    assert_eq!(answer.problem(), (413, "body-too-large".to_owned()));
    let answer = admin.send("POST /-/config/check", "Host: localhost\r\n", b"\xff");
    assert_eq!(answer.problem(), (400, "bad-request".to_owned()));
    for line in ["GET /-/limits?colour=red", "GET /-/routes?path=%2Fa&path=%2Fb"] {
        assert_eq!(admin.ask(line).problem(), (400, "bad-request".to_owned()), "{line}");
    }
    for body in ["", "{}", "{\"generation\": -1}", "{\"generation\": \"1\"}"] {
        assert_eq!(admin.tell("POST /-/config/rollback", body).problem(), (400, "bad-request".to_owned()), "{body}");
    }
}

#[test]
fn answers_are_kept_by_nobody() {
    let admin = Admin::with_limits();
    for line in ["GET /", "GET /metrics", "GET /-/config", "GET /-/nothing", "GET /-/health"] {
        let answer = admin.ask(line);
        assert_eq!((answer.header("cache-control"), answer.header("x-content-type-options")), ("no-store", "nosniff"));
    }
    let policy = admin.ask("GET /").header("content-security-policy").to_owned();
    assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{policy}");
    assert!(!policy.contains("unsafe"));
    for (line, kind) in [("GET /-/dashboard.js", "text/javascript"), ("GET /-/dashboard.css", "text/css")] {
        assert!(admin.ask(line).header("content-type").starts_with(kind));
    }
    assert!(admin.ask("GET /metrics").header("content-type").starts_with("text/plain; version=0.0.4"));
}

#[test]
fn a_reload_is_answered_for_programs_and_for_people() {
    let admin = Admin::with_limits();
    admin.case.write(&file(&limit("quota", "client", "20/h")));
    let done = admin.ask("POST /-/reload").json();
    assert_eq!((&done["result"], &done["generation"]), (&"applied".into(), &2.into()));
    assert_eq!((&done["changes"][0]["fate"], &done["changes"][1]["fate"]), (&"rescaled".into(), &"dropped".into()));

    let people = "Host: localhost\r\nAccept: text/plain\r\n";
    admin.case.write(&file(&limit("quota", "route", "20/h")));
    let text = admin.send("POST /-/reload", people, b"");
    assert_eq!(text.status, 200);
    assert!(text.body.contains("reset     quota (rate_limit): `quota/one` counts by something else"), "{}", text.body);

    admin.case.write(&file(&limit("quota", "route", "lots")));
    let refused = admin.ask("POST /-/reload");
    assert_eq!(refused.problem().0, 422);
    assert_eq!(refused.json()["problems"][0]["line"], 6);
    let text = admin.send("POST /-/reload", people, b"");
    assert!(text.status == 422 && text.body.contains("tidegate.yaml:6:"), "{}", text.body);
    let status = admin.ask("GET /-/config/status").json();
    assert_eq!((&status["generation"], &status["last_reload"]["result"]), (&3.into(), &"refused".into()));
    assert_eq!(status["listeners"][0]["address"], "127.0.0.1:8080");

    let restart = file("").replace("server: {", "server: {threads: 3, ");
    admin.case.write(&restart);
    let refused = admin.ask("POST /-/reload");
    assert_eq!(refused.problem(), (422, "restart-required".to_owned()));
    assert!(refused.body.contains("server.threads"), "{}", refused.body);
    assert_eq!(admin.case.generation(), 3);
}

#[test]
fn a_check_changes_nothing_and_a_rollback_goes_back() {
    let admin = Admin::with_limits();
    let checked = admin.tell("POST /-/config/check", &file(&limit("quota", "route", "1/h"))).json();
    assert_eq!((&checked["ok"], &checked["changes"][0]["fate"]), (&true.into(), &"reset".into()));
    assert_eq!(admin.ask("GET /-/limits").json()["policies"].as_array().map(Vec::len), Some(2), "no trace of it");
    admin.case.write(&file(""));
    admin.ask("POST /-/reload");
    assert_eq!(admin.tell("POST /-/config/rollback", "{\"generation\": 7}").problem().0, 404);
    let back = admin.tell("POST /-/config/rollback", "{\"generation\": 1}").json();
    assert_eq!((&back["generation"], &back["source"]), (&3.into(), &"rollback".into()));
    assert_eq!(admin.ask("POST /-/config/rollback?generation=2").json()["generation"], 4);
    let versions = admin.ask("GET /-/config/versions").json();
    assert_eq!(versions["versions"].as_array().map(Vec::len), Some(4));
}

#[test]
fn a_debt_is_shown_and_forgiven_on_an_operators_word() {
    let admin = Admin::with_limits();
    let gateway = &admin.case.gateway;
    let key = gateway.snapshot().identities.client_identity("192.0.2.7".parse().unwrap()).key;
    for (_, buckets) in gateway.shared.states.all::<Buckets>() {
        (0..4).for_each(|_| _ = buckets.take(key, 1, gateway.shared.clock.now()).unwrap());
    }
    let limit = |line: &str| admin.ask(line).json()["limits"][0].clone();
    let owes = limit("GET /-/limits?policy=one&filter=quota&key=192.0.2.7");
    assert_eq!((&owes["remaining"], &owes["burst"], &owes["filter"]), (&6.into(), &10.into(), &"quota".into()));
    assert!(owes["full_in_ms"].as_f64().is_some_and(|wait| wait > 1_400_000.0), "{owes}");
    assert_eq!(limit("GET /-/limits?policy=one&filter=quota&key=192.0.2.8")["remaining"], 10);
    assert_eq!(limit("GET /-/limits?policy=one&filter=whole&key=x")["remaining"], 1);
    assert_eq!(admin.ask("GET /-/limits?policy=none").problem().0, 404);
    assert_eq!(admin.ask("GET /-/limits?filter=quota&key=nobody").problem().0, 400);
    assert_eq!(admin.ask("DELETE /-/limits?policy=one").problem().0, 400);
    assert_eq!(admin.ask("DELETE /-/limits?policy=one&filter=quota&key=192.0.2.7").json()["forgotten"], 1);
    assert_eq!(limit("GET /-/limits?policy=one&filter=quota&key=192.0.2.7")["remaining"], 10);
    assert_eq!(limit("GET /-/limits?policy=one&filter=whole&key=x")["remaining"], 1, "of the one asked for only");
    // A limit that was taken out lingers, and decides nothing.
    admin.case.write(&file(&limit_of_quota()));
    admin.ask("POST /-/reload");
    assert_eq!(admin.ask("GET /-/limits").json()["policies"].as_array().map(Vec::len), Some(1));
}

fn limit_of_quota() -> String {
    limit("quota", "route", "10/h")
}

#[test]
fn a_request_is_told_its_route() {
    let admin = Admin::with_limits();
    assert_eq!(admin.ask("GET /-/routes").json()["routes"][0]["route"], "all");
    let explained = admin.ask("GET /-/routes?path=//a/./b&method=POST&host=Shop.Test:80&listener=public").json();
    assert_eq!((&explained["path"], &explained["route"]["route"]), (&"/a/b".into(), &"all".into()));
    assert_eq!(admin.ask("GET /-/routes?path=/%252f").problem(), (400, "bad-path".to_owned()));
    assert_eq!(admin.ask("GET /-/routes?path=/&listener=none").problem(), (400, "unknown-listener".to_owned()));
}

#[test]
fn silent_clients_keep_nobody_out() {
    let admin = Admin::with_limits();
    let begun = Instant::now();
    let half = b"POST /-/config/check HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n#";
    let silent: Vec<TcpStream> = (0..3 * MOST_CONNECTIONS)
        .map(|number| {
            let mut stream = TcpStream::connect(admin.address).unwrap();
            // Nothing at all, half a head, half a body.
            stream.write_all(&half[..[0, 20, half.len()][number % 3]]).unwrap();
            stream
        })
        .collect();
    assert_eq!(admin.ask("GET /-/config/status").status, 200);
    assert!(begun.elapsed() < HEAD_TIME, "it took {:?}", begun.elapsed());
    drop(silent);
}
