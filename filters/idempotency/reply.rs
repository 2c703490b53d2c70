//! What the filter answers itself: an earlier answer again, or why there is none.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header};
use smallvec::SmallVec;

use crate::engine::{Reply, ReplyBody};
use crate::store::{self, Stored};

const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
const OUTCOME: HeaderName = HeaderName::from_static("tidegate-outcome");
/// Where the header is explained.
const DESCRIBED_BY: HeaderValue = HeaderValue::from_static(
    "<https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/>; rel=\"describedby\"",
);

/// Whether a header is part of what is given again: no session is given twice.
pub(crate) fn is_kept(name: &HeaderName) -> bool {
    store::is_kept(name) && name != header::SET_COOKIE && !name.as_str().starts_with("x-tidegate-")
}

/// The answer once more, or that it cannot be given.
pub(crate) fn replay(stored: &Stored, location: Option<HeaderValue>) -> Reply {
    // It was too long, or it made room for others.
    let Some(body) = stored.body.clone() else {
        let title = "This request was carried out; its answer is not kept";
        return located(Reply::problem(StatusCode::CONFLICT, "idempotency-unreplayable", title), location);
    };
    let mut headers: SmallVec<_> = stored.headers.iter().cloned().collect();
    headers.push((REPLAYED, HeaderValue::from_static("true")));
    Reply { status: stored.status, retry_after: None, headers, body: ReplyBody::Whole(body) }
}

/// The first one is still under way.
pub(crate) fn in_flight() -> Reply {
    let title = "A request with this Idempotency-Key is being carried out";
    Reply::problem(StatusCode::CONFLICT, "idempotency-in-flight", title).retry_after(Duration::from_secs(1))
}

/// The key was used for something else.
#[must_use]
pub fn mismatch() -> Reply {
    let title = "This Idempotency-Key was used with another request";
    Reply::problem(StatusCode::UNPROCESSABLE_ENTITY, "idempotency-key-reused", title)
}

/// Nobody knows whether it was carried out, and it is not carried out again to find out.
pub(crate) fn unknown(location: Option<HeaderValue>) -> Reply {
    let title = "It is not known whether the first request with this key was carried out";
    let reply = match location {
        None => Reply::problem(StatusCode::CONFLICT, "outcome-unknown", title),
        Some(location) => Reply {
            status: StatusCode::ACCEPTED,
            retry_after: Some(Duration::from_secs(1)),
            headers: SmallVec::from_iter([(header::LOCATION, location)]),
            body: ReplyBody::Bytes {
                content_type: HeaderValue::from_static("application/json"),
                bytes: Bytes::from(format!("{{\"code\":\"outcome-unknown\",\"title\":\"{title}\"}}\n")),
            },
        },
    };
    reply.header(OUTCOME, HeaderValue::from_static("unknown"))
}

/// The header is required.
pub(crate) fn missing() -> Reply {
    let title = "This request needs an Idempotency-Key header";
    Reply::problem(StatusCode::BAD_REQUEST, "idempotency-key-missing", title).header(header::LINK, DESCRIBED_BY)
}

/// The header is no key.
pub(crate) fn malformed() -> Reply {
    let title = "Idempotency-Key must be given once, as 1 to 255 visible ASCII characters";
    Reply::problem(StatusCode::BAD_REQUEST, "idempotency-key-malformed", title).header(header::LINK, DESCRIBED_BY)
}

/// Nobody's keys are kept for somebody unknown.
pub(crate) fn anonymous() -> Reply {
    Reply::problem(StatusCode::BAD_REQUEST, "key-missing", "This request needs an identity its key belongs to")
}

/// Too many at once of one principal.
pub(crate) fn too_many() -> Reply {
    let title = "Too many requests with keys are being carried out for you";
    Reply::problem(StatusCode::TOO_MANY_REQUESTS, "quota-exceeded", title).retry_after(Duration::from_secs(1))
}

/// Without its memory the filter promises nothing.
pub(crate) fn store_unavailable() -> Reply {
    let title = "Repeats cannot be recognised right now";
    Reply::problem(StatusCode::SERVICE_UNAVAILABLE, "store-unavailable", title).retry_after(Duration::from_secs(1))
}

fn located(reply: Reply, location: Option<HeaderValue>) -> Reply {
    match location {
        Some(location) => reply.header(header::LOCATION, location),
        None => reply,
    }
}
