//! Requests that pingora has parsed, as filters see them: HTTP/2, and HTTP/1 behind the door.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use http::{HeaderName, HeaderValue, StatusCode, header};
use pingora::Result;
use pingora::http::RequestHeader;
use pingora::proxy::Session;
use smallvec::SmallVec;
use tidegate_filters::engine::{Decision, HeaderPair, Reply, RequestHead};

use super::flow::{Arrival, Flow};
use super::{forward, stage};
use crate::door::head::{check_host, is_token};
use crate::gateway::Gateway;
use crate::snapshot::path;

/// Longest target; the same as over HTTP/1.
const LONGEST_TARGET: usize = 8_192;

/// The request stage of an HTTP/2 request.
pub(super) fn begin(gateway: &Arc<Gateway>, listener: usize, session: &Session) -> Box<Flow> {
    let request = session.req_header();
    let secure = session.digest().is_some_and(|digest| digest.ssl_digest.is_some());
    let peer = session.client_addr().and_then(|address| address.as_inet());
    let peer = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), std::net::SocketAddr::ip);
    let arrival = Arrival { at: gateway.shared.clock.now(), listener, protocol: "h2", peer, secure };
    let (mut flow, decision) = match check(request) {
        Ok(length) => with_head(request, secure, |head| stage::begin(gateway, arrival, head, length)),
        Err(reason) => {
            gateway.shared.telemetry.metrics().door_refused(reason);
            let flow = Box::new(Flow::new(gateway, gateway.snapshot(), arrival, peer));
            let status = if reason == "target too long" { StatusCode::URI_TOO_LONG } else { StatusCode::BAD_REQUEST };
            (flow, Decision::Respond(Box::new(Reply::problem(status, "bad-request", "The request is malformed"))))
        }
    };
    flow.method = request.method.as_str().to_owned();
    flow.target = target(request).into_owned();
    flow.pending = parking_lot::Mutex::new(Some(decision));
    flow
}

/// What HTTP/2's framing does not rule out by itself. Returns the announced length.
fn check(request: &RequestHeader) -> std::result::Result<Option<u64>, &'static str> {
    let target = target(request);
    if target.len() > LONGEST_TARGET {
        return Err("target too long");
    }
    path::normalise(&target).map_err(|_| "malformed path")?;
    let mut hosts = request.headers.get_all(header::HOST).iter();
    let host = hosts.next().map(HeaderValue::as_bytes);
    if hosts.next().is_some() {
        return Err("several hosts");
    }
    let authority = request.uri.authority().map(|authority| authority.as_str().as_bytes());
    match (authority, host) {
        (Some(authority), Some(host)) if !authority.eq_ignore_ascii_case(host) => return Err("two hosts"),
        (None, None) => return Err("no host"),
        (Some(one), _) | (None, Some(one)) => check_host(one).map_err(|error| error.reason)?,
    }
    let odd = |name: &HeaderName| !is_token(name.as_str().as_bytes()) || name.as_str().contains('_');
    if request.headers.keys().any(odd) {
        return Err("malformed header name");
    }
    match request.headers.get(header::CONTENT_LENGTH).map(|value| value.to_str().ok()?.parse().ok()) {
        Some(None) => Err("malformed length"),
        Some(length) => Ok(length),
        None => Ok(None),
    }
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
    for name in &dropped {
        upstream.remove_header(name);
    }
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
