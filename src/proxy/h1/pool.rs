//! Idle connections to one address.
//!
//! pingora's pool gives every idle connection a task of its own and trusts what the runtime has heard about it. Here a
//! connection lies still: it is looked at once a second, and asked of the kernel itself the moment before it is used
//! again. A connection that was closed, or on which bytes lie that nobody asked for, is never used again: the next
//! client would read them as its answer. Fails at: what arrives between that look and the request.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use tidegate_filters::engine::{Nanos, State};
use tokio::net::TcpStream;

/// Idle connections kept for each listener; fewer than run at once would mean reconnecting under load.
const MOST_IDLE: usize = 4_096;
/// Connections a sweep looks at before others may have the pool.
const SWEPT_AT_ONCE: usize = 64;

/// Idle connections to one address; the oldest first.
pub(crate) struct Pool {
    address: SocketAddr,
    /// By listener: each has a runtime, and a connection is woken by the one that made it.
    idle: Box<[Mutex<VecDeque<Idle>>]>,
}

struct Idle {
    wire: TcpStream,
    until: Nanos,
}

impl Pool {
    pub(crate) fn new(address: SocketAddr, listeners: usize) -> Self {
        Self { address, idle: (0..listeners).map(|_| Mutex::default()).collect() }
    }

    /// Connects anew.
    pub(super) async fn connect(&self) -> io::Result<TcpStream> {
        let wire = TcpStream::connect(self.address).await?;
        wire.set_nodelay(true)?;
        Ok(wire)
    }

    /// The connection used last that is still good; `None` when there is none.
    pub(super) fn take(&self, listener: usize, now: Nanos) -> Option<TcpStream> {
        loop {
            let Idle { wire, until } = self.idle.get(listener)?.lock().pop_back()?;
            if now < until && is_quiet(&wire) {
                return Some(wire);
            }
        }
    }

    /// Keeps a connection behind a whole answer.
    pub(super) fn put(&self, listener: usize, wire: TcpStream, now: Nanos, idle_timeout: Duration) {
        let Some(idle) = self.idle.get(listener) else { return };
        let mut idle = idle.lock();
        if idle.len() < MOST_IDLE {
            idle.push_back(Idle { wire, until: now.after(idle_timeout) });
        }
    }
}

impl State for Pool {
    fn sweep(&self, now: Nanos) -> usize {
        self.idle.iter().map(|idle| sweep(idle, now)).sum()
    }
}

fn sweep(idle: &Mutex<VecDeque<Idle>>, now: Nanos) -> usize {
    let (mut at, mut over) = (0, Vec::new());
    loop {
        let mut idle = idle.lock();
        if at >= idle.len() {
            return idle.len();
        }
        for _ in 0..SWEPT_AT_ONCE.min(idle.len() - at) {
            if now < idle[at].until && is_quiet(&idle[at].wire) {
                at += 1;
            } else {
                over.extend(idle.remove(at));
            }
        }
        drop(idle);
        over.clear();
    }
}

/// Whether the connection is open and holds nothing: the kernel is asked, as the runtime may not have heard yet.
fn is_quiet(wire: &TcpStream) -> bool {
    let peeked = recv(wire, &mut [0_u8; 1][..], RecvFlags::PEEK | RecvFlags::DONTWAIT);
    peeked.err() == Some(Errno::AGAIN)
}
