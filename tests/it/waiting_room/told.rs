//! Everybody who waits is told within a second, over real sockets: by a stream, or by a look that waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::task::JoinHandle;

use super::desk::full;
use crate::support::{Gateway, Origin, eventually};

const LISTEN: usize = 300;
const WAIT: usize = 300;
const ROOM: &str = "/.tidegate/wr/drop";

fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().http1_only().build().expect("a client")
}

/// Takes a place; returns the ticket.
async fn join(client: &reqwest::Client, base: &str) -> String {
    joined(client, base).await.0
}

/// The same, and how often the public document is worth a look.
async fn joined(client: &reqwest::Client, base: &str) -> (String, Duration) {
    let (mut ticket, mut pause) = (String::new(), Duration::ZERO);
    for status in [202, 200] {
        let asked = client.post(format!("{base}/join")).header("x-tidegate-room", "1");
        let asked = if ticket.is_empty() { asked } else { asked.header("x-tidegate-ticket", &ticket) };
        let joined = asked.send().await.expect("an answer");
        assert_eq!(joined.status().as_u16(), status);
        ticket = joined.headers()["x-tidegate-ticket"].to_str().expect("text").to_owned();
        let id = joined.headers()["x-request-id"].to_str().expect("text").to_owned();
        let told: Value = joined.json().await.expect("a document");
        assert_eq!(told["waitingRoom"]["traceId"], id, "an answer can be named");
        pause = Duration::from_millis(told["waitingRoom"]["frontierAfterMs"].as_u64().expect("a span"));
    }
    (ticket, pause)
}

/// When a stream said so.
async fn listens(client: reqwest::Client, base: String, ticket: String) -> Instant {
    let asked = client.get(format!("{base}/events")).header("x-tidegate-ticket", ticket);
    let mut stream = asked.send().await.expect("an answer");
    assert_eq!(stream.status().as_u16(), 200);
    let mut told = String::new();
    while !told.contains("{\"state\":\"sold_out\"}") {
        told.push_str(std::str::from_utf8(&stream.chunk().await.expect("it goes on").expect("more")).expect("text"));
    }
    Instant::now()
}

/// When looks that wait said so.
async fn waits(client: reqwest::Client, base: String, ticket: String) -> Instant {
    let (mut ticket, mut tag) = (ticket, String::new());
    loop {
        let asked = client.get(format!("{base}/status")).header("prefer", "wait=20");
        let asked = asked.header("if-none-match", &tag).header("x-tidegate-ticket", &ticket);
        let answer = asked.send().await.expect("an answer");
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["preference-applied"]),
            (200, &"wait=20".parse().unwrap())
        );
        ticket = answer.headers()["x-tidegate-ticket"].to_str().expect("text").to_owned();
        tag = answer.headers()["etag"].to_str().expect("text").to_owned();
        let told: Value = answer.json().await.expect("a document");
        if told["waitingRoom"]["soldOut"] == true {
            return Instant::now();
        }
    }
}

