//! One connection to a channel, used for one exchange at a time, over HTTP/1 and HTTP/2 alike: only so do the bytes that
//! the kernel took belong to a request.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustix::net::RecvFlags;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;

use super::io::{Counted, Gate};
use crate::upstream_tls::Tls;

enum Sender {
    H1(http1::SendRequest<Full<Bytes>>),
    H2(http2::SendRequest<Full<Bytes>>),
}

/// A connection with its driver, which ends when this is dropped.
pub(super) struct Conn {
    sender: Sender,
    driver: AbortHandle,
    /// The other side may say things that are no answer, as over HTTP/2.
    talks: bool,
    /// The same socket, for looking at it without reading.
    socket: OwnedFd,
    /// Its counters.
    pub(super) gate: Arc<Gate>,
}

impl Conn {
    /// Speaks on a socket. Hands are shaken here, and over HTTP/2 the preface is sent; no request is.
    pub(super) async fn open(socket: TcpStream, h2: bool, tls: Option<&Tls>) -> Result<Self, String> {
        let twin = rustix::io::fcntl_dupfd_cloexec(&socket, 0).map_err(|error| error.to_string())?;
        let gate = Arc::new(Gate::default());
        let counted = Counted::new(socket, gate.clone());
        let (sender, driver) = match tls {
            None => speak(counted, h2).await?,
            Some(tls) => speak(tls.connect(counted).await?, h2).await?,
        };
        Ok(Self { sender, driver, socket: twin, talks: h2, gate })
    }

    /// Sends a request and waits for the head of its answer.
    pub(super) async fn send(&mut self, request: Request<Full<Bytes>>) -> hyper::Result<Response<Incoming>> {
        match &mut self.sender {
            Sender::H1(sender) => sender.send_request(request).await,
            Sender::H2(sender) => sender.send_request(request).await,
        }
    }

    /// Resolves when another request may be sent; `false`: never.
    pub(super) async fn ready(&mut self) -> bool {
        match &mut self.sender {
            Sender::H1(sender) => sender.ready().await.is_ok(),
            Sender::H2(sender) => sender.ready().await.is_ok(),
        }
    }

    /// Whether an idle connection is still good: open, and nothing on it that nobody asked for. Over HTTP/2
    /// the other side may say things at any time; there only the end of the connection shows here.
    pub(super) fn sound(&self) -> bool {
        let closed = match &self.sender {
            Sender::H1(sender) => sender.is_closed(),
            Sender::H2(sender) => sender.is_closed(),
        };
        if closed {
            return false;
        }
        let mut byte = [0_u8; 1];
        match rustix::net::recv(&self.socket, &mut byte, RecvFlags::PEEK | RecvFlags::DONTWAIT) {
            Err(error) => error == rustix::io::Errno::AGAIN,
            Ok((_, 0)) => false,
            Ok(_) => self.talks,
        }
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Begins to speak HTTP.
async fn speak<S>(io: S, h2: bool) -> Result<(Sender, AbortHandle), String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let io = TokioIo::new(io);
    if h2 {
        let (sender, connection) =
            http2::handshake(TokioExecutor::new(), io).await.map_err(|error| error.to_string())?;
        return Ok((Sender::H2(sender), tokio::spawn(async { drop(connection.await) }).abort_handle()));
    }
    let (sender, connection) = http1::handshake(io).await.map_err(|error| error.to_string())?;
    Ok((Sender::H1(sender), tokio::spawn(async { drop(connection.await) }).abort_handle()))
}
