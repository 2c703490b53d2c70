//! The two heads that are written: the request's to the upstream, the answer's to the client. Both stay bytes from end to
//! end; a header map is built only for filters that look at answers.

use http::{HeaderName, HeaderValue, StatusCode, response};
use tidegate_filters::engine::HeaderEdit;

use super::answer::{AnswerHead, Framing};
use super::edits::{Edits, line};
use crate::door::head::Span;
use crate::proxy::flow::Flow;
use crate::proxy::forward::{Hops, is_command};
use crate::proxy::{ATTEMPTS, CHANNEL};

/// How the answer is framed for this client.
#[derive(Clone, Copy, Debug)]
pub(super) struct Framed {
    /// The connection stays open behind it.
    pub keep: bool,
    /// To an HTTP/1.0 client, which knows no chunks.
    pub old: bool,
    /// A body follows.
    pub body: bool,
    /// Another protocol follows.
    pub switched: bool,
}

impl Framed {
    /// Whether the body goes out in chunks.
    pub(super) fn in_chunks(self, framing: Framing) -> bool {
        self.body && !self.old && matches!(framing, Framing::Chunked | Framing::Close)
    }
}

fn part<'a>(bytes: &'a [u8], span: &Span) -> &'a [u8] {
    &bytes[span.start as usize..span.end as usize]
}

/// Writes the request's head for the upstream from the door's, with what filters changed.
pub(super) fn for_upstream(out: &mut Vec<u8>, head: &[u8], edits: &[HeaderEdit]) {
    out.reserve(head.len() + 256);
    if edits.is_empty() {
        out.extend_from_slice(head);
        return;
    }
    let edits = Edits(edits);
    // The door has written this head: one line each, the name before the first colon, the empty line last.
    for (number, whole) in head.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let name = whole.split(|byte| *byte == b':').next().unwrap_or_default();
        if whole != b"\r\n" && (number == 0 || !edits.replace(name)) {
            out.extend_from_slice(whole);
        }
    }
    edits.write(out);
    out.extend_from_slice(b"\r\n");
}

fn hops<'a>(bytes: &'a [u8], head: &'a AnswerHead) -> Hops<'a> {
    let connection = |(name, _): &&(Span, Span)| part(bytes, name).eq_ignore_ascii_case(b"connection");
    let lines = if head.names_hops { &head.headers[..] } else { &[] };
    Hops::of(lines.iter().filter(connection).map(|(_, value)| part(bytes, value)))
}

fn is_framing(name: &[u8]) -> bool {
    match name.len() {
        14 => name.eq_ignore_ascii_case(b"content-length"),
        17 => name.eq_ignore_ascii_case(b"transfer-encoding"),
        _ => false,
    }
}

fn status_line(out: &mut Vec<u8>, bytes: &[u8], head: &AnswerHead) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(itoa::Buffer::new().format(head.status).as_bytes());
    out.push(b' ');
    out.extend_from_slice(part(bytes, &head.reason));
    out.extend_from_slice(b"\r\n");
}

/// Writes an interim answer: as it came, without what is about the upstream's connection or about a body.
pub(super) fn interim(out: &mut Vec<u8>, bytes: &[u8], head: &AnswerHead) {
    status_line(out, bytes, head);
    let hops = hops(bytes, head);
    for (name, value) in &head.headers {
        let name = part(bytes, name);
        if !is_framing(name) && !hops.has(name) {
            line(out, name, part(bytes, value));
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes the answer's head for the client, with what filters changed and what the gateway says itself.
pub(super) fn for_client(out: &mut Vec<u8>, bytes: &[u8], head: &AnswerHead, flow: &mut Flow, framed: Framed) {
    let edits = std::mem::take(&mut flow.cx.to_client);
    let edits = Edits(&edits);
    let of_several = flow.route.as_ref().is_some_and(|route| route.upstream.channels.len() > 1);
    let channel = flow.channel().filter(|_| of_several);
    status_line(out, bytes, head);
    let hops = hops(bytes, head);
    let mut dated = false;
    for (name, value) in &head.headers {
        let name = part(bytes, name);
        let ours = channel.is_some()
            && [CHANNEL, ATTEMPTS].iter().any(|ours| name.eq_ignore_ascii_case(ours.as_str().as_bytes()));
        if is_framing(name) || hops.has(name) || ours || is_command(name) || edits.replace(name) {
            continue;
        }
        dated |= name.len() == 4 && name.eq_ignore_ascii_case(b"date");
        line(out, name, part(bytes, value));
    }
    if !dated {
        crate::door::date(out, flow.gateway.shared.clock.unix(flow.cx.now));
    }
    edits.write(out);
    if let Some(channel) = channel {
        line(out, CHANNEL.as_str().as_bytes(), channel.name.as_bytes());
        line(out, ATTEMPTS.as_str().as_bytes(), itoa::Buffer::new().format(flow.attempts).as_bytes());
    }
    match head.framing {
        // RFC 9110 §8.6: nothing follows, so nothing says how long it is.
        _ if head.status == 204 || framed.switched => (),
        Framing::Length(length) => line(out, b"content-length", itoa::Buffer::new().format(length).as_bytes()),
        Framing::Chunked if !framed.body && !framed.old => line(out, b"transfer-encoding", b"chunked"),
        framing if framed.in_chunks(framing) => line(out, b"transfer-encoding", b"chunked"),
        Framing::Chunked | Framing::Close => (),
    }
    out.extend_from_slice(match framed {
        Framed { switched: true, .. } => b"connection: upgrade\r\nupgrade: websocket\r\n\r\n",
        Framed { keep: true, .. } => b"connection: keep-alive\r\n\r\n",
        _ => b"connection: close\r\n\r\n",
    });
}

/// Whether an answer that ends HTTP begins what was asked for.
pub(super) fn begins_websocket(bytes: &[u8], head: &AnswerHead) -> bool {
    let mut upgrades = head.headers.iter().filter(|(name, _)| part(bytes, name).eq_ignore_ascii_case(b"upgrade"));
    let to = upgrades.next().map(|(_, value)| part(bytes, value));
    to.is_some_and(|to| to.eq_ignore_ascii_case(b"websocket")) && upgrades.next().is_none()
}

/// The head as filters see it.
pub(super) fn for_filters(bytes: &[u8], head: &AnswerHead) -> response::Parts {
    let (mut parts, ()) = http::Response::new(()).into_parts();
    parts.status = StatusCode::from_u16(head.status).unwrap_or_default();
    let hops = hops(bytes, head);
    for (name, value) in &head.headers {
        let (name, value) = (part(bytes, name), part(bytes, value));
        if let (false, Ok(name), Ok(value)) =
            (hops.has(name), HeaderName::from_bytes(name), HeaderValue::from_bytes(value))
        {
            parts.headers.append(name, value);
        }
    }
    parts
}