/// When the public document said so; looks at it every `pause`, and asks for it only if it has changed.
async fn peeks(client: reqwest::Client, base: String, pause: Duration) -> Instant {
    let mut tag = String::new();
    loop {
        let asked = client.get(format!("{base}/frontier")).header("if-none-match", &tag);
        let answer = asked.send().await.expect("an answer");
        tag = answer.headers()["etag"].to_str().expect("text").to_owned();
        if answer.status() == 200 {
            let told: Value = answer.json().await.expect("a document");
            if told["state"] == "sold_out" {
                return Instant::now();
            }
        }
        tokio::time::sleep(pause).await;
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("it ends")
}

fn count(gateway: &Gateway, name: &str) -> usize {
    gateway.metric(&format!("tidegate_waiting_room_{name}{{")) as usize
}

/// How late this machine wakes somebody who sleeps: a crowd that is told in time may still hear of it late.
struct Machine(Arc<AtomicBool>, JoinHandle<Duration>);

impl Machine {
    fn watch() -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let stop = over.clone();
        let nap = Duration::from_millis(20);
        let watch = async move {
            let mut worst = Duration::ZERO;
            while !stop.load(SeqCst) {
                let begun = Instant::now();
                tokio::time::sleep(nap).await;
                worst = worst.max(begun.elapsed().saturating_sub(nap));
            }
            worst
        };
        Self(over, tokio::spawn(watch))
    }

    async fn worst(self) -> Duration {
        self.0.store(true, SeqCst);
        self.1.await.expect("it ends")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn six_hundred_who_listen_or_wait_are_told_within_a_second_that_nothing_is_left() {
    let (origin, folder) = (Origin::ok(), tempfile::tempdir().unwrap());
    let (gateway, _holder) = full(&origin, folder.path());
    let gateway = Arc::new(gateway);
    let base = format!("http://{}{ROOM}", gateway.public());
    let client = client();
    let mut told = Vec::new();
    for at in 0..LISTEN + WAIT {
        let ticket = join(&client, &base).await;
        let (client, base) = (client.clone(), base.clone());
        told.push(if at < LISTEN {
            tokio::spawn(listens(client, base, ticket))
        } else {
            tokio::spawn(waits(client, base, ticket))
        });
    }
    let watched = gateway.clone();
    blocking(move || {
        eventually("all listen or wait", Duration::from_secs(60), || {
            (count(&watched, "sse_connections"), count(&watched, "long_polls")) == (LISTEN, WAIT)
        });
    })
    .await;
    let (watched, machine) = (gateway.clone(), Machine::watch());
    let begun = blocking(move || {
        let begun = Instant::now();
        assert_eq!(watched.admin("POST", "/-/waiting_rooms/drop/sold_out").status, 200);
        begun
    })
    .await;
    let mut last = Duration::ZERO;
    for one in told {
        last = last.max(one.await.expect("told").duration_since(begun));
    }
    let late = machine.worst().await;
    assert!(
        last < Duration::from_secs(1) + 2 * late,
        "the last was told after {last:?}, the machine was late by {late:?}"
    );
    blocking(move || {
        eventually("all are gone", Duration::from_secs(20), || count(&gateway, "long_polls") == 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_hundred_who_are_told_by_nobody_hear_within_a_second_from_what_is_the_same_for_all() {
    let (origin, folder) = (Origin::ok(), tempfile::tempdir().unwrap());
    let (gateway, _holder) = full(&origin, folder.path());
    let base = format!("http://{}{ROOM}", gateway.public());
    let client = client();
    let mut told = Vec::new();
    for _ in 0..WAIT {
        let (_ticket, pause) = joined(&client, &base).await;
        told.push(tokio::spawn(peeks(client.clone(), base.clone(), pause)));
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let machine = Machine::watch();
    let begun = blocking(move || {
        assert_eq!(gateway.admin("POST", "/-/waiting_rooms/drop/sold_out").status, 200);
        (Instant::now(), gateway)
    })
    .await;
    let mut last = Duration::ZERO;
    for one in told {
        last = last.max(one.await.expect("told").saturating_duration_since(begun.0));
    }
    let late = machine.worst().await;
    assert!(
        last < Duration::from_secs(1) + 2 * late,
        "the last was told after {last:?}, the machine was late by {late:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_ends_a_look_that_waits_and_who_leaves_gives_the_place_back() {
    let (origin, folder) = (Origin::ok(), tempfile::tempdir().unwrap());
    let (gateway, mut holder) = full(&origin, folder.path());
    let base = format!("http://{}{ROOM}", gateway.public());
    let (client, to) = (client(), gateway.public());
    let ticket = join(&client, &base).await;
    let look = |seconds: u64| {
        let asked = client.get(format!("{base}/status")).header("prefer", format!("wait={seconds}"));
        asked.header("x-tidegate-ticket", &ticket)
    };
    assert!(look(20).timeout(Duration::from_millis(800)).send().await.is_err(), "there is no news");
    let gateway = blocking(move || {
        eventually("the place is given back", Duration::from_secs(5), || count(&gateway, "long_polls") == 0);
        gateway
    })
    .await;
    let begun = Instant::now();
    let quiet: Value = look(1).send().await.unwrap().json().await.unwrap();
    assert_eq!(quiet["waitingRoom"]["state"], "WAITING");
    assert!(begun.elapsed() >= Duration::from_millis(950), "{:?}", begun.elapsed());
    let waiting = tokio::spawn(look(20).send());
    tokio::time::sleep(Duration::from_millis(300)).await;
    let begun = Instant::now();
    blocking(move || holder.asks(to, "POST", "/.tidegate/wr/drop/leave")).await;
    let told: Value = waiting.await.unwrap().unwrap().json().await.unwrap();
    assert_eq!(told["waitingRoom"]["state"], "READY");
    assert!(begun.elapsed() < Duration::from_millis(1_500), "{:?}", begun.elapsed());
    drop(gateway);
}
