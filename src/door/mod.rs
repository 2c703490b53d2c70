//! The front door: reads a request's head under a deadline, checks it strictly, runs the request stage, and either
//! answers, forwards (`proxy::h1`), or hands over to pingora what only that can do: waits, bodies for filters, streamed
//! replies, upstreams that speak HTTP/2 or TLS.
//!
//! A flash sale is nine refusals to one purchase. A refusal at the door never builds a header map or a proxy session,
//! which makes it about a third of the work of one behind pingora. What pingora leaves open (no deadline for a whole
//! head, endless idle connections, bodies that drip for ever) is closed here, over its public interface.

mod alarm;
mod answer;
pub(crate) mod chunked;
pub(crate) mod conn;
mod exchange;
mod h2;
pub(crate) mod head;
mod hello;
pub(crate) mod octets;
mod park;
mod rewrite;
mod seats;

use std::future::{Future, poll_fn};
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Buf, BytesMut};
use pingora::apps::ServerApp;
use pingora::protocols::Stream;
use pingora::proxy::HttpProxy;
use pingora::server::ShutdownWatch;
use tokio::time::Instant;

use crate::config::Limits;
use crate::gateway::Gateway;
use crate::proxy::Adapter;

use answer::Answer;
use conn::Conn;
use head::{Bounds, HeadError};

pub(crate) use alarm::Alarm;
pub(crate) use answer::{Sending, date, give};
pub(crate) use exchange::Next;
pub(crate) use h2::Progress;
pub use hello::Hello;
pub(crate) use seats::Seat;
pub use seats::Seats;

/// How long a connection that is being closed may take to read what it was sent.
const FAREWELL: Duration = Duration::from_secs(1);
/// The first bytes of HTTP/2, up to what looks like the end of a head.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\n";

/// One listener's door.
pub struct Door {
    gateway: Arc<Gateway>,
    listener: usize,
    proxy: Arc<HttpProxy<Adapter>>,
    h2: Arc<h2::StreamApp>,
    seats: Arc<Seats>,
    h1: bool,
    h2c: bool,
}

/// What a door is made from.
pub struct DoorSettings {
    /// Number of the listener in the configuration.
    pub listener: usize,
    /// HTTP/1.1 is spoken.
    pub h1: bool,
    /// HTTP/2 without TLS is spoken.
    pub h2c: bool,
}

/// What came in.
enum Arrived {
    /// A head ends at that position of the buffer, or before.
    Head(BytesMut, usize),
    /// HTTP/2's preface.
    H2,
    /// Nothing more, or nothing worth an answer.
    Nothing,
    /// A head that cannot become a request.
    Refused(HeadError),
}

/// What a connection waits for besides bytes, made once for all its requests.
struct Waits {
    alarm: Alarm,
    shutdown: ShutdownWatch,
    stopping: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// Whether `stopping` was polled, so that it wakes this connection.
    listens: bool,
}

impl Waits {
    fn new(shutdown: ShutdownWatch, deadline: Instant) -> Self {
        let mut wish = shutdown.clone();
        let stopping = Box::pin(async move {
            // An error means that nobody is left to stop us.
            if wish.wait_for(|stopping| *stopping).await.is_err() {
                std::future::pending::<()>().await;
            }
        });
        Self { alarm: Alarm::new(deadline), shutdown, stopping, listens: false }
    }

    /// Reads what comes; `None` when the time is over or, between requests (`idle`), when the gateway is stopping.
    async fn read(&mut self, conn: &Conn, deadline: Instant, idle: bool) -> Option<std::io::Result<usize>> {
        // A wish that came while a request ran has woken nobody who waits here.
        if idle && *self.shutdown.borrow() {
            return None;
        }
        // Polled once, the wish to stop and the alarm wake this task when they come; they are asked again only when
        // something woke it. All of a connection is one task, so whoever polled them last was this one.
        let (mut ask, mut look) = (idle && !self.listens, !self.alarm.stands(deadline));
        poll_fn(|cx| {
            if let Poll::Ready(read) = conn.poll_read_more(cx) {
                return Poll::Ready(Some(read));
            }
            if std::mem::replace(&mut ask, idle) {
                self.listens = true;
                if self.stopping.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(None);
                }
            }
            if !std::mem::replace(&mut look, true) {
                return Poll::Pending;
            }
            self.alarm.poll(cx, deadline).map(|()| None)
        })
        .await
    }
}

impl Door {
    /// A door in front of `proxy`.
    #[must_use]
    pub fn new(gateway: Arc<Gateway>, proxy: HttpProxy<Adapter>, seats: Arc<Seats>, settings: &DoorSettings) -> Self {
        let proxy = Arc::new(proxy);
        let h2 = Arc::new(h2::StreamApp::new(gateway.clone(), proxy.clone(), seats.clone()));
        Self { gateway, listener: settings.listener, proxy, h2, seats, h1: settings.h1, h2c: settings.h2c }
    }

