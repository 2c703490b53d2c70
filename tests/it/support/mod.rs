//! What the tests share: a gateway as its own process, scripted origins, and a client that writes bytes.

pub(crate) mod browser;
mod channels;
mod client;
pub(crate) mod frames;
mod gateway;
mod origin;
mod ports;
#[path = "../../../filters/store/tests/server.rs"]
mod server;
pub(crate) mod stalls;
mod tls;

use std::time::{Duration, Instant};

pub(crate) use channels::{Moody, channel, channels_file};
pub(crate) use client::{Answer, Raw, exchange, get};
pub(crate) use gateway::{Gateway, one_route};
pub(crate) use origin::{Origin, Seen, shop};
pub(crate) use ports::free_port;
pub(crate) use server::Server as Postgres;
pub(crate) use tls::{Authority, TlsFront};

/// Waits until `done` says so.
///
/// # Panics
/// When that takes longer than `limit`.
pub(crate) fn eventually(what: &str, limit: Duration, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// How many rounds of kills a crash test has: `usual`, or what TIDEGATE_KILL_ROUNDS says.
pub(crate) fn kill_rounds(usual: usize) -> usize {
    let said = std::env::var("TIDEGATE_KILL_ROUNDS").ok();
    said.map_or(usual, |said| said.parse().expect("TIDEGATE_KILL_ROUNDS is a number"))
}
