//! A client that leaves does not end what it has asked for: pingora's view of a client that may go deaf.
//!
//! Once an upstream has a whole request that may change something, the exchange is seen to its end, so that the answer is
//! recorded and a payment is not cut in the middle. pingora ends an exchange when its client resets the stream, or when a
//! write to it fails. So it is given this session instead, which hides that from it: when the client is gone nothing is read
//! from it and everything that is written to it is thrown away. A client that does not read counts as gone, too. `h1` does
//! the same for what it forwards itself.
//!
//! A client of HTTP/2 that left still takes a seat for each request that goes on without it. When it has no more seats, what
//! it leaves behind ends with it.

use std::future::pending;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_core::Stream;
use http::{HeaderMap, Version};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::Digest;
use pingora::protocols::http::custom::CustomMessageWrite;
use pingora::protocols::http::custom::server::Session as CustomSession;
use pingora::protocols::http::{HttpTask, ServerSession};
use pingora::protocols::l4::socket::SocketAddr;
use pingora::proxy::Session;
use pingora::{Error, ErrorType, Result};
use tokio::sync::Notify;

use super::flow::Flow;
use crate::config::Limits;
use crate::door::conn::Conn;
use crate::door::{Progress, Seat, Seats};

/// What others know of a shielded client.
#[derive(Default)]
pub(crate) struct Client {
    deaf: AtomicBool,
    close: AtomicBool,
    forsaken: Notify,
}

impl Client {
    /// Whether nobody hears the answer any more.
    pub(crate) fn is_deaf(&self) -> bool {
        self.deaf.load(Relaxed)
    }

    /// It does not read: what is written to it is thrown away from now on.
    pub(crate) fn forsake(&self) {
        self.deaf.store(true, Relaxed);
        self.forsaken.notify_one();
    }

    /// Its connection is not kept behind this answer.
    pub(super) fn close(&self) {
        self.close.store(true, Relaxed);
    }
}

/// Shields a request that may change something from its client's leaving. The answer's filters of pingora know clients of
/// HTTP/1.0 by their session, so those are left as they are.
pub(super) fn raise(session: &mut Session, flow: &mut Flow) {
    if flow.safe || flow.websocket || session.req_header().version == Version::HTTP_10 {
        return;
    }
    let client = Arc::new(Client::default());
    if let Some(conn) = &flow.conn {
        conn.set_shielded(client.clone());
    }
    flow.client = Some(client.clone());
    let session = session.as_downstream_mut();
    let inner = std::mem::replace(session, ServerSession::new_custom(Box::new(())));
    let limits = flow.snapshot.config.server.limits.clone();
    let seats = Progress::seats().map(|seats| (seats, flow.arrival.peer, limits));
    let shield = Shield { inner, client, conn: flow.conn.clone(), seats, seat: None, whole: false, head: None };
    *session = ServerSession::new_custom(Box::new(shield));
}

struct Shield {
    inner: ServerSession,
    client: Arc<Client>,
    conn: Option<Conn>,
    /// Where to take a seat for a client without a connection.
    seats: Option<(Arc<Seats>, IpAddr, Limits)>,
    seat: Option<Seat>,
    /// The request was read to its end. A client that leaves before takes its request along.
    whole: bool,
    /// The head that a deaf client did not get.
    head: Option<Box<ResponseHeader>>,
}

/// Whether the client is the reason.
fn is_gone(error: &Error) -> bool {
    use ErrorType::{ConnectionClosed, H2Error, ReadError, ReadTimedout, WriteError, WriteTimedout};
    matches!(error.etype(), ConnectionClosed | H2Error | ReadError | ReadTimedout | WriteError | WriteTimedout)
}

impl Shield {
    fn is_whole(&mut self) -> bool {
        self.whole |= self.inner.is_body_done();
        self.whole
    }

    /// A write that failed because the client is gone has not failed. `otherwise`: what it came to.
    fn heard<T>(&mut self, written: Result<T>, otherwise: T) -> Result<T> {
        match written {
            Err(error) if is_gone(&error) && self.is_whole() && self.goes_on() => Ok(otherwise),
            written => written,
        }
    }

    /// The client is gone; whether its request goes on without it.
    fn goes_on(&mut self) -> bool {
        if let Some((seats, peer, limits)) = &self.seats
            && self.seat.is_none()
        {
            self.seat = seats.take(*peer, limits).ok();
            if self.seat.is_none() {
                return false;
            }
        }
        self.client.deaf.store(true, Relaxed);
        true
    }

    fn keep_head(&mut self, head: &ResponseHeader) {
        if !head.status.is_informational() && self.inner.response_written().is_none() && self.head.is_none() {
            self.head = Some(Box::new(head.clone()));
        }
    }

    fn before_head(&mut self) {
        if self.client.close.load(Relaxed) {
            self.inner.set_keepalive(None);
        }
    }
}

/// Writes unless the client is deaf, or turns out to be.
macro_rules! write {
    ($self:ident, $otherwise:expr, $write:expr) => {{
        if $self.client.is_deaf() {
            return Ok($otherwise);
        }
        let written = tokio::select! {
            biased;
            () = $self.client.forsaken.notified() => Error::e_explain(ErrorType::WriteTimedout, "it does not read"),
            written = $write => written,
        };
        $self.heard(written, $otherwise)
    }};
}

#[async_trait]
impl CustomSession for Shield {
    fn req_header(&self) -> &RequestHeader {
        self.inner.req_header()
    }

    fn req_header_mut(&mut self) -> &mut RequestHeader {
        self.inner.req_header_mut()
    }

    async fn read_body_bytes(&mut self) -> Result<Option<Bytes>> {
        self.inner.read_request_body().await
    }

