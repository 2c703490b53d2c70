//! The public side of a room, asked over real sockets.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::file_with;
use crate::support::{Answer, Gateway, Origin, Raw, eventually, exchange, get};

/// A visitor with a cookie jar, or with the header twin.
#[derive(Clone, Default)]
pub(crate) struct Guest {
    pub(crate) ticket: Option<String>,
    by_header: bool,
}

impl Guest {
    fn with_header() -> Self {
        Self { by_header: true, ..Self::default() }
    }

    pub(crate) fn headers(&self) -> String {
        let ticket = self.ticket.as_ref().map(|ticket| match self.by_header {
            true => format!("X-Tidegate-Ticket: {ticket}\r\n"),
            false => format!("Cookie: a=1; tgwr_drop={ticket}\r\n"),
        });
        ticket.unwrap_or_default()
    }

    pub(crate) fn asks(&mut self, to: SocketAddr, method: &str, target: &str) -> Answer {
        let headers = self.headers();
        let ours = if method == "POST" { "Sec-Fetch-Site: same-origin\r\nContent-Length: 0\r\n" } else { "" };
        let answer = exchange(to, &format!("{method} {target} HTTP/1.1\r\nHost: shop.test\r\n{headers}{ours}\r\n"));
        let cookie = answer.header("set-cookie").and_then(|set| set.strip_prefix("tgwr_drop=")?.split(';').next());
        let header = answer.header("x-tidegate-ticket");
        if let Some(ticket) = if self.by_header { header } else { cookie } {
            self.ticket = Some(ticket.to_owned());
        }
        answer
    }

    /// Joins and returns the number.
    pub(crate) fn joins(&mut self, to: SocketAddr) -> u64 {
        let first = self.asks(to, "POST", "/.tidegate/wr/drop/join");
        assert_eq!((first.status, &first.json()["waitingRoom"]["state"]), (202, &"PRE".into()), "{first:?}");
        let second = self.asks(to, "POST", "/.tidegate/wr/drop/join");
        let told = &second.json()["waitingRoom"];
        assert_eq!((second.status, &told["state"]), (200, &"WAITING".into()), "{second:?}");
        told["ticketNumber"].as_u64().expect("a number")
    }

    /// Gets in while there is room.
    pub(crate) fn walks_in(&mut self, to: SocketAddr) {
        eventually("somebody walks in", Duration::from_secs(5), || self.asks(to, "GET", "/").status == 200);
        assert_eq!(self.asks(to, "GET", "/").status, 200);
    }
}

/// A gateway with a room of one place, and who has that place.
pub(super) fn full(origin: &Origin, folder: &Path) -> (Gateway, Guest) {
    let settings = "total_active_users: 1, new_users_per_minute: 600, compat: [cloudflare], polling: {min: 500ms}";
    let gateway = Gateway::start(&file_with(origin.address, settings, folder));
    let mut holder = Guest::default();
    holder.walks_in(gateway.public());
    (gateway, holder)
}

fn tail(gateway: &Gateway) -> u64 {
    gateway.admin("GET", "/-/waiting_rooms/drop").json()["tail"].as_u64().expect("a number")
}

