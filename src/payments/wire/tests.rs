//! Real sockets: what was sent, what was not, and that the difference stays.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::payments::outcome::{Class, of_wire};

async fn listen() -> (TcpListener, Target) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let second = Duration::from_secs(1);
    let target = Target {
        address: listener.local_addr().unwrap(),
        authority: HeaderValue::from_static("channel.test"),
        h2: false,
        tls: None,
        connect_timeout: second,
        read_timeout: second / 4,
        idle_timeout: second,
    };
    (listener, target)
}

fn request() -> Request {
    Request { method: Method::POST, target: "/pay".to_owned(), headers: HeaderMap::new(), body: Bytes::from("body") }
}

#[tokio::test]
async fn row_4_a_connection_that_took_no_byte_has_sent_nothing() {
    let (listener, target) = listen().await;
    let mut conn = connect(&target).await.unwrap();
    let (mut channel, _) = listener.accept().await.unwrap();
    // Shut is shut: the task that is about to write does not.
    assert_eq!(conn.gate.shut(), (0, 0));
    let error = conn.send(prepare(&target, &request()).unwrap()).await.unwrap_err();
    let (accepted, received) = conn.gate.shut();
    let fault = Fault::before_answer(&error, accepted, received);
    assert_eq!((fault.seen, of_wire(fault.seen)), (Seen::Broken { accepted: 0 }, Class::NotSent));
    drop(conn);
    let mut got = Vec::new();
    let _ = channel.read_to_end(&mut got).await;
    assert!(got.is_empty(), "{got:?}");
}

#[tokio::test]
async fn what_the_kernel_took_is_counted_to_the_byte() {
    let (listener, target) = listen().await;
    let channel = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut got = Vec::new();
        let _ = socket.read_to_end(&mut got).await;
        got.len()
    });
    let fault = Wire::default().call(&target, &request(), LARGEST_ANSWER).await.unwrap_err();
    let Seen::Silent { accepted } = fault.seen else { panic!("{fault:?}") };
    assert_eq!(usize::try_from(accepted).unwrap(), channel.await.unwrap());
    assert_eq!(of_wire(fault.seen), Class::Unknown);
}

#[tokio::test]
async fn a_connection_with_a_stray_byte_is_not_used_again() {
    let (listener, target) = listen().await;
    let wire = Wire::default();
    let (tell, mut strayed) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let tell = tell.clone();
            tokio::spawn(async move {
                let _ = socket.read(&mut [0; 1024]).await;
                let _ = socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
                tokio::time::sleep(Duration::from_millis(20)).await;
                let _ = socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad").await;
                let _ = tell.send(());
                tokio::time::sleep(Duration::from_secs(5)).await;
            });
        }
    });
    for _ in 0..3 {
        let answer = wire.call(&target, &request(), LARGEST_ANSWER).await.unwrap();
        assert_eq!(answer.body.as_deref(), Some(&b"ok"[..]));
        strayed.recv().await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
