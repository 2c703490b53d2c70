//! A client that knows what it sent.
//!
//! A proxy that streams cannot say afterwards whether a request arrived. This one sends a whole request on a connection of
//! its own and counts the bytes that the kernel took; a try ends with an answer, or with a [`Fault`] that says what was
//! seen. It never sends anything twice by itself.
//!
//! hyper's low-level client, one exchange at a time on a connection, HTTP/2 and TLS included. Bytes are counted below TLS,
//! after the handshake.

mod conn;
mod fault;
mod io;
mod pool;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use pingora::upstreams::peer::{HttpPeer, Peer};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

pub(crate) use fault::Fault;

use super::outcome::{Class, Seen, of_wire};
use conn::Conn;
use pool::{Place, Pool};

use crate::upstream_tls::Tls;

/// Largest answer of a payment channel that is read whole.
pub(crate) const LARGEST_ANSWER: usize = 64 * 1024;
/// A channel that drips its answer gets this many read timeouts for the whole of it.
const BODY_PATIENCE: u32 = 3;

/// An address of a channel.
#[derive(Clone)]
pub(crate) struct Target {
    address: SocketAddr,
    /// The host as a request names it.
    authority: HeaderValue,
    h2: bool,
    tls: Option<Tls>,
    connect_timeout: Duration,
    read_timeout: Duration,
    idle_timeout: Duration,
}

impl Target {
    /// What a prepared peer says; `None` for one that is no network address.
    pub(crate) fn of(peer: &HttpPeer, endpoint: &str, h2: bool, tls: Option<Tls>) -> Option<Self> {
        let address = *peer.address().as_inet()?;
        let or = |time: Option<Duration>, seconds| time.unwrap_or(Duration::from_secs(seconds));
        Some(Self {
            address,
            authority: authority(endpoint, tls.as_ref())?,
            h2,
            tls,
            connect_timeout: or(peer.options.connection_timeout, 5),
            read_timeout: or(peer.options.read_timeout, 10),
            idle_timeout: or(peer.options.idle_timeout, 50),
        })
    }

    /// The same address in HTTP/1.1.
    fn over_h1(&self) -> Self {
        Self { h2: false, tls: self.tls.as_ref().map(Tls::over_h1), ..self.clone() }
    }

    fn place(&self) -> Place {
        (self.address, self.h2, self.tls.as_ref().map(|tls| tls.id))
    }
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Target").field(&self.place()).finish()
    }
}

/// A whole request.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// Its method.
    pub(crate) method: Method,
    /// Path and query.
    pub(crate) target: String,
    /// Its headers, without those of framing and connection.
    pub(crate) headers: HeaderMap,
    /// Its body.
    pub(crate) body: Bytes,
}

/// A whole answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// Its status.
    pub(crate) status: StatusCode,
    /// Its headers as they came.
    pub(crate) headers: HeaderMap,
    /// Its body; `None` when that was too large.
    pub(crate) body: Option<Bytes>,
}

/// The client.
#[derive(Default)]
pub(crate) struct Wire {
    pool: Pool,
}

impl Wire {
    /// Sends `request` once and reads its answer; `most`: how many bytes of it. A server that wants HTTP/1.1 for it has done nothing yet (RFC 9113 §7),
    /// and is asked in that.
    pub(crate) async fn call(&self, target: &Target, request: &Request, most: usize) -> Result<Answer, Fault> {
        let first = match self.exchange(target, request, most).await {
            Err(fault) if fault.seen == Seen::NeedsHttp11 => fault,
            ended => return ended,
        };
        match self.exchange(&target.over_h1(), request, most).await {
            // The channel has seen it, so "not sent" would not be true.
            Err(fault) if of_wire(fault.seen) == Class::NotSent => Err(first),
            ended => ended,
        }
    }

    async fn exchange(&self, target: &Target, request: &Request, most: usize) -> Result<Answer, Fault> {
        let to = target.place();
        let mut conn = match self.idle(target).await {
            Some(conn) => conn,
            None => connect(target).await?,
        };
        let (sent, got) = conn.gate.counts();
        let malformed = || Fault::new(Seen::Broken { accepted: 0 }, "the request cannot be written");
        let outgoing = prepare(target, request).ok_or_else(malformed)?;
        let begun = Instant::now();
        let head = timeout(target.read_timeout, conn.send(outgoing)).await;
        let response = match head {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => {
                let (accepted, received) = conn.gate.shut();
                return Err(Fault::before_answer(&error, accepted - sent, received - got));
            }
            Err(_) => {
                let (accepted, received) = conn.gate.shut();
                let (accepted, received) = (accepted - sent, received - got);
                let evidence =
                    format!("silent for {:?} after {accepted} bytes sent, {received} received", begun.elapsed());
                return Err(Fault::new(Seen::Silent { accepted }, evidence));
            }
        };
        let (parts, body) = response.into_parts();
        let body = read(body, target.read_timeout, most).await?;
        if body.is_some() {
            self.pool.put(to, conn, target.idle_timeout);
        }
        Ok(Answer { status: parts.status, headers: parts.headers, body })
    }

