//! The listener: it accepts, or it is closed, or it is a black hole.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::super::channel::Channel;
use super::super::plan::{Hit, Kind};
use super::connection;
use crate::support::Stop;

/// How often the plan's clock is looked at while a window of the listener is to come or to end.
const TICK: Duration = Duration::from_millis(10);

/// Queue of connections that are not accepted yet, as the runtime sets it.
const BACKLOG: i32 = 1024;

/// A connection to a full queue does not come about in this time; one on the same machine needs a hundredth of it.
const FULL: Duration = Duration::from_millis(100);

/// Connections that fill a queue of the least length. Linux takes one more than the length it is given.
const FILLERS: usize = 8;

/// Serves `router` until a stop was requested and the connections have ended.
pub(in crate::channel_simulator) async fn serve(
    channel: Arc<Channel>,
    listener: TcpListener,
    router: Router,
    stop: Stop,
) {
    let Ok(address) = listener.local_addr() else {
        return;
    };
    let mut house = House {
        channel,
        router,
        address,
        connections: JoinSet::new(),
        leave: watch::Sender::new(0),
        count: 0,
        fillers: HashSet::new(),
    };
    tokio::select! {
        () = house.open(listener) => {}
        () = stop.requested() => {}
    }
    house.leave.send_modify(|wishes| *wishes += 1);
    while house.connections.join_next().await.is_some() {}
}

struct House {
    channel: Arc<Channel>,
    router: Router,
    address: SocketAddr,
    connections: JoinSet<()>,
    /// Counts how often all connections were asked to end.
    leave: watch::Sender<u64>,
    count: u64,
    /// Connections of our own that fill the queue, by their local address.
    fillers: HashSet<SocketAddr>,
}

impl House {
    async fn open(&mut self, mut listener: TcpListener) {
        loop {
            let Some(hit) = self.channel.door() else {
                self.accept(&listener).await;
                continue;
            };
            self.channel.counters.fault(hit.kind);
            tracing::info!(channel = self.channel.name, fault = hit.kind.name(), "the door is closed");
            // A kept connection would be a way past the door.
            self.leave.send_modify(|wishes| *wishes += 1);
            if hit.kind == Kind::Refuse {
                drop(listener);
                self.until_open(&hit).await;
                listener = self.listen_again().await;
            } else if hit.accept {
                // The system accepts in our place; nobody reads.
                self.until_open(&hit).await;
            } else {
                let fillers = self.fill(&listener).await;
                self.until_open(&hit).await;
                let _ = SockRef::from(&listener).listen(BACKLOG);
                drop(fillers);
            }
            tracing::info!(channel = self.channel.name, "the door is open again");
        }
    }

    /// Accepts until there may be something the matter with the door.
    async fn accept(&mut self, listener: &TcpListener) {
        let channel = Arc::clone(&self.channel);
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((_, peer)) if self.fillers.remove(&peer) => {}
                Ok((stream, _)) => self.begin(stream),
                // Out of descriptors, as a rule: some will be free again soon.
                Err(_) => tokio::time::sleep(TICK).await,
            },
            _ = self.connections.join_next(), if !self.connections.is_empty() => {}
            () = channel.door_changed(TICK) => {}
        }
    }

    fn begin(&mut self, stream: TcpStream) {
        self.count += 1;
        let hit = self.channel.of_connection();
        let mut reset_after = None;
        match hit.as_ref().map(|hit| (hit.kind, hit.bytes)) {
            Some((Kind::RstBeforeRead, _)) => return connection::reset(&stream),
            Some((_, bytes)) => reset_after = bytes,
            None => {}
        }
        let (router, leave) = (self.router.clone(), self.leave.subscribe());
        self.connections.spawn(connection::serve(stream, self.count, reset_after, router, leave));
    }

    /// Makes the queue as short as possible and fills it.
    async fn fill(&mut self, listener: &TcpListener) -> Vec<TcpStream> {
        let _ = SockRef::from(listener).listen(0);
        let mut fillers = Vec::new();
        while fillers.len() < FILLERS {
            match tokio::time::timeout(FULL, TcpStream::connect(self.address)).await {
                Ok(Ok(filler)) => {
                    self.fillers.extend(filler.local_addr());
                    fillers.push(filler);
                }
                _ => break,
            }
        }
        fillers
    }

    /// Waits until this fault is over, or another plan has come.
    async fn until_open(&self, hit: &Hit) {
        while self.channel.door().is_some_and(|now| now.kind == hit.kind && now.accept == hit.accept) {
            self.channel.door_changed(TICK).await;
        }
    }

    async fn listen_again(&self) -> TcpListener {
        loop {
            match TcpListener::bind(self.address).await {
                Ok(listener) => return listener,
                Err(error) => {
                    tracing::warn!(channel = self.channel.name, %error, "cannot listen again yet");
                    tokio::time::sleep(TICK).await;
                }
            }
        }
    }
}
