//! Looks that wait for news.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderName, header};
use serde_json::Value;

use super::desk::{Client, full, value};
use super::support::Bench;
use crate::engine::{Decision, Nanos, Reply, ReplyBody, RequestContext, RequestHead, Verdict};
use crate::waiting_room::desk::{Ask, answer};
use crate::waiting_room::{Level, Notice};

pub(super) fn look(bench: &Bench, client: &Client, tag: &str) -> Decision {
    let headers =
        [("X-Tidegate-Ticket", client.ticket.as_deref().unwrap()), ("Prefer", "wait=2"), ("If-None-Match", tag)];
    let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
    let head = RequestHead { method: "GET", target: "/", path: "/", host: "shop", secure: false, headers: &headers };
    let now = Nanos((bench.now - bench.room.began()) * 1_000_000);
    let cx = RequestContext::new(now, IpAddr::V4(Ipv4Addr::LOCALHOST));
    answer(&bench.room, Ask::Status, &head, &cx, Duration::from_secs(60))
}

pub(super) fn at_once(decision: Decision) -> Option<Reply> {
    if let Decision::Respond(reply) = decision { Some(*reply) } else { None }
}

/// Lets time pass until the answer is there.
async fn waits(bench: &mut Bench, decision: Decision, patience: u32) -> Option<Reply> {
    let Decision::Wait(mut wait) = decision else { panic!("answered at once") };
    for _ in 0..patience {
        bench.pass(100);
        tokio::select! {
            biased;
            resume = wait.until.as_mut() => match resume.verdict {
                Verdict::Respond(reply) => return Some(*reply),
                Verdict::Continue => panic!("no answer"),
            },
            () = tokio::time::sleep(Duration::from_millis(100)) => (),
        }
    }
    None
}

pub(super) fn document(reply: &Reply) -> Value {
    let ReplyBody::Whole(bytes) = &reply.body else { panic!("not a document") };
    serde_json::from_slice::<Value>(bytes).unwrap()["waitingRoom"].clone()
}

#[tokio::test]
async fn a_look_waits_for_the_turn_and_for_what_concerns_everybody() {
    let (mut bench, mut holder) = full();
    let mut visitor = Client::default();
    visitor.joins(&bench);
    bench.pass(200);
    let quiet = look(&bench, &visitor, "");
    assert_eq!(bench.room.long_polls(), 1);
    let waiting = waits(&mut bench, quiet, 10).await;
    assert!(waiting.is_none(), "nothing has happened");
    assert_eq!(bench.room.long_polls(), 0, "who leaves gives the place back");

    let waiting = look(&bench, &visitor, "");
    bench.room.set_notice(Some(Notice { text: "soon".to_owned(), level: Level::Info }));
    let told = waits(&mut bench, waiting, 3).await.expect("an operator's word is news");
    assert_eq!(document(&told)["message"], "soon");
    assert_eq!(value(&told, &HeaderName::from_static("preference-applied")).as_deref(), Some("wait=2"));
    let tag = value(&told, &header::ETAG).unwrap();

    let waiting = look(&bench, &visitor, &tag);
    holder.asks(&bench, Ask::Leave);
    let told = waits(&mut bench, waiting, 8).await.expect("a turn is news");
    assert_eq!(document(&told)["state"], "READY");
}

#[tokio::test]
async fn what_happens_between_two_looks_is_not_missed_and_a_client_in_a_loop_gains_nothing() {
    let (mut bench, _holder) = full();
    let mut visitor = Client::default();
    visitor.joins(&bench);
    bench.pass(5_000);
    let (status, _) = visitor.asks(&bench, Ask::Status);
    assert_eq!(status, 200);
    let nothing = look(&bench, &visitor, "");
    assert!(matches!(nothing, Decision::Wait(_)), "instead of 429");
    drop(nothing);
    // A tag that says nothing true does not help before it is time.
    assert!(matches!(look(&bench, &visitor, "\"1-1\""), Decision::Wait(_)));
    let tag = format!("\"{:x}-1\"", bench.room.news().mark);
    bench.room.set_sold_out(true);
    bench.pass(1_100);
    let told = at_once(look(&bench, &visitor, &tag)).expect("that nothing is left is told at once");
    assert_eq!((&document(&told)["soldOut"], &document(&told)["roomState"]), (&true.into(), &"sold_out".into()));
}

#[tokio::test]
async fn a_wait_ends_with_a_whole_document_and_a_stopping_gateway_ends_it() {
    let (mut bench, _holder) = full();
    let mut visitor = Client::default();
    visitor.joins(&bench);
    bench.pass(5_000);
    let waiting = look(&bench, &visitor, "");
    let begun = Instant::now();
    let told = waits(&mut bench, waiting, 30).await.expect("after two seconds");
    assert!(begun.elapsed() >= Duration::from_secs(2), "{:?}", begun.elapsed());
    assert_eq!(document(&told)["state"], "WAITING");
    let waiting = look(&bench, &visitor, "");
    bench.room.dismiss();
    assert!(waits(&mut bench, waiting, 2).await.is_some());
}

#[tokio::test]
async fn after_a_reset_who_waits_is_told_and_one_too_many_is_answered_at_once() {
    use crate::waiting_room::rules::Rules;
    use crate::waiting_room::settings::LongPolls;
    let mut settings = super::support::settings(Rules::new(1, 600, 300_000));
    settings.long_polls = Some(LongPolls { wait: Duration::from_secs(25), max_waiting: 1 });
    let mut bench = Bench::with(settings);
    let mut holder = Client::default();
    assert_eq!(holder.asks(&bench, Ask::Join).0, 200);
    bench.pass(100);
    let mut line = [Client::default(), Client::default()];
    for client in &mut line {
        client.joins(&bench);
    }
    bench.pass(12_000);
    let waiting = look(&bench, &line[0], "");
    assert!(at_once(look(&bench, &line[1], "")).is_some_and(|reply| reply.status == 200));
    bench.room.reset(|| bench.now);
    let told = waits(&mut bench, waiting, 2).await.expect("a reset is news");
    assert_eq!((told.status.as_u16(), told.code()), (409, Some("room-was-reset")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_who_wait_are_woken_by_one_change_and_by_no_tick() {
    const COUNT: usize = 5_000;
    let (mut bench, _holder) = full();
    let mut clients: Vec<Client> = (0..COUNT).map(|_| Client::default()).collect();
    for client in &mut clients {
        client.joins(&bench);
        bench.now += 1;
    }
    bench.pass(5_000);
    let waits: Vec<_> = clients.iter().map(|client| look(&bench, client, "")).collect();
    assert_eq!(bench.room.long_polls(), COUNT);
    let tasks: Vec<_> = waits
        .into_iter()
        .map(|decision| {
            let Decision::Wait(wait) = decision else { panic!("answered at once") };
            tokio::spawn(async move { (wait.until.await.verdict, Instant::now()) })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(bench.room.long_polls(), COUNT, "nobody has gone");
    let room: Arc<_> = bench.room.clone();
    room.set_sold_out(true);
    let begun = Instant::now();
    bench.pass(100);
    for task in tasks {
        let (verdict, told) = task.await.unwrap();
        let Verdict::Respond(reply) = verdict else { panic!("no answer") };
        assert_eq!(document(&reply)["soldOut"], true);
        assert!(told.duration_since(begun) < Duration::from_secs(1), "{:?}", told.duration_since(begun));
    }
}
