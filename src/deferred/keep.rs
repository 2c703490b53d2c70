//! What is kept of an answer: what its client would have got, had it waited.
//!
//! The response stage runs when the answer comes: filters see its head and its body, get back what they wanted to know of
//! the request ([`tidegate_filters::engine::Filter::keep`]), and their changes are kept with the answer; so are the changes
//! that the request stage had made for it. What belongs to one exchange (its connection, its date, the quota of that
//! moment) is not kept. Two things are different from an answer at once: a filter cannot hold the answer back
//! (`idempotency` behind `respond_async` has nothing to remember: the record is the memory), and nobody is there to wait.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version, header};
use tidegate_filters::engine::{Reply, ReplyBody};
use tidegate_filters::respond_async::Afterwards;
use tidegate_filters::store::{Stored, is_kept};

use crate::payments::wire::Answer;
use crate::proxy::flow::Flow;
use crate::proxy::reply::{HeaderList, Map, apply};

/// An upstream's answer, through the response stage.
pub(super) fn of_upstream(flow: &mut Flow, answer: Answer) -> Stored {
    let Answer { status, mut headers, body } = answer;
    forget_hops(&mut headers);
    let mut response = http::Response::new(());
    *response.status_mut() = status;
    *response.version_mut() = Version::HTTP_11;
    *response.headers_mut() = headers;
    let (mut parts, ()) = response.into_parts();
    flow.tick();
    if let Some(route) = flow.route.clone() {
        route.chain.on_response(&parts, &mut flow.cx);
        if route.chain.sees_chunks() {
            route.chain.on_chunk(body.as_ref().unwrap_or(&Bytes::new()), true, &mut flow.cx);
        }
    }
    apply(&mut flow.cx.to_client, &mut Map(&mut parts.headers));
    let mut kept = Vec::with_capacity(parts.headers.len());
    let mut last = None;
    for (name, value) in parts.headers {
        last = name.or(last);
        kept.extend(last.clone().filter(is_kept).map(|name| (name, value)));
    }
    // What must not have a body has an empty one; only what was too long has none.
    let body = if status == StatusCode::NO_CONTENT { Some(Bytes::new()) } else { body };
    Stored { status, headers: kept, body }
}

/// Headers of one connection, also those that it names itself, and what only the gateway says.
fn forget_hops(headers: &mut HeaderMap) {
    let named = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let named: Vec<HeaderName> =
        named.flat_map(|names| names.split(',')).filter_map(|name| name.trim().parse().ok()).collect();
    let ours = headers.keys().filter(|name| name.as_str().starts_with("tidegate-")).cloned();
    for name in ours.chain(named).collect::<Vec<_>>() {
        headers.remove(&name);
    }
}

/// A reply of the gateway's own, as it is kept.
pub(super) fn of_reply(reply: Reply) -> Stored {
    let Reply { status, headers, body, .. } = reply;
    let mut headers: Vec<_> = headers.into_iter().collect();
    let (kind, bytes) = match body {
        ReplyBody::Bytes { content_type, bytes } => (Some(content_type), bytes),
        ReplyBody::Whole(bytes) => (None, bytes),
        ReplyBody::Problem(problem) => {
            let (code, status) = (problem.code, status.as_u16());
            let kind = format!("urn:tidegate:problem:{code}");
            let document = serde_json::json!({"type": kind, "title": problem.title, "status": status, "code": code});
            let kind = HeaderValue::from_static("application/problem+json");
            (Some(kind), format!("{document}\n").into())
        }
        ReplyBody::Stream { .. } => (None, Bytes::new()),
    };
    headers.extend(kind.map(|kind| (header::CONTENT_TYPE, kind)));
    Stored { status, headers, body: Some(bytes) }
}

/// With the changes that the request stage had made for the answer.
pub(super) fn edited(mut stored: Stored, afterwards: &Afterwards) -> Stored {
    let mut edits = afterwards.edits.to_vec();
    apply(&mut edits, &mut List(&mut stored.headers));
    stored
}

struct List<'a>(&'a mut Vec<(HeaderName, HeaderValue)>);

impl HeaderList for List<'_> {
    fn set(&mut self, name: HeaderName, value: HeaderValue) {
        self.remove(&name);
        self.add(name, value);
    }
    fn add(&mut self, name: HeaderName, value: HeaderValue) {
        self.0.push((name, value));
    }
    fn remove(&mut self, name: &HeaderName) {
        self.0.retain(|(known, _)| known != name);
    }
}
