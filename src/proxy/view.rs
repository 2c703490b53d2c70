//! Requests that pingora has parsed, as filters see them: HTTP/2, and HTTP/1 behind the door.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use bytes::BytesMut;
use http::{HeaderName, HeaderValue, StatusCode, header};
use pingora::Result;
use pingora::http::RequestHeader;
use pingora::proxy::Session;
use smallvec::SmallVec;
use tidegate_filters::engine::{Decision, HeaderPair, Reply, RequestHead};

use super::flow::{Arrival, Flow};
use super::{forward, stage};
use crate::config::Limits;
use crate::door::head::HeadError;
use crate::door::octets::{check_host, content_length, is_name, is_target};
use crate::gateway::Gateway;
use crate::snapshot::path;

/// Longest target; the same as over HTTP/1.
const LONGEST_TARGET: usize = 8_192;
/// The one expectation there is (RFC 9110 §10.1.1).
const GO_ON: &[u8] = b"100-continue";

/// The request stage of an HTTP/2 request.
pub(super) fn begin(gateway: &Arc<Gateway>, listener: usize, session: &Session) -> Box<Flow> {
    let request = session.req_header();
    let secure = session.digest().is_some_and(|digest| digest.ssl_digest.is_some());
    let peer = session.client_addr().and_then(|address| address.as_inet());
    let peer = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), std::net::SocketAddr::ip);
    let arrival = Arrival { at: gateway.shared.clock.now(), listener, protocol: "h2", peer, secure };
    let snapshot = gateway.snapshot();
    let checked = check(request, &snapshot.config.server.limits);
    let (mut flow, decision) = match checked {
        Ok(length) => with_head(request, secure, |head| stage::begin(gateway, snapshot, arrival, head, length)),
        Err(HeadError { status, reason }) => {
            gateway.shared.telemetry.metrics().door_refused(reason);
            let flow = Box::new(Flow::new(gateway, snapshot, arrival, peer));
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
            (flow, Decision::Respond(Box::new(Reply::problem(status, "bad-request", "The request is malformed"))))
        }
    };
    flow.method = request.method.clone();
    flow.target = target(request).into_owned();
    flow.pending = parking_lot::Mutex::new(Some(decision));
    flow
}

/// What HTTP/2's framing does not rule out by itself: the door's rules, for a head that came parsed. Returns the announced
/// length.
fn check(request: &RequestHeader, limits: &Limits) -> std::result::Result<Option<u64>, HeadError> {
    let refuse = |status, reason| Err(HeadError { status, reason });
    bounds(request, limits)?;
    let target = target(request);
    if target.len() > LONGEST_TARGET {
        return refuse(414, "target too long");
    }
    if !is_target(target.as_bytes()) || path::normalise(&target).is_err() {
        return refuse(400, "malformed path");
    }
    let mut hosts = request.headers.get_all(header::HOST).iter();
    let host = hosts.next().map(HeaderValue::as_bytes);
    if hosts.next().is_some() {
        return refuse(400, "several hosts");
    }
    let authority = request.uri.authority().map(|authority| authority.as_str().as_bytes());
    match (authority, host) {
        (Some(authority), Some(host)) if !authority.eq_ignore_ascii_case(host) => return refuse(400, "two hosts"),
        (None, None) => return refuse(400, "no host"),
        (Some(one), _) | (None, Some(one)) => check_host(one)?,
    }
    for (name, value) in &request.headers {
        if !is_name(name.as_str().as_bytes()) {
            return refuse(400, "malformed header name");
        }
        // RFC 9113 §8.2.1: blanks around a value are no part of it, and some upstream would keep them.
        if value.as_bytes() != value.as_bytes().trim_ascii() {
            return refuse(400, "blank around a header");
        }
    }
    if request.headers.get_all(header::EXPECT).iter().any(|value| !value.as_bytes().eq_ignore_ascii_case(GO_ON)) {
        return refuse(417, "unknown expectation");
    }
    let mut lengths = request.headers.get_all(header::CONTENT_LENGTH).iter();
    let Some(length) = lengths.next() else { return Ok(None) };
    if lengths.next().is_some() {
        return refuse(400, "several lengths");
    }
    content_length(length.as_bytes()).map(Some)
}

