//! Bodies of any size pass through without staying.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use crate::support::{Gateway, Origin, Raw, one_route};

const SIZE: usize = 100 << 20;
/// Most that memory may grow while 100 MiB pass.
const FLAT_KIB: u64 = 24 << 10;

#[test]
fn a_large_upload_keeps_memory_flat() {
    let origin = Origin::by_hand(|mut stream| {
        let mut chunk = vec![0; 256 << 10];
        let mut total = 0;
        // Head and body together; the head is far smaller than what the bound below forgives.
        while total < SIZE {
            match stream.read(&mut chunk) {
                Ok(read) if read > 0 => total += read,
                _ => break,
            }
        }
        let body = format!("{total}");
        let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
        let _ = stream.read(&mut chunk);
    });
    let gateway = Gateway::start(&one_route(origin.address, "", "", ""));
    let before = gateway.resident_kib();
    let mut raw = Raw::connect(gateway.public());
    raw.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {SIZE}\r\n\r\n"));
    let chunk = vec![b'x'; 1 << 20];
    let mut most = 0;
    for _ in 0..100 {
        assert!(raw.send(&chunk));
        most = most.max(gateway.resident_kib().saturating_sub(before));
    }
    let answer = raw.answer().expect("an answer");
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.text().parse::<usize>().expect("a number") >= SIZE);
    assert!(most < FLAT_KIB, "grew by {most} KiB");
}

#[test]
fn a_large_download_keeps_memory_flat_even_when_read_slowly() {
    let origin = Origin::with(|_, stream| {
        let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n");
        let chunk = vec![b'x'; 1 << 20];
        (0..100).all(|_| stream.write_all(&chunk).is_ok())
    });
    let gateway = Gateway::start(&one_route(origin.address, "", "", ""));
    let before = gateway.resident_kib();
    let mut raw = Raw::connect(gateway.public());
    raw.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(raw.head().expect("a head").status, 200);
    // While nobody reads, the origin is held back.
    std::thread::sleep(Duration::from_millis(500));
    let mut most = gateway.resident_kib().saturating_sub(before);
    let mut total = 0;
    while total < SIZE {
        let read = raw.bytes(1 << 20).len();
        assert!(read > 0, "ended after {total} bytes");
        total += read;
        most = most.max(gateway.resident_kib().saturating_sub(before));
    }
    assert_eq!(total, SIZE);
    assert!(most < FLAT_KIB, "grew by {most} KiB");
}

#[test]
fn chunks_arrive_as_they_are_sent() {
    let origin = Origin::with(|_, stream| {
        let _ = stream
            .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: text/event-stream\r\n\r\n");
        for _ in 0..5 {
            let _ = stream.write_all(b"7\r\ndata: x\r\n");
            std::thread::sleep(Duration::from_millis(200));
        }
        stream.write_all(b"0\r\n\r\n").is_ok()
    });
    let gateway = Gateway::start(&one_route(origin.address, "", "", ""));
    let mut raw = Raw::connect(gateway.public());
    let start = Instant::now();
    raw.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(raw.head().expect("a head").status, 200);
    raw.bytes(7);
    assert!(start.elapsed() < Duration::from_millis(600), "the first event took {:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_millis(900));
}
