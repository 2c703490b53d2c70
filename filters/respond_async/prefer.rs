//! The `Prefer` header (RFC 7240), as far as it is about waiting: `respond-async` and `wait=seconds`.

use std::time::Duration;

use http::HeaderValue;

use crate::engine::RequestHead;

/// What a client prefers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prefer {
    /// It takes an answer later.
    pub respond_async: bool,
    /// It waits for so long; `None`: it says nothing about that.
    pub wait: Option<Duration>,
}

impl Prefer {
    /// Reads all `Prefer` headers. The first of several equal preferences counts (§2); what is malformed or of another kind
    /// is none.
    #[must_use]
    pub fn of(head: &RequestHead<'_>) -> Self {
        let mut prefer = Self::default();
        let lines = head.headers_named("prefer").filter_map(|line| std::str::from_utf8(line).ok());
        for one in lines.flat_map(|line| line.split(',')) {
            let token = one.split(';').next().unwrap_or_default().trim();
            let (name, value) = token.split_once('=').map_or((token, ""), |(name, value)| (name.trim(), value.trim()));
            if name.eq_ignore_ascii_case("respond-async") {
                prefer.respond_async = true;
            } else if name.eq_ignore_ascii_case("wait") && prefer.wait.is_none() {
                prefer.wait = value.trim_matches('"').parse().ok().map(Duration::from_secs);
            }
        }
        prefer
    }

    /// What is said of preferences that were followed; `None`: of none. `wait`: how long was waited for, if at all.
    #[must_use]
    pub fn applied(respond_async: bool, wait: Option<Duration>) -> Option<HeaderValue> {
        let text = match (respond_async, wait) {
            (true, Some(wait)) => format!("respond-async, wait={}", wait.as_secs()),
            (true, None) => "respond-async".to_owned(),
            (false, Some(wait)) => format!("wait={}", wait.as_secs()),
            (false, None) => return None,
        };
        HeaderValue::try_from(text).ok()
    }
}
