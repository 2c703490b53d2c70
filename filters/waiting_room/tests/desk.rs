//! What visitors and their pages ask of a room.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use http::{HeaderName, header};
use serde_json::Value;

use super::support::{Bench, START, settings};
use crate::engine::{Decision, Nanos, Reply, ReplyBody, RequestContext, RequestHead};
use crate::waiting_room::desk::{Ask, answer};
use crate::waiting_room::rules::Rules;
use crate::waiting_room::token::{Kind, Token};

/// A visitor that keeps the ticket it is given.
#[derive(Default)]
pub(super) struct Client {
    pub(super) ticket: Option<String>,
}

pub(super) fn ask(bench: &Bench, ask: Ask, method: &str, headers: &[(&str, &str)]) -> Reply {
    let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
    let head = RequestHead { method, target: "/", path: "/", host: "shop", secure: false, headers: &headers };
    let now = Nanos((bench.now - bench.room.began()) * 1_000_000);
    let cx = RequestContext::new(now, IpAddr::V4(Ipv4Addr::LOCALHOST));
    match answer(&bench.room, ask, &head, &cx, Duration::from_secs(60)) {
        Decision::Respond(reply) => *reply,
        _ => panic!("not answered at once"),
    }
}

pub(super) fn value(reply: &Reply, name: &HeaderName) -> Option<String> {
    reply.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.to_str().unwrap().to_owned())
}

impl Client {
    /// Asks, and keeps what it is given. Returns status, `waitingRoom`, and the seconds until another try.
    pub(super) fn asks(&mut self, bench: &Bench, asked: Ask) -> (u16, Value) {
        let method = if asked == Ask::Status { "GET" } else { "POST" };
        let mut headers = vec![("X-Tidegate-Room", "1")];
        headers.extend(self.ticket.as_deref().map(|ticket| ("X-Tidegate-Ticket", ticket)));
        let reply = ask(bench, asked, method, &headers);
        if let Some(ticket) = value(&reply, &HeaderName::from_static("x-tidegate-ticket")) {
            self.ticket = Some(ticket);
        }
        let told = match &reply.body {
            ReplyBody::Whole(bytes) => serde_json::from_slice::<Value>(bytes).unwrap()["waitingRoom"].clone(),
            ReplyBody::Problem(problem) => Value::from(problem.code),
            ReplyBody::Bytes { .. } | ReplyBody::Stream { .. } => panic!("neither a document nor a problem"),
        };
        (reply.status.as_u16(), told)
    }

    /// Joins, with the token that has to be brought back first.
    pub(super) fn joins(&mut self, bench: &Bench) -> u64 {
        let (status, told) = self.asks(bench, Ask::Join);
        assert_eq!((status, &told["state"]), (202, &"PRE".into()));
        let (status, told) = self.asks(bench, Ask::Join);
        assert_eq!((status, &told["state"]), (200, &"WAITING".into()));
        told["ticketNumber"].as_u64().unwrap()
    }
}

/// A room with one place, which is taken.
pub(super) fn full() -> (Bench, Client) {
    let mut bench = Bench::new(Rules::new(1, 6_000, 300_000));
    let mut holder = Client::default();
    assert_eq!(holder.asks(&bench, Ask::Join).1["state"], "ADMITTED");
    assert_eq!(holder.asks(&bench, Ask::Claim).0, 200);
    bench.pass(200);
    (bench, holder)
}

