//! The request on its way up: its head and the first of its body in one write, then the body as the client sends it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tidegate_filters::engine::HeaderEdit;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;

use super::heads;
use crate::door::conn::{ClientStream, Conn};
use crate::door::head::Framing;
use crate::proxy::fault::Fault;
use crate::proxy::flow::Flow;
use crate::proxy::stage;

/// Why a try cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Halt {
    /// The connection was dead before the system took one byte of the request.
    NothingTaken,
    /// The client's part of it failed, or its body is too large.
    Client(Fault),
}

/// One request's bytes for the upstream, over all its tries.
pub(super) struct Upload {
    out: Vec<u8>,
    /// Bytes of `out` that the system has taken.
    sent: usize,
    /// Where the body begins in `out`: behind this try's head.
    body_at: usize,
    chunked: bool,
    /// A chunk's data before its size is known.
    piece: Vec<u8>,
    /// All of the body was taken from the client.
    complete: bool,
    /// Bytes taken from the client.
    pub(super) taken: u64,
    /// Bytes of this try that the system has taken for the upstream.
    pub(super) put: u64,
    /// The upstream takes no more of it.
    pub(super) broken: bool,
    /// The client was asked for more and has not sent it.
    pub(super) waits_for_client: bool,
}

impl Upload {
    pub(super) fn new(framing: Framing) -> Self {
        Self {
            out: Vec::new(),
            sent: 0,
            body_at: 0,
            chunked: framing == Framing::Chunked,
            piece: Vec::new(),
            complete: framing == Framing::None,
            taken: 0,
            put: 0,
            broken: false,
            waits_for_client: false,
        }
    }

    /// Begins a try. An earlier one has not sent a byte of the body.
    pub(super) fn begin(&mut self, head: &[u8], edits: &[HeaderEdit]) {
        let body = self.out.split_off(self.body_at);
        self.out.clear();
        heads::for_upstream(&mut self.out, head, edits);
        self.body_at = self.out.len();
        self.out.extend_from_slice(&body);
        (self.sent, self.put, self.broken) = (0, 0, false);
    }

    /// Whether the request could be sent once more: none of its body is gone.
    pub(super) fn is_whole(&self) -> bool {
        self.taken == 0 || self.put == 0
    }

    /// Whether the upstream has all of it.
    pub(super) fn is_done(&self) -> bool {
        self.complete && !self.broken && self.sent == self.out.len()
    }

    /// Whether a write waits for the upstream.
    pub(super) fn is_stuck(&self) -> bool {
        self.sent < self.out.len()
    }

    /// Takes no more from the client: the answer is on its way already.
    pub(super) fn give_up(&mut self) {
        self.broken = true;
        self.waits_for_client = false;
        self.out.clear();
        (self.sent, self.body_at) = (0, 0);
    }

    /// Moves what can be moved now.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        (client, conn): (&mut ClientStream, &Conn),
        wire: &mut TcpStream,
        flow: &mut Flow,
    ) -> Result<(), Halt> {
        while !self.broken {
            let behind_the_head = self.sent == 0 && self.out.len() == self.body_at;
            if !self.complete && (behind_the_head || !self.is_stuck()) {
                let took = self.poll_take(cx, client, conn, flow).map_err(Halt::Client)?;
                self.waits_for_client = took.is_pending();
            }
            if !self.is_stuck() {
                return Ok(());
            }
            match Pin::new(&mut *wire).poll_write(cx, &self.out[self.sent..]) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(n)) if n > 0 => self.note_put(n),
                Poll::Ready(_) if self.put == 0 => return Err(Halt::NothingTaken),
                // It may have answered before it closed: that is for the other direction to find out.
                Poll::Ready(_) => self.give_up(),
            }
        }
        Ok(())
    }

    fn note_put(&mut self, n: usize) {
        self.sent += n;
        self.put += n as u64;
        if self.sent == self.out.len() {
            self.out.clear();
            (self.sent, self.body_at) = (0, 0);
        }
    }

    fn poll_take(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut ClientStream,
        conn: &Conn,
        flow: &mut Flow,
    ) -> Result<Poll<()>, Fault> {
        let into = if self.chunked { &mut self.piece } else { &mut self.out };
        let got = match client.poll_data(cx, into) {
            Poll::Pending => return Ok(Poll::Pending),
            Poll::Ready(Ok(got)) => got,
            Poll::Ready(Err(error)) => return Err(whose_fault(&error)),
        };
        self.complete = conn.at_request_boundary();
        if got == 0 && !self.complete {
            return Err(Fault::Gone);
        }
        self.taken += got as u64;
        flow.body_seen += got as u64;
        if flow.route.as_ref().is_some_and(|route| flow.body_seen > route.max_body) {
            flow.reply = Some(Box::new(stage::too_large()));
            return Err(Fault::Refused);
        }
        if self.chunked {
            chunk(&mut self.out, &[&self.piece], self.complete);
            self.piece.clear();
        }
        Ok(Poll::Ready(()))
    }
}

fn whose_fault(error: &io::Error) -> Fault {
    match error.kind() {
        io::ErrorKind::InvalidData => Fault::Malformed,
        io::ErrorKind::TimedOut => Fault::TooSlow,
        _ => Fault::Gone,
    }
}

/// Writes `parts` as one chunk, and the end of all chunks if it is the last. Nothing is no chunk: that would be the end.
pub(super) fn chunk(out: &mut Vec<u8>, parts: &[&[u8]], last: bool) {
    let size: usize = parts.iter().map(|part| part.len()).sum();
    if size > 0 {
        let mut digits = [0; 16];
        let mut at = digits.len();
        let mut left = size;
        while left > 0 {
            at -= 1;
            digits[at] = b"0123456789abcdef"[left & 15];
            left >>= 4;
        }
        out.reserve(size + 32);
        out.extend_from_slice(&digits[at..]);
        out.extend_from_slice(b"\r\n");
        parts.iter().for_each(|part| out.extend_from_slice(part));
        out.extend_from_slice(b"\r\n");
    }
    if last {
        out.extend_from_slice(b"0\r\n\r\n");
    }
}
