//! The head for the upstream: the client's, in origin form, without what a client may not say, and with what upstreams
//! are told. Written once as bytes, which costs a fraction of editing a parsed header map.

use tidegate_filters::engine::RequestHead;

use super::head::Head;
use crate::proxy::flow::Flow;
use crate::proxy::forward;
use crate::proxy::h1::line;

/// Writes the head. `old`: as HTTP/1.0, which pingora needs to know how to answer. `target`: path and query as the route was matched on.
pub(crate) fn rewrite(
    flow: &Flow,
    head: &Head,
    view: &RequestHead<'_>,
    (target, old): (&str, bool),
    authority: &[u8],
) -> Vec<u8> {
    let mut out = Vec::with_capacity(head.len + 512);
    out.extend_from_slice(view.method.as_bytes());
    out.push(b' ');
    out.extend_from_slice(target.as_bytes());
    out.extend_from_slice(if old { b" HTTP/1.0\r\n" } else { b" HTTP/1.1\r\n" });
    let mut has_host = false;
    let hops = forward::Hops::of(view.headers_named("connection"));
    for (name, value) in view.headers {
        has_host |= name.eq_ignore_ascii_case(b"host");
        // The door has told the client to go on (RFC 9110 §10.1.1): nobody waits for the upstream to say it again.
        let ends_here = name.eq_ignore_ascii_case(b"expect") || hops.has(name);
        if !ends_here && forward::passes(&flow.snapshot.identities, flow.arrival.peer, name) {
            line(&mut out, name, value);
        }
    }
    if flow.websocket {
        line(&mut out, b"Connection", b"Upgrade");
        line(&mut out, b"Upgrade", b"websocket");
    }
    if !has_host {
        // HTTP/1.0 may come without; the upstream is spoken to in 1.1, which may not.
        let fallback = flow.route.as_ref().map_or("localhost", |route| &route.upstream.name);
        line(&mut out, b"Host", if authority.is_empty() { fallback.as_bytes() } else { authority });
    }
    forward::added(flow, view, authority, |name, value| line(&mut out, name.as_str().as_bytes(), value));
    out.extend_from_slice(b"\r\n");
    out
}
