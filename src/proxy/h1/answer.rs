//! The strict check of an answer's head. An upstream is trusted with the request, not with the framing: what two readers
//! could read in two ways would let it, or whoever it repeats, write the next client's answer.

use smallvec::SmallVec;

use crate::door::head::{Span, span};
use crate::door::octets::{TOKEN, is_text, split_header};
use crate::proxy::sound;

/// Most header lines; an upstream is trusted more than a client.
const MOST_LINES: usize = 256;

/// The status that ends HTTP on a connection.
pub(super) const SWITCHING_PROTOCOLS: u16 = 101;

/// How the body is framed. Whether there is one also depends on the request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Framing {
    Length(u64),
    Chunked,
    /// Until the upstream closes.
    #[default]
    Close,
}

/// A well-formed head: positions in the bytes it was read from.
#[derive(Debug, Default)]
pub(super) struct AnswerHead {
    pub status: u16,
    pub reason: Span,
    pub headers: SmallVec<[(Span, Span); 24]>,
    pub framing: Framing,
    /// The upstream keeps the connection.
    pub keeps: bool,
    /// `Connection` names headers that end here.
    pub names_hops: bool,
}

impl AnswerHead {
    /// Whether the answer to a request (`to_head`: a HEAD) has a body.
    pub(super) fn has_body(&self, to_head: bool) -> bool {
        !to_head && !matches!(self.status, 100..200 | 204 | 304)
    }

    /// Whether another answer follows.
    pub(super) fn is_interim(&self) -> bool {
        self.status < 200 && self.status != SWITCHING_PROTOCOLS
    }
}

/// Checks a whole head: `bytes` ends with the empty line. The reason when it is no proper answer. `head`, fresh, is filled
/// in place: it is large to move.
pub(super) fn parse(head: &mut AnswerHead, bytes: &[u8]) -> Result<(), &'static str> {
    let mut lines = Lines(bytes);
    let old = status_line(head, bytes, lines.next()?)?;
    let (mut length, mut chunked, mut close) = (sound::Length::default(), sound::Codings::default(), old);
    loop {
        let line = lines.next()?;
        if line.is_empty() {
            break;
        }
        if head.headers.len() == MOST_LINES {
            return Err("too many header lines");
        }
        let (name, value) = split_header(line, &TOKEN)?;
        match name.len() {
            14 if name.eq_ignore_ascii_case(b"content-length") => length.line(value)?,
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => chunked.line(value)?,
            10 if name.eq_ignore_ascii_case(b"connection") => {
                for option in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                    if option.eq_ignore_ascii_case(b"close") {
                        close = true;
                    } else if option.eq_ignore_ascii_case(b"keep-alive") {
                        close &= !old;
                    } else {
                        head.names_hops = true;
                    }
                }
            }
            _ => (),
        }
        head.headers.push((span(bytes, name), span(bytes, value)));
    }
    head.framing = match (length.said(), chunked.said()) {
        (Some(_), true) => return Err("a length beside a transfer coding"),
        (None, true) if old => return Err("chunks in HTTP/1.0"),
        (None, true) => Framing::Chunked,
        (Some(length), false) => Framing::Length(length),
        (None, false) => Framing::Close,
    };
    head.keeps = !close;
    Ok(())
}

struct Lines<'a>(&'a [u8]);

impl<'a> Lines<'a> {
    fn next(&mut self) -> Result<&'a [u8], &'static str> {
        let end = memchr::memchr(b'\n', self.0).ok_or("unfinished line")?;
        let line = self.0[..end].strip_suffix(b"\r").ok_or("bare line feed")?;
        self.0 = &self.0[end + 1..];
        Ok(line)
    }
}

/// Whether it is HTTP/1.0.
fn status_line(head: &mut AnswerHead, bytes: &[u8], line: &[u8]) -> Result<bool, &'static str> {
    let malformed = "malformed status line";
    let old = match line.get(..9) {
        Some(b"HTTP/1.1 ") => false,
        Some(b"HTTP/1.0 ") => true,
        _ => return Err(malformed),
    };
    let digits = line.get(9..12).filter(|digits| digits.iter().all(u8::is_ascii_digit)).ok_or(malformed)?;
    let status = digits.iter().fold(0, |number, digit| number * 10 + u16::from(digit - b'0'));
    let reason = match &line[12..] {
        [] => &line[12..],
        [b' ', reason @ ..] if is_text(reason) => reason,
        _ => return Err(malformed),
    };
    if status < 100 {
        return Err("a status below 100");
    }
    (head.status, head.reason) = (status, span(bytes, reason));
    Ok(old)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A head, and what is read from it: the framing, and whether the connection is kept.
    type Case = (&'static str, Result<(Framing, bool), &'static str>);

    #[test]
    fn framing_is_read_in_one_way_or_not_at_all() {
        let cases: [Case; 16] = [
            ("HTTP/1.1 200 OK\r\n\r\n", Ok((Framing::Close, true))),
            ("HTTP/1.0 200 OK\r\n\r\n", Ok((Framing::Close, false))),
            ("HTTP/1.1 200\r\ncontent-length: 5\r\n\r\n", Ok((Framing::Length(5), true))),
            ("HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 5\r\n\r\n", Ok((Framing::Length(5), true))),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\nContent-Length: 5\r\n\r\n", Ok((Framing::Length(5), true))),
            (
                "HTTP/1.1 200 OK\r\nConnection: a, close\r\nTransfer-Encoding: Chunked\r\n\r\n",
                Ok((Framing::Chunked, false)),
            ),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", Err("malformed length")),
            ("HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n", Err("malformed length")),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
                Err("a length beside a transfer coding"),
            ),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", Err("malformed transfer coding")),
            ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Err("chunks in HTTP/1.0")),
            ("HTTP/1.1 200 OK\r\nA: b\r\n folded\r\n\r\n", Err("malformed header name")),
            ("HTTP/1.1 200 OK\r\nA : b\r\n\r\n", Err("malformed header name")),
            ("HTTP/1.1 200 OK\nA: b\r\n\r\n", Err("bare line feed")),
            ("HTTP/1.1 99 OK\r\n\r\n", Err("malformed status line")),
            ("HTTP/2 200\r\n\r\n", Err("malformed status line")),
        ];
        for (bytes, expected) in cases {
            let mut head = AnswerHead::default();
            let found = parse(&mut head, bytes.as_bytes()).map(|()| (head.framing, head.keeps));
            assert_eq!(found, expected, "{bytes:?}");
        }
    }
}
