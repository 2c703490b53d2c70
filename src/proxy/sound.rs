//! Makes an upstream's answer sound before a client sees it: what two readers could read in two ways is refused, and what
//! this client cannot read is written so that it can.

use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderName, HeaderValue, StatusCode, Version};
use pingora::http::ResponseHeader;
use pingora::proxy::Session;

use super::flow::Flow;
use super::forward::Hops;
use crate::door::octets::content_length;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
/// Largest response head; pingora would take a mebibyte.
pub(super) const LARGEST_HEAD: usize = 64 * 1024;

/// What all lines `Content-Length` of an answer say together. RFC 9110 §8.6: a length that is said more than once counts
/// once, or not at all if it differs.
#[derive(Default)]
pub(super) struct Length(Option<u64>);

impl Length {
    pub(super) fn line(&mut self, value: &[u8]) -> Result<(), &'static str> {
        for one in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            let one = content_length(one).map_err(|_| "malformed length")?;
            if self.0.replace(one).is_some_and(|before| before != one) {
                return Err("malformed length");
            }
        }
        Ok(())
    }

    /// `None`: no line said one.
    pub(super) fn said(&self) -> Option<u64> {
        self.0
    }
}

/// What all lines `Transfer-Encoding` say together: `chunked`, once, and nothing else (RFC 9112 §6.1). Nobody was told that
/// another coding would be understood.
#[derive(Default)]
pub(super) struct Codings(bool);

impl Codings {
    pub(super) fn line(&mut self, value: &[u8]) -> Result<(), &'static str> {
        let again = std::mem::replace(&mut self.0, true);
        if again || !value.eq_ignore_ascii_case(b"chunked") { Err("malformed transfer coding") } else { Ok(()) }
    }

    /// Whether the body comes in chunks.
    pub(super) fn said(&self) -> bool {
        self.0
    }
}

/// Checks a head as pingora read it; the reason when it is no proper answer. Says a repeated length once.
pub(super) fn check(response: &mut ResponseHeader, flow: &Flow) -> Result<(), &'static str> {
    let size: usize = response.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if size > LARGEST_HEAD {
        return Err("response head too large");
    }
    // Nobody asked for another protocol: a client would read what follows as the answer to its next request.
    if response.status == StatusCode::SWITCHING_PROTOCOLS && !flow.websocket {
        return Err("another protocol than was asked for");
    }
    let (mut codings, mut length) = (Codings::default(), Length::default());
    let values = |name| response.headers.get_all(name).iter().map(HeaderValue::as_bytes);
    values(TRANSFER_ENCODING).try_for_each(|value| codings.line(value))?;
    values(CONTENT_LENGTH).try_for_each(|value| length.line(value))?;
    match length.said() {
        Some(_) if codings.said() => Err("a length beside a transfer coding"),
        Some(length) => {
            response.insert_header(CONTENT_LENGTH, HeaderValue::from(length)).map_err(|_| "malformed length")
        }
        None => Ok(()),
    }
}

/// Takes out what the upstream said about its own connection. pingora writes `Connection` anew.
pub(super) fn forget_hop(response: &mut ResponseHeader) {
    if response.status == StatusCode::SWITCHING_PROTOCOLS {
        return;
    }
    let usual = |value: &HeaderValue| value == "keep-alive" || value == "close";
    let mut named = Vec::new();
    if response.headers.get_all(CONNECTION).iter().any(|value| !usual(value)) {
        let values = response.headers.get_all(CONNECTION).iter().map(HeaderValue::as_bytes);
        let hops = Hops::of(values);
        let ends_here = |name: &&HeaderName| **name != CONNECTION && hops.has(name.as_str().as_bytes());
        named.extend(response.headers.keys().filter(ends_here).cloned());
    }
    for name in named.iter().chain([&KEEP_ALIVE, &PROXY_CONNECTION, &UPGRADE]) {
        if response.headers.contains_key(name) {
            response.remove_header(name);
        }
    }
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
