//! Makes an upstream's answer sound before a client sees it: what two readers could read in two ways is refused, and what
//! this client cannot read is written so that it can.

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderValue, StatusCode, Version};
use pingora::http::ResponseHeader;
use pingora::proxy::Session;

use super::flow::Flow;

/// Largest response head; pingora would take a mebibyte.
const LARGEST_HEAD: usize = 64 * 1024;

/// Checks a head as the upstream sent it; the reason when it is no proper answer. Says a repeated length once.
pub(super) fn check(response: &mut ResponseHeader, flow: &Flow) -> Result<(), &'static str> {
    let size: usize = response.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if size > LARGEST_HEAD {
        return Err("response head too large");
    }
    // Nobody asked for another protocol: a client would read what follows as the answer to its next request.
    let asked = flow.websocket && flow.route.as_ref().is_some_and(|route| route.websocket);
    if response.status == StatusCode::SWITCHING_PROTOCOLS && !asked {
        return Err("another protocol than was asked for");
    }
    coding(response)?;
    length(response)
}

/// Exactly one list of codings, whose one `chunked` is the last (RFC 9112 §6.1).
fn coding(response: &ResponseHeader) -> Result<(), &'static str> {
    let mut lines = response.headers.get_all(TRANSFER_ENCODING).iter().map(HeaderValue::as_bytes);
    let Some(line) = lines.next() else { return Ok(()) };
    let is_chunked = |coding: &[u8]| coding.trim_ascii().eq_ignore_ascii_case(b"chunked");
    let chunked = line.split(|byte| *byte == b',').filter(|coding| is_chunked(coding)).count();
    let last = line.rsplit(|byte| *byte == b',').next().is_some_and(is_chunked);
    if chunked == 1 && last && lines.next().is_none() { Ok(()) } else { Err("malformed transfer coding") }
}

/// RFC 9110 §8.6: a length that is said more than once is passed on once, or not at all if it differs.
fn length(response: &mut ResponseHeader) -> Result<(), &'static str> {
    let mut lines = response.headers.get_all(CONTENT_LENGTH).iter();
    let (first, second) = (lines.next(), lines.next());
    let Some(first) = first else { return Ok(()) };
    if second.is_none() && first.as_bytes().iter().all(u8::is_ascii_digit) && !first.is_empty() {
        return Ok(());
    }
    let all = response.headers.get_all(CONTENT_LENGTH).iter().map(HeaderValue::as_bytes);
    let mut all = all.flat_map(|line| line.split(|byte| *byte == b',').map(<[u8]>::trim_ascii));
    let one = all.next().unwrap_or_default();
    let sound = !one.is_empty() && one.iter().all(u8::is_ascii_digit) && all.all(|other| other == one);
    let one = HeaderValue::from_bytes(one).ok().filter(|_| sound).ok_or("malformed length")?;
    response.insert_header(CONTENT_LENGTH, one).map_err(|_| "malformed length")
}

/// Frames a head that goes to the client.
pub(super) fn frame(session: &mut Session, response: &mut ResponseHeader) {
    let interim = response.status.is_informational() && response.status != StatusCode::SWITCHING_PROTOCOLS;
    if interim || response.status == StatusCode::NO_CONTENT {
        // RFC 9110 §8.6, RFC 9112 §6.1: nothing follows these, so nothing may say how long it is.
        response.remove_header(&CONTENT_LENGTH);
        response.remove_header(&TRANSFER_ENCODING);
    }
    if session.req_header().version == Version::HTTP_10 && response.headers.contains_key(TRANSFER_ENCODING) {
        // HTTP/1.0 knows no chunks and would take their sizes for the body: there, the close is the end.
        response.remove_header(&TRANSFER_ENCODING);
        session.set_keepalive(None);
    }
}

/// The status of the answer that was begun; an interim one is none.
pub(super) fn begun(session: &Session) -> Option<u16> {
    let response = session.response_written()?;
    let interim = response.status.is_informational() && response.status != StatusCode::SWITCHING_PROTOCOLS;
    (!interim).then(|| response.status.as_u16())
}
