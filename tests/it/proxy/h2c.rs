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
