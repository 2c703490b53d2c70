//! What clients read: where a request stands, its answer, and why it was not taken.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde_json::{Value, json};
use smallvec::SmallVec;

use super::core::{Id, State};
use super::state::View;
use crate::engine::{Reply, ReplyBody};
use crate::store::Stored;

/// Where clients ask; a request's own place is behind it.
pub const PREFIX: &str = "/.tidegate/async/";
/// Header that names preferences which were followed (RFC 7240 §3).
pub const APPLIED: HeaderName = HeaderName::from_static("preference-applied");
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
/// When to ask again while nothing better is known.
const COME_BACK: Duration = Duration::from_secs(2);
/// The longest announced pause: news may come sooner than thought.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Where the request of that name is asked for.
#[must_use]
pub fn location(id: Id) -> String {
    format!("{PREFIX}{id}")
}

/// How a record stands, as its owner may see it.
#[must_use]
pub fn document(view: &View) -> Value {
    let entry = &view.entry;
    let location = location(entry.id);
    let mut document = json!({
        "id": entry.id.to_string(),
        "status": entry.state.as_str(),
        "tries": entry.tries,
        "created_ms": entry.created,
        "expires_ms": entry.expires,
        "events": format!("{location}/events"),
        "result": format!("{location}/result"),
    });
    if let Some((ahead, eta)) = view.place {
        document["place"] = json!(ahead + 1);
        document["eta_ms"] = json!(u64::try_from(eta.as_millis()).unwrap_or(u64::MAX));
    }
    if let Some((status, kept)) = view.answered {
        document["answered"] = json!(status);
        document["answer_kept"] = json!(kept);
    }
    if matches!(entry.state, State::Retrying | State::DeadLetter) {
        document["due_ms"] = json!(entry.due);
    }
    document
}

/// When to look again.
fn pause(view: &View) -> Duration {
    view.place.map_or(COME_BACK, |(_, eta)| eta.clamp(Duration::from_secs(1), LONGEST_PAUSE))
}

fn json_reply(status: StatusCode, body: &Value) -> Reply {
    Reply {
        status,
        retry_after: None,
        headers: smallvec::smallvec![(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))],
        body: ReplyBody::Bytes {
            content_type: HeaderValue::from_static("application/json"),
            bytes: Bytes::from(format!("{body}\n")),
        },
    }
}

/// 202: it is written down and will be carried out. `again`: it was before.
#[must_use]
pub fn accepted(view: &View, again: bool) -> Reply {
    let mut reply = json_reply(StatusCode::ACCEPTED, &document(view)).retry_after(pause(view));
    if let Ok(location) = HeaderValue::from_str(&location(view.entry.id)) {
        reply = reply.header(header::LOCATION, location);
    }
    if again { reply.header(REPLAYED, HeaderValue::from_static("true")) } else { reply }
}

/// 200: where it stands.
#[must_use]
pub fn standing(view: &View) -> Reply {
    let reply = json_reply(StatusCode::OK, &document(view));
    if view.entry.state.is_over() { reply } else { reply.retry_after(pause(view)) }
}

/// The upstream's answer, as it came. `again`: to a request that was sent a second time.
#[must_use]
pub fn answer(stored: Stored, again: bool) -> Reply {
    let Some(body) = stored.body else {
        let title = "The request was carried out; its answer is not kept";
        let reply = Reply::problem(StatusCode::CONFLICT, "answer-not-kept", title);
        // Where the upstream says that what was made can be looked at.
        let place = stored.headers.into_iter().find(|(name, _)| name == header::LOCATION);
        return place.into_iter().fold(reply, |reply, (name, value)| reply.header(name, value));
    };
    let mut headers: SmallVec<_> = stored.headers.into_iter().collect();
    if again {
        // Nobody gets a session twice.
        headers.retain(|(name, _)| *name != header::SET_COOKIE);
        headers.push((REPLAYED, HeaderValue::from_static("true")));
    }
    Reply { status: stored.status, retry_after: None, headers, body: ReplyBody::Whole(body) }
}

/// It has no answer, or none yet.
#[must_use]
pub fn no_answer(view: &View) -> Reply {
    let problem = |status, code, title: &'static str| Reply::problem(status, code, title);
    match view.entry.state {
        State::Cancelled => problem(StatusCode::GONE, "deferred-cancelled", "The request was withdrawn"),
        State::Expired => {
            problem(StatusCode::GONE, "deferred-expired", "The request's time was over; it was not carried out")
        }
        _ => problem(StatusCode::CONFLICT, "deferred-pending", "There is no answer yet").retry_after(pause(view)),
    }
}

/// It cannot be withdrawn any more.
#[must_use]
pub fn too_late() -> Reply {
    let title = "The request is being carried out, or was";
    Reply::problem(StatusCode::CONFLICT, "deferred-not-cancellable", title)
}

/// There is no such request, or it is somebody else's.
#[must_use]
pub fn unknown() -> Reply {
    Reply::problem(StatusCode::NOT_FOUND, "deferred-unknown", "You have no deferred request of this name")
}

/// It asks too often.
#[must_use]
pub fn asked_too_often(wait: Duration) -> Reply {
    let title = "You ask too often how your requests stand; `Prefer: wait=20` waits for the next change";
    Reply::problem(StatusCode::TOO_MANY_REQUESTS, "quota-exceeded", title).retry_after(wait)
}

/// Without the disk nothing can be promised.
#[must_use]
pub fn store_unavailable() -> Reply {
    let title = "Requests cannot be written down right now";
    Reply::problem(StatusCode::SERVICE_UNAVAILABLE, "store-unavailable", title).retry_after(Duration::from_secs(1))
}

pub(super) fn full(wait: Duration) -> Reply {
    let title = "Too many requests wait already";
    Reply::problem(StatusCode::SERVICE_UNAVAILABLE, "deferred-full", title).retry_after(wait)
}

pub(super) fn quota() -> Reply {
    let title = "Too many of your requests wait already";
    Reply::problem(StatusCode::TOO_MANY_REQUESTS, "quota-exceeded", title).retry_after(COME_BACK)
}
