//! What a lent connection yields and takes: the running request's bytes and nothing behind them.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Buf;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Inner, MOST_STASHED, Mode, body_allowance, poll_scratch};

impl Inner {
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let buf = &mut self.buf;
        let read = ready!(poll_scratch(&mut self.io, cx, usize::MAX, |bytes| buf.extend_from_slice(bytes)))?;
        self.read += read as u64;
        Poll::Ready(Ok(read))
    }

    pub(super) fn poll_request(&mut self, cx: &mut Context<'_>, dst: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = match self.mode {
            Mode::Raw => return self.poll_raw(cx, dst),
            Mode::Done | Mode::Upgrade => return self.poll_end(cx),
            Mode::Length(left) => self.poll_length(cx, dst, left),
            Mode::Chunked(_) => self.poll_chunked(cx, dst),
        };
        self.starved = read.is_pending();
        read
    }

    fn poll_raw(&mut self, cx: &mut Context<'_>, dst: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.buf.is_empty() {
            let before = dst.filled().len();
            ready!(Pin::new(&mut self.io).poll_read(cx, dst))?;
            self.read += (dst.filled().len() - before) as u64;
            return Poll::Ready(Ok(()));
        }
        let take = self.buf.len().min(dst.remaining());
        dst.put_slice(&self.buf[..take]);
        self.buf.advance(take);
        Poll::Ready(Ok(()))
    }

    /// Waits for the client to leave; what it sends meanwhile is the next request and is kept.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.buf.len() < MOST_STASHED {
            if ready!(self.poll_fill(cx))? == 0 {
                return Poll::Ready(Ok(()));
            }
        }
        Poll::Pending
    }

    fn poll_length(&mut self, cx: &mut Context<'_>, dst: &mut ReadBuf<'_>, left: u64) -> Poll<io::Result<()>> {
        let left_here = usize::try_from(left).unwrap_or(usize::MAX);
        let before = dst.filled().len();
        if self.buf.is_empty() && dst.remaining() <= left_here {
            ready!(Pin::new(&mut self.io).poll_read(cx, dst))?;
        } else {
            if self.buf.is_empty() {
                ready!(self.poll_fill(cx))?;
            }
            let take = self.buf.len().min(left_here).min(dst.remaining());
            dst.put_slice(&self.buf[..take]);
            self.buf.advance(take);
        }
        let got = (dst.filled().len() - before) as u64;
        if left == got {
            self.end_body()
        } else {
            self.mode = Mode::Length(left - got)
        }
        Poll::Ready(self.pace(got))
    }

    fn poll_chunked(&mut self, cx: &mut Context<'_>, dst: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.buf.is_empty() && ready!(self.poll_fill(cx))? == 0 {
            return Poll::Ready(Ok(()));
        }
        let Mode::Chunked(scanner) = &mut self.mode else { return Poll::Ready(Ok(())) };
        let there = self.buf.len().min(dst.remaining());
        let Ok(take) = scanner.scan(&self.buf[..there]) else {
            self.malformed = true;
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "malformed chunk")));
        };
        let done = scanner.done();
        dst.put_slice(&self.buf[..take]);
        self.buf.advance(take);
        if done {
            self.end_body();
        }
        Poll::Ready(self.pace(take as u64))
    }

    /// As `poll_request`, for a reader that wants a body without its chunks.
    pub(super) fn poll_data(&mut self, cx: &mut Context<'_>, into: &mut Vec<u8>) -> Poll<io::Result<usize>> {
        let before = into.len();
        let read = match self.mode {
            Mode::Length(left) => self.poll_length_data(cx, into, left),
            Mode::Chunked(_) => self.poll_chunk_data(cx, into),
            Mode::Done | Mode::Upgrade | Mode::Raw => return Poll::Ready(Ok(0)),
        };
        self.starved = read.is_pending();
        ready!(read)?;
        Poll::Ready(Ok(into.len() - before))
    }

    fn poll_length_data(&mut self, cx: &mut Context<'_>, into: &mut Vec<u8>, left: u64) -> Poll<io::Result<()>> {
        let left_here = usize::try_from(left).unwrap_or(usize::MAX);
        let got = if self.buf.is_empty() {
            ready!(poll_scratch(&mut self.io, cx, left_here, |bytes| into.extend_from_slice(bytes)))?
        } else {
            let take = self.buf.len().min(left_here);
            into.extend_from_slice(&self.buf[..take]);
            self.buf.advance(take);
            take
        } as u64;
        if left == got {
            self.end_body();
        } else {
            self.mode = Mode::Length(left - got);
        }
        Poll::Ready(self.pace(got))
    }

    fn poll_chunk_data(&mut self, cx: &mut Context<'_>, into: &mut Vec<u8>) -> Poll<io::Result<()>> {
        let before = into.len();
        // Sizes and line ends alone are no data: more must come.
        while into.len() == before {
            if self.buf.is_empty() && ready!(self.poll_fill(cx))? == 0 {
                return Poll::Ready(Ok(()));
            }
            let Mode::Chunked(scanner) = &mut self.mode else { return Poll::Ready(Ok(())) };
            let Ok(take) = scanner.decode(&self.buf, |data| into.extend_from_slice(data)) else {
                self.malformed = true;
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "malformed chunk")));
            };
            let done = scanner.done();
            self.buf.advance(take);
            if done {
                self.end_body();
            }
            self.pace(take as u64)?;
            if done {
                break;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Ends a body that drips: each piece comes in time, the whole never would.
    fn pace(&mut self, got: u64) -> io::Result<()> {
        self.body_bytes += got;
        let allowed = body_allowance(self.body_timeout, self.body_bytes);
        if self.body_done.is_none() && self.lent_at.elapsed() > allowed {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the body arrives too slowly"));
        }
        Ok(())
    }

    fn end_body(&mut self) {
        self.mode = Mode::Done;
        self.body_done = Some(Instant::now());
    }

    /// Writes what the socket takes.
    pub(super) fn poll_send(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let write = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.note_write(write.is_pending());
        let written = ready!(write)?;
        self.note_written(&bytes[..written]);
        Poll::Ready(Ok(written))
    }

    /// Sends what was written.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flush = Pin::new(&mut self.io).poll_flush(cx);
        self.note_write(flush.is_pending());
        flush
    }

    pub(super) fn note_write(&mut self, pending: bool) {
        self.reader.note(pending, self.written);
    }

    /// Looks at the first bytes of an answer: an interim one is no answer yet, an agreed upgrade opens the stream.
    pub(super) fn note_written(&mut self, bytes: &[u8]) {
        self.written += bytes.len() as u64;
        if self.answered || bytes.is_empty() {
            return;
        }
        let status = bytes.get(9..12).unwrap_or_default();
        if status == b"101" && matches!(self.mode, Mode::Upgrade) {
            self.mode = Mode::Raw;
        }
        self.answered = status == b"101" || status.first() != Some(&b'1');
    }
}
