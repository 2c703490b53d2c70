//! Which headers are part of an answer, so that they are kept with it.

use http::HeaderName;

/// Headers that belong to one exchange and not to the answer: its connection, its time, its trace, the quota of the moment.
const OF_ONE_EXCHANGE: [&str; 18] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "content-length",
    "date",
    "age",
    "x-request-id",
    "traceparent",
    "tracestate",
    "ratelimit",
    "ratelimit-policy",
    "server-timing",
    "idempotent-replayed",
    "alt-svc",
];

/// Whether a header is part of the answer. `set-cookie` is, for who gets the answer first; nobody gets a session twice.
#[must_use]
pub fn is_kept(name: &HeaderName) -> bool {
    let name = name.as_str();
    let passing = ["tidegate-", "x-tidegate-", "x-ratelimit-"].iter().any(|prefix| name.starts_with(prefix));
    // What lets a buyer back into a waiting room is the answer to his order.
    !OF_ONE_EXCHANGE.contains(&name) && (!passing || name == "x-tidegate-reentry")
}