    /// Closes idle connections that nobody will use any more.
    pub(crate) fn sweep(&self) {
        self.pool.sweep();
    }

    async fn idle(&self, target: &Target) -> Option<Conn> {
        while let Some(mut conn) = self.pool.take(target.place()) {
            // The driver has at most to notice the end of the answer before.
            if timeout(Duration::from_millis(100), conn.ready()).await == Ok(true) && conn.sound() {
                return Some(conn);
            }
        }
        None
    }
}

/// What a request to this endpoint calls it: its name in the file, or the name its certificate must have, and the port
/// unless that goes without saying (RFC 9110 §4.2). A channel behind a balancer is found by that.
fn authority(endpoint: &str, tls: Option<&Tls>) -> Option<HeaderValue> {
    let (host, port) = endpoint.rsplit_once(':')?;
    let (host, usual) = match tls {
        Some(tls) => (tls.host.as_deref().unwrap_or(host), "443"),
        None => (host, "80"),
    };
    let whole = if port == usual { host.to_owned() } else { format!("{host}:{port}") };
    HeaderValue::from_str(&whole).ok()
}

async fn connect(target: &Target) -> Result<Conn, Fault> {
    let address = target.address;
    let end = Instant::now() + target.connect_timeout;
    let connecting = timeout_at(end, TcpStream::connect(address)).await;
    let socket = match connecting {
        Ok(Ok(socket)) => socket,
        Ok(Err(error)) => return Err(Fault::new(Seen::NoConnection, format!("connecting to {address}: {error}"))),
        Err(_) => return Err(Fault::new(Seen::NoConnection, format!("connecting to {address}: timed out"))),
    };
    let _ = socket.set_nodelay(true);
    // No byte of a request is sent before this is over.
    let opened = timeout_at(end, Conn::open(socket, target.h2, target.tls.as_ref())).await;
    let opened = opened.unwrap_or_else(|_| Err("no handshake in time".to_owned()));
    opened.map_err(|error| Fault::new(Seen::NoHandshake, error))
}

/// The request as the library wants it; `None` when it cannot be one.
fn prepare(target: &Target, request: &Request) -> Option<http::Request<Full<Bytes>>> {
    let mut headers = request.headers.clone();
    for name in [header::CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE, header::EXPECT, header::TE] {
        headers.remove(name);
    }
    headers.remove(header::CONTENT_LENGTH);
    if !request.method.is_safe() {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(request.body.len()));
    }
    let uri = if target.h2 {
        let host = headers.remove(header::HOST);
        let host = host.as_ref().unwrap_or(&target.authority).to_str().ok()?;
        let scheme = if target.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}{}", host, request.target)
    } else {
        if !headers.contains_key(header::HOST) {
            headers.insert(header::HOST, target.authority.clone());
        }
        request.target.clone()
    };
    let version = if target.h2 { Version::HTTP_2 } else { Version::HTTP_11 };
    let builder = http::Request::builder().method(request.method.clone()).uri(uri).version(version);
    let mut outgoing = builder.body(Full::new(request.body.clone())).ok()?;
    *outgoing.headers_mut() = headers;
    Some(outgoing)
}

/// The whole body; `None` when it is too large.
async fn read(mut body: Incoming, silence: Duration, most: usize) -> Result<Option<Bytes>, Fault> {
    let end = Instant::now() + silence * BODY_PATIENCE;
    let mut whole = BytesMut::new();
    loop {
        let next = timeout_at(end.min(Instant::now() + silence), body.frame()).await;
        let frame = match next {
            Ok(None) => return Ok(Some(whole.freeze())),
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(error))) => return Err(Fault::within_answer(&error)),
            Err(_) => {
                return Err(Fault::new(Seen::Truncated, format!("the answer stopped after {} bytes", whole.len())));
            }
        };
        if let Some(piece) = frame.data_ref() {
            if whole.len() + piece.len() > most {
                return Ok(None);
            }
            whole.extend_from_slice(piece);
        }
    }
}
