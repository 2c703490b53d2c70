//! Ports for processes that a test starts, and starts again.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering::SeqCst};

/// Below the ports that the system gives to outgoing connections, so that nobody gets one of ours between a test's
/// choice and its process's bind, or while that process is down.
const FIRST: u16 = 10_000;
/// Ports a test process has to itself, as far as process numbers that are close differ.
const WINDOW: u16 = 100;
const WINDOWS: u32 = 200;

/// A port that is free, and that no other call in this process gets.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let window = u16::try_from(std::process::id() % WINDOWS).expect("a small number");
    let port = |_| FIRST + window * WINDOW + NEXT.fetch_add(1, SeqCst) % WINDOW;
    let mut all = (0..WINDOW).map(port);
    let free = all.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    free.expect("invariant: a process has fewer ports than its window holds")
}
