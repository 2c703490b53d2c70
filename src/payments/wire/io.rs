//! A socket that knows how many bytes the kernel has taken, and that can be shut for good.
//!
//! "Nothing was sent" must stay true after it was said: [`Gate::shut`] stops every later write under the same lock that
//! counts, so a task that is just about to write either is counted or does not write.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Counters of one connection, shared with whoever uses it.
#[derive(Debug, Default)]
pub(super) struct Gate(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    accepted: u64,
    received: u64,
    shut: bool,
}

impl Gate {
    /// Bytes that the kernel took, and bytes that came, since the connection was made.
    pub(super) fn counts(&self) -> (u64, u64) {
        let counts = self.0.lock();
        (counts.accepted, counts.received)
    }

    /// Lets no further byte out; the counts as they stay.
    pub(super) fn shut(&self) -> (u64, u64) {
        let mut counts = self.0.lock();
        counts.shut = true;
        (counts.accepted, counts.received)
    }
}

/// A counted socket.
pub(super) struct Counted {
    socket: TcpStream,
    gate: Arc<Gate>,
}

impl Counted {
    pub(super) fn new(socket: TcpStream, gate: Arc<Gate>) -> Self {
        Self { socket, gate }
    }

    fn write(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut TcpStream>, &mut Context<'_>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let mut counts = self.gate.0.lock();
        if counts.shut {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let written = write(Pin::new(&mut self.socket), cx);
        if let Poll::Ready(Ok(written)) = written {
            counts.accepted += written as u64;
        }
        written
    }
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.socket).poll_read(cx, buf);
        self.gate.0.lock().received += (buf.filled().len() - before) as u64;
        read
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.write(cx, |socket, cx| socket.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.write(cx, |socket, cx| socket.poll_write_vectored(cx, pieces))
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
