//! The answer on its way down: its head is checked and written anew, its body passes piece by piece.

use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use http::StatusCode;
use smallvec::SmallVec;
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;

use super::answer::{self, AnswerHead, Framing, SWITCHING_PROTOCOLS};
use super::heads::{self, Framed};
use super::upload::chunk;
use crate::door::chunked::Scanner;
use crate::door::conn::{ClientStream, poll_scratch};
use crate::door::head::end_of_head;
use crate::proxy::attempt;
use crate::proxy::flow::Flow;
use crate::proxy::sound::LARGEST_HEAD;

/// An answer of which so much was read is a long one.
const LONG: u64 = 8 * 1024;
/// Room for a piece of a long one.
const ROOM: usize = 64 * 1024;

/// Why an answer cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Halt {
    /// The upstream closed its connection without one byte of an answer.
    Silence,
    /// What the upstream says, or how it ends, is no proper answer.
    Upstream,
    /// The client is gone.
    Client,
}

enum At {
    Head,
    Length(u64),
    Chunks(Scanner),
    Close,
    End,
}

/// What this client may be told about its connection.
#[derive(Clone, Copy)]
pub(super) struct Terms {
    /// The request was a HEAD.
    pub to_head: bool,
    /// It came over HTTP/1.0.
    pub old: bool,
    /// The connection may be kept, unless the answer's framing forbids it.
    pub keep: bool,
    /// A WebSocket was asked for.
    pub websocket: bool,
}

/// One answer.
pub(super) struct Download {
    at: At,
    /// What the upstream has said and nobody has looked at.
    buf: BytesMut,
    seen: usize,
    /// What goes to the client.
    out: Vec<u8>,
    sent: usize,
    flushed: bool,
    in_chunks: bool,
    upstream_keeps: bool,
    /// The upstream has said more than its answer.
    stray: bool,
    /// The status, once a final one came.
    pub(super) status: Option<u16>,
    /// The client was told that its connection stays open.
    pub(super) keep: bool,
    /// Bytes that the upstream has said.
    pub(super) got: u64,
    /// Bytes of the body for the client.
    pub(super) body: u64,
    /// Nobody listens any more; the upstream is heard out all the same.
    pub(super) deaf: bool,
    /// The upstream is asked for more and has not said it.
    pub(super) waits_for_upstream: bool,
}

impl Download {
    pub(super) fn new() -> Self {
        Self {
            at: At::Head,
            buf: BytesMut::new(),
            seen: 0,
            out: Vec::new(),
            sent: 0,
            flushed: true,
            in_chunks: false,
            upstream_keeps: false,
            stray: false,
            status: None,
            keep: false,
            got: 0,
            body: 0,
            deaf: false,
            waits_for_upstream: false,
        }
    }

    /// Whether the upstream's connection may serve another request: its answer is over, and it has said no more than that.
    pub(super) fn leaves_reusable(&self) -> bool {
        matches!(self.at, At::End) && self.upstream_keeps && !self.stray
    }

    /// Whether both sides have agreed on another protocol.
    pub(super) fn switched(&self) -> bool {
        self.status == Some(SWITCHING_PROTOCOLS)
    }

    /// What the upstream has said in the other protocol.
    pub(super) fn rest(&mut self) -> BytesMut {
        std::mem::take(&mut self.buf)
    }

    /// Bytes of the body that the client's system did not take.
    pub(super) fn unsent(&self) -> u64 {
        ((self.out.len() - self.sent) as u64).min(self.body)
    }

    /// Nobody listens any more.
    pub(super) fn turn_deaf(&mut self) {
        self.deaf = true;
        self.out.clear();
        (self.sent, self.flushed) = (0, true);
    }

