//! What the tests share: a gateway as its own process, scripted origins, and a client that writes bytes.

pub(crate) mod browser;
mod channels;
mod client;
pub(crate) mod frames;
mod gateway;
mod origin;
mod ports;
mod tls;

use std::time::{Duration, Instant};

pub(crate) use channels::{Moody, channel, channels_file};
pub(crate) use client::{Answer, Raw, exchange, get};
pub(crate) use gateway::{Gateway, one_route};
pub(crate) use origin::{Origin, Seen};
pub(crate) use ports::free_port;
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
