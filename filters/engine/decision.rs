//! What a filter may answer, and what the gateway answers in its name.

use std::borrow::Cow;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use smallvec::SmallVec;

use super::Permit;

/// What a filter wants done with a request.
#[must_use]
pub enum Decision {
    /// Next filter.
    Continue,
    /// Answer now; later filters and the upstream never see the request.
    Respond(Box<Reply>),
    /// Park the request; the gateway drives the wait against the deadline and the client's leaving, and resumes the
    /// chain behind this filter.
    Wait(Box<Wait>),
    /// Read the whole body first (413 above `max` bytes, at most 64 KiB), put it into the context and ask this filter
    /// again.
    NeedBody {
        /// Bytes the filter is ready to look at.
        max: usize,
    },
}

/// A decision that can no longer wait.
#[must_use]
pub enum Verdict {
    /// Go on.
    Continue,
    /// Answer now.
    Respond(Box<Reply>),
}

/// A reason to park. The future owns all it needs, so nothing borrows the request meanwhile; dropping it must leave no
/// trace, since the client may leave at any time.
pub struct Wait {
    /// For the access log: `line`, `store`, `twin`.
    pub reason: &'static str,
    /// The gateway gives up after this and sends `late`.
    pub max: Duration,
    /// The answer when the wait took too long.
    pub late: Box<Reply>,
    /// What is waited for.
    pub until: Pin<Box<dyn Future<Output = Resume> + Send>>,
    /// Set by the chain for a filter in shadow mode: the wait is driven, its verdict ignored.
    pub shadow: bool,
}

/// How a wait ended.
pub struct Resume {
    /// Go on or answer.
    pub verdict: Verdict,
    /// What the request holds from now on, if anything.
    pub permit: Option<Permit>,
}

/// Whether another channel should be tried. `Never` beats `Again` beats `NoOpinion`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// This filter does not mind.
    NoOpinion,
    /// Try another channel, if what is known about the first one allows it.
    Again,
    /// Do not try again, whatever others say.
    Never,
}

/// An answer of the gateway itself.
pub struct Reply {
    /// HTTP status.
    pub status: StatusCode,
    /// When the same request will pass, at the earliest; sent as `Retry-After` in whole seconds, rounded up.
    pub retry_after: Option<Duration>,
    /// Further headers, sent as they are.
    pub headers: SmallVec<[(HeaderName, HeaderValue); 4]>,
    /// What the client reads.
    pub body: ReplyBody,
}

/// The body of a [`Reply`].
pub enum ReplyBody {
    /// `application/problem+json` (RFC 9457), or a page where the client is a browser.
    Problem(Problem),
    /// Ready bytes; what they are stands among the reply's headers, if anywhere.
    Whole(Bytes),
    /// Ready bytes.
    Bytes {
        /// Value of `Content-Type`.
        content_type: HeaderValue,
        /// The body.
        bytes: Bytes,
    },
    /// Pieces as they come (server-sent events); the length is not known beforehand.
    Stream {
        /// Value of `Content-Type`.
        content_type: HeaderValue,
        /// The pieces. `None` ends the answer.
        pieces: Box<dyn ReplyStream>,
    },
}

/// A body that is made while it is sent. Dropped when the client leaves.
pub trait ReplyStream: Send + Sync {
    /// The next piece, or `None` at the end.
    fn next(&mut self) -> Pin<Box<dyn Future<Output = Option<Bytes>> + Send + '_>>;
}

/// The members of a problem document. `type` is derived from `code`, `status` from the reply, `request_id` is added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Stable name for programs, such as `quota-exceeded`.
    pub code: &'static str,
    /// One line for people; never limits, keys or addresses of others.
    pub title: Cow<'static, str>,
    /// Further members as ready JSON: name and value.
    pub members: Vec<(&'static str, String)>,
}

impl Problem {
    /// A problem without further members.
    #[must_use]
    pub fn new(code: &'static str, title: impl Into<Cow<'static, str>>) -> Self {
        Self { code, title: title.into(), members: Vec::new() }
    }
}

impl Reply {
    /// A problem answer with that status.
    #[must_use]
    pub fn problem(status: StatusCode, code: &'static str, title: impl Into<Cow<'static, str>>) -> Self {
        let body = ReplyBody::Problem(Problem::new(code, title));
        Self { status, retry_after: None, headers: SmallVec::new(), body }
    }

    /// The same reply, announcing when to come back.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// The same reply with one more header.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The problem's code, or `None` for ready bytes and streams.
    #[must_use]
    pub fn code(&self) -> Option<&'static str> {
        match &self.body {
            ReplyBody::Problem(problem) => Some(problem.code),
            ReplyBody::Whole(_) | ReplyBody::Bytes { .. } | ReplyBody::Stream { .. } => None,
        }
    }
}
