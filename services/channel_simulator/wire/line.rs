//! The socket as the HTTP machinery sees it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;

/// What is to become of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Order {
    /// RST.
    Reset,
    /// FIN, and nothing is read any more.
    Close,
    /// These bytes are sent past the HTTP machinery.
    Send(Vec<u8>),
}

/// What a connection is known by, and the way to its task. It does not hold the socket: an exchange that hangs must not
/// keep it open.
#[derive(Debug)]
pub(super) struct Link {
    /// Number of the connection since the start, from 1.
    pub(super) id: u64,
    /// Bytes read so far.
    pub(super) read: AtomicU64,
    /// Calls so far.
    pub(super) calls: AtomicU64,
    order: Mutex<Option<Order>>,
    ordered: Notify,
}

impl Link {
    pub(super) fn new(id: u64) -> Arc<Self> {
        let (read, calls) = (AtomicU64::new(0), AtomicU64::new(0));
        Arc::new(Self { id, read, calls, order: Mutex::new(None), ordered: Notify::new() })
    }

    /// Tells the connection's task what to do. Of two orders that it has not seen yet the later one counts.
    pub(super) fn order(&self, order: Order) {
        *self.order.lock() = Some(order);
        self.ordered.notify_one();
    }

    /// The next order.
    pub(super) async fn ordered(&self) -> Order {
        loop {
            if let Some(order) = self.order.lock().take() {
                return order;
            }
            self.ordered.notified().await;
        }
    }
}

/// A socket that counts what is read, and resets itself after so many bytes if that is wanted.
pub(super) struct Line {
    stream: Arc<TcpStream>,
    link: Arc<Link>,
    left: Option<u64>,
}

impl Line {
    pub(super) fn new(stream: Arc<TcpStream>, link: Arc<Link>, reset_after: Option<u64>) -> Self {
        Self { stream, link, left: reset_after }
    }
}

impl AsyncRead for Line {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.stream.poll_read_ready(cx))?;
            let most = self.left.map_or(usize::MAX, |left| usize::try_from(left).unwrap_or(usize::MAX));
            let free = buffer.initialize_unfilled();
            let most = most.min(free.len());
            match self.stream.try_read(&mut free[..most]) {
                Ok(count) => {
                    let bytes = count as u64;
                    self.link.read.fetch_add(bytes, Ordering::Relaxed);
                    self.left = self.left.map(|left| left - bytes);
                    if self.left == Some(0) {
                        // What was read last is not handed on: the call must not become complete by it.
                        self.link.order(Order::Reset);
                        return Poll::Pending;
                    }
                    buffer.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Line {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.stream.poll_write_ready(cx))?;
            match self.stream.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => return Poll::Ready(other),
            }
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.stream.poll_write_ready(cx))?;
            match self.stream.try_write_vectored(parts) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => return Poll::Ready(other),
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(match socket2::SockRef::from(&*self.stream).shutdown(std::net::Shutdown::Write) {
            // Whoever is gone needs no goodbye.
            Err(error) if error.kind() != io::ErrorKind::NotConnected => Err(error),
            _ => Ok(()),
        })
    }
}
