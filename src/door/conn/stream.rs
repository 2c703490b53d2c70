//! What pingora wants of a stream: the running request's bytes from the door, everything else from the socket.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use async_trait::async_trait;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::tls::SslDigest;
use pingora::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest, UniqueID,
    UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

use super::ClientStream;

impl ClientStream {
    /// Puts what comes of the running request's body, out of its chunks, behind `into`; how much came. 0: nothing more
    /// will, be it that the body is over or that the client has left.
    pub(crate) fn poll_data(&mut self, cx: &mut Context<'_>, into: &mut Vec<u8>) -> Poll<io::Result<usize>> {
        self.0.0.lock().poll_data(cx, into)
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, dst: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.0.0.lock().poll_request(cx, dst)
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.0.lock().poll_send(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.0.lock().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.0.lock().io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut inner = self.0.0.lock();
        let write = Pin::new(&mut inner.io).poll_write_vectored(cx, parts);
        inner.note_write(write.is_pending());
        let written = ready!(write)?;
        let first = parts.iter().find(|part| !part.is_empty()).map_or(&[][..], |part| part);
        inner.note_written(&first[..first.len().min(written)]);
        inner.written += (written - first.len().min(written)) as u64;
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.0.0.lock().io.is_write_vectored()
    }
}

#[async_trait]
impl Shutdown for ClientStream {
    /// Only flushes: the door closes, once it knows that the client could read the answer.
    async fn shutdown(&mut self) {
        let _ = self.flush().await;
    }
}

impl UniqueID for ClientStream {
    fn id(&self) -> UniqueIDType {
        self.0.0.lock().io.id()
    }
}

impl Ssl for ClientStream {
    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.0.0.lock().io.get_ssl_digest()
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        let inner = self.0.0.lock();
        if inner.claims_h2 { Some(ALPN::H2) } else { inner.io.selected_alpn_proto() }
    }
}

impl GetTimingDigest for ClientStream {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.0.0.lock().io.get_timing_digest()
    }
}

impl GetProxyDigest for ClientStream {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.0.0.lock().io.get_proxy_digest()
    }
}

impl GetSocketDigest for ClientStream {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.0.0.lock().io.get_socket_digest()
    }
}

impl Peek for ClientStream {}

impl std::fmt::Debug for ClientStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClientStream")
    }
}
