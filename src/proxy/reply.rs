//! Turns a filter's reply into a head and a body, for the door's raw bytes and for pingora's types alike.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, StatusCode, header};
use rand::Rng;
use tidegate_filters::engine::{HeaderEdit, Problem, Reply, ReplyBody, ReplyStream, RequestHead};

use super::id::RequestId;
use crate::telemetry::escape::json_text;

/// Somewhere headers are put, in order.
pub(crate) trait HeaderSink {
    fn put(&mut self, name: &HeaderName, value: &[u8]);
}

/// A body ready to be sent.
pub(crate) enum Body {
    /// Made for this request.
    Made(Vec<u8>),
    Whole(Bytes),
    Pieces(Box<dyn ReplyStream>),
}

/// What a reply needs to know about its request.
pub(crate) struct Addressee<'a> {
    pub request_id: &'a RequestId,
    /// A person in front of a browser, rather than a program.
    pub person: bool,
    /// Header edits of filters that passed before the reply was made.
    pub edits: &'a [HeaderEdit],
    /// What is known about the upstream, for errors about one.
    pub outcome: Option<&'static str>,
}

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The end of a problem document, behind the request's id.
pub(crate) const BEHIND_ID: &[u8] = b"\"}\n";
const OUTCOME: HeaderName = HeaderName::from_static("tidegate-outcome");

/// Whether a person would read the answer: a browser asks for a page, a program for data.
pub(crate) fn is_person(head: &RequestHead<'_>) -> bool {
    matches!(head.method, "GET" | "HEAD")
        && head.header("accept").is_some_and(|accept| {
            let page = memchr::memmem::find(accept, b"text/html");
            page.is_some_and(|page| memchr::memmem::find(accept, b"json").is_none_or(|json| page < json))
        })
}

/// The word for the log about an answer that the gateway made itself.
pub(crate) fn decision(reply: &Reply) -> &'static str {
    if reply.status.is_client_error() || reply.status.is_server_error() { "refused" } else { "answered" }
}

/// Whether an answer of this status says how long its body is. RFC 9110 §8.6: nothing follows a 204, and what a 304 said
/// would be taken for the length of what the client has.
pub(crate) fn says_length(status: StatusCode) -> bool {
    status != StatusCode::NO_CONTENT && status != StatusCode::NOT_MODIFIED
}

/// Puts all headers of the reply but those of framing and connection into `sink` and returns its body.
pub(crate) fn render(reply: Reply, to: &Addressee<'_>, sink: &mut impl HeaderSink) -> Body {
    sink.put(&X_REQUEST_ID, to.request_id.as_bytes());
    said_headers(&reply, to, sink);
    let Reply { status, retry_after, body, .. } = reply;
    match body {
        ReplyBody::Problem(problem) if to.person => {
            sink.put(&header::CONTENT_TYPE, b"text/html; charset=utf-8");
            sink.put(&header::CACHE_CONTROL, b"no-store");
            Body::Made(page(&problem, status.as_u16(), retry_after.map(whole_seconds), to.request_id))
        }
        ReplyBody::Problem(problem) => {
            sink.put(&header::CONTENT_TYPE, b"application/problem+json");
            Body::Made(document(&problem, status.as_u16(), to.request_id))
        }
        ReplyBody::Whole(bytes) => Body::Whole(bytes),
        ReplyBody::Bytes { content_type, bytes } => {
            sink.put(&header::CONTENT_TYPE, content_type.as_bytes());
            Body::Whole(bytes)
        }
        ReplyBody::Stream { content_type, pieces } => {
            sink.put(&header::CONTENT_TYPE, content_type.as_bytes());
            Body::Pieces(pieces)
        }
    }
}

/// Puts what the reply says of itself, and what filters before it wanted to say, into `sink`.
pub(crate) fn said_headers(reply: &Reply, to: &Addressee<'_>, sink: &mut impl HeaderSink) {
    if let Some(seconds) = reply.retry_after.map(whole_seconds) {
        sink.put(&header::RETRY_AFTER, itoa::Buffer::new().format(seconds).as_bytes());
    }
    if let Some(outcome) = to.outcome {
        sink.put(&OUTCOME, outcome.as_bytes());
    }
    for (name, value) in &reply.headers {
        sink.put(name, value.as_bytes());
    }
    for edit in to.edits {
        // A reply sets its own limits; what an earlier filter wanted to say about the same thing gives way.
        match edit {
            HeaderEdit::Set(name, value) | HeaderEdit::Add(name, value)
                if !reply.headers.iter().any(|(n, _)| n == name) =>
            {
                sink.put(name, value.as_bytes());
            }
            HeaderEdit::Set(..) | HeaderEdit::Add(..) | HeaderEdit::Remove(_) => (),
        }
    }
}

