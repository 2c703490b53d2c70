//! A client's connection, shared between the door and pingora.
//!
//! pingora is handed a [`ClientStream`] that yields exactly the bytes of the running request's body and nothing behind
//! it: pipelined bytes stay with the door and are never lost or read twice, whatever pingora does with its stream. The
//! door keeps the other handle, so that it can answer a request that ran out of time, and close without cutting off an
//! answer that is still on its way.

mod hangup;
mod lent;
mod reader;
mod stream;

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use parking_lot::Mutex;
use pingora::protocols::{ALPN, Stream};
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};

use super::chunked::Scanner;
use super::head::Framing;
use crate::proxy::shield::Client;
use reader::Reader;

/// Bytes read at once. Read into a thread's scratch space, so that an idle connection holds no buffer at all.
const READ_SIZE: usize = 16 * 1024;
/// Bytes behind a request that are kept while it runs; more wait in the socket.
const MOST_STASHED: usize = 64 * 1024;

thread_local! {
    static SCRATCH: std::cell::RefCell<Box<[u8; READ_SIZE]>> = std::cell::RefCell::new(Box::new([0; READ_SIZE]));
}

/// Reads once, at most `most` bytes, and hands them to `put`; 0 at the end. They lie in a thread's scratch space, so that
/// who waits holds no room for what may come.
pub(crate) fn poll_scratch(
    from: &mut (impl AsyncRead + Unpin),
    cx: &mut Context<'_>,
    most: usize,
    put: impl FnOnce(&[u8]),
) -> Poll<io::Result<usize>> {
    SCRATCH.with_borrow_mut(|scratch| {
        let most = most.min(scratch.len());
        let mut into = ReadBuf::new(&mut scratch[..most]);
        ready!(Pin::new(from).poll_read(cx, &mut into))?;
        put(into.filled());
        Poll::Ready(Ok(into.filled().len()))
    })
}

/// Slowest body, sent or read, that is not taken for an attack once the body timeout is over; the figure of Apache's
/// mod_reqtimeout.
const SLOWEST_BODY: u64 = 500;

/// How long a body of which `bytes` passed may have taken: the timeout, and a second more for every 500 bytes.
pub(crate) fn body_allowance(timeout: Duration, bytes: u64) -> Duration {
    timeout + Duration::from_secs(bytes / SLOWEST_BODY)
}

/// What pingora may read now.
enum Mode {
    /// So many bytes of the body are left.
    Length(u64),
    /// A chunked body.
    Chunked(Scanner),
    /// The body is over: nothing, and the end only when the client closes.
    Done,
    /// As `Done` until the upstream agreed to switch protocols, then everything.
    Upgrade,
    /// Everything, both ways: another protocol.
    Raw,
}

/// How a request ended behind pingora's back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Cut {
    /// It did not.
    #[default]
    No,
    /// No answer within the upstream's time; the door answered 504.
    NoAnswer,
    /// The whole request took too long.
    TooLong,
}

struct Inner {
    io: Stream,
    buf: BytesMut,
    mode: Mode,
    claims_h2: bool,
    answered: bool,
    written: u64,
    read: u64,
    lent_at: Instant,
    body_timeout: Duration,
    body_bytes: u64,
    body_done: Option<Instant>,
    starved: bool,
    sent: Option<Instant>,
    reader: Reader,
    malformed: bool,
    whole: bool,
    cut: Cut,
    shielded: Option<Arc<Client>>,
}

/// The door's handle of a connection.
#[derive(Clone)]
pub(crate) struct Conn(Arc<Mutex<Inner>>);

/// pingora's handle of the same connection.
pub(crate) struct ClientStream(Conn);