#[test]
fn who_joins_waits_has_a_turn_and_claims_it_once_however_often() {
    let (mut bench, mut holder) = full();
    let mut visitor = Client::default();
    let number = visitor.joins(&bench);
    assert_eq!(visitor.asks(&bench, Ask::Join).1["ticketNumber"], number, "joining twice is joining once");
    let (status, told) = visitor.asks(&bench, Ask::Claim);
    assert_eq!((status, &told["positionAhead"]), (202, &0.into()));
    assert_eq!(holder.asks(&bench, Ask::Leave).1["state"], "LEFT");
    bench.pass(2_000);
    let ticket = visitor.ticket.clone();
    let (status, told) = visitor.asks(&bench, Ask::Status);
    assert_eq!((status, &told["state"]), (200, &"READY".into()));
    assert!(told["readyUntil"].as_u64().unwrap() > bench.now);
    assert_eq!(bench.room.outlook().ready, 1, "looking takes no turn");
    for _ in 0..3 {
        // The same ticket again, as from a second tab.
        visitor.ticket.clone_from(&ticket);
        let (status, told) = visitor.asks(&bench, Ask::Claim);
        assert_eq!((status, &told["state"], &told["ticketNumber"]), (200, &"ADMITTED".into(), &number.into()));
    }
    bench.pass(200);
    assert_eq!(bench.room.outlook().active, 1);
    assert_eq!(visitor.asks(&bench, Ask::Status).1["state"], "ADMITTED");
    visitor.ticket = ticket;
    bench.pass(2_000);
    assert_eq!(visitor.asks(&bench, Ask::Status).1["state"], "ADMITTED", "a tab that knows nothing of it is told");
}

#[test]
fn who_looks_too_soon_is_told_when_to_come_and_that_moment_is_good() {
    let (mut bench, _holder) = full();
    let mut visitor = Client::default();
    visitor.joins(&bench);
    bench.pass(700);
    for round in 0..20 {
        let ticket = visitor.ticket.clone().unwrap();
        let reply = ask(&bench, Ask::Status, "GET", &[("X-Tidegate-Ticket", &ticket)]);
        if reply.status == 429 {
            assert_eq!(value(&reply, &header::SET_COOKIE), None, "nothing changes");
            let wait = reply.retry_after.unwrap();
            bench.now += u64::try_from(wait.as_millis()).unwrap();
        }
        let (status, told) = visitor.asks(&bench, Ask::Status);
        assert_eq!(status, 200, "round {round}");
        let token = Token::open(
            visitor.ticket.as_ref().unwrap().as_bytes(),
            bench.room.tag(),
            &settings(Rules::new(1, 1, 1)).keys,
            START / 1_000,
        )
        .unwrap();
        assert_eq!(token.kind, Kind::Ticket);
        assert!(
            token.may_look_at() <= bench.now + told["pollAfterMs"].as_u64().unwrap() / 2,
            "half of it is early enough"
        );
        bench.pass(137);
    }
    assert!(bench.room.counts.too_soon.load(std::sync::atomic::Ordering::Relaxed) > 5);
}

#[test]
fn long_pauses_are_kept_to_a_minute_and_short_ones_ask_for_nothing() {
    let at = |poll_after| {
        let flags = Token::pause(poll_after);
        assert_eq!(flags & Token::SHORT, 0);
        u64::from(flags >> 1) * 500
    };
    assert_eq!([at(0), at(900), at(2_000), at(60_000), at(600_000)], [0, 0, 1_000, 30_000, 63_500]);
}

#[test]
fn tokens_that_are_none_or_too_old_are_told_apart() {
    let (mut bench, mut holder) = full();
    let mut visitor = Client::default();
    assert_eq!(visitor.asks(&bench, Ask::Status), (400, "no-ticket".into()));
    assert_eq!(visitor.asks(&bench, Ask::Claim), (400, "no-ticket".into()));
    visitor.ticket = Some("A".repeat(83));
    assert_eq!(visitor.asks(&bench, Ask::Status), (403, "bad-ticket".into()));
    visitor.ticket = None;
    visitor.joins(&bench);
    bench.pass(3_700_000);
    assert_eq!(visitor.asks(&bench, Ask::Claim), (410, "ticket-expired".into()));
    assert_eq!(holder.asks(&bench, Ask::Claim), (410, "ticket-expired".into()));
}

