//! The stream of events.

use std::time::{Duration, Instant};

use super::desk::{Client, ask, full};
use super::support::{Bench, settings};
use crate::engine::{Reply, ReplyBody, ReplyStream};
use crate::waiting_room::desk::Ask;
use crate::waiting_room::events::{Events as Stream, Rhythm};
use crate::waiting_room::rules::Rules;
use crate::waiting_room::settings::Events;
use crate::waiting_room::{Level, Notice};

fn stream(reply: Reply) -> Box<dyn ReplyStream> {
    match reply.body {
        ReplyBody::Stream { pieces, .. } => pieces,
        ReplyBody::Problem(problem) => panic!("{}", problem.code),
        ReplyBody::Whole(_) | ReplyBody::Bytes { .. } => panic!("no stream"),
    }
}

async fn said(stream: &mut Box<dyn ReplyStream>) -> Option<String> {
    let piece = stream.next().await?;
    Some(String::from_utf8(piece.to_vec()).unwrap())
}

fn listen(bench: &Bench, client: &Client, last: &str) -> Reply {
    let ticket = client.ticket.as_deref().unwrap();
    ask(bench, Ask::Events, "GET", &[("X-Tidegate-Ticket", ticket), ("Last-Event-ID", last)])
}

#[tokio::test]
async fn a_stream_says_how_things_stand_then_what_changes_then_whose_turn_it_is() {
    let (mut bench, mut holder) = full();
    let mut visitor = Client::default();
    let number = visitor.joins(&bench);
    let mut events = stream(listen(&bench, &visitor, ""));
    assert_eq!(bench.room.listeners(), 1);
    let first = said(&mut events).await.unwrap();
    assert!(first.starts_with("retry: 2000\n\nevent: state\nid: 1:1\ndata: {\"state\":\"queueing\"}\n\n"), "{first}");
    assert!(first.contains("event: frontier\n"), "{first}");
    bench.room.set_notice(Some(Notice { text: "soon\nnow".to_owned(), level: Level::Warning }));
    bench.pass(100);
    let told = said(&mut events).await.unwrap();
    assert!(told.starts_with("event: message\n"), "{told}");
    assert!(told.contains("data: {\"message\":\"soon\\nnow\",\"messageLevel\":\"warning\"}\n\n"), "{told}");
    holder.asks(&bench, Ask::Leave);
    bench.pass(100);
    let told = said(&mut events).await.unwrap();
    assert!(told.contains(&format!("\"ticketNumber\":{number}")) && told.contains("event: turn\n"), "{told}");
    assert!(told.contains("/.tidegate/wr/demo/claim"), "{told}");
    bench.room.reset(|| bench.now);
    assert!(said(&mut events).await.unwrap().contains("{\"state\":\"reset\"}"));
    assert_eq!(said(&mut events).await, None);
    drop(events);
    assert_eq!(bench.room.listeners(), 0);
}

fn paced(bench: &Bench, number: u64, last: &str, rhythm: Rhythm) -> Box<dyn ReplyStream> {
    let seat = bench.room.listen(number, 10).unwrap();
    Box::new(Stream::new(&bench.room, seat, (number, 0), rhythm, Some(last)))
}

#[tokio::test]
async fn a_quiet_stream_pings_and_ends_by_itself() {
    let (bench, _holder) = full();
    let number = Client::default().joins(&bench);
    let millis = Duration::from_millis;
    let begun = Instant::now();
    let rhythm = Rhythm { ping: millis(20), pace: millis(100), life: millis(100) };
    let mut events = paced(&bench, number, "1:1", rhythm);
    let first = said(&mut events).await.unwrap();
    assert!(!first.contains("event: frontier"), "the visitor knows: {first}");
    assert_eq!(said(&mut events).await.as_deref(), Some(": ping\n\n"));
    assert!(begun.elapsed() >= millis(20));
    while let Some(told) = said(&mut events).await {
        assert_eq!(told, ": ping\n\n");
    }
    assert!(begun.elapsed() >= millis(100));
}

#[tokio::test]
async fn the_document_goes_out_at_its_own_pace_however_fast_the_line_moves() {
    let (mut bench, _holder) = full();
    let number = Client::default().joins(&bench);
    let rhythm = Rhythm { ping: Duration::from_secs(60), pace: Duration::from_secs(60), life: Duration::from_secs(60) };
    let mut events = paced(&bench, number, "", rhythm);
    assert!(said(&mut events).await.unwrap().contains("event: frontier"));
    for _ in 0..5 {
        Client::default().joins(&bench);
        bench.pass(100);
    }
    bench.room.set_sold_out(true);
    bench.pass(100);
    let told = said(&mut events).await.unwrap();
    assert!(told.starts_with("event: state\n") && !told.contains("event: frontier"), "{told}");
}

#[tokio::test]
async fn a_stopping_gateway_sends_listeners_away() {
    let (bench, _holder) = full();
    let mut visitor = Client::default();
    visitor.joins(&bench);
    let mut events = stream(listen(&bench, &visitor, ""));
    said(&mut events).await.unwrap();
    bench.room.dismiss();
    assert_eq!(said(&mut events).await, None);
}

#[test]
fn who_is_far_away_or_one_too_many_polls_instead() {
    let mut settings = settings(Rules::new(1, 6_000, 300_000));
    settings.events = Some(Events { below_position: 2, max_connections: 1 });
    let mut bench = Bench::with(settings);
    let mut holder = Client::default();
    holder.asks(&bench, Ask::Join);
    holder.asks(&bench, Ask::Claim);
    bench.pass(200);
    let mut line: Vec<Client> = (0..4).map(|_| Client::default()).collect();
    for client in &mut line {
        client.joins(&bench);
    }
    bench.pass(200);
    let (near, far) = (listen(&bench, &line[1], ""), listen(&bench, &line[3], ""));
    assert_eq!((near.status.as_u16(), far.status.as_u16()), (200, 503));
    assert_eq!(far.code(), Some("poll-instead"));
    assert_eq!(listen(&bench, &line[0], "").status, 503, "one connection at most");
    drop(near);
    assert_eq!(listen(&bench, &line[0], "").status, 200);
    bench.pass(15_000);
    assert!(line[1].asks(&bench, Ask::Status).1["eventsUrl"].is_string());
    assert!(line[3].asks(&bench, Ask::Status).1["eventsUrl"].is_null());
}

#[test]
fn one_ticket_does_not_take_all_connections() {
    let (bench, _holder) = full();
    let (mut greedy, mut other) = (Client::default(), Client::default());
    greedy.joins(&bench);
    other.joins(&bench);
    let mut streams: Vec<Reply> = (0..20).map(|_| listen(&bench, &greedy, "")).collect();
    assert_eq!(streams.iter().filter(|reply| reply.status == 200).count(), 4);
    assert_eq!(listen(&bench, &other, "").status, 200);
    streams.clear();
    assert_eq!(bench.room.listeners(), 0);
    assert_eq!(listen(&bench, &greedy, "").status, 200);
}