/// `Retry-After` counts whole seconds; rounded up, so that the request made at the announced time passes.
pub(crate) fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

/// The problem document of RFC 9457. Without further members it ends with the request's id and [`BEHIND_ID`].
pub(crate) fn document(problem: &Problem, status: u16, id: &RequestId) -> Vec<u8> {
    let mut out = Vec::with_capacity(320);
    let mut put = |text: &str| out.extend_from_slice(text.as_bytes());
    put(r#"{"type":"urn:tidegate:problem:"#);
    put(problem.code);
    put(r#"","title":"#);
    json_text(&mut out, &problem.title);
    let mut put = |text: &str| out.extend_from_slice(text.as_bytes());
    put(r#","status":"#);
    put(itoa::Buffer::new().format(status));
    put(r#","code":""#);
    put(problem.code);
    put(r#"","request_id":""#);
    out.extend_from_slice(id.as_bytes());
    let mut put = |text: &str| out.extend_from_slice(text.as_bytes());
    put("\"");
    for (name, json) in &problem.members {
        put(",\"");
        put(name);
        put("\":");
        put(json);
    }
    put("}\n");
    out
}

/// A page for people, in Chinese and English, that comes back by itself when there is something to come back for.
fn page(problem: &Problem, status: u16, retry_after: Option<u64>, id: &RequestId) -> Vec<u8> {
    let (zh, en) = match status {
        429 | 503 => ("现在人有点多，请稍等", "It is busy right now. Please wait a moment."),
        404 => ("没有这个页面", "There is no such page."),
        502 | 504 => ("服务暂时没有回应", "The service is not answering right now."),
        _ => ("请求没有成功", "The request did not succeed."),
    };
    let (refresh, again) = retry_after.map_or_else(Default::default, |seconds| {
        // A moment of spread, so that a crowd which was refused together does not come back together.
        let seconds = seconds + rand::rng().random_range(1..=3);
        let again = format!("<p>{seconds} 秒后自动重试 · Trying again in {seconds} s</p>");
        (format!("<meta http-equiv=\"refresh\" content=\"{seconds}\">"), again)
    });
    let title = problem.title.replace('&', "&amp;").replace('<', "&lt;");
    include_str!("page.html")
        .replace("{refresh}", &refresh)
        .replace("{zh}", zh)
        .replace("{en}", en)
        .replace("{again}", &again)
        .replace("{title}", &title)
        .replace("{status}", itoa::Buffer::new().format(status))
        .replace("{id}", id.as_str())
        .into()
}

/// Header edits applied to a list that can be changed.
pub(crate) trait HeaderList {
    fn set(&mut self, name: HeaderName, value: http::HeaderValue);
    fn add(&mut self, name: HeaderName, value: http::HeaderValue);
    fn remove(&mut self, name: &HeaderName);
}

/// Applies `edits` in order.
pub(crate) fn apply(edits: &mut Vec<HeaderEdit>, list: &mut impl HeaderList) {
    for edit in edits.drain(..) {
        match edit {
            HeaderEdit::Set(name, value) => list.set(name, value),
            HeaderEdit::Add(name, value) => list.add(name, value),
            HeaderEdit::Remove(name) => list.remove(&name),
        }
    }
}

/// The headers of a message.
pub(crate) struct Map<'a>(pub(crate) &'a mut http::HeaderMap);

impl HeaderList for Map<'_> {
    fn set(&mut self, name: HeaderName, value: http::HeaderValue) {
        self.0.insert(name, value);
    }
    fn add(&mut self, name: HeaderName, value: http::HeaderValue) {
        self.0.append(name, value);
    }
    fn remove(&mut self, name: &HeaderName) {
        self.0.remove(name);
    }
}
