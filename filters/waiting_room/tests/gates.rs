//! What a visitor and a backend see of the gate.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use http::{HeaderName, StatusCode, header};

use super::support::{Bench, settings};
use crate::condition::Condition;
use crate::engine::{Decision, Filter, HeaderEdit, Identity, IdentityId, KeyHasher, Nanos, Reply, ReplyBody};
use crate::engine::{RequestContext, RequestHead};
use crate::waiting_room::Bypass;
use crate::waiting_room::gate::Gate;
use crate::waiting_room::rules::Rules;
use crate::waiting_room::settings::Settings;

pub(super) const USER: IdentityId = IdentityId(3);

pub(super) struct Stage {
    pub(super) bench: Bench,
    pub(super) gate: Gate,
}

/// A client: what it sends, and the cookie it keeps.
#[derive(Clone)]
pub(super) struct Client {
    pub(super) method: &'static str,
    pub(super) target: String,
    pub(super) cookie: Option<String>,
    pub(super) headers: Vec<(&'static str, &'static str)>,
    pub(super) user: Option<&'static str>,
}

pub(super) fn client() -> Client {
    Client { method: "GET", target: "/drop".to_owned(), cookie: None, headers: Vec::new(), user: None }
}

pub(super) enum Seen {
    Passed(Box<RequestContext>),
    Answered(Box<Reply>),
}

impl Stage {
    pub(super) fn new(settings: Settings) -> Self {
        let bench = Bench::with(settings);
        Self { gate: Gate { room: bench.room.clone(), upstreams: Box::default() }, bench }
    }

    fn nanos(&self) -> Nanos {
        Nanos((self.bench.now - self.bench.room.began()) * 1_000_000)
    }

    fn send(&self, client: &mut Client) -> Seen {
        let cookie = client.cookie.clone().map(|cookie| format!("other=1; {cookie}; last=2")).unwrap_or_default();
        let mut headers: Vec<(&[u8], &[u8])> =
            client.headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
        headers.push((b"Cookie", cookie.as_bytes()));
        let path = client.target.split('?').next().unwrap();
        let head = RequestHead {
            method: client.method,
            target: &client.target,
            path,
            host: "shop",
            secure: true,
            headers: &headers,
        };
        let mut cx = RequestContext::new(self.nanos(), IpAddr::V4(Ipv4Addr::LOCALHOST));
        if let Some(user) = client.user {
            cx.set_identity(USER, Identity::new(&KeyHasher::fixed(), USER, user));
        }
        let (set, seen) = match self.gate.on_request(&head, &mut cx) {
            Decision::Continue => (edit(&cx, &header::SET_COOKIE), Seen::Passed(Box::new(cx))),
            Decision::Respond(reply) => (value(&reply, &header::SET_COOKIE), Seen::Answered(reply)),
            Decision::Wait(_) | Decision::NeedBody { .. } => panic!("the gate decides at once"),
        };
        if let Some(set) = set {
            client.cookie = Some(set.split(';').next().unwrap().to_owned());
        }
        seen
    }

    pub(super) fn passes(&self, client: &mut Client) -> RequestContext {
        match self.send(client) {
            Seen::Passed(cx) => *cx,
            Seen::Answered(reply) => panic!("answered {}", reply.status),
        }
    }

    pub(super) fn waits(&self, client: &mut Client) -> Reply {
        match self.send(client) {
            Seen::Answered(reply) => *reply,
            Seen::Passed(_) => panic!("passed"),
        }
    }

    /// The room is full with somebody who stays.
    pub(super) fn full(&mut self) -> Client {
        let mut holder = client();
        self.passes(&mut holder);
        self.passes(&mut holder);
        self.bench.pass(200);
        self.passes(&mut holder);
        holder
    }
}

pub(super) fn edit(cx: &RequestContext, name: &HeaderName) -> Option<String> {
    cx.to_client.iter().find_map(|edit| match edit {
        HeaderEdit::Set(n, value) | HeaderEdit::Add(n, value) if n == name => value.to_str().ok().map(str::to_owned),
        HeaderEdit::Set(..) | HeaderEdit::Add(..) | HeaderEdit::Remove(_) => None,
    })
}