#[test]
fn a_visitor_joins_looks_claims_and_enters_by_cookie_and_by_header() {
    let (origin, folder) = (Origin::ok(), tempfile::tempdir().unwrap());
    let (gateway, mut holder) = full(&origin, folder.path());
    let to = gateway.public();
    for mut guest in [Guest::default(), Guest::with_header()] {
        let number = guest.joins(to);
        let early = guest.asks(to, "POST", "/.tidegate/wr/drop/claim");
        assert_eq!(early.status, 202, "{early:?}");
        assert!(early.header("retry-after").is_some());
        assert_eq!(holder.asks(to, "POST", "/.tidegate/wr/drop/leave").json()["waitingRoom"]["state"], "LEFT");
        let mut told = Value::Null;
        eventually("the turn comes", Duration::from_secs(10), || {
            told = guest.asks(to, "GET", "/.tidegate/wr/drop/status").json();
            told["waitingRoom"]["state"] == "READY"
        });
        assert_eq!(told["waitingRoom"]["ticketNumber"], number);
        assert_eq!(told["cfWaitingRoom"]["inWaitingRoom"], true);
        assert_eq!(told["cfWaitingRoom"].as_object().unwrap().len(), 25);
        let before = guest.clone();
        for _ in 0..3 {
            // Two tabs claim with the same ticket.
            guest.ticket.clone_from(&before.ticket);
            let claimed = guest.asks(to, "POST", "/.tidegate/wr/drop/claim");
            assert_eq!((claimed.status, &claimed.json()["waitingRoom"]["state"]), (200, &"ADMITTED".into()));
            assert_eq!(claimed.json()["cfWaitingRoom"]["inWaitingRoom"], false);
        }
        eventually("counted once", Duration::from_secs(2), || {
            gateway.admin("GET", "/-/waiting_rooms/drop").json()["active"] == 1
        });
        assert_eq!(guest.asks(to, "GET", "/drop").status, 200);
        holder = guest;
    }
}

#[test]
fn who_only_looks_around_takes_no_number() {
    let (origin, folder) = (Origin::ok(), tempfile::tempdir().unwrap());
    let (gateway, _holder) = full(&origin, folder.path());
    let to = gateway.public();
    let before = tail(&gateway);
    let mut guest = Guest::default();
    guest.asks(to, "GET", "/drop");
    assert!(guest.ticket.is_some(), "a token to bring back");
    for _ in 0..3 {
        for (method, more) in [("HEAD", ""), ("OPTIONS", ""), ("GET", "Sec-Purpose: prefetch\r\n")] {
            let request = format!("{method} /drop HTTP/1.1\r\nHost: shop.test\r\n{}{more}\r\n", guest.headers());
            let answer = exchange(to, &request);
            assert_eq!((answer.status, answer.header("set-cookie")), (503, None), "{method} {answer:?}");
        }
        assert_eq!(exchange(to, "OPTIONS /.tidegate/wr/drop/join HTTP/1.1\r\nHost: shop.test\r\n\r\n").status, 204);
        assert_eq!(get(to, "/.tidegate/wr/drop/join", "").status, 405);
        assert_eq!(Guest::default().asks(to, "HEAD", "/.tidegate/wr/drop/frontier").status, 200);
    }
    assert_eq!(tail(&gateway), before);
}

#[test]
fn a_post_without_a_pass_is_told_to_come_again_and_never_stored() {
    let (origin, folder) = (Origin::ok(), tempfile::tempdir().unwrap());
    let (gateway, mut holder) = full(&origin, folder.path());
    let to = gateway.public();
    let mut guest = Guest::default();
    guest.joins(to);
    origin.forget();
    let order = |guest: &Guest| {
        let head =
            format!("POST /orders HTTP/1.1\r\nHost: shop.test\r\n{}Content-Length: 5\r\n\r\nkeys!", guest.headers());
        exchange(to, &head)
    };
    let refused = order(&guest);
    assert_eq!((refused.status, refused.json()["code"].as_str()), (429, Some("waiting-room")));
    assert!(refused.header("retry-after").is_some());
    holder.asks(to, "POST", "/.tidegate/wr/drop/leave");
    eventually("the turn comes", Duration::from_secs(5), || {
        guest.asks(to, "POST", "/.tidegate/wr/drop/claim").status == 200
    });
    assert!(origin.seen().is_empty(), "{:?}", origin.seen());
    assert_eq!(order(&guest).status, 200);
    assert_eq!(origin.seen().len(), 1);
}

