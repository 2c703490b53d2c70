//! Requests with an Idempotency-Key, seen from outside: once is once, whoever dies in between.

mod crash;
mod leaving;
mod repeats;
mod shared;

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use crate::support::{Answer, Gateway, Origin, Raw, exchange, one_route, shop};

const PATIENCE: Duration = Duration::from_secs(10);

/// A gateway's file with the filter on its one route.
fn with(origin: SocketAddr, store: &str, settings: &str) -> String {
    let more = format!(
        "stores: {{records: {{type: {store}}}}}
filters:
  once: {{idempotency: {{store: records{settings}}}}}"
    );
    one_route(origin, "", "    filters: [once]", &more)
}

/// A request with a key and a body, as text.
fn request(key: &str, body: &str) -> String {
    format!(
        "POST /api/orders?b=2&a=1 HTTP/1.1\r\nHost: shop.test\r\nIdempotency-Key: {key}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn order(gateway: &Gateway, key: &str, body: &str) -> Answer {
    exchange(gateway.public(), &request(key, body))
}

/// A request that is sent and not read yet.
fn asked(gateway: &Gateway, key: &str, body: &str) -> Raw {
    let mut raw = Raw::connect(gateway.public());
    raw.send(request(key, body));
    raw
}

/// Answers the first request with the first text, the second with the second, and so on; the last one stays.
fn script(answers: &'static [&'static str]) -> (Origin, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let origin = Origin::with(move |_, stream| {
        let number = count.fetch_add(1, SeqCst).min(answers.len() - 1);
        let answer = answers[number];
        // An empty text is a connection that is cut.
        !answer.is_empty() && stream.write_all(answer.as_bytes()).is_ok()
    });
    (origin, asked)
}

fn code(answer: &Answer) -> String {
    answer.json()["code"].as_str().unwrap_or_default().to_owned()
}