#[test]
fn after_a_reset_old_tokens_are_good_no_more_and_no_number_is_given_twice() {
    let (mut bench, mut holder) = full();
    let mut visitor = Client::default();
    let number = visitor.joins(&bench);
    bench.room.set_sold_out(true);
    assert!(bench.room.reset(|| bench.now));
    let outlook = bench.room.outlook();
    assert_eq!((outlook.epoch, outlook.active, outlook.waiting), (2, 0, 0));
    assert_eq!(visitor.asks(&bench, Ask::Status), (409, "room-was-reset".into()));
    assert_eq!(holder.asks(&bench, Ask::Claim), (409, "room-was-reset".into()));
    bench.pass(200);
    assert_eq!(holder.asks(&bench, Ask::Join).1["state"], "ADMITTED", "there is room again");
    assert!(visitor.joins(&bench) > number + 1);
    let mut bench = bench.kill(START + 10_000);
    bench.pass(200);
    assert_eq!(bench.room.outlook().epoch, 2, "a kill does not undo it");
    assert_eq!(bench.room.outlook().state.as_str(), "queueing");
}

#[test]
fn a_reset_that_cannot_be_written_down_waits_for_the_disk() {
    let (mut bench, _holder) = full();
    bench.disk.broken.store(true, std::sync::atomic::Ordering::Relaxed);
    assert!(!bench.room.reset(|| bench.now));
    assert_eq!(bench.room.outlook().epoch, 1, "what is not on disk is not told");
    assert_eq!(Client::default().asks(&bench, Ask::Join).0, 202);
    bench.disk.broken.store(false, std::sync::atomic::Ordering::Relaxed);
    bench.pass(300);
    assert_eq!(bench.room.outlook().epoch, 2);
    assert_eq!(Client::default().asks(&bench, Ask::Join).1["state"], "ADMITTED");
}

#[test]
fn a_page_of_another_site_can_ask_for_nothing() {
    let (bench, _holder) = full();
    for headers in [vec![], vec![("Sec-Fetch-Site", "cross-site")], vec![("Sec-Fetch-Site", "same-site")]] {
        let reply = ask(&bench, Ask::Join, "POST", &headers);
        assert_eq!((reply.status.as_u16(), reply.code()), (403, Some("cross-site")), "{headers:?}");
    }
    assert_eq!(ask(&bench, Ask::Join, "POST", &[("Sec-Fetch-Site", "same-origin")]).status, 202);
    assert_eq!(bench.room.outlook().tail, 1);
}

#[test]
fn each_path_takes_its_methods_and_says_which() {
    let (bench, _holder) = full();
    for (asked, method) in [(Ask::Join, "GET"), (Ask::Claim, "HEAD"), (Ask::Status, "HEAD"), (Ask::Frontier, "POST")] {
        let reply = ask(&bench, asked, method, &[]);
        assert_eq!(reply.status, 405);
        assert_eq!(value(&reply, &header::ALLOW).as_deref(), Some(asked.methods()));
    }
    let reply = ask(&bench, Ask::Join, "OPTIONS", &[("Access-Control-Request-Method", "POST")]);
    assert_eq!((reply.status.as_u16(), value(&reply, &header::ALLOW).as_deref()), (204, Some("POST, OPTIONS")));
    assert_eq!(value(&reply, &header::ACCESS_CONTROL_ALLOW_ORIGIN), None);
}

#[test]
fn the_public_document_stays_the_same_while_nothing_changes_and_says_so() {
    let (mut bench, _holder) = full();
    let read = |bench: &Bench, tag: &str| {
        let reply = ask(bench, Ask::Frontier, "GET", &[("If-None-Match", tag)]);
        let ReplyBody::Whole(bytes) = &reply.body else { panic!("not bytes") };
        (reply.status.as_u16(), value(&reply, &header::ETAG).unwrap(), bytes.clone())
    };
    let (status, tag, first) = read(&bench, "\"other\"");
    assert_eq!(status, 200);
    bench.pass(3_000);
    assert_eq!(read(&bench, &format!("\"x\", W/{tag}")).0, 304);
    assert_eq!(read(&bench, "").2, first);
    let mut visitor = Client::default();
    visitor.joins(&bench);
    bench.pass(1_100);
    let (status, fresh, second) = read(&bench, &tag);
    assert_eq!(status, 200);
    assert_ne!((fresh, &second), (tag, &first));
    bench.room.set_sold_out(true);
    bench.pass(100);
    let (_, _, third) = read(&bench, "");
    assert_eq!(serde_json::from_slice::<Value>(&third).unwrap()["state"], "sold_out", "told at once");
}
