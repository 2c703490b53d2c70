//! The trait every filter implements, and the stages it may take part in.

use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use http::{HeaderMap, StatusCode, response};

use super::{Attempt, AttemptEnd, ChannelId, Decision, Outcome, RequestContext, RequestHead, Retry, Verdict};

/// Which stages a filter takes part in. The chain calls no other method, so a stage left out costs nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stages(u8);

impl Stages {
    /// The head has been read, nothing has been sent anywhere.
    pub const REQUEST: Stages = Stages(1);
    /// A channel is about to be chosen, or a try on one has ended.
    pub const ATTEMPT: Stages = Stages(1 << 1);
    /// The response head is about to go to the client.
    pub const RESPONSE: Stages = Stages(1 << 2);
    /// A piece of the response body is going to the client.
    pub const CHUNK: Stages = Stages(1 << 3);
    /// The request is over.
    pub const FINISH: Stages = Stages(1 << 4);
    /// The upstream's answer is there as a whole, and its end has not gone to the client yet.
    pub const CAPTURE: Stages = Stages(1 << 5);

    /// Both sets of stages.
    #[must_use]
    pub const fn and(self, other: Stages) -> Stages {
        Stages(self.0 | other.0)
    }

    /// Whether any stage of `other` is in this set.
    #[must_use]
    pub const fn has(self, other: Stages) -> bool {
        self.0 & other.0 != 0
    }
}

/// An upstream's whole answer, as it sent it.
#[derive(Clone, Debug)]
pub struct Captured {
    /// Its status.
    pub status: StatusCode,
    /// Its headers, without those of its connection.
    pub headers: HeaderMap,
    /// Its body; `None` when it is longer than was asked for.
    pub body: Option<Bytes>,
}

/// What an answer's end is held back for. Owns all it needs; dropped when it takes too long.
pub type HeldBack = Pin<Box<dyn Future<Output = ()> + Send>>;

/// One link of a route's chain: immutable, shared by all requests of a snapshot.
///
/// Methods are synchronous, infallible and never block; the only clock is `cx.now`. What can go wrong (a store that does
/// not answer, a header that is missing) is decided here, by the filter's own settings.
pub trait Filter: Send + Sync + 'static {
    /// The stages this filter takes part in. Must not change over its life.
    fn stages(&self) -> Stages;

    /// Called once, after the swap: the only moment a new configuration may touch shared state (say, a queue's new
    /// limit). Cannot fail.
    fn activate(&self) {}

    /// The request head has been read; nothing has been sent anywhere.
    fn on_request(&self, _head: &RequestHead<'_>, _cx: &mut RequestContext) -> Decision {
        Decision::Continue
    }

    /// A channel is about to be chosen. May narrow the candidates, choose, or refuse.
    fn on_attempt(&self, _attempt: &mut Attempt, _cx: &mut RequestContext) -> Verdict {
        Verdict::Continue
    }

    /// `channel` was chosen and is about to be used. `false`: it may not be after all (its last place was taken in this
    /// moment); it then leaves the candidates, and the choice is made anew.
    fn on_chosen(&self, _attempt: &Attempt, _channel: ChannelId, _cx: &mut RequestContext) -> bool {
        true
    }

    /// A try on a channel has ended, well or badly.
    fn on_attempt_end(&self, _end: &AttemptEnd, _cx: &mut RequestContext) -> Retry {
        Retry::NoOpinion
    }

    /// The request is deferred: what must be known of it when its answer comes, maybe in another process. Few bytes.
    fn keep(&self, _cx: &RequestContext) -> Option<Vec<u8>> {
        None
    }

    /// The answer to a deferred request has come, and the response stage follows. `kept` is what [`Filter::keep`] has said.
    fn recollect(&self, _kept: &[u8], _cx: &mut RequestContext) {}

    /// The response head is about to go to the client. Runs in reverse order of the file.
    fn on_response(&self, _response: &response::Parts, _cx: &mut RequestContext) {}

    /// A piece of the response body is going to the client. Runs in reverse order of the file.
    fn on_chunk(&self, _chunk: &Bytes, _end: bool, _cx: &mut RequestContext) {}

    /// The upstream's answer has arrived to its end, and that end is held back until the returned future is done: what
    /// must be durable before the client knows. Called only where [`RequestContext::capture`] was set, and once at most:
    /// never for an answer that broke off. Runs in reverse order of the file.
    fn on_captured(&self, _answer: &Captured, _cx: &mut RequestContext) -> Option<HeldBack> {
        None
    }

    /// The request is over. For counting only: a task that is dropped or panics skips it, so what must be given back
    /// is a [`super::Permit`], never work for `on_finish`.
    fn on_finish(&self, _outcome: &Outcome, _cx: &mut RequestContext) {}
}