#[test]
fn the_frontier_is_one_document_for_all_that_a_cache_can_keep() {
    let (origin, folder) = (Origin::ok(), tempfile::tempdir().unwrap());
    let (gateway, _holder) = full(&origin, folder.path());
    let to = gateway.public();
    Guest::default().joins(to);
    let mut first = None;
    eventually("it stands still", Duration::from_secs(10), || {
        let answer = get(to, "/.tidegate/wr/drop/frontier", "");
        let told = answer.json();
        first = Some(answer);
        told["waiting"] == 1 && told["tail"] == 2
    });
    let first = first.unwrap();
    assert_eq!(first.header("cache-control"), Some("public, max-age=1, stale-while-revalidate=5"));
    assert_eq!(first.header("set-cookie"), None);
    let tag = first.header("etag").unwrap().to_owned();
    let mut raw = Raw::connect(to);
    // Three requests in one packet, on one connection.
    let again = "GET /.tidegate/wr/drop/frontier HTTP/1.1\r\nHost: shop.test\r\n";
    raw.send(format!("{again}\r\n{again}If-None-Match: {tag}\r\n\r\n{}\r\n", again.replace("GET", "HEAD")));
    assert_eq!(raw.answer().unwrap().body, first.body);
    let same = raw.answer().unwrap();
    assert_eq!((same.status, same.header("etag"), same.header("content-length")), (304, Some(tag.as_str()), None));
    let head = raw.answer_to("HEAD").unwrap();
    assert_eq!(head.header("content-length").unwrap(), first.body.len().to_string());
    for log in gateway.access_log(3).iter().rev().take(2) {
        assert_eq!(log["decision"], "answered", "{log}");
    }
}

#[test]
fn looking_too_often_costs_nothing_and_is_told_so() {
    let (origin, folder) = (Origin::ok(), tempfile::tempdir().unwrap());
    let settings = "total_active_users: 1, new_users_per_minute: 600, polling: {min: 10s, max: 10s}";
    let gateway = Gateway::start(&file_with(origin.address, settings, folder.path()));
    let to = gateway.public();
    Guest::default().walks_in(to);
    let mut guest = Guest::default();
    guest.joins(to);
    let ticket = guest.ticket.clone();
    let answer = guest.asks(to, "GET", "/.tidegate/wr/drop/status");
    assert_eq!((answer.status, answer.json()["code"].as_str()), (429, Some("poll-too-soon")));
    let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((3..=7).contains(&wait), "half of what was asked: {wait}");
    assert_eq!(guest.ticket, ticket, "the token is the same");
    assert!(gateway.metric("tidegate_waiting_room_poll_too_soon_total") >= 1.0);
    eventually("it is good then", Duration::from_secs(wait + 1), || {
        guest.asks(to, "GET", "/.tidegate/wr/drop/status").status == 200
    });
}

#[test]
fn what_is_not_there_or_not_right_is_said_clearly() {
    let (origin, folder) = (Origin::ok(), tempfile::tempdir().unwrap());
    let (gateway, _holder) = full(&origin, folder.path());
    let to = gateway.public();
    let code = |answer: Answer| (answer.status, answer.json()["code"].as_str().map(str::to_owned));
    let is = |status: u16, code: &str| (status, Some(code.to_owned()));
    assert_eq!(code(get(to, "/.tidegate/wr/drip/status", "")), is(404, "unknown-waiting-room"));
    assert_eq!(code(get(to, "/.tidegate/wr/drop/statue", "")), is(404, "no-route"));
    assert_eq!(code(get(to, "/.tidegate/wr/", "")), is(404, "unknown-waiting-room"));
    assert_eq!(code(get(to, "/.tidegate/wr/drop/status", "")), is(400, "no-ticket"));
    let forged = format!("Cookie: tgwr_drop={}\r\n", "A".repeat(83));
    assert_eq!(code(get(to, "/.tidegate/wr/drop/status", &forged)), is(403, "bad-ticket"));
    let foreign = "POST /.tidegate/wr/drop/join HTTP/1.1\r\nHost: shop.test\r\nSec-Fetch-Site: cross-site\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(code(exchange(to, foreign)), is(403, "cross-site"));
    let answer = exchange(to, "DELETE /.tidegate/wr/drop/claim HTTP/1.1\r\nHost: shop.test\r\n\r\n");
    assert_eq!((answer.status, answer.header("allow")), (405, Some("POST, OPTIONS")));
    // The path is the one that routes are matched on.
    assert_eq!(get(to, "/x/../.tidegate//wr/%64rop/frontier", "").status, 200);
}

