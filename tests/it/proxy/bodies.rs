//! What a message consists of arrives, and nothing else: lengths, chunks, trailers, interim answers, header edits.

use std::io::{Read, Write};
use std::time::Duration;

use crate::support::{Gateway, Origin, Raw, eventually, get, one_route};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

fn gateway(origin: &Origin) -> Gateway {
    Gateway::start(&one_route(origin.address, "", "", ""))
}

#[test]
fn trailers_end_at_the_gateway() {
    let origin = Origin::by_hand(|mut stream| {
        let (mut seen, mut chunk) = (Vec::new(), [0; 4096]);
        while !seen.ends_with(b"0\r\n\r\n") {
            match stream.read(&mut chunk) {
                Ok(read) if read > 0 => seen.extend_from_slice(&chunk[..read]),
                _ => break,
            }
        }
        // Says what it was told, and a trailer of its own.
        let _ = write!(stream, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n", seen.len());
        let _ = stream.write_all(&seen);
        let _ = stream.write_all(b"\r\n0\r\nX-Late: 1\r\n\r\n");
    });
    let gateway = gateway(&origin);
    let mut raw = Raw::connect(gateway.public());
    let post = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\n\
                X-Tidegate-User: root\r\n\r\n";
    raw.send(post);
    let seen = raw.answer().expect("an answer").text().to_ascii_lowercase();
    assert!(seen.ends_with("\r\n\r\n5\r\nhello\r\n0\r\n\r\n"), "{seen}");
    assert!(!seen.contains("root"), "{seen}");
    // The origin closes just behind its answer, and a request that meets the end of its connection is not sent again.
    std::thread::sleep(Duration::from_millis(200));
    // Had the trailer come through, it would stand before this answer.
    raw.send(post);
    assert_eq!(raw.head().map(|head| head.status), Some(200));
}

#[test]
fn an_answer_until_the_end_comes_in_chunks_and_the_connection_stays() {
    let origin = Origin::with(|_, stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        for piece in ["one ", "two ", "three"] {
            let _ = stream.write_all(piece.as_bytes());
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    });
    let gateway = gateway(&origin);
    let mut raw = Raw::connect(gateway.public());
    for _ in 0..3 {
        raw.send(GET);
        let answer = raw.answer().expect("an answer");
        assert_eq!((answer.header("transfer-encoding"), answer.text().as_str()), (Some("chunked"), "one two three"));
    }
}

#[test]
fn hints_pass_and_what_the_door_said_already_does_not() {
    let origin = Origin::with(|_, stream| {
        let interim =
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: x\r\nX: 1\r\n\r\n";
        stream.write_all(interim.as_bytes()).is_ok()
            && stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").is_ok()
    });
    let gateway = gateway(&origin);
    let mut raw = Raw::connect(gateway.public());
    for _ in 0..2 {
        raw.send(GET);
        let hints = raw.head().expect("hints");
        assert_eq!((hints.status, hints.header("link"), hints.header("x")), (103, Some("</a>"), None), "{hints:?}");
        assert_eq!(raw.head().map(|head| head.status), Some(200));
        assert_eq!(raw.bytes(2), b"ok");
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn how_an_answer_is_cut_into_pieces_makes_no_difference() {
    let answers = [
        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 11\r\nX: y\r\n\r\nhello world",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;a=b\r\n world\r\n0\r\nT: x\r\n\r\n",
    ];
    for answer in answers {
        for size in [1, 2, 3, 7, 50] {
            let origin = Origin::with(move |_, stream| {
                answer.as_bytes().chunks(size).all(|piece| {
                    std::thread::sleep(Duration::from_millis(1));
                    stream.write_all(piece).is_ok()
                })
            });
            let gateway = gateway(&origin);
            let mut raw = Raw::connect(gateway.public());
            for _ in 0..2 {
                raw.send(GET);
                let got = raw.answer().expect("an answer");
                assert_eq!((got.status, got.text().as_str()), (200, "hello world"), "{size}: {got:?}");
            }
            assert_eq!(origin.connections(), 1, "{size}");
        }
    }
}

#[test]
fn both_directions_flow_at_once() {
    const SIZE: usize = 8 << 20;
    // Sends back what comes while it comes: neither side could hold it all.
    let origin = Origin::by_hand(|mut stream| {
        let mut chunk = vec![0; 64 << 10];
        let mut head = 0;
        while head == 0 {
            let read = stream.read(&mut chunk).unwrap_or(0);
            let Some(end) = chunk[..read].windows(4).position(|four| four == b"\r\n\r\n") else { continue };
            head = end + 4;
            let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n");
            let _ = stream.write_all(&chunk[head..read]);
        }
        while let Ok(read) = stream.read(&mut chunk) {
            if read == 0 || stream.write_all(&chunk[..read]).is_err() {
                return;
            }
        }
    });
    let gateway = gateway(&origin);
    let mut raw = Raw::connect(gateway.public());
    let mut sender = raw.socket().try_clone().expect("a second handle");
    let sending = std::thread::spawn(move || {
        let _ = write!(sender, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {SIZE}\r\n\r\n");
        (0..SIZE >> 16).all(|number| sender.write_all(&[u8::try_from(number % 251).unwrap_or(0); 1 << 16]).is_ok())
    });
    assert_eq!(raw.head().map(|head| head.status), Some(200));
    let echo = raw.bytes(SIZE);
    assert!(sending.join().expect("sent"));
    assert_eq!(echo.len(), SIZE);
    assert!(echo.iter().enumerate().all(|(at, byte)| usize::from(*byte) == (at >> 16) % 251));
}

#[test]
fn filters_change_heads_that_stay_bytes() {
    let origin = Origin::with(|_, stream| {
        let head = "HTTP/1.1 200 Fine\r\nserver: origin\r\nX-Twice: 1\r\nx-twice: 2\r\nX-Kept: 3\r\nContent-Length: 2\r\n\r\nok";
        stream.write_all(head.as_bytes()).is_ok()
    });
    let edits = "filters:
  edits:
    headers:
      request: {set: {x-set: new}, add: {x-more: second}, remove: [x-gone]}
      response: {set: {x-twice: once}, add: {x-kept: \"4\"}, remove: [server]}";
    let gateway = Gateway::start(&one_route(origin.address, "", "    filters: [edits]", edits));
    let answer = get(gateway.public(), "/", "X-Set: old\r\nX-SET: older\r\nX-More: first\r\nX-Gone: 1\r\n");
    let values = |name: &str| -> Vec<&str> {
        answer.headers.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str()).collect()
    };
    assert_eq!((values("server"), values("x-twice"), values("x-kept")), (vec![], vec!["once"], vec!["3", "4"]));
    let seen = &origin.seen()[0];
    assert_eq!((seen.header("x-set"), seen.count("x-set"), seen.count("x-gone")), (Some("new"), 1, 0), "{seen:?}");
    assert_eq!((seen.header("x-more"), seen.count("x-more")), (Some("first"), 2), "{seen:?}");
}

#[test]
fn a_payment_whose_client_has_left_is_seen_to_its_end() {
    let origin = Origin::with(|_, stream| {
        // Unread by a client that closes, it turns the close into a reset.
        let _ = stream.write_all(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
        std::thread::sleep(Duration::from_millis(400));
        let _ = stream.write_all(b"HTTP/1.1 201 Created\r\nContent-Length: 1000000\r\n\r\n");
        (0..100).all(|_| stream.write_all(&[b'x'; 10_000]).is_ok())
    });
    let gateway = gateway(&origin);
    let mut raw = Raw::connect(gateway.public());
    raw.send("POST /pay HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
    eventually("the origin has it", Duration::from_secs(5), || origin.seen().len() == 1);
    std::thread::sleep(Duration::from_millis(100));
    drop(raw);
    let log = gateway.access_log(1);
    assert_eq!((&log[0]["status"], &log[0]["outcome"]), (&201.into(), &"final".into()), "{log:?}");
    assert_eq!((origin.seen().len(), origin.seen()[0].body.as_slice()), (1, b"hello".as_slice()));
    // The answer was read to its end: its connection serves others.
    let mut raw = Raw::connect(gateway.public());
    raw.send(GET);
    assert_eq!(raw.answer().map(|answer| answer.status), Some(201));
    assert_eq!(origin.connections(), 1);
}
