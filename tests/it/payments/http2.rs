//! The rows of the table that only HTTP/2 has: a scripted server that ends streams as it likes.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use super::desk::{Desk, PLAIN, answer, pay, stands};
use crate::support::Origin;
use crate::support::frames::{END_HEADERS, HEADERS, frame};

const PREFACE: usize = 24;
const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;
const REFUSED_STREAM: u32 = 7;
const HTTP_1_1_REQUIRED: u32 = 13;

/// A frame about the whole connection.
fn connection_frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = frame(kind, flags, payload);
    bytes[8] = 0;
    bytes
}

fn goaway(last: u32, code: u32) -> Vec<u8> {
    connection_frame(GOAWAY, 0, &[last.to_be_bytes(), code.to_be_bytes()].concat())
}

fn rst(code: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, &code.to_be_bytes())
}

/// Reads up to the request's head; false when the client leaves before.
fn until_request(stream: &mut TcpStream) -> bool {
    let mut preface = [0; PREFACE];
    if stream.read_exact(&mut preface).is_err() {
        return false;
    }
    // Our settings, and agreement to theirs.
    let _ = stream.write_all(&connection_frame(4, 0, &[]));
    let _ = stream.write_all(&connection_frame(4, 1, &[]));
    loop {
        let mut head = [0; 9];
        if stream.read_exact(&mut head).is_err() {
            return false;
        }
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let mut payload = vec![0; length];
        if stream.read_exact(&mut payload).is_err() {
            return false;
        }
        if head[3] == HEADERS {
            return true;
        }
    }
}

/// A server that answers a request with these bytes, then waits, or leaves at once.
fn server(bytes: Vec<u8>, leaves: bool) -> Origin {
    Origin::by_hand(move |mut stream| {
        if until_request(&mut stream) {
            let _ = stream.write_all(&bytes);
            if leaves {
                // The end alone: a socket that is closed with something unread resets, and may take back the bytes above.
                let _ = stream.shutdown(Shutdown::Write);
            }
            let mut rest = [0; 1024];
            while stream.read(&mut rest).is_ok_and(|read| read > 0) {}
        }
    })
}

/// Pays through a server of HTTP/2 that does this; the journal's word for its try.
fn word(bytes: Vec<u8>, leaves: bool) -> (u16, String) {
    let a = server(bytes, leaves);
    // What is behind it speaks HTTP/2, too, or cannot be an upstream's second channel: it is never reached, or refuses.
    let b = server(rst(REFUSED_STREAM), false);
    let desk = Desk { upstream: "    protocol: h2c\n", ..Desk::default() };
    let gateway = desk.open(&[("a", a.address, PLAIN), ("b", b.address, PLAIN)]);
    let got = pay(&gateway, "p1");
    let (_, tries) = super::desk::states(&gateway, "p1");
    let used_b = tries.iter().any(|(channel, _)| channel == "b");
    assert_eq!(used_b, b.connections() > 0, "{tries:?}");
    assert_eq!(used_b, tries[0].1 != "UNKNOWN", "{tries:?}");
    (got.status, tries[0].1.clone())
}

#[test]
fn row_6_a_refused_stream_was_not_processed() {
    assert_eq!(word(rst(REFUSED_STREAM), false), (503, "NOT_PROCESSED".to_owned()));
    assert_eq!(word(goaway(0, 0), false), (503, "NOT_PROCESSED".to_owned()));
    assert_eq!(word(goaway(0, 0), true), (503, "NOT_PROCESSED".to_owned()));
}

#[test]
fn row_6_a_goaway_that_names_our_stream_says_nothing() {
    // It is going to be answered, says the server, and then it is not.
    assert_eq!(word(goaway(1, 0), true), (202, "UNKNOWN".to_owned()));
    assert_eq!(word(goaway(0x7fff_ffff, 0), true), (202, "UNKNOWN".to_owned()));
}