#[test]
fn the_path_is_configurable_and_only_where_a_room_is() {
    let (origin, folder) = (Origin::ok(), tempfile::tempdir().unwrap());
    let room = file_with(origin.address, "total_active_users: 1, new_users_per_minute: 60", folder.path());
    let yaml = format!("{room}waiting_room_path: /line\n").replace(
        "    - {name: public, address: \"127.0.0.1:0\", protocols: [h1, h2c]}",
        "    - {name: public, address: \"127.0.0.1:0\", protocols: [h1, h2c]}\n    - {name: inner, address: \"127.0.0.1:0\"}",
    );
    let yaml = yaml.replace("routes:\n", "routes:\n  - {name: inner, listener: inner, upstream: origin}\n");
    let gateway = Gateway::start(&yaml);
    assert_eq!(get(gateway.public(), "/line/drop/frontier", "").json()["epoch"], 1);
    assert_eq!(get(gateway.public(), "/.tidegate/wr/drop/frontier", "").text(), "ok", "the backend's own path");
    assert_eq!(get(gateway.address("inner"), "/line/drop/frontier", "").text(), "ok");
}

#[test]
fn an_operator_resets_a_room_and_nobody_keeps_what_they_had() {
    let (origin, folder) = (Origin::ok(), tempfile::tempdir().unwrap());
    let (mut gateway, mut holder) = full(&origin, folder.path());
    let to = gateway.public();
    let mut guest = Guest::default();
    let number = guest.joins(to);
    assert_eq!(gateway.admin("POST", "/-/waiting_rooms/drip/reset").status, 404);
    let reset = gateway.admin("POST", "/-/waiting_rooms/drop/reset");
    assert_eq!((reset.status, &reset.json()["epoch"]), (200, &2.into()));
    let conflict = guest.asks(to, "GET", "/.tidegate/wr/drop/status");
    assert_eq!((conflict.status, conflict.json()["code"].as_str()), (409, Some("room-was-reset")));
    let mut first = Guest::default();
    first.walks_in(to);
    assert_eq!(holder.asks(to, "GET", "/drop").status, 503, "an old pass is none");
    assert!(guest.clone().joins_again(to) > number);
    gateway.kill_and_start();
    assert_eq!(gateway.admin("GET", "/-/waiting_rooms/drop").json()["epoch"], 2);
    assert_eq!(
        first.asks(gateway.public(), "GET", "/drop").status,
        200,
        "a pass of the new epoch is good after a kill"
    );
}

impl Guest {
    /// Joins with a token from before a reset: it is brought back as a stranger's.
    fn joins_again(&mut self, to: SocketAddr) -> u64 {
        self.asks(to, "POST", "/.tidegate/wr/drop/join");
        self.asks(to, "POST", "/.tidegate/wr/drop/join").json()["waitingRoom"]["ticketNumber"]
            .as_u64()
            .expect("a number")
    }
}

#[test]
fn a_kill_keeps_every_place_and_the_page_finds_it_again() {
    let (origin, folder) = (Origin::ok(), tempfile::tempdir().unwrap());
    let (mut gateway, mut holder) = full(&origin, folder.path());
    let mut line: Vec<Guest> = (0..20).map(|_| Guest::default()).collect();
    let numbers: Vec<u64> = line.iter_mut().map(|guest| guest.joins(gateway.public())).collect();
    eventually("all are on disk", Duration::from_secs(5), || {
        gateway.admin("GET", "/-/waiting_rooms/drop").json()["queued"] == 20
    });
    gateway.kill_and_start();
    let to = gateway.public();
    for (guest, number) in line.iter_mut().zip(&numbers) {
        let mut told = Value::Null;
        eventually("it may look again", Duration::from_secs(40), || {
            let answer = guest.asks(to, "GET", "/.tidegate/wr/drop/status");
            told = answer.json();
            answer.status == 200
        });
        assert_eq!(&told["waitingRoom"]["ticketNumber"], number);
        assert_eq!(told["waitingRoom"]["positionAhead"], number - numbers[0]);
    }
    assert_eq!(holder.asks(to, "GET", "/drop").status, 200);
}

