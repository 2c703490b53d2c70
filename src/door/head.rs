//! The strict check of a request's head, in one pass over its bytes.
//!
//! Whatever two parsers could read in two ways is refused here, before pingora or an upstream sees it: bare line feeds,
//! folded lines, blanks before colons, several lengths, lengths beside transfer codings, codings other than one
//! `chunked`, names with an underscore (the twin of a name with a hyphen to some backends), hosts that are none. The
//! rules are those of RFC 9112 §2-§7 read strictly; the smuggling cases they answer are in `tests/it/door/framing.rs`.

use std::ops::Range;
use std::sync::LazyLock;

use smallvec::SmallVec;

use super::octets::{NAME, TARGET, TOKEN, check_host, content_length, is_token_byte, run, split_header};

/// Longest request target in bytes; nginx and HAProxy refuse near the same.
const LONGEST_TARGET: usize = 8_192;
/// Longest method in bytes; the longest registered one has 17.
const LONGEST_METHOD: usize = 24;
/// Bytes of a request that is not searched for its end before it is read.
const SHORT_REQUEST: usize = 1_024;
/// A part of the head, by position.
pub(crate) type Span = Range<u32>;

/// How the request's body is framed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Framing {
    /// No body.
    #[default]
    None,
    /// So many bytes; not zero.
    Length(u64),
    /// Chunks.
    Chunked,
}

/// A well-formed head: positions in the bytes it was read from.
#[derive(Debug, Default)]
pub(crate) struct Head {
    /// Bytes of the head, the empty line included.
    pub len: usize,
    pub method: Span,
    /// As sent.
    pub target: Span,
    /// Path and query: the target without scheme and authority if it was in absolute form.
    pub origin: Span,
    /// Host and port, from the target if it was absolute, else from `Host`; empty only in HTTP/1.0.
    pub authority: Span,
    /// HTTP/1.0 instead of 1.1.
    pub old: bool,
    /// Names and values.
    pub headers: SmallVec<[(Span, Span); 24]>,
    pub framing: Framing,
    /// `Expect: 100-continue`.
    pub expects_continue: bool,
    /// Whether the client wants the connection kept.
    pub keep_alive: bool,
    /// A WebSocket upgrade.
    pub websocket: bool,
}

/// Why a head was refused, with the status to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HeadError {
    pub status: u16,
    /// For the metric and the log.
    pub reason: &'static str,
}

pub(super) const fn refuse(status: u16, reason: &'static str) -> HeadError {
    HeadError { status, reason }
}

/// Bounds on a head.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub max_size: usize,
    pub max_headers: usize,
}

/// Finds the empty line. Made once: a searcher costs more to make than to use.
static END: LazyLock<memchr::memmem::Finder<'static>> = LazyLock::new(|| memchr::memmem::Finder::new(b"\r\n\r\n"));

/// Where the head that starts at 0 ends, or `None` when more bytes are needed. `seen`: bytes looked at before.
pub(crate) fn end_of_head(bytes: &[u8], seen: usize) -> Option<usize> {
    let from = seen.saturating_sub(3);
    END.find(&bytes[from..]).map(|at| from + at + 4)
}

/// As [`end_of_head`] of all the bytes that came, or an end behind it: where the empty line of a short request is the last
/// that came, [`parse`] finds out sooner whether it is the first.
pub(crate) fn end_hint(bytes: &[u8], seen: usize, max_size: usize) -> Option<usize> {
    let short = bytes.len() <= SHORT_REQUEST.min(max_size) && bytes.ends_with(b"\r\n\r\n");
    if short { Some(bytes.len()) } else { end_of_head(bytes, seen) }
}

/// Whether an unfinished head is already beyond repair, so that nobody waits for the rest of garbage.
pub(crate) fn hopeless(bytes: &[u8], seen: usize) -> bool {
    let from = seen.saturating_sub(1);
    let bare = memchr::memchr_iter(b'\n', &bytes[from..]).any(|at| from + at == 0 || bytes[from + at - 1] != b'\r');
    bare || bytes.first().is_some_and(|first| !is_token_byte(*first))
}

/// Where `part` lies in `whole`, of which it is a slice.
pub(crate) fn span(whole: &[u8], part: &[u8]) -> Span {
    let start = part.as_ptr() as usize - whole.as_ptr() as usize;
    let narrow = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    narrow(start)..narrow(start + part.len())
}

/// Checks the head at the front of `bytes`, which hold all of it. `head`, fresh, is filled in place: it is large to move.
pub(crate) fn parse(head: &mut Head, bytes: &[u8], bounds: Bounds) -> Result<(), HeadError> {
    if bytes.len() > bounds.max_size {
        return Err(refuse(431, "head too large"));
    }
    let line_end = memchr::memchr(b'\n', bytes).unwrap_or(bytes.len());
    let line = strip_cr(&bytes[..line_end])?;
    request_line(head, bytes, line)?;
    let mut seen = Seen::default();
    let mut rest = &bytes[line_end + 1..];
    loop {
        let end = memchr::memchr(b'\n', rest).ok_or(refuse(400, "unfinished line"))?;
        let line = strip_cr(&rest[..end])?;
        rest = &rest[end + 1..];
        if line.is_empty() {
            break;
        }
        if head.headers.len() == bounds.max_headers {
            return Err(refuse(431, "too many header lines"));
        }
        let (name, value) = split_header(line, &NAME).map_err(|reason| refuse(400, reason))?;
        seen.header(name, value, head, bytes)?;
        head.headers.push((span(bytes, name), span(bytes, value)));
    }
    head.len = bytes.len() - rest.len();
    seen.settle(head, bytes)
}

