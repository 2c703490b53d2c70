//! A deferred request while it is being sent: which channels it may be sent to now, and what was seen of them.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use super::core::May;
use super::state::Deferred;
use crate::engine::{AttemptEnd, AttemptResult, Nanos};

/// The turn of one deferred request.
#[derive(Clone)]
pub struct Turn {
    deferred: Arc<Deferred>,
    seq: i64,
}

impl Turn {
    /// Of the record of that number, which is being sent.
    #[must_use]
    pub fn new(deferred: Arc<Deferred>, seq: i64) -> Self {
        Self { deferred, seq }
    }

    /// Whether the pace of that channel lets it go there.
    #[must_use]
    pub fn may(&self, channel: &str, now: Nanos) -> May {
        self.deferred.book.lock().may(self.seq, channel, self.deferred.unix(now))
    }

    /// It goes there; false when the channel's turn has just gone to another.
    #[must_use]
    pub fn charge(&self, channel: &str, now: Nanos) -> bool {
        self.deferred.book.lock().charge(self.seq, channel, self.deferred.unix(now))
    }

    /// Nobody may go there for so long.
    pub fn rest(&self, channel: &str, wait: Duration, now: Nanos) {
        self.deferred.book.lock().rest(self.seq, channel, self.deferred.unix(now) + wait);
    }

    /// A try there has ended.
    pub fn tried(&self, channel: &str, end: &AttemptEnd, now: Nanos) {
        let busy = matches!(
            end.result,
            AttemptResult::Status(StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE)
        );
        self.deferred.book.lock().tried(self.seq, channel, busy, end.took, self.deferred.unix(now));
    }
}