    /// Moves what can be moved now; ready when the client has all of the answer. `terms` is asked when the head goes out.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut ClientStream,
        wire: &mut TcpStream,
        flow: &mut Flow,
        terms: impl Fn() -> Terms,
    ) -> Poll<Result<(), Halt>> {
        loop {
            self.waits_for_upstream = false;
            if ready!(self.poll_out(cx, client)).is_err() {
                return Poll::Ready(Err(Halt::Client));
            }
            if matches!(self.at, At::End) {
                return Poll::Ready(Ok(()));
            }
            if matches!(self.at, At::Head) && self.look_at_head(flow, &terms)? {
                continue;
            }
            self.waits_for_upstream = true;
            let got = ready!(self.poll_in(cx, wire));
            self.waits_for_upstream = false;
            match got {
                Ok(got) if got > 0 => {
                    self.got += got as u64;
                    match self.at {
                        At::Length(_) => self.pass_read(got, flow),
                        _ => self.pass(flow, false)?,
                    }
                }
                Ok(_) if matches!(self.at, At::Close) => self.pass(flow, true)?,
                _ if self.got == 0 => return Poll::Ready(Err(Halt::Silence)),
                _ => return Poll::Ready(Err(Halt::Upstream)),
            }
        }
    }

    fn poll_out(&mut self, cx: &mut Context<'_>, client: &mut ClientStream) -> Poll<std::io::Result<()>> {
        while self.sent < self.out.len() {
            match ready!(Pin::new(&mut *client).poll_write(cx, &self.out[self.sent..]))? {
                0 => return Poll::Ready(Err(std::io::ErrorKind::WriteZero.into())),
                n => self.sent += n,
            }
            self.flushed = false;
        }
        self.out.clear();
        self.sent = 0;
        if !self.flushed {
            ready!(Pin::new(client).poll_flush(cx))?;
            self.flushed = true;
        }
        Poll::Ready(Ok(()))
    }

    /// Reads what the upstream says. A body whose length is known goes straight to where it is written from.
    fn poll_in(&mut self, cx: &mut Context<'_>, wire: &mut TcpStream) -> Poll<std::io::Result<usize>> {
        // Room of its own is for a body that turns out to be long.
        let long = self.got >= LONG;
        match self.at {
            At::Length(_) if long => {
                self.out.reserve(ROOM);
                pin!(wire.read_buf(&mut self.out)).poll(cx)
            }
            At::Length(_) => poll_scratch(wire, cx, usize::MAX, |bytes| self.out.extend_from_slice(bytes)),
            _ if long => {
                self.buf.reserve(ROOM);
                pin!(wire.read_buf(&mut self.buf)).poll(cx)
            }
            _ => poll_scratch(wire, cx, usize::MAX, |bytes| self.buf.extend_from_slice(bytes)),
        }
    }

    /// Looks for a whole head in what the upstream has said; false when there is none yet.
    fn look_at_head(&mut self, flow: &mut Flow, terms: &impl Fn() -> Terms) -> Result<bool, Halt> {
        let Some(end) = end_of_head(&self.buf, self.seen) else {
            self.seen = self.buf.len();
            return if self.seen > LARGEST_HEAD { Err(Halt::Upstream) } else { Ok(false) };
        };
        // Out of the way: what follows writes to everything but these bytes.
        let mut buf = std::mem::take(&mut self.buf);
        let (bytes, mut head) = (&buf[..end], AnswerHead::default());
        self.seen = 0;
        let sound = if end > LARGEST_HEAD { Err("head too large") } else { answer::parse(&mut head, bytes) };
        let terms = terms();
        let sound = sound.and_then(|()| {
            // A client that did not ask would read what follows as the answer to its next request.
            let fine = head.status != SWITCHING_PROTOCOLS || terms.websocket && heads::begins_websocket(bytes, &head);
            if fine { Ok(()) } else { Err("another protocol than was asked for") }
        });
        sound.map_err(|reason| {
            tracing::debug!(target: "tidegate::proxy", request_id = flow.id().as_str(), reason, "no proper answer");
            Halt::Upstream
        })?;
        if !head.is_interim() {
            self.begin(bytes, &head, buf.len() - end, flow, terms);
        } else if head.status != 100 && !terms.old && !self.deaf {
            // 100 was said by the door already, and HTTP/1.0 knows none of them.
            heads::interim(&mut self.out, bytes, &head);
        }
        buf.advance(end);
        self.buf = buf;
        self.pass(flow, false)?;
        Ok(true)
    }

    fn begin(&mut self, bytes: &[u8], head: &AnswerHead, behind: usize, flow: &mut Flow, terms: Terms) {
        self.status = Some(head.status);
        attempt::answered(flow, StatusCode::from_u16(head.status).unwrap_or_default());
        if let Some(route) = flow.route.clone()
            && route.chain.sees_responses()
        {
            route.chain.on_response(&heads::for_filters(bytes, head), &mut flow.cx);
        }
        let body = head.has_body(terms.to_head);
        // The close is the end of a body that HTTP/1.0 could not find the end of.
        let endless = body && terms.old && !matches!(head.framing, Framing::Length(_));
        let switched = self.switched();
        let framed = Framed { keep: terms.keep && !endless && !switched, old: terms.old, body, switched };
        (self.keep, self.in_chunks) = (framed.keep, framed.in_chunks(head.framing));
        self.upstream_keeps = head.keeps && !(body && head.framing == Framing::Close) && !switched;
        self.at = match head.framing {
            _ if switched => At::End,
            _ if !body => At::Length(0),
            Framing::Length(length) => At::Length(length),
            Framing::Chunked => At::Chunks(Scanner::new()),
            Framing::Close => At::Close,
        };
        self.out.reserve(bytes.len() + behind + 256);
        heads::for_client(&mut self.out, bytes, head, flow, framed);
    }

    /// Passes on what of the body is in `buf`; `closed`: no more will come.
    fn pass(&mut self, flow: &mut Flow, closed: bool) -> Result<(), Halt> {
        let mut buf = std::mem::take(&mut self.buf);
        let mut parts = SmallVec::<[&[u8]; 8]>::new();
        let end = match &mut self.at {
            At::Length(_) => {
                self.out.extend_from_slice(&buf);
                self.pass_read(buf.len(), flow);
                return Ok(());
            }
            At::Chunks(scanner) => {
                let used = scanner.decode(&buf, |data| parts.push(data)).map_err(|_| Halt::Upstream)?;
                self.stray = used < buf.len();
                scanner.done()
            }
            At::Close => {
                parts.push(&buf);
                closed
            }
            At::Head | At::End => {
                self.buf = buf;
                return Ok(());
            }
        };
        if sees_chunks(flow) {
            let data = parts.concat();
            show(flow, &data, end);
        }
        self.body += parts.iter().map(|part| part.len() as u64).sum::<u64>();
        if self.in_chunks {
            chunk(&mut self.out, &parts, end);
        } else {
            parts.iter().for_each(|part| self.out.extend_from_slice(part));
        }
        drop(parts);
        buf.clear();
        self.buf = buf;
        self.settle(end);
        Ok(())
    }

    /// The last `came` bytes of `out` were read of a body whose length is known, and of what lies behind it.
    fn pass_read(&mut self, came: usize, flow: &mut Flow) {
        let At::Length(left) = &mut self.at else { return };
        let take = usize::try_from(*left).unwrap_or(usize::MAX).min(came);
        self.stray = take < came;
        *left -= take as u64;
        let end = *left == 0;
        self.out.truncate(self.out.len() - (came - take));
        self.body += take as u64;
        if sees_chunks(flow) {
            show(flow, &self.out[self.out.len() - take..], end);
        }
        self.settle(end);
    }

    fn settle(&mut self, end: bool) {
        if end {
            self.at = At::End;
        }
        if self.deaf {
            self.out.clear();
        }
    }
}

fn sees_chunks(flow: &Flow) -> bool {
    flow.route.as_ref().is_some_and(|route| route.chain.sees_chunks())
}

fn show(flow: &mut Flow, data: &[u8], end: bool) {
    let Some(route) = flow.route.clone().filter(|_| end || !data.is_empty()) else { return };
    flow.tick();
    route.chain.on_chunk(&Bytes::copy_from_slice(data), end, &mut flow.cx);
}
