//! What can go wrong with a request behind its request stage, and what its client reads about it.

use std::time::Duration;

use http::StatusCode;
use pingora::{Error, ErrorSource, ErrorType};
use tidegate_filters::engine::{Known, Reply};

use super::flow::Flow;
use crate::door::conn::Conn;

/// Why a request got no answer from an upstream. A reply in the flow goes before whatever these say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The gateway itself decided so; the flow has the reply.
    Refused,
    /// The upstream could not be reached, broke, or said something that is no answer.
    Broken,
    /// The upstream took too long.
    TimedOut,
    /// The client's body is malformed.
    Malformed,
    /// The client's body came too slowly.
    TooSlow,
    /// The client is not a proper one in some other way.
    Improper,
    /// The client left; nobody is there to read.
    Gone,
    /// The gateway failed.
    Internal,
}

impl Fault {
    /// What pingora's error was.
    pub(super) fn of(error: &Error, flow: &Flow) -> Self {
        match error.esource() {
            ErrorSource::Downstream => Self::downstream(error, flow),
            ErrorSource::Upstream if is_timeout(error) => Fault::TimedOut,
            ErrorSource::Upstream => Fault::Broken,
            ErrorSource::Internal | ErrorSource::Unset if flow.reply.is_some() => Fault::Refused,
            ErrorSource::Internal | ErrorSource::Unset => {
                tracing::error!(target: "tidegate::proxy", request_id = flow.id().as_str(), %error, "internal error");
                Fault::Internal
            }
        }
    }

    fn downstream(error: &Error, flow: &Flow) -> Self {
        let cause = error.root_cause().downcast_ref::<std::io::Error>();
        let io_timed_out = cause.is_some_and(|cause| cause.kind() == std::io::ErrorKind::TimedOut);
        match error.etype() {
            _ if flow.conn.as_ref().is_some_and(Conn::malformed) => Fault::Malformed,
            ErrorType::ReadTimedout => Fault::TooSlow,
            _ if io_timed_out => Fault::TooSlow,
            ErrorType::WriteError | ErrorType::ReadError | ErrorType::ConnectionClosed | ErrorType::WriteTimedout => {
                Fault::Gone
            }
            _ => Fault::Improper,
        }
    }

    /// Whether it is the client's doing: then its connection is not kept.
    pub(super) fn is_the_clients(self) -> bool {
        matches!(self, Fault::Malformed | Fault::TooSlow | Fault::Improper | Fault::Gone)
    }

    /// What the client reads; `None` when nobody is there to read.
    pub(super) fn reply(self, flow: &mut Flow) -> Option<Reply> {
        if let Some(reply) = flow.reply.take() {
            return Some(*reply);
        }
        let (status, code, title) = match self {
            Fault::Gone => return None,
            Fault::Broken if flow.known == Some(Known::NotSent) => {
                return Some(unavailable("No channel could be reached", None));
            }
            Fault::TimedOut => (StatusCode::GATEWAY_TIMEOUT, "gateway-timeout", "The upstream did not answer in time"),
            Fault::Broken => (StatusCode::BAD_GATEWAY, "bad-gateway", "The upstream gave no proper answer"),
            Fault::Malformed => (StatusCode::BAD_REQUEST, "bad-request", "The request body is malformed"),
            Fault::Improper => (StatusCode::BAD_REQUEST, "bad-request", "The request is malformed"),
            Fault::TooSlow => return Some(body_too_slow()),
            Fault::Refused | Fault::Internal => return Some(internal_error()),
        };
        Some(Reply::problem(status, code, title))
    }
}

/// Whether the error is the end of somebody's patience with the upstream.
pub(super) fn is_timeout(error: &Error) -> bool {
    matches!(error.etype(), ErrorType::ReadTimedout | ErrorType::WriteTimedout)
}

/// Nothing was sent to anybody, so the client may come back, after `wait` if that is known.
pub(super) fn unavailable(title: &'static str, wait: Option<Duration>) -> Reply {
    let reply = Reply::problem(StatusCode::SERVICE_UNAVAILABLE, "upstream-unavailable", title);
    reply.retry_after(wait.unwrap_or(Duration::from_secs(1)))
}

/// The gateway's own failure.
pub(super) fn internal_error() -> Reply {
    Reply::problem(StatusCode::INTERNAL_SERVER_ERROR, "internal-error", "The gateway failed")
}

/// The client did not send what the upstream waited for.
pub(super) fn body_too_slow() -> Reply {
    Reply::problem(StatusCode::REQUEST_TIMEOUT, "request-timeout", "The request body came too slowly")
}