pub(super) fn value(reply: &Reply, name: &HeaderName) -> Option<String> {
    reply.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.to_str().unwrap().to_owned())
}

pub(super) fn document(reply: &Reply) -> serde_json::Value {
    let ReplyBody::Problem(problem) = &reply.body else { panic!("expected a problem") };
    assert_eq!(problem.code, "waiting-room");
    let (_, json) = problem.members.iter().find(|(name, _)| *name == "waitingRoom").unwrap();
    serde_json::from_str(json).unwrap()
}

pub(super) fn one_place() -> Settings {
    settings(Rules::new(1, 6_000, 300_000))
}

#[test]
fn a_pass_goes_on_and_is_handed_out_in_a_cookie_and_a_header() {
    let stage = Stage::new(one_place());
    let mut visitor = client();
    let cx = stage.passes(&mut visitor);
    let cookie = edit(&cx, &header::SET_COOKIE).unwrap();
    assert!(cookie.starts_with("__Host-tgwr_demo=AQM"), "{cookie}");
    assert!(cookie.ends_with("; HttpOnly; Secure; SameSite=Lax"), "{cookie}");
    assert!(edit(&cx, &"x-tidegate-ticket".parse().unwrap()).is_some());
    stage.passes(&mut visitor);
}

#[test]
fn a_stranger_brings_a_token_back_waits_and_enters() {
    let mut stage = Stage::new(one_place());
    let mut holder = stage.full();
    let mut visitor = client();
    let first = stage.waits(&mut visitor);
    assert_eq!((first.status, document(&first)["state"].as_str()), (StatusCode::SERVICE_UNAVAILABLE, Some("PRE")));
    assert_eq!(stage.bench.room.outlook().tail, 1, "no number for a stranger");
    let second = stage.waits(&mut visitor);
    let told = document(&second);
    assert_eq!(told["state"], "WAITING");
    assert!(second.retry_after.unwrap().as_millis() >= 2_000);
    assert_eq!(value(&second, &header::CACHE_CONTROL).as_deref(), Some("private, no-store"));
    let number = told["ticketNumber"].clone();
    assert_eq!(document(&stage.waits(&mut visitor))["ticketNumber"], number);
    stage.bench.room.end(1);
    stage.bench.pass(200);
    stage.passes(&mut visitor);
    stage.passes(&mut visitor);
    assert_eq!(document(&stage.waits(&mut holder))["state"], "WAITING", "an ended pass is good no more");
}

#[test]
fn a_ticket_of_somebody_else_or_of_nobody_is_no_ticket() {
    let mut stage = Stage::new(one_place());
    stage.full();
    let mut visitor = client();
    visitor.cookie = Some(format!("__Host-tgwr_demo={}", "A".repeat(83)));
    assert_eq!(document(&stage.waits(&mut visitor))["state"], "PRE");
}

#[test]
fn heads_and_prefetches_take_nothing_and_preflights_pass() {
    let mut stage = Stage::new(one_place());
    for headers in [vec![], vec![("Sec-Purpose", "prefetch;prerender")]] {
        let method = if headers.is_empty() { "HEAD" } else { "GET" };
        let mut quiet = Client { method, headers, ..client() };
        assert_eq!(value(&stage.waits(&mut quiet), &header::SET_COOKIE), None);
    }
    assert_eq!(stage.bench.room.outlook().active, 0);
    stage.full();
    let mut visitor = client();
    stage.waits(&mut visitor);
    for (target, dest) in [("/favicon.ico", ""), ("/robots.txt", ""), ("/a.png", "image"), ("/a.js", "script")] {
        let headers = vec![("Sec-Fetch-Dest", dest)];
        let mut beside = Client { target: target.to_owned(), headers, ..visitor.clone() };
        assert_eq!(value(&stage.waits(&mut beside), &header::SET_COOKIE), None, "{target}");
    }
    assert_eq!(stage.bench.room.outlook().tail, 1);
    let headers = vec![("Access-Control-Request-Method", "POST")];
    stage.passes(&mut Client { method: "OPTIONS", headers, ..client() });
}

