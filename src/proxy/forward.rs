//! What an upstream is told: which of the client's headers pass, and which the gateway adds.

use std::io::Write;
use std::net::IpAddr;

use http::{HeaderName, header};
use smallvec::SmallVec;
use tidegate_filters::engine::RequestHead;

use super::flow::Flow;
use super::stage::PIN;
use crate::identity::Identities;
use crate::telemetry::escape::address;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const X_TIDEGATE_USER: HeaderName = HeaderName::from_static("x-tidegate-user");
const X_TIDEGATE_PRIORITY: HeaderName = HeaderName::from_static("x-tidegate-priority");

/// The headers that are about one connection only (RFC 9110 §7.6.1): the known ones, and those its `Connection` names.
pub(crate) struct Hops<'a>(SmallVec<[&'a [u8]; 4]>);

impl<'a> Hops<'a> {
    /// Reads the values of all `Connection` headers.
    pub(crate) fn of(values: impl Iterator<Item = &'a [u8]>) -> Self {
        let names = values.flat_map(|value| value.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
        Self(names.filter(|name| !name.is_empty() && !Self::framing(name)).collect())
    }

    /// What frames or addresses the message stays, whoever calls it a matter of the connection.
    fn framing(name: &[u8]) -> bool {
        [&b"content-length"[..], b"transfer-encoding", b"host"].iter().any(|kept| name.eq_ignore_ascii_case(kept))
    }

    /// Whether the header ends at this hop.
    pub(crate) fn has(&self, name: &[u8]) -> bool {
        let is = |other: &[u8]| name.eq_ignore_ascii_case(other);
        let known = match name.len() {
            2 => is(b"te"),
            7 => is(b"upgrade"),
            10 => is(b"connection") || is(b"keep-alive"),
            16 => is(b"proxy-connection"),
            19 => is(b"proxy-authorization"),
            _ => false,
        };
        known || self.0.iter().any(|named| is(named))
    }
}

/// Whether a header that the client sent goes on to the upstream. What the gateway sets itself is left out here and put
/// in by [`added`]; `Forwarded` and `X-Real-IP` would contradict it unless a trusted proxy sent them.
pub(crate) fn passes(identities: &Identities, peer: IpAddr, name: &[u8]) -> bool {
    let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
    match name.first().map(u8::to_ascii_lowercase) {
        Some(b'x') => {
            if is("x-forwarded-for") || is("x-request-id") {
                return false;
            }
            if is("x-forwarded-proto") || is("x-forwarded-host") || is("x-real-ip") {
                return identities.trusts(peer);
            }
        }
        Some(b'f') if is("forwarded") => return identities.trusts(peer),
        Some(b't') if is(PIN) => return false,
        _ => (),
    }
    !identities.is_reserved(name)
}

/// Hands every header the gateway adds to `put`.
pub(crate) fn added(flow: &Flow, head: &RequestHead<'_>, authority: &[u8], mut put: impl FnMut(&HeaderName, &[u8])) {
    put(&X_REQUEST_ID, flow.id().as_bytes());
    let mut chain = Vec::with_capacity(64);
    for hop in head.headers_named(X_FORWARDED_FOR.as_str()).filter(|hop| !hop.is_empty()) {
        chain.extend_from_slice(hop);
        chain.extend_from_slice(b", ");
    }
    address(&mut chain, flow.arrival.peer.to_canonical());
    put(&X_FORWARDED_FOR, &chain);
    let trusted = flow.snapshot.identities.trusts(flow.arrival.peer);
    if !(trusted && head.header(X_FORWARDED_PROTO.as_str()).is_some()) {
        put(&X_FORWARDED_PROTO, if flow.arrival.secure { b"https" } else { b"http" });
    }
    let told_by_proxy = trusted && head.header(X_FORWARDED_HOST.as_str()).is_some();
    if !authority.is_empty() && !told_by_proxy {
        put(&X_FORWARDED_HOST, authority);
    }
    if head.header(TRACEPARENT.as_str()).is_none() {
        put(&TRACEPARENT, &flow.id().traceparent());
    }
    put(&X_TIDEGATE_PRIORITY, flow.cx.priority.as_str().as_bytes());
    let identities = &flow.snapshot.identities;
    let user = identities.user_id().and_then(|id| flow.cx.identity(id)?.text.clone());
    if let Some(user) = user {
        put(&X_TIDEGATE_USER, &as_header_value(&user));
    }
}

/// A user's name as a header value: visible ASCII as it is, the rest percent-encoded, so that no name can start a new
/// header line.
fn as_header_value(text: &str) -> SmallVec<[u8; 64]> {
    let mut value = SmallVec::new();
    if text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'%') {
        value.extend_from_slice(text.as_bytes());
        return value;
    }
    for byte in text.bytes() {
        if byte.is_ascii_graphic() && byte != b'%' {
            value.push(byte);
        } else {
            let _ = write!(value, "%{byte:02X}");
        }
    }
    value
}

/// Host name of an authority: lower case, without port and brackets.
pub(crate) fn host_of(authority: &str) -> std::borrow::Cow<'_, str> {
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => {
            // In one pass: nearly every host is lower case already.
            let odd = authority.bytes().position(|byte| byte == b':' || byte.is_ascii_uppercase());
            match odd.map(|at| authority.split_at(at)) {
                None => return authority.into(),
                Some((host, port)) if port.starts_with(':') => return host.into(),
                Some(_) => authority.split(':').next().unwrap_or_default(),
            }
        }
    };
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) { host.to_ascii_lowercase().into() } else { host.into() }
}

/// What an upstream says to a waiting room. It is for the gateway, on whatever route.
pub(crate) const COMMAND: HeaderName = tidegate_filters::waiting_room::command::HEADER;

/// Whether a header of an answer is such a word.
pub(crate) fn is_command(name: &[u8]) -> bool {
    name.len() == COMMAND.as_str().len() && name.eq_ignore_ascii_case(COMMAND.as_str().as_bytes())
}

/// Headers that say how long a message is or how its connection is used; a reply's own are written by the door.
pub(crate) fn is_framing(name: &HeaderName) -> bool {
    [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::CONNECTION].contains(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_name_cannot_start_a_header_line() {
        assert_eq!(&as_header_value("a\r\nX-Admin: 1")[..], b"a%0D%0AX-Admin:%201");
        assert_eq!(&as_header_value("张三")[..], b"%E5%BC%A0%E4%B8%89");
    }

    #[test]
    fn a_host_is_lower_case_and_has_no_port() {
        assert_eq!(host_of("Shop.Example:8080"), "shop.example");
        assert_eq!(host_of("[::1]:80"), "::1");
        assert_eq!(host_of(""), "");
    }
}
