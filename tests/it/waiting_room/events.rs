//! The stream of events over real sockets, and the public side over HTTP/2.

use std::time::{Duration, Instant};

use super::desk::{Guest, full};
use crate::support::{Gateway, Origin, Raw, eventually, get};

/// Opens a stream.
fn listen(gateway: &Gateway, guest: &Guest, last: &str) -> Raw {
    let mut raw = Raw::connect(gateway.public());
    let last = if last.is_empty() { String::new() } else { format!("Last-Event-ID: {last}\r\n") };
    let (path, headers) = ("/.tidegate/wr/drop/events", guest.headers());
    raw.send(format!("GET {path} HTTP/1.1\r\nHost: shop.test\r\nAccept: text/event-stream\r\n{headers}{last}\r\n"));
    raw
}

/// Reads chunks until what they say contains `word`.
fn until(raw: &mut Raw, word: &str) -> String {
    let mut text = String::new();
    while !text.contains(word) {
        let chunk = raw.chunk().unwrap_or_else(|| panic!("the stream ended before {word}: {text}"));
        text.push_str(&String::from_utf8(chunk).expect("text"));
    }
    text
}

#[test]
fn a_turn_is_pushed_within_a_moment_and_a_stream_goes_on_where_it_was() {
    let (origin, folder) = (Origin::ok(), tempfile::tempdir().unwrap());
    let (gateway, mut holder) = full(&origin, folder.path());
    let mut guest = Guest::default();
    guest.joins(gateway.public());
    let mut stream = listen(&gateway, &guest, "");
    let head = stream.head().unwrap();
    assert_eq!((head.status, head.header("content-type")), (200, Some("text/event-stream")));
    let first = until(&mut stream, "event: frontier");
    assert!(first.starts_with("retry: 2000\n\nevent: state\nid: 1:"), "{first}");
    drop(stream);
    eventually("its connection is given back", Duration::from_secs(20), || {
        // The gateway notices when it writes: let something happen.
        Guest::default().joins(gateway.public());
        std::thread::sleep(Duration::from_millis(200));
        gateway.metric("tidegate_waiting_room_sse_connections") < 0.5
    });
    let told = get(gateway.public(), "/.tidegate/wr/drop/frontier", "").json();
    let mut stream = listen(&gateway, &guest, &format!("{}:{}", told["epoch"], told["frontier"]));
    stream.head().unwrap();
    assert!(!until(&mut stream, "event: state").contains("event: frontier"), "it is known");
    let freed = Instant::now();
    holder.asks(gateway.public(), "POST", "/.tidegate/wr/drop/leave");
    let told = until(&mut stream, "event: turn");
    assert!(freed.elapsed() < Duration::from_millis(1_000), "{:?}", freed.elapsed());
    assert!(told.contains("\"claimUrl\":\"/.tidegate/wr/drop/claim\""), "{told}");
    assert_eq!(guest.asks(gateway.public(), "POST", "/.tidegate/wr/drop/claim").status, 200);
}

#[test]
fn who_listens_does_not_keep_a_stopping_gateway() {
    let (origin, folder) = (Origin::ok(), tempfile::tempdir().unwrap());
    let (mut gateway, _holder) = full(&origin, folder.path());
    let mut guest = Guest::default();
    guest.joins(gateway.public());
    let mut stream = listen(&gateway, &guest, "");
    stream.head().unwrap();
    until(&mut stream, "event: frontier");
    gateway.signal("TERM");
    let end = gateway.ended_within(Duration::from_secs(10)).expect("it ends");
    assert!(end.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_is_answered_over_http2() {
    let (origin, folder) = (Origin::ok(), tempfile::tempdir().unwrap());
    let (gateway, mut holder) = full(&origin, folder.path());
    let client = reqwest::Client::builder().http2_prior_knowledge().build().expect("a client");
    let url = |word: &str| format!("http://{}/.tidegate/wr/drop/{word}", gateway.public());
    let frontier = client.get(url("frontier")).send().await.unwrap();
    assert_eq!((frontier.version(), frontier.status().as_u16()), (reqwest::Version::HTTP_2, 200));
    assert_eq!(frontier.headers()["cache-control"], "public, max-age=1, stale-while-revalidate=5");
    let tag = frontier.headers()["etag"].clone();
    let same = client.get(url("frontier")).header("if-none-match", tag).send().await.unwrap();
    assert_eq!(same.status().as_u16(), 304);
    assert_eq!(client.post(url("join")).send().await.unwrap().status().as_u16(), 403);
    let mut ticket = String::new();
    for status in [202, 200] {
        let ours = client.post(url("join")).header("x-tidegate-room", "1").header("x-tidegate-ticket", &ticket);
        let joined = ours.send().await.unwrap();
        assert_eq!(joined.status().as_u16(), status);
        ticket = joined.headers()["x-tidegate-ticket"].to_str().unwrap().to_owned();
    }
    let listening = client.get(url("events")).header("x-tidegate-ticket", &ticket);
    let mut stream = listening.send().await.unwrap();
    assert_eq!(stream.status().as_u16(), 200);
    let mut told = String::from_utf8(stream.chunk().await.unwrap().unwrap().to_vec()).unwrap();
    assert!(told.contains("event: state"), "{told}");
    holder.asks(gateway.public(), "POST", "/.tidegate/wr/drop/leave");
    while !told.contains("event: turn") {
        told = String::from_utf8(stream.chunk().await.unwrap().expect("it goes on").to_vec()).unwrap();
    }
    let claimed = client.post(url("claim")).header("x-tidegate-ticket", &ticket).send().await.unwrap();
    assert_eq!(claimed.status().as_u16(), 200);
    assert_eq!(claimed.json::<serde_json::Value>().await.unwrap()["waitingRoom"]["state"], "ADMITTED");
}
