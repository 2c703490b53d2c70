//! The desk: what visitors and their pages ask of a room, apart from the way in.
//!
//! | | method | answers |
//! | --- | --- | --- |
//! | `frontier` | GET | the public document, the same bytes for all; 304 |
//! | `status` | GET | how this visitor stands; 429 to who looks twice as often as asked; with `Prefer: wait=20` when there is news |
//! | `events` | GET | the same as it changes, as server-sent events; 503 to who is far from the front |
//! | `join` | POST | a place: 200; 202: bring the token back first |
//! | `claim` | POST | the way in: 200; 202 not yet; 409 after a reset; 410 too late |
//! | `leave` | POST | 200 |
//!
//! **Cost.** `frontier` is a ready answer. A look checks a signature, sets one bit of the visitor's own and signs anew; it
//! takes no lock unless it is their turn.
//!
//! **Fails.** Without a token 400, with one that is none of this room's 403. A POST that another site's page could have
//! sent is refused (403): cookies alone prove nothing about who asks.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use smallvec::smallvec;

use super::cookie;
use super::gate::{Case, Gate, no_key};
use super::long_poll;
use super::room::Room;
use crate::engine::{Decision, Reply, ReplyBody, RequestContext, RequestHead};

/// A header that another site's page cannot send without being asked about.
const OURS: &str = "x-tidegate-room";

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// The public document.
    Frontier,
    /// How the visitor stands.
    Status,
    /// The same, as it changes.
    Events,
    /// A place in line.
    Join,
    /// The way in.
    Claim,
    /// To be gone.
    Leave,
}

impl Ask {
    /// What the last part of a path asks.
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        Some(match word {
            "frontier" => Ask::Frontier,
            "status" => Ask::Status,
            "events" => Ask::Events,
            "join" => Ask::Join,
            "claim" => Ask::Claim,
            "leave" => Ask::Leave,
            _ => return None,
        })
    }

    /// The methods it is asked with, as in `Allow`.
    #[must_use]
    pub fn methods(self) -> &'static str {
        match self {
            Ask::Frontier => "GET, HEAD, OPTIONS",
            Ask::Status | Ask::Events => "GET, OPTIONS",
            Ask::Join | Ask::Claim | Ask::Leave => "POST, OPTIONS",
        }
    }

    /// Whether the visitor may be known by more than their token.
    #[must_use]
    pub fn wants_identity(self) -> bool {
        matches!(self, Ask::Join | Ask::Claim)
    }
}

/// Answers, or waits until there is something to answer. `life`: how long a stream or a wait may last.
pub fn answer(room: &Arc<Room>, ask: Ask, head: &RequestHead<'_>, cx: &RequestContext, life: Duration) -> Decision {
    if ask == Ask::Status
        && let Some(wait) = long_poll::begin(room, head, cx, life)
    {
        return wait;
    }
    Decision::Respond(Box::new(reply(room, ask, head, cx, life)))
}

fn reply(room: &Arc<Room>, ask: Ask, head: &RequestHead<'_>, cx: &RequestContext, life: Duration) -> Reply {
    if head.method == "OPTIONS" {
        return allow(empty(StatusCode::NO_CONTENT), ask);
    }
    if !ask.methods().split(", ").any(|method| method == head.method) {
        let title = "This path does not take that method";
        return allow(Reply::problem(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", title), ask);
    }
    if ask == Ask::Frontier {
        return frontier(room, head);
    }
    let gate = Gate { room: room.clone(), upstreams: Box::default() };
    let settings = room.settings();
    let now = room.time(cx.now);
    if !settings.keys.can_sign(now / 1_000) {
        return no_key();
    }
    let subject = if ask.wants_identity() { gate.subject(&settings, cx) } else { 0 };
    let case = Case { gate: &gate, settings: &settings, head, now, subject, trace: cx.request_id };
    if head.method == "POST" && !is_own_page(head) {
        let title = "This is asked from the room's own pages, or with the header X-Tidegate-Room";
        return Reply::problem(StatusCode::FORBIDDEN, "cross-site", title);
    }
    match ask {
        Ask::Join => case.join(cx),
        Ask::Claim => case.claim(),
        Ask::Leave => case.leave(),
        Ask::Events => case.events(room, life),
        Ask::Status | Ask::Frontier => case.status(),
    }
}

fn frontier(room: &Room, head: &RequestHead<'_>) -> Reply {
    let published = room.published();
    let known = head.header("if-none-match");
    let same = known.is_some_and(|known| known == b"*" || names(known, published.etag.as_bytes()));
    let (status, bytes) =
        if same { (StatusCode::NOT_MODIFIED, Bytes::new()) } else { (StatusCode::OK, published.bytes.clone()) };
    let cache = HeaderValue::from_static("public, max-age=1, stale-while-revalidate=5");
    let headers = smallvec![
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (header::CACHE_CONTROL, cache),
        (header::ETAG, published.etag.clone()),
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*")),
    ];
    Reply { status, retry_after: None, headers, body: ReplyBody::Whole(bytes) }
}

/// Whether a list of entity tags has this one; weak comparison (RFC 9110 §13.1.2).
fn names(list: &[u8], etag: &[u8]) -> bool {
    list.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).any(|one| one.strip_prefix(b"W/").unwrap_or(one) == etag)
}

/// Whether a POST cannot have come from another site's page: the browser says so, or there is a header that such a page
/// cannot send.
fn is_own_page(head: &RequestHead<'_>) -> bool {
    let site = head.header("sec-fetch-site");
    let same = site.is_some_and(|site| site == b"same-origin" || site == b"none");
    same || head.header(OURS).is_some() || head.header(cookie::TICKET_HEADER.as_str()).is_some()
}

pub(super) fn empty(status: StatusCode) -> Reply {
    let headers = smallvec![(header::CACHE_CONTROL, HeaderValue::from_static("private, no-store"))];
    Reply { status, retry_after: None, headers, body: ReplyBody::Whole(Bytes::new()) }
}

fn allow(reply: Reply, ask: Ask) -> Reply {
    reply.header(header::ALLOW, HeaderValue::from_static(ask.methods()))
}
