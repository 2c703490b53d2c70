//! The key of a request, its record's name, and what the request was.

use std::net::{IpAddr, Ipv6Addr};

use sha2::{Digest, Sha256};

use crate::engine::{IdentityId, RequestContext, RequestHead};
use crate::store::{Fingerprint, RecordId};

/// The header (draft-ietf-httpapi-idempotency-key-header).
pub(crate) const HEADER: &str = "idempotency-key";
/// Longest key.
const LONGEST: usize = 255;

/// What the header says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Given {
    Nothing,
    Malformed,
    Key(Vec<u8>),
}

/// Reads the header. A quoted string of RFC 8941 and a bare token are the same key, since both are in use.
pub(crate) fn given(head: &RequestHead<'_>) -> Given {
    let mut lines = head.headers_named(HEADER);
    let Some(line) = lines.next() else { return Given::Nothing };
    if lines.next().is_some() {
        return Given::Malformed;
    }
    match line.trim_ascii().split_first() {
        Some((b'"', rest)) => unquoted(rest),
        _ => Some(line.trim_ascii().to_vec()),
    }
    .filter(|key| (1..=LONGEST).contains(&key.len()) && key.iter().all(u8::is_ascii_graphic))
    .map_or(Given::Malformed, Given::Key)
}

/// What stands between the quotes; `\` escapes a quote or itself, and nothing may follow.
fn unquoted(rest: &[u8]) -> Option<Vec<u8>> {
    let mut key = Vec::with_capacity(rest.len());
    let mut bytes = rest.iter();
    loop {
        match bytes.next()? {
            b'"' => return bytes.next().is_none().then_some(key),
            b'\\' => key.push(*bytes.next().filter(|byte| matches!(byte, b'"' | b'\\'))?),
            byte => key.push(*byte),
        }
    }
}

/// Whose keys these are: everybody has a space of their own, so nobody finds another's answers.
pub(crate) enum Principal<'a> {
    Identity(&'a str),
    Address(IpAddr),
}

/// Who sent a request, as far as the store has to know. `None`: somebody without that identity.
pub(crate) fn principal<'a>(scope: IdentityId, cx: &'a RequestContext) -> Option<Principal<'a>> {
    if scope == IdentityId::CLIENT {
        return Some(address(cx));
    }
    cx.identity(scope)?.text.as_deref().map(Principal::Identity)
}

/// The client's address: IPv4 whole, IPv6 by /64, as everywhere.
pub(crate) fn address(cx: &RequestContext) -> Principal<'static> {
    Principal::Address(match cx.client.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64))),
    })
}

/// Hashes parts so that no two lists of parts look alike.
struct Parts(Sha256);

impl Parts {
    fn new(what: &str) -> Self {
        let mut parts = Self(Sha256::new());
        parts.put(what.as_bytes());
        parts
    }

    fn put(&mut self, part: &[u8]) {
        self.0.update((part.len() as u64).to_le_bytes());
        self.0.update(part);
    }

    fn end(self) -> [u8; 32] {
        self.0.finalize().into()
    }
}

/// What is counted together: one principal.
pub(crate) fn principal_id(scope: &str, principal: &Principal<'_>) -> [u8; 32] {
    let mut parts = Parts::new("tidegate principal");
    match principal {
        Principal::Identity(text) => {
            parts.put(scope.as_bytes());
            parts.put(text.as_bytes());
        }
        Principal::Address(address) => {
            parts.put(b"client");
            parts.put(address.to_string().as_bytes());
        }
    }
    parts.end()
}

/// The record's name: principal, route, method, key. Never the key alone.
pub(crate) fn record_id(principal: &[u8; 32], route: &str, method: &str, key: &[u8]) -> RecordId {
    let mut parts = Parts::new("tidegate record");
    for part in [principal.as_slice(), route.as_bytes(), method.as_bytes(), key] {
        parts.put(part);
    }
    RecordId(parts.end())
}

/// What the request was: method, path, query in any order, content type, body. `body`: `None` where nobody read it.
pub(crate) fn fingerprint(head: &RequestHead<'_>, body: Option<&[u8]>) -> Fingerprint {
    let mut parts = Parts::new("tidegate request");
    parts.put(head.method.as_bytes());
    parts.put(head.path.as_bytes());
    let mut query: Vec<&str> = head.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()).collect();
    query.sort_unstable();
    parts.put(query.join("&").as_bytes());
    parts.put(&head.header("content-type").unwrap_or_default().trim_ascii().to_ascii_lowercase());
    parts.put(body.unwrap_or_default());
    Fingerprint(parts.end())
}
