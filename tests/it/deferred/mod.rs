//! Requests that are answered with 202 and carried out later, seen from outside: what was promised happens, once, and its
//! answer is the upstream's.

mod answers;
mod bursts;
mod channels;
mod crash;
mod payments;
mod places;
mod promises;
mod reloads;
mod removed;
mod tries;

use std::io::Write;
use std::net::SocketAddr;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use crate::support::{Answer, Gateway, Origin, Raw, exchange, get, one_route, shop};

const PATIENCE: Duration = Duration::from_secs(20);

/// A gateway's file with the filter on its one route.
fn with(origin: SocketAddr, settings: &str) -> String {
    // Tests ask more often than people.
    let asking = if settings.contains("status_rate") { "" } else { ", status_rate: 100000/s" };
    let more = format!(
        "stores: {{disk: {{type: sqlite}}}}
filters:
  later: {{respond_async: {{store: disk{asking}{settings}}}}}"
    );
    one_route(origin, "", "    filters: [later]", &more)
}

/// A request with further header lines, each ending with CR LF.
fn request(headers: &str, body: &str) -> String {
    format!(
        "POST /api/orders?a=1 HTTP/1.1\r\nHost: shop.test\r\nContent-Type: application/json\r\n{headers}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn keyed(key: &str) -> String {
    format!("Idempotency-Key: {key}\r\n")
}

fn post(gateway: &Gateway, headers: &str, body: &str) -> Answer {
    exchange(gateway.public(), &request(headers, body))
}

/// Where an accepted request is asked for.
fn place(accepted: &Answer) -> String {
    assert_eq!(accepted.status, 202, "{accepted:?}");
    accepted.header("location").expect("a location").to_owned()
}

/// Its answer, once there is one.
fn result(gateway: &Gateway, place: &str) -> Answer {
    get(gateway.public(), &format!("{place}/result"), "Prefer: wait=20\r\n")
}

/// How it stands.
fn status(gateway: &Gateway, place: &str) -> String {
    let answer = get(gateway.public(), place, "");
    answer.json()["status"].as_str().unwrap_or_default().to_owned()
}
