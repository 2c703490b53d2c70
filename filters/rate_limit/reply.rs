//! What a client is told about its limits.
//!
//! `RateLimit` and `RateLimit-Policy` are Structured Fields after draft-ietf-httpapi-ratelimit-headers-10: `q` units in a
//! window of `w` seconds; `r` units left; `t` seconds until one more is there. A client that waits `t` and one that obeys
//! `Retry-After` therefore never come too early, and the second never earlier than the first.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use smallvec::SmallVec;

use super::gcra::Standing;
use super::settings::HeaderStyle;
use crate::engine::{Rate, Reply};

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// Ready parts of the headers about one limit.
#[derive(Debug)]
pub(super) struct Fragment {
    /// `"user";q=100;w=600`.
    pub(super) policy: String,
    /// The same, ready to be sent alone.
    alone: Option<HeaderValue>,
    /// `"user";r=`.
    before_remaining: String,
    units: u64,
}

impl Fragment {
    pub(super) fn new(name: &str, rate: Rate, window: Option<Duration>) -> Self {
        let seconds = whole_seconds(window.unwrap_or(rate.per)).max(1);
        // What comes back in that window: where the written time is no whole second, the count is scaled with it.
        let units = u128::from(rate.count.get()) * u128::from(seconds) * 1_000_000_000 / rate.per.as_nanos();
        // Structured Fields know integers of up to 15 digits.
        let units = u64::try_from(units.clamp(1, 999_999_999_999_999)).unwrap_or(1);
        let policy = format!("\"{name}\";q={units};w={seconds}");
        let alone = HeaderValue::from_str(&policy).ok();
        Self { policy, alone, before_remaining: format!("\"{name}\";r="), units }
    }
}

/// A limit that belongs to the client, and how it stands.
pub(super) type Told<'a> = (&'a Fragment, Standing);

/// Which headers are sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Headers {
    draft: bool,
    legacy: bool,
}

impl Headers {
    pub(super) fn new(style: HeaderStyle) -> Self {
        Self {
            draft: matches!(style, HeaderStyle::Draft10 | HeaderStyle::Both),
            legacy: matches!(style, HeaderStyle::Legacy | HeaderStyle::Both),
        }
    }

    pub(super) fn any(self) -> bool {
        self.draft || self.legacy
    }

    /// Hands every header about `told` to `put`. `ready` is the value of `RateLimit-Policy`, if it is known already.
    pub(super) fn tell(
        self,
        told: &[Told<'_>],
        ready: Option<&HeaderValue>,
        mut put: impl FnMut(HeaderName, HeaderValue),
    ) {
        if self.draft {
            let policy = match (ready, told) {
                (Some(ready), _) => Some(ready.clone()),
                (None, [(fragment, _)]) => fragment.alone.clone(),
                (None, _) => policies(told),
            };
            if let Some(policy) = policy {
                put(RATE_LIMIT_POLICY, policy);
            }
            if let Some(standings) = standings(told) {
                put(RATE_LIMIT, standings);
            }
        }
        if self.legacy {
            // One limit only fits: the one that is nearest to refusing.
            if let Some((fragment, standing)) = told.iter().min_by_key(|(_, standing)| standing.remaining) {
                put(LIMIT, HeaderValue::from(fragment.units));
                put(REMAINING, HeaderValue::from(standing.remaining));
                put(RESET, HeaderValue::from(whole_seconds(standing.next_unit)));
            }
        }
    }
}

fn policies(told: &[Told<'_>]) -> Option<HeaderValue> {
    let each: SmallVec<[&str; 4]> = told.iter().map(|(fragment, _)| fragment.policy.as_str()).collect();
    HeaderValue::try_from(each.join(", ")).ok().filter(|_| !told.is_empty())
}

fn standings(told: &[Told<'_>]) -> Option<HeaderValue> {
    let mut out = Vec::new();
    for (i, (fragment, standing)) in told.iter().enumerate() {
        let (mut remaining, mut seconds) = (itoa::Buffer::new(), itoa::Buffer::new());
        let remaining = remaining.format(standing.remaining);
        let seconds = seconds.format(whole_seconds(standing.next_unit));
        let before = if i > 0 { ", " } else { "" };
        let parts = [before, &fragment.before_remaining, remaining, ";t=", seconds];
        // To the byte: a value of that very size is taken as it is, not copied.
        out.reserve_exact(parts.iter().map(|part| part.len()).sum());
        parts.iter().for_each(|part| out.extend_from_slice(part.as_bytes()));
    }
    HeaderValue::from_maybe_shared(Bytes::from(out)).ok().filter(|_| !told.is_empty())
}

/// Rounded up: a client that comes at the announced second is never early.
fn whole_seconds(span: Duration) -> u64 {
    span.as_secs() + u64::from(span.subsec_nanos() > 0)
}

/// The client has used up what is its own.
pub(super) fn quota_exceeded(wait: Duration) -> Reply {
    Reply::problem(StatusCode::TOO_MANY_REQUESTS, "quota-exceeded", "Too many requests; please come back later")
        .retry_after(wait)
}

/// What everybody shares is used up; not this client's fault.
pub(super) fn reduced_capacity(wait: Duration) -> Reply {
    let title = "The service is at capacity; please come back later";
    Reply::problem(StatusCode::SERVICE_UNAVAILABLE, "temporary-reduced-capacity", title).retry_after(wait)
}

/// The request lacks what its limit is kept by.
pub(super) fn key_missing() -> Reply {
    Reply::problem(StatusCode::BAD_REQUEST, "bad-request", "The request does not say whom it is from")
}
