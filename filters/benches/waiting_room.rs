//! What the gate costs with a valid pass, what it costs to join and to look, what everybody is told, and what a tick costs
//! when a million wait.

#![allow(clippy::unwrap_used)]

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use std::collections::BTreeMap;
use tidegate_filters::engine::{
    BuildContext, Decision, FilterSpec, HeaderEdit, KeyHasher, Mode, Nanos, RequestContext, RequestHead, StateRegistry,
};
use tidegate_filters::waiting_room::desk::{self, Ask};
use tidegate_filters::waiting_room::draw;
use tidegate_filters::waiting_room::keys::{KeySpec, Keyring};
use tidegate_filters::waiting_room::rules::Rules;
use tidegate_filters::waiting_room::settings::Settings;
use tidegate_filters::waiting_room::{Forgetful, History, Opening, Room, TICKET_HEADER, Visitor, WaitingRoom};

fn room(total: u32) -> Room {
    let key = KeySpec { kid: 1, secret: [3; 32], not_before: 0, not_after: u64::MAX };
    let rules = Rules { max_queue_length: u64::MAX / 16, ..Rules::new(total, total, 300_000) };
    let settings = Settings::new("bench", rules, Arc::new(Keyring::new(&[key])));
    Room::open(Opening {
        name: "bench".into(),
        seed: [1; 32],
        settings: Arc::new(settings),
        journal: Box::new(Forgetful),
        history: History::default(),
        epoch: Duration::from_secs(1_800_000_000),
        now: Nanos(0),
    })
}

fn gate(bench: &mut Criterion) {
    let (states, hasher, identities) = (StateRegistry::new(), KeyHasher::fixed(), BTreeMap::new());
    let (room, _) = states.acquire(&WaitingRoom::key("bench"), || room(1_000));
    room.maintain(|| room.time(Nanos(0)) + 100);
    let (name, mode) = ("gate".into(), Mode::Enforce);
    let mut cx = BuildContext {
        name,
        mode,
        states: &states,
        hasher: &hasher,
        identities: &identities,
        upstreams: &[],
        acquired: Vec::new(),
    };
    let filter = WaitingRoom::new("bench").build(&mut cx).unwrap();
    let client = IpAddr::V4(Ipv4Addr::LOCALHOST);
    // A second on, so that the pass is of this process and whole.
    let now = Nanos(2_000_000_000);
    let send = |ticket: &[u8], now: Nanos| {
        let headers = [(&b"X-Tidegate-Ticket"[..], ticket)];
        let head = RequestHead { method: "GET", target: "/", path: "/", host: "a", secure: true, headers: &headers };
        let mut cx = RequestContext::new(now, client);
        assert!(matches!(filter.on_request(&head, &mut cx), Decision::Continue));
        cx
    };
    let ticket = |cx: &RequestContext| {
        cx.to_client.iter().find_map(|edit| match edit {
            HeaderEdit::Add(name, value) if *name == TICKET_HEADER => Some(value.as_bytes().to_vec()),
            _ => None,
        })
    };
    let mut pass = ticket(&send(b"", now)).unwrap();
    for _ in 0..3 {
        if let Some(next) = ticket(&send(&pass, now)) {
            pass = next;
        }
        room.maintain(|| room.time(now));
    }
    bench.bench_function("waiting_room/valid_pass", |bench| {
        bench.iter(|| {
            let cx = send(black_box(&pass), now);
            assert!(cx.to_client.is_empty());
        });
    });
}

fn line(bench: &mut Criterion) {
    let room = room(1);
    let start = room.time(Nanos(0));
    let mut joined = 0u64;
    bench.bench_function("waiting_room/join", |bench| {
        bench.iter(|| {
            joined += 1;
            if joined.is_multiple_of(16_384) {
                room.maintain(|| start + joined / 100);
            }
            black_box(room.enter(start + joined / 100, Visitor { subject: 0, steady: true }))
        });
    });
    room.maintain(|| start + joined / 100 + 100);
    let mut number = 1;
    bench.bench_function("waiting_room/poll", |bench| {
        bench.iter(|| {
            number = (number * 7 + 11) % joined.max(2) + 2;
            let outlook = room.outlook();
            (room.poll(start, black_box(number), 0), room.ahead(&outlook, number))
        });
    });
}

/// The public side, without the wire: the document for all, and one visitor's own with a ticket.
fn told(bench: &mut Criterion) {
    let room = Arc::new(room(1));
    let start = room.time(Nanos(0));
    for at in 0..100_000u64 {
        if at.is_multiple_of(16_384) {
            room.maintain(|| start + 100 + at / 1_000);
        }
        room.enter(start + 100 + at / 1_000, Visitor { subject: 0, steady: true });
    }
    room.maintain(|| start + 500);
    let client = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let ask = |ask: Ask, method: &str, ticket: Option<&[u8]>, now: Nanos| {
        let headers: Vec<(&[u8], &[u8])> =
            ticket.map(|ticket| (&b"X-Tidegate-Ticket"[..], ticket)).into_iter().collect();
        let ours = (&b"X-Tidegate-Room"[..], &b"1"[..]);
        let headers = [&headers[..], &[ours]].concat();
        let head = RequestHead { method, target: "/", path: "/", host: "a", secure: true, headers: &headers };
        let decision = desk::answer(&room, ask, &head, &RequestContext::new(now, client), Duration::from_secs(60));
        // Nobody asks to wait.
        let reply = if let Decision::Respond(reply) = decision { Some(*reply) } else { None };
        reply.unwrap()
    };
    bench.bench_function("waiting_room/frontier", |bench| {
        bench.iter(|| black_box(ask(Ask::Frontier, "GET", None, Nanos(500_000_000))));
    });
    let ticket = |reply: &tidegate_filters::engine::Reply| {
        let header = reply.headers.iter().find(|(name, _)| *name == TICKET_HEADER);
        header.map(|(_, value)| value.as_bytes().to_vec())
    };
    let pre = ticket(&ask(Ask::Join, "POST", None, Nanos(600_000_000))).unwrap();
    let place = ticket(&ask(Ask::Join, "POST", Some(&pre), Nanos(700_000_000))).unwrap();
    // Late enough that it is not too soon.
    let later = Nanos(600_000_000_000);
    bench.bench_function("waiting_room/status", |bench| {
        bench.iter(|| {
            let reply = ask(Ask::Status, "GET", Some(black_box(&place)), later);
            assert_eq!(reply.status, 200);
            reply
        });
    });
}

fn crowd(bench: &mut Criterion) {
    let room = room(1);
    let start = room.time(Nanos(0));
    for at in 0..1_000_000u64 {
        if at.is_multiple_of(16_384) {
            room.maintain(|| start + at / 1_000);
        }
        room.enter(start + at / 1_000, Visitor { subject: 0, steady: true });
    }
    let mut now = start + 1_000;
    bench.bench_function("waiting_room/tick_with_a_million", |bench| {
        bench.iter(|| {
            now += 100;
            room.maintain(|| now);
        });
    });
    let mut group = bench.benchmark_group("waiting_room");
    group.sample_size(10);
    group.bench_function("draw_a_million", |bench| {
        bench.iter(|| draw::order(&[7; 32], "bench", black_box(1_000_000)));
    });
    group.finish();
}

criterion_group!(benches, gate, line, told, crowd);
criterion_main!(benches);
