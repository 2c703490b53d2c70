//! HTTP/2 from clients, by prior knowledge: the same routes, filters and answers as over HTTP/1.

use std::io::Write;
use std::time::{Duration, Instant};

use crate::support::{Gateway, Origin, Raw, one_route};

fn client() -> reqwest::Client {
    reqwest::Client::builder().http2_prior_knowledge().build().expect("a client")
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_over_http2_pass_the_same_chain() {
    let origin = Origin::ok();
    let limit = "filters:
  few:
    rate_limit:
      policies: [{name: client, key: client, rate: 3/h}]";
    let gateway = Gateway::start(&one_route(origin.address, "", "    filters: [few]", limit));
    let (client, url) = (client(), format!("http://{}/%61//b?q=1", gateway.public()));
    let mut statuses = Vec::new();
    for _ in 0..4 {
        let answer = client.post(&url).header("x-user-id", "root").body("hello").send().await.expect("an answer");
        assert_eq!(answer.version(), reqwest::Version::HTTP_2);
        statuses.push(answer.status().as_u16());
    }
    assert_eq!(statuses, [200, 200, 200, 429]);
    let seen = origin.seen();
    assert_eq!(seen.len(), 3);
    assert_eq!((seen[0].target.as_str(), seen[0].body.as_slice()), ("/a/b?q=1", b"hello".as_slice()));
    assert_eq!(seen[0].header("x-user-id"), None);
    assert_eq!(seen[0].count("host"), 1, "{seen:?}");
    assert_eq!(gateway.access_log(4)[3]["protocol"], "h2");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_streams_share_a_connection() {
    let origin = Origin::with(|_, stream| {
        std::thread::sleep(Duration::from_millis(100));
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").is_ok()
    });
    let gateway = Gateway::start(&one_route(origin.address, "", "", ""));
    let (client, url) = (client(), format!("http://{}/", gateway.public()));
    let start = Instant::now();
    let all: Vec<_> = (0..50).map(|_| tokio::spawn(client.get(&url).send())).collect();
    for one in all {
        assert_eq!(one.await.expect("joined").expect("an answer").status(), 200);
    }
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_has_a_deadline() {
    let origin = Origin::with(|_, _| {
        std::thread::sleep(Duration::from_secs(30));
        false
    });
    let gateway = Gateway::start(&one_route(origin.address, "  limits: {request_timeout: 1s}", "", ""));
    let start = Instant::now();
    let answer = client().get(format!("http://{}/", gateway.public())).send().await;
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    assert!(answer.is_err() || answer.is_ok_and(|answer| answer.status() == 504));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_has_its_own_deadline() {
    let origin = Origin::with(|_, _| {
        std::thread::sleep(Duration::from_secs(30));
        false
    });
    let gateway = Gateway::start(&one_route(origin.address, "", "    timeout: 500ms", ""));
    let start = Instant::now();
    let answer = client().get(format!("http://{}/", gateway.public())).send().await.expect("an answer");
    assert!(start.elapsed() < Duration::from_millis(1_900), "{:?}", start.elapsed());
    assert_eq!(answer.status(), 504);
    assert_eq!(answer.headers()["tidegate-outcome"], "unknown");
}

#[test]
fn silent_http2_connections_end() {
    let origin = Origin::ok();
    let limits = "  limits: {header_timeout: 1s, body_timeout: 1s, idle_timeout: 1s, request_timeout: 3s}";
    let gateway = Gateway::start(&one_route(origin.address, limits, "", ""));
    // The preface alone; with settings; and with half a header frame.
    let settings: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
    for more in [&[][..], settings, &[settings, &[0, 0, 50, 1, 4, 0, 0, 0, 1, 0x82]].concat()] {
        let mut raw = Raw::connect(gateway.public());
        raw.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        raw.send(more);
        let took = raw.closed_within(Duration::from_secs(8));
        assert!(took.is_some(), "still open with {} bytes behind the preface", more.len());
    }
}

const IMPATIENT: &str = "  limits: {body_timeout: 1s, request_timeout: 60s}";

/// Opens a connection whose streams may receive `window` bytes before they say more.
async fn connect(gateway: &Gateway, window: u32) -> h2::client::SendRequest<bytes::Bytes> {
    let socket = tokio::net::TcpStream::connect(gateway.public()).await.expect("connect");
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(window);
    let (client, connection) = builder.handshake(socket).await.expect("a handshake");
    tokio::spawn(connection);
    client.ready().await.expect("ready")
}

fn request() -> http::Request<()> {
    http::Request::get("http://shop.test/").body(()).expect("a request")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_whose_answer_nobody_reads_is_reset() {
    let origin = Origin::with(|_, stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000\r\n\r\n");
        let chunk = [b'x'; 64 << 10];
        (0..160).all(|_| stream.write_all(&chunk).is_ok())
    });
    let gateway = Gateway::start(&one_route(origin.address, IMPATIENT, "", ""));
    let mut client = connect(&gateway, 1_000).await;
    let (answer, _) = client.send_request(request(), true).expect("sent");
    let mut body = answer.await.expect("a head").into_body();
    // Read, but no room is given back.
    let begun = Instant::now();
    let ended = tokio::time::timeout(Duration::from_secs(15), async { while let Some(Ok(_)) = body.data().await {} });
    ended.await.expect("the stream is reset");
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_answer_that_makes_progress_goes_on() {
    let origin = Origin::with(|_, stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n");
        (0..6).all(|_| {
            std::thread::sleep(Duration::from_millis(900));
            stream.write_all(b"xy").is_ok()
        })
    });
    let gateway = Gateway::start(&one_route(origin.address, IMPATIENT, "", ""));
    let mut client = connect(&gateway, 65_535).await;
    let (answer, _) = client.send_request(request(), true).expect("sent");
    let mut body = answer.await.expect("a head").into_body();
    let mut got = 0;
    while let Some(piece) = body.data().await {
        got += piece.expect("no reset").len();
    }
    assert_eq!(got, 12);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_without_a_body_may_wait_for_its_answer() {
    let origin = Origin::with(|_, stream| {
        std::thread::sleep(Duration::from_millis(2_700));
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").is_ok()
    });
    let yaml = one_route(origin.address, IMPATIENT, "", "").replace("read_timeout: 2s", "read_timeout: 4s");
    let gateway = Gateway::start(&yaml);
    let answer = client().get(format!("http://{}/", gateway.public())).send().await.expect("an answer");
    assert_eq!(answer.status(), 200);
}