/// A server that wants HTTP/1.1 for payments, and does this over that.
fn wants_http_1(then: impl Fn(&mut TcpStream) + Send + Sync + 'static) -> Origin {
    Origin::by_hand(move |mut stream| {
        let mut begin = [0; 3];
        if !stream.peek(&mut begin).is_ok_and(|read| read == begin.len()) {
            return;
        }
        if begin == *b"PRI" {
            if until_request(&mut stream) {
                let _ = stream.write_all(&rst(HTTP_1_1_REQUIRED));
                while stream.read(&mut [0; 1024]).is_ok_and(|read| read > 0) {}
            }
        } else if stream.read(&mut [0; 4096]).is_ok_and(|read| read > 0) {
            then(&mut stream);
        }
    })
}

/// Pays through such a server; the client's status, the journal's word, and connections to it and to the other channel.
fn over_http_1(then: impl Fn(&mut TcpStream) + Send + Sync + 'static) -> (u16, String, usize, usize) {
    let (a, b) = (wants_http_1(then), server(rst(REFUSED_STREAM), false));
    let desk = Desk { upstream: "    protocol: h2c\n", ..Desk::default() };
    let gateway = desk.open(&[("a", a.address, PLAIN), ("b", b.address, PLAIN)]);
    let got = pay(&gateway, "p1");
    let (_, tries) = super::desk::states(&gateway, "p1");
    (got.status, tries[0].1.clone(), a.connections(), b.connections())
}

#[test]
fn row_7_a_server_that_wants_http_1_is_asked_in_it() {
    let paid = over_http_1(|stream| {
        answer(stream, 200, r#"{"status":"SUCCESS"}"#);
    });
    assert_eq!(paid, (200, "SUCCEEDED".to_owned(), 2, 0));
    // What happens there counts: it may have charged.
    assert_eq!(over_http_1(|_| ()), (202, "UNKNOWN".to_owned(), 2, 0));
}

#[test]
fn row_8_every_other_end_of_a_stream_is_unknown() {
    // NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, CANCEL, ENHANCE_YOUR_CALM, and a code that does not exist.
    for code in [0, 1, 2, 8, 11, 77] {
        assert_eq!(word(rst(code), false), (202, "UNKNOWN".to_owned()), "reset with {code}");
    }
    for code in [1, 2, 11, 13, 7] {
        assert_eq!(word(goaway(0, code), false), (202, "UNKNOWN".to_owned()), "goaway with {code}");
    }
    // No frame at all, a frame of another kind of nonsense, and a head that is none.
    assert_eq!(word(b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), false), (202, "UNKNOWN".to_owned()));
    assert_eq!(word(frame(HEADERS, END_HEADERS, &[0xff; 8]), false), (202, "UNKNOWN".to_owned()));
    assert_eq!(word(Vec::new(), true), (202, "UNKNOWN".to_owned()));
    assert_eq!(word(Vec::new(), false), (202, "UNKNOWN".to_owned()), "silence");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_of_http2_that_answers_is_paid_through() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its address");
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(socket).await.expect("a handshake");
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    tokio::spawn(async move {
                        let mut body = request.into_body();
                        while let Some(Ok(_)) = body.data().await {}
                        let mut stream = respond.send_response(http::Response::new(()), false).expect("a head");
                        stream.send_data(r#"{"status":"SUCCESS"}"#.into(), true).expect("a body");
                    });
                }
            });
        }
    });
    let desk = Desk { upstream: "    protocol: h2c\n", ..Desk::default() };
    let gateway = desk.open(&[("a", address, PLAIN)]);
    tokio::task::block_in_place(|| {
        for id in ["p1", "p2"] {
            let got = pay(&gateway, id);
            assert_eq!((got.status, got.text().as_str()), (200, r#"{"status":"SUCCESS"}"#), "{got:?}");
            stands(&gateway, id, "SUCCEEDED a:SUCCEEDED");
        }
    });
}