/// The bounds on heads, as over HTTP/1. HTTP/2's own, on the decoded list, is 64 KiB whatever the file says.
fn bounds(request: &RequestHeader, limits: &Limits) -> std::result::Result<(), HeadError> {
    if request.headers.len() > limits.max_headers {
        return Err(HeadError { status: 431, reason: "too many header lines" });
    }
    let size = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len() + 4;
    let size = request.raw_path().len() + request.headers.iter().map(size).sum::<usize>();
    if size as u64 > limits.max_header_size.0 {
        return Err(HeadError { status: 431, reason: "head too large" });
    }
    Ok(())
}

fn target(request: &RequestHeader) -> Cow<'_, str> {
    String::from_utf8_lossy(request.raw_path())
}

fn authority(request: &RequestHeader) -> Cow<'_, str> {
    if let Some(authority) = request.uri.authority() {
        return authority.as_str().into();
    }
    request.headers.get(header::HOST).map_or(Cow::Borrowed(""), |host| String::from_utf8_lossy(host.as_bytes()))
}

/// Calls `then` with the head as filters see it.
pub(super) fn with_head<T>(request: &RequestHeader, secure: bool, then: impl FnOnce(&RequestHead<'_>) -> T) -> T {
    let target = target(request);
    let path = path::normalise(&target).unwrap_or(Cow::Borrowed("/"));
    let authority = authority(request);
    let host = forward::host_of(&authority);
    let pairs: SmallVec<[HeaderPair<'_>; 24]> =
        request.headers.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes())).collect();
    let method = request.method.as_str();
    then(&RequestHead { method, target: &target, path: &path, host: &host, secure, headers: &pairs })
}

/// RFC 9113 §8.2.3: cookies that HTTP/2 sent apart are one line again for everybody else.
fn join_cookies(upstream: &mut RequestHeader) -> Result<()> {
    let mut crumbs = upstream.headers.get_all(header::COOKIE).iter();
    let (Some(first), Some(second)) = (crumbs.next(), crumbs.next()) else { return Ok(()) };
    let mut whole = BytesMut::from(first.as_bytes());
    for crumb in [second].into_iter().chain(crumbs) {
        whole.extend_from_slice(b"; ");
        whole.extend_from_slice(crumb.as_bytes());
    }
    // What was a value before is one together.
    if let Ok(whole) = HeaderValue::from_maybe_shared(whole.freeze()) {
        upstream.insert_header(header::COOKIE, whole)?;
    }
    Ok(())
}

/// The upstream's head of an HTTP/2 request: the same rules that the door applies to HTTP/1 heads as bytes.
pub(super) fn rewrite(flow: &Flow, request: &RequestHeader, upstream: &mut RequestHeader) -> Result<()> {
    let identities = &flow.snapshot.identities;
    let peer = flow.arrival.peer;
    let dropped: SmallVec<[HeaderName; 4]> = upstream
        .headers
        .keys()
        .filter(|name| !forward::passes(identities, peer, name.as_str().as_bytes()))
        .cloned()
        .collect();
    // An expectation ends here, too: over HTTP/2 nobody could be told to go on.
    for name in dropped.iter().chain([&header::EXPECT]) {
        upstream.remove_header(name);
    }
    join_cookies(upstream)?;
    let authority = authority(request);
    let mut added: SmallVec<[(HeaderName, HeaderValue); 8]> = SmallVec::new();
    let rewritten = with_head(request, flow.arrival.secure, |head| {
        forward::added(flow, head, authority.as_bytes(), |name, value| {
            if let Ok(value) = HeaderValue::from_bytes(value) {
                added.push((name.clone(), value));
            }
        });
        path::upstream_target(head.target, head.path)
    });
    for (name, value) in added {
        upstream.insert_header(name, value)?;
    }
    if let Some(target) = rewritten {
        upstream.set_raw_path(target.as_bytes())?;
    }
    Ok(())
}