    async fn drain_request_body(&mut self) -> Result<()> {
        self.inner.drain_request_body().await
    }

    async fn write_response_header(&mut self, head: Box<ResponseHeader>, end: bool) -> Result<()> {
        self.before_head();
        self.keep_head(&head);
        write!(self, (), async {
            self.inner.write_response_header(head).await?;
            if end { self.inner.finish_body().await } else { Ok(()) }
        })
    }

    async fn write_response_header_ref(&mut self, head: &ResponseHeader, end: bool) -> Result<()> {
        self.write_response_header(Box::new(head.clone()), end).await
    }

    async fn write_body(&mut self, data: Bytes, end: bool) -> Result<()> {
        write!(self, (), self.inner.write_response_body(data, end))
    }

    async fn write_trailers(&mut self, trailers: HeaderMap) -> Result<()> {
        write!(self, (), self.inner.write_response_trailers(trailers))
    }

    async fn response_duplex_vec(&mut self, tasks: Vec<HttpTask>) -> Result<bool> {
        let (mut told, mut failed) = (tasks, None);
        if let Some(at) = told.iter().position(|task| matches!(task, HttpTask::Failed(_))) {
            failed = told.drain(at..).next();
        }
        self.before_head();
        let head = told.iter().find_map(|task| if let HttpTask::Header(head, _) = task { Some(head) } else { None });
        if let Some(head) = head {
            self.keep_head(head);
        }
        let end = told.iter().any(HttpTask::is_end);
        let written = self.duplex(told, end).await;
        match failed {
            // The upstream's failure, which is nobody else's.
            Some(HttpTask::Failed(error)) => written.and(Err(error)),
            _ => written,
        }
    }

    fn set_read_timeout(&mut self, timeout: Option<Duration>) {
        self.inner.set_read_timeout(timeout);
    }

    fn get_read_timeout(&self) -> Option<Duration> {
        self.inner.get_read_timeout()
    }

    fn set_write_timeout(&mut self, timeout: Option<Duration>) {
        self.inner.set_write_timeout(timeout);
    }

    fn get_write_timeout(&self) -> Option<Duration> {
        self.inner.get_write_timeout()
    }

    fn set_total_drain_timeout(&mut self, timeout: Option<Duration>) {
        self.inner.set_total_drain_timeout(timeout);
    }

    fn get_total_drain_timeout(&self) -> Option<Duration> {
        self.inner.get_total_drain_timeout()
    }

    fn request_summary(&self) -> String {
        self.inner.request_summary()
    }

    fn response_written(&self) -> Option<&ResponseHeader> {
        self.inner.response_written().or(self.head.as_deref().filter(|_| self.client.is_deaf()))
    }

    async fn shutdown(&mut self, _code: u32, _why: &str) {
        self.inner.shutdown().await;
    }

    fn is_body_done(&mut self) -> bool {
        self.is_whole()
    }

    /// Ends the answer; it may be called more than once. A deaf client must not take what it got for the whole.
    async fn finish(&mut self) -> Result<()> {
        if self.client.is_deaf() {
            self.inner.shutdown().await;
            return Ok(());
        }
        self.inner.finish_body().await?;
        if let Some(conn) = self.conn.as_ref().filter(|_| self.inner.get_keepalive().is_some()) {
            // pingora keeps no connection of a session that is not its own; the door does.
            conn.set_whole();
        }
        Ok(())
    }

    fn is_body_empty(&mut self) -> bool {
        self.inner.is_body_empty()
    }

    async fn read_body_or_idle(&mut self, no_body_expected: bool) -> Result<Option<Bytes>> {
        let whole = no_body_expected || self.is_whole();
        if !self.client.is_deaf() {
            match self.inner.read_body_or_idle(no_body_expected).await {
                Err(error) if whole && is_gone(&error) && self.goes_on() => (),
                read => return read,
            }
        }
        pending().await
    }

    fn body_bytes_sent(&self) -> usize {
        self.inner.body_bytes_sent()
    }

    fn body_bytes_read(&self) -> usize {
        self.inner.body_bytes_read()
    }

    fn digest(&self) -> Option<&Digest> {
        self.inner.digest()
    }

    fn digest_mut(&mut self) -> Option<&mut Digest> {
        self.inner.digest_mut()
    }

    fn client_addr(&self) -> Option<&SocketAddr> {
        self.inner.client_addr()
    }

    fn server_addr(&self) -> Option<&SocketAddr> {
        self.inner.server_addr()
    }

    fn pseudo_raw_h1_request_header(&self) -> Bytes {
        self.inner.to_h1_raw()
    }

    fn enable_retry_buffering(&mut self) {
        self.inner.enable_retry_buffering();
    }

    fn retry_buffer_truncated(&self) -> bool {
        self.inner.retry_buffer_truncated()
    }

    fn get_retry_buffer(&self) -> Option<Bytes> {
        self.inner.get_retry_buffer()
    }

    async fn finish_custom(&mut self) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_reader(
        &mut self,
    ) -> Option<Box<dyn Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>> {
        None
    }

    fn restore_custom_message_reader(
        &mut self,
        _reader: Box<dyn Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>,
    ) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_writer(&mut self) -> Option<Box<dyn CustomMessageWrite>> {
        None
    }

    fn restore_custom_message_writer(&mut self, _writer: Box<dyn CustomMessageWrite>) -> Result<()> {
        Ok(())
    }

    fn is_upgrade_req(&self) -> bool {
        self.inner.is_upgrade_req()
    }

    fn was_upgraded(&self) -> bool {
        self.inner.was_upgraded()
    }
}

impl Shield {
    async fn duplex(&mut self, tasks: Vec<HttpTask>, end: bool) -> Result<bool> {
        write!(self, end, self.inner.response_duplex_vec(tasks))
    }
}