#[test]
fn an_operators_word_and_that_nothing_is_left_reach_those_who_wait_within_a_second() {
    let (origin, folder) = (Origin::ok(), tempfile::tempdir().unwrap());
    let (gateway, _holder) = full(&origin, folder.path());
    let to = gateway.public();
    let put = |body: &str| {
        let length = body.len();
        let json = "Content-Type: application/json";
        let head = format!(
            "PUT /-/waiting_rooms/drop/message HTTP/1.1\r\nHost: localhost\r\n{json}\r\nContent-Length: {length}\r\n\r\n"
        );
        exchange(gateway.address("admin"), &format!("{head}{body}"))
    };
    assert_eq!(put("{\"message\": \"  \"}").status, 400);
    assert_eq!(put("{\"massage\": \"x\"}").status, 400);
    assert_eq!(put("{\"message\": \"Back at noon\", \"level\": \"warning\"}").json()["message"], "Back at noon");
    let told = get(to, "/.tidegate/wr/drop/frontier", "").json();
    assert_eq!((&told["message"], &told["messageLevel"]), (&"Back at noon".into(), &"warning".into()));
    assert_eq!(gateway.admin("DELETE", "/-/waiting_rooms/drop/message").json()["message"], Value::Null);
    assert_eq!(gateway.admin("POST", "/-/waiting_rooms/drop/sold_out").status, 200);
    let begun = Instant::now();
    eventually("it is told", Duration::from_secs(5), || {
        get(to, "/.tidegate/wr/drop/frontier", "").json()["state"] == "sold_out"
    });
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    let refused = Guest::default().asks(to, "POST", "/.tidegate/wr/drop/join");
    assert_eq!((refused.status, &refused.json()["waitingRoom"]["reason"]), (503, &"sold_out".into()));
}

#[test]
fn a_room_shows_its_own_page_and_a_saved_one_is_shown_at_once() {
    let (origin, folder) = (Origin::ok(), tempfile::tempdir().unwrap());
    let page = folder.path().join("drop.html");
    std::fs::write(&page, "<h1>{{headline}}</h1><p>{{t.leave}}</p>").unwrap();
    let settings = format!(
        "total_active_users: 1, new_users_per_minute: 60, queueing_status_code: 202, default_template_language: ja, custom_page_html: {}",
        page.display()
    );
    let gateway = Gateway::start(&file_with(origin.address, &settings, folder.path()));
    let to = gateway.public();
    Guest::default().walks_in(to);
    let look = |accept: &str| get(to, "/drop", &format!("Accept: text/html,*/*;q=0.8\r\n{accept}"));
    let shown = look("");
    assert_eq!((shown.status, shown.header("content-language")), (202, Some("ja")));
    assert_eq!(shown.header("cache-control"), Some("private, no-store"));
    assert!(shown.header("content-security-policy").unwrap().contains("default-src 'none'"));
    assert!(shown.text().ends_with("<p>列を離れる</p>"), "{}", shown.text());
    assert!(look("Accept-Language: ko\r\n").text().contains("줄에서 나가기"));
    std::fs::write(&page, "<h2>{{headline}}</h2>").unwrap();
    eventually("the new page is shown", Duration::from_secs(10), || look("").text().starts_with("<h2>"));
    assert_eq!(
        get(to, "/drop", "Accept: application/json\r\n").header("content-type"),
        Some("application/problem+json")
    );
}