#[test]
fn a_post_without_a_pass_is_refused_and_sent_again_later() {
    let mut stage = Stage::new(one_place());
    stage.full();
    let mut buyer = Client { method: "POST", ..client() };
    for _ in 0..2 {
        let reply = stage.waits(&mut buyer);
        assert_eq!(reply.status, StatusCode::TOO_MANY_REQUESTS);
        assert!(reply.retry_after.is_some());
    }
    stage.bench.room.end(1);
    stage.bench.pass(200);
    stage.passes(&mut buyer);
}

#[test]
fn what_a_rule_lets_through_never_waits() {
    let mut settings = one_place();
    let rule = Condition::compile("request.path.startsWith(\"/pay/notify\")", |_| None).unwrap();
    settings.bypass.push(Bypass { name: "callbacks".into(), condition: rule });
    let mut stage = Stage::new(settings);
    stage.full();
    stage.passes(&mut Client { method: "POST", target: "/pay/notify/alipay".to_owned(), ..client() });
}

#[test]
fn a_path_in_capitals_does_not_go_by_where_routes_do_not_mind_case() {
    for fold_paths in [false, true] {
        let rule = Condition::compile("request.path != \"/drop\"", |_| None).unwrap();
        let bypass = vec![Bypass { name: "the rest".into(), condition: rule }];
        let mut stage = Stage::new(Settings { bypass, fold_paths, ..one_place() });
        stage.full();
        let seen = stage.send(&mut Client { target: "/DROP".to_owned(), ..client() });
        assert_eq!(matches!(seen, Seen::Answered(_)), fold_paths);
    }
}

#[test]
fn a_known_person_needs_no_cookie_and_has_one_place() {
    let mut settings = one_place();
    settings.identity.push(USER);
    let mut stage = Stage::new(settings);
    stage.full();
    let mut devices = [client(), client()].map(|client| Client { user: Some("ann"), ..client });
    let numbers = devices.each_mut().map(|device| document(&stage.waits(device))["ticketNumber"].clone());
    assert_eq!(numbers[0], numbers[1]);
    assert_eq!(document(&stage.waits(&mut Client { user: Some("bob"), ..client() }))["position"], 2);
}

#[test]
fn a_known_person_who_brings_nothing_gets_their_turn_and_counts_once() {
    let mut settings = one_place();
    settings.identity = vec![USER];
    let mut stage = Stage::new(settings);
    let holder = stage.full();
    let known = || Client { user: Some("ann"), ..client() };
    for _ in 0..3 {
        assert_eq!(document(&stage.waits(&mut known()))["state"], "WAITING");
    }
    let counts = &stage.bench.room.counts;
    let before = [&counts.joined, &counts.admitted].map(|count| count.load(Relaxed));
    assert_eq!(before[0], 1);
    stage.bench.room.end(1);
    drop(holder);
    stage.bench.pass(300);
    for _ in 0..3 {
        stage.passes(&mut known());
    }
    let room = &stage.bench.room;
    assert_eq!([&room.counts.joined, &room.counts.admitted].map(|count| count.load(Relaxed)), [1, before[1] + 1]);
}

#[test]
fn a_visit_is_renewed_when_half_of_it_is_over() {
    let mut stage = Stage::new(one_place());
    let mut holder = stage.full();
    for _ in 0..12 {
        stage.bench.pass(100_000);
        stage.passes(&mut holder);
    }
    stage.bench.pass(301_000);
    stage.full();
    assert_eq!(document(&stage.waits(&mut holder))["state"], "WAITING");
}

#[test]
fn without_a_key_nobody_new_is_admitted() {
    let mut settings = one_place();
    settings.keys = Arc::new(crate::waiting_room::keys::Keyring::new(&[]));
    let stage = Stage::new(settings);
    assert_eq!(stage.waits(&mut client()).status, StatusCode::SERVICE_UNAVAILABLE);
}