impl Conn {
    pub(crate) fn new(io: Stream) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            io,
            buf: BytesMut::new(),
            mode: Mode::Done,
            claims_h2: false,
            answered: false,
            written: 0,
            read: 0,
            lent_at: Instant::now(),
            body_timeout: Duration::ZERO,
            body_bytes: 0,
            body_done: None,
            starved: false,
            sent: None,
            reader: Reader::default(),
            malformed: false,
            whole: false,
            cut: Cut::No,
            shielded: None,
        })))
    }

    /// Reads what is there into the buffer; 0 at the end.
    pub(crate) async fn read_more(&self) -> io::Result<usize> {
        std::future::poll_fn(|cx| self.poll_read_more(cx)).await
    }

    /// As [`Conn::read_more`].
    pub(crate) fn poll_read_more(&self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.0.lock().poll_fill(cx)
    }

    /// What was read and not used yet. The door owns it between requests.
    pub(crate) fn take_buffer(&self) -> BytesMut {
        std::mem::take(&mut self.0.lock().buf)
    }

    /// Gives bytes back: they are read first.
    pub(crate) fn put_buffer(&self, buf: BytesMut) {
        self.0.lock().buf = buf;
    }

    /// Bytes that were read and not used yet.
    pub(crate) fn buffered(&self) -> usize {
        self.0.lock().buf.len()
    }

    /// Hands the connection to pingora for one request whose head is out of the buffer.
    pub(crate) fn lend(&self, framing: Framing, websocket: bool, body_timeout: Duration) -> Stream {
        Box::new(self.begin(framing, websocket, body_timeout))
    }

    /// The stream of one request whose head is out of the buffer.
    pub(crate) fn begin(&self, framing: Framing, websocket: bool, body_timeout: Duration) -> ClientStream {
        let mut inner = self.0.lock();
        inner.answered = false;
        inner.written = 0;
        inner.lent_at = Instant::now();
        inner.body_timeout = body_timeout;
        inner.body_bytes = 0;
        (inner.starved, inner.sent) = (false, None);
        inner.reader = Reader::default();
        inner.malformed = false;
        inner.whole = false;
        inner.cut = Cut::No;
        inner.shielded = None;
        inner.body_done = None;
        inner.mode = match framing {
            Framing::Length(length) => Mode::Length(length),
            Framing::Chunked => Mode::Chunked(Scanner::new()),
            Framing::None if websocket => Mode::Upgrade,
            Framing::None => Mode::Done,
        };
        if matches!(inner.mode, Mode::Done | Mode::Upgrade) {
            inner.body_done = Some(inner.lent_at);
        }
        ClientStream(self.clone())
    }

    /// Hands the whole connection over for HTTP/2.
    pub(crate) fn lend_as_h2(&self) -> Stream {
        let mut inner = self.0.lock();
        inner.mode = Mode::Raw;
        inner.claims_h2 = true;
        Box::new(ClientStream(self.clone()))
    }

    /// Whether the next request may follow: the body was read to its end and the protocol is still HTTP/1, be it that
    /// the upstream did not agree to another.
    pub(crate) fn at_request_boundary(&self) -> bool {
        matches!(self.0.lock().mode, Mode::Done | Mode::Upgrade)
    }

    /// Whether the connection now carries another protocol.
    pub(crate) fn is_raw(&self) -> bool {
        matches!(self.0.lock().mode, Mode::Raw)
    }

    /// Whether the first byte of a final answer was written.
    pub(crate) fn answered(&self) -> bool {
        self.0.lock().answered
    }

    /// Whether more of the body was asked for and the client has not sent it.
    pub(crate) fn starved(&self) -> bool {
        self.0.lock().starved
    }

    /// Notes that the request goes to an upstream now.
    pub(crate) fn set_sent(&self) {
        self.0.lock().sent = Some(Instant::now());
    }

    /// Whether anything may have reached an upstream.
    pub(crate) fn sent(&self) -> bool {
        self.0.lock().sent.is_some()
    }

    /// Since when an upstream has had the whole request; `None` while it has not, be it that it waits for its turn.
    pub(crate) fn upstream_has_it(&self) -> Option<Instant> {
        let inner = self.0.lock();
        Some(inner.body_done?.max(inner.sent?))
    }

    /// When a client that is not reading its answer will have had its time; `None` while it reads.
    pub(crate) fn reader_deadline(&self) -> Option<Instant> {
        let inner = self.0.lock();
        inner.reader.deadline(inner.body_timeout, inner.written)
    }

    /// Whether the body's chunks were malformed.
    pub(crate) fn malformed(&self) -> bool {
        self.0.lock().malformed
    }

    /// Notes that an error was answered in full, so that the next request may follow although pingora gave up.
    pub(crate) fn set_whole(&self) {
        self.0.lock().whole = true;
    }

    /// Whether [`Conn::set_whole`] was called for the running request.
    pub(crate) fn whole(&self) -> bool {
        self.0.lock().whole
    }

    /// Notes that the exchange goes on when the client does not hear its answer.
    pub(crate) fn set_shielded(&self, client: Arc<Client>) {
        self.0.lock().shielded = Some(client);
    }

    /// The client, if the exchange goes on without it.
    pub(crate) fn shielded(&self) -> Option<Arc<Client>> {
        self.0.lock().shielded.clone()
    }

    /// How the request was cut short, if it was.
    pub(crate) fn cut(&self) -> Cut {
        self.0.lock().cut
    }

    /// Notes that the door ends the request itself.
    pub(crate) fn set_cut(&self, cut: Cut) {
        self.0.lock().cut = cut;
    }

    /// Bytes written since the request began.
    pub(crate) fn written(&self) -> u64 {
        self.0.lock().written
    }

    /// Bytes read since the connection began.
    pub(crate) fn read(&self) -> u64 {
        self.0.lock().read
    }

    /// Writes and flushes an answer of the door's own.
    pub(crate) async fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        // Under one lock as long as the socket takes it all, which it nearly always does.
        std::future::poll_fn(|cx| {
            let mut inner = self.0.lock();
            while !rest.is_empty() {
                match ready!(inner.poll_send(cx, rest))? {
                    0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    written => rest = &rest[written..],
                }
            }
            inner.poll_flush(cx)
        })
        .await
    }

    /// Closes so that the client can still read what was written: half-closes, then reads off what it is still sending
    /// for a moment. Closing with unread bytes would make the kernel reset the connection and throw the answer away.
    pub(crate) async fn close_gently(&self, patience: Duration) {
        let drain = async {
            let mut stream = ClientStream(self.clone());
            if stream.flush().await.is_err() || AsyncWriteExt::shutdown(&mut stream).await.is_err() {
                return;
            }
            let mut budget = 4 * MOST_STASHED;
            loop {
                self.0.lock().buf.clear();
                match self.read_more().await {
                    Ok(read) if read > 0 && read <= budget => budget -= read,
                    _ => return,
                }
            }
        };
        // A client that keeps sending past the patience is cut off.
        let _ = tokio::time::timeout(patience, drain).await;
    }

    pub(crate) fn peer(&self) -> Option<std::net::SocketAddr> {
        let digest = self.0.lock().io.get_socket_digest()?;
        digest.peer_addr()?.as_inet().copied()
    }

    pub(crate) fn is_tls(&self) -> bool {
        self.0.lock().io.get_ssl_digest().is_some()
    }

    pub(crate) fn negotiated_h2(&self) -> bool {
        matches!(self.0.lock().io.selected_alpn_proto(), Some(ALPN::H2))
    }
}
