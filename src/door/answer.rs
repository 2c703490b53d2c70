//! Answers written by the door itself: one buffer, one write, the connection kept where that is safe.

mod form;

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderName, Method, StatusCode};

use super::conn::Conn;
use super::head::HeadError;
use crate::proxy::flow::Flow;
use crate::proxy::forward::is_framing;
use crate::proxy::h1::line;
use crate::proxy::id::RequestId;
use crate::proxy::reply::{Addressee, Body, HeaderSink, render, says_length};
use tidegate_filters::engine::{Known, Reply};

/// Room for a usual answer.
const USUAL_SIZE: usize = 768;

thread_local! {
    static DATE: RefCell<(u64, String)> = const { RefCell::new((0, String::new())) };
}

/// An answer's bytes, ready to be written.
pub(crate) struct Answer(Vec<u8>);

/// How an answer is framed.
#[derive(Clone, Copy)]
pub(crate) struct Framed {
    /// The connection stays open behind it.
    pub keep: bool,
    /// It answers a HEAD: the body stays away, its length does not.
    pub bodiless: bool,
    /// To an HTTP/1.0 client.
    pub old: bool,
    /// Wall time, for `Date`.
    pub unix: Duration,
}

impl Framed {
    /// Ends the head.
    fn end_head(self, out: &mut Vec<u8>) {
        out.extend_from_slice(match (self.keep, self.old) {
            (true, false) => b"\r\n".as_slice(),
            (true, true) => b"connection: keep-alive\r\n\r\n",
            (false, _) => b"connection: close\r\n\r\n",
        });
    }
}

impl HeaderSink for Vec<u8> {
    fn put(&mut self, name: &HeaderName, value: &[u8]) {
        if is_framing(name) {
            return;
        }
        line(self, name.as_str().as_bytes(), value);
    }
}

impl Answer {
    /// A filter's reply. `None` for one with a streamed body: that one is pingora's to send.
    pub(crate) fn of(reply: Box<Reply>, to: &Addressee<'_>, framed: Framed) -> Option<Self> {
        let mut out = Vec::with_capacity(USUAL_SIZE);
        if form::fill(&mut out, &reply, to, framed) {
            return Some(Self(out));
        }
        let status = reply.status;
        status_line(&mut out, status);
        date(&mut out, framed.unix);
        let body = render(*reply, to, &mut out);
        let body: &[u8] = match &body {
            Body::Made(body) => body,
            Body::Whole(body) => body,
            Body::Pieces(_) => return None,
        };
        if says_length(status) {
            line(&mut out, b"content-length", itoa::Buffer::new().format(body.len()).as_bytes());
        }
        framed.end_head(&mut out);
        if !framed.bodiless {
            out.extend_from_slice(body);
        }
        Some(Self(out))
    }

    /// The refusal of a head that is no proper request: nothing about it can be believed, so the connection closes.
    pub(crate) fn refusal(error: HeadError) -> Self {
        let status = StatusCode::from_u16(error.status).unwrap_or(StatusCode::BAD_REQUEST);
        let (code, title) = match error.status {
            408 => ("request-timeout", "The request did not arrive in time"),
            431 => ("head-too-large", "The request head is too large"),
            503 => ("temporary-reduced-capacity", "Too many connections"),
            _ => ("bad-request", "The request is malformed"),
        };
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut reply = Reply::problem(status, code, title);
        if error.status == 503 {
            reply = reply.retry_after(Duration::from_secs(1));
        }
        let to = Addressee { request_id: &RequestId::new(unix), person: false, edits: &[], outcome: None };
        let framed = Framed { keep: false, bodiless: false, old: false, unix };
        Self::of(Box::new(reply), &to, framed).unwrap_or(Self(Vec::new()))
    }

    /// Sends it. A client that does not read within `patience` is given up.
    pub(crate) async fn send(&self, conn: &Conn, patience: Duration) -> io::Result<()> {
        let mut write = pin!(conn.write(&self.0));
        match at_once(write.as_mut()).await {
            Some(sent) => sent,
            None => in_time(patience, write).await,
        }
    }

    pub(crate) fn len(&self) -> u64 {
        self.0.len() as u64
    }
}

/// What a write comes to if it does not wait. An answer nearly always fits into the socket; a timer is for those that do not.
async fn at_once(mut write: Pin<&mut impl Future<Output = io::Result<()>>>) -> Option<io::Result<()>> {
    match poll_fn(|cx| Poll::Ready(write.as_mut().poll(cx))).await {
        Poll::Ready(sent) => Some(sent),
        Poll::Pending => None,
    }
}

async fn in_time(patience: Duration, write: impl Future<Output = io::Result<()>>) -> io::Result<()> {
    tokio::time::timeout(patience, write).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// How a reply of the gateway's own goes out.
#[derive(Clone, Copy)]
pub(crate) struct Sending {
    /// The word for the log.
    pub decision: &'static str,
    /// The connection stays open behind it.
    pub keep: bool,
    /// To an HTTP/1.0 client.
    pub old: bool,
}

/// Answers a request with `reply` and ends it. An error: the client did not take it.
/// `target`: as sent.
pub(crate) async fn give(
    conn: &Conn,
    mut flow: Box<Flow>,
    target: &str,
    reply: Box<Reply>,
    how: Sending,
) -> io::Result<()> {
    flow.answers(&reply, how.decision);
    let unix = flow.gateway.shared.clock.unix(flow.arrival.at);
    let framed = Framed { keep: how.keep, bodiless: flow.method == Method::HEAD, old: how.old, unix };
    let status = reply.status.as_u16();
    let edits = std::mem::take(&mut flow.cx.to_client);
    let outcome = flow.known.map(Known::as_str);
    let id = flow.id();
    let to = Addressee { request_id: &id, person: flow.person, edits: &edits, outcome };
    let answer = Answer::of(reply, &to, framed).ok_or(io::ErrorKind::Unsupported)?;
    let patience = flow.snapshot.config.server.limits.body_timeout;
    let mut write = pin!(conn.write(&answer.0));
    let sent = match at_once(write.as_mut()).await {
        Some(sent) => sent,
        None => {
            // Should this wait be cut off, the flow writes its line alone.
            target.clone_into(&mut flow.target);
            in_time(patience, write).await
        }
    };
    let method = std::mem::take(&mut flow.method);
    flow.finish((method.as_str(), target), status, answer.len(), sent.is_err());
    sent
}

fn status_line(out: &mut Vec<u8>, status: StatusCode) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or("Refused").as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// `Date`, formatted once a second on each worker.
pub(crate) fn date(out: &mut Vec<u8>, unix: Duration) {
    DATE.with_borrow_mut(|(second, text)| {
        if *second != unix.as_secs() {
            *second = unix.as_secs();
            *text = format!("date: {}\r\n", httpdate::fmt_http_date(UNIX_EPOCH + unix));
        }
        out.extend_from_slice(text.as_bytes());
    });
}