fn strip_cr(line: &[u8]) -> Result<&[u8], HeadError> {
    line.strip_suffix(b"\r").ok_or(refuse(400, "bare line feed"))
}

fn request_line(head: &mut Head, bytes: &[u8], line: &[u8]) -> Result<(), HeadError> {
    let (method, rest) = line.split_at(run(line, &TOKEN));
    if method.is_empty() || method.len() > LONGEST_METHOD {
        return Err(refuse(400, "malformed method"));
    }
    let rest = rest.strip_prefix(b" ").ok_or(refuse(400, "malformed request line"))?;
    let (target, rest) = rest.split_at(run(rest, &TARGET));
    if target.len() > LONGEST_TARGET {
        return Err(refuse(414, "target too long"));
    }
    let version = rest.strip_prefix(b" ").filter(|_| !target.is_empty()).ok_or(refuse(400, "malformed target"))?;
    let old = match version {
        b"HTTP/1.1" => false,
        b"HTTP/1.0" => true,
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit() => {
            return Err(refuse(505, "unknown protocol version"));
        }
        _ => return Err(refuse(400, "malformed request line")),
    };
    if method == b"CONNECT" {
        return Err(refuse(405, "CONNECT"));
    }
    let (origin, authority) = split_target(method, target)?;
    head.method = span(bytes, method);
    head.target = span(bytes, target);
    head.origin = span(bytes, origin);
    head.authority = span(bytes, authority);
    (head.old, head.keep_alive) = (old, !old);
    Ok(())
}

/// Path and authority of a target in origin, asterisk or absolute form (RFC 9112 §3.2).
fn split_target<'a>(method: &[u8], target: &'a [u8]) -> Result<(&'a [u8], &'a [u8]), HeadError> {
    let bad = refuse(400, "malformed target");
    if target[0] == b'/' || (target == b"*" && method == b"OPTIONS") {
        return Ok((target, &target[..0]));
    }
    let rest = [&b"http://"[..], b"https://"].into_iter().find_map(|scheme| {
        let (start, rest) = target.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then_some(rest)
    });
    let rest = rest.ok_or(bad)?;
    // `http://shop.test` alone means its root (RFC 9110 §4.2.3).
    let slash = memchr::memchr(b'/', rest).unwrap_or(rest.len());
    let (authority, origin) = rest.split_at(slash);
    check_host(authority)?;
    Ok((origin, authority))
}

#[derive(Default)]
struct Seen {
    host: Option<Span>,
    length: Option<u64>,
    chunked: bool,
    upgrade: bool,
    connection_upgrade: bool,
}

impl Seen {
    fn announces(&mut self, length: u64) -> Result<(), HeadError> {
        if self.length.replace(length).is_some() { Err(refuse(400, "several lengths")) } else { Ok(()) }
    }

    fn header(&mut self, name: &[u8], value: &[u8], head: &mut Head, bytes: &[u8]) -> Result<(), HeadError> {
        // The length tells most headers apart from the few that matter here.
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => {
                check_host(value)?;
                if self.host.replace(span(bytes, value)).is_some() {
                    return Err(refuse(400, "several hosts"));
                }
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => self.announces(content_length(value)?)?,
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                if self.chunked || head.old {
                    return Err(refuse(400, "several transfer codings"));
                }
                if !value.eq_ignore_ascii_case(b"chunked") {
                    // RFC 9112 §6.1: a coding that is not understood is answered with 501; a broken list with 400.
                    let known = [&b"gzip"[..], b"deflate", b"compress"].iter().any(|c| value.eq_ignore_ascii_case(c));
                    return Err(refuse(if known { 501 } else { 400 }, "transfer coding other than chunked"));
                }
                self.chunked = true;
            }
            6 if name.eq_ignore_ascii_case(b"expect") => {
                if !value.eq_ignore_ascii_case(b"100-continue") {
                    return Err(refuse(417, "unknown expectation"));
                }
                head.expects_continue = !head.old;
            }
            10 if name.eq_ignore_ascii_case(b"connection") => {
                for option in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                    if option.eq_ignore_ascii_case(b"close") {
                        head.keep_alive = false;
                    } else if head.old && option.eq_ignore_ascii_case(b"keep-alive") {
                        head.keep_alive = true;
                    } else if option.eq_ignore_ascii_case(b"upgrade") {
                        self.connection_upgrade = true;
                    }
                }
            }
            7 if name.eq_ignore_ascii_case(b"upgrade") => self.upgrade = value.eq_ignore_ascii_case(b"websocket"),
            _ => (),
        }
        Ok(())
    }

    fn settle(self, head: &mut Head, bytes: &[u8]) -> Result<(), HeadError> {
        head.framing = match (self.length, self.chunked) {
            (Some(_), true) => return Err(refuse(400, "a length beside a transfer coding")),
            (None | Some(0), false) => Framing::None,
            (Some(length), false) => Framing::Length(length),
            (None, true) => Framing::Chunked,
        };
        match self.host {
            None if !head.old => return Err(refuse(400, "no host")),
            None => (),
            Some(host) if head.authority.is_empty() => head.authority = host,
            Some(host) => {
                let text = |span: &Span| &bytes[span.start as usize..span.end as usize];
                if !text(&host).eq_ignore_ascii_case(text(&head.authority)) {
                    return Err(refuse(400, "target and Host name different hosts"));
                }
            }
        }
        head.websocket = self.upgrade && self.connection_upgrade && head.framing == Framing::None && !head.old;
        Ok(())
    }
}