    async fn serve(&self, conn: &Conn, shutdown: &ShutdownWatch) {
        let limits = self.gateway.snapshot().config.server.limits.clone();
        let peer = conn.peer().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |address| address.ip());
        let metrics = self.gateway.shared.telemetry.metrics();
        let _seat = match self.seats.take(peer, &limits) {
            Ok(seat) => seat,
            Err(full) => {
                metrics.connection_refused(if full == seats::Full::All { "total" } else { "client" });
                if !conn.is_tls() && !conn.negotiated_h2() {
                    let refusal = Answer::refusal(HeadError { status: 503, reason: "too many connections" });
                    let _ = refusal.send(conn, FAREWELL).await;
                }
                return;
            }
        };
        let _open = metrics.connection_opened(self.listener);
        if conn.negotiated_h2() {
            return self.h2.serve(conn, &limits, shutdown).await;
        }
        let mut first = true;
        let mut waits = Waits::new(shutdown.clone(), Instant::now() + limits.header_timeout);
        loop {
            match self.read_head(conn, first, &limits, &mut waits).await {
                Arrived::Head(buf, end) => {
                    match exchange::one(self, conn, peer, buf, end, &mut waits, shutdown).await {
                        Next::Keep => first = false,
                        Next::Close => return conn.close_gently(FAREWELL).await,
                        Next::Gone => return,
                    }
                }
                Arrived::H2 => return self.h2.serve(conn, &limits, shutdown).await,
                Arrived::Nothing => return,
                Arrived::Refused(error) => {
                    metrics.door_refused(error.reason);
                    if Answer::refusal(error).send(conn, FAREWELL).await.is_ok() {
                        conn.close_gently(FAREWELL).await;
                    }
                    return;
                }
            }
        }
    }

    async fn read_head(&self, conn: &Conn, first: bool, limits: &Limits, waits: &mut Waits) -> Arrived {
        let max = usize::try_from(limits.max_header_size.0).unwrap_or(usize::MAX);
        let mut buf = conn.take_buffer();
        let silence = if first { limits.header_timeout } else { limits.idle_timeout };
        let now = Instant::now();
        let mut deadline = now + if buf.is_empty() { silence } else { limits.header_timeout };
        let (mut seen, mut forgiven, mut just_begun) = (0, false, false);
        loop {
            // RFC 9112 §2.2: one empty line before a request is forgiven. Not more: they would put off the deadline.
            if !forgiven && buf.starts_with(b"\r\n") {
                buf.advance(2);
                (forgiven, seen) = (true, 0);
            }
            if !buf.is_empty() {
                if let Some(end) = head::end_hint(&buf, seen, max) {
                    return self.classify(conn, buf, end, first);
                }
                if buf.len() > max {
                    return Arrived::Refused(HeadError { status: 431, reason: "head too large" });
                }
                let half_an_empty_line = !forgiven && &buf[..] == b"\r";
                if !half_an_empty_line && head::hopeless(&buf, seen) {
                    return Arrived::Refused(HeadError { status: 400, reason: "not a request" });
                }
            }
            if std::mem::take(&mut just_begun) {
                deadline = Instant::now() + limits.header_timeout;
            }
            seen = buf.len();
            conn.put_buffer(buf);
            let read = waits.read(conn, deadline, seen == 0 && !first).await;
            buf = conn.take_buffer();
            match read {
                // A head that is here as a whole, as nearly all are, needs no deadline.
                Some(Ok(read)) if read > 0 => just_begun = seen == 0,
                Some(_) => return Arrived::Nothing,
                None if buf.is_empty() => return Arrived::Nothing,
                None => return Arrived::Refused(HeadError { status: 408, reason: "head too slow" }),
            }
        }
    }

    fn classify(&self, conn: &Conn, buf: BytesMut, end: usize, first: bool) -> Arrived {
        if buf.starts_with(PREFACE) && first && self.h2c && !conn.is_tls() {
            conn.put_buffer(buf);
            return Arrived::H2;
        }
        if !self.h1 {
            return Arrived::Refused(HeadError { status: 505, reason: "HTTP/1 is not spoken here" });
        }
        Arrived::Head(buf, end)
    }

    fn bounds(limits: &Limits) -> Bounds {
        let max_size = usize::try_from(limits.max_header_size.0).unwrap_or(usize::MAX);
        Bounds { max_size, max_headers: limits.max_headers }
    }
}

#[async_trait]
impl ServerApp for Door {
    async fn process_new(self: &Arc<Self>, stream: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        let conn = Conn::new(stream);
        self.serve(&conn, shutdown).await;
        None
    }

    async fn cleanup(&self) {
        pingora::apps::HttpServerApp::http_cleanup(&*self.proxy).await;
    }
}
