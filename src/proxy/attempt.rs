//! Tries on channels: which one is next, how a try ended, and whether there may be another.
//!
//! The rule that decides everything: another try is made only when it is known that the first did nothing. A refused
//! connection is such knowledge for any method. A connection that broke after bytes were accepted is not, except for a
//! safe method on a kept-alive connection that died while idle.

use std::time::Duration;

use http::StatusCode;
use pingora::proxy::Session;
use pingora::upstreams::peer::{HttpPeer, HttpUpstreamRequestPolicy};
use pingora::{Error, ErrorSource, ErrorType, Result, RetryType};
use tidegate_filters::engine::{Attempt, AttemptEnd, AttemptResult, ChannelSet, Known, Reply, Retry, Verdict};

use super::flow::Flow;
use crate::door::conn::Conn;
use crate::snapshot::Route;

/// Tries in all for one request. pingora's own bound is set to the same.
pub(crate) const MOST_TRIES: u8 = 4;

/// A try that is made at all is given this much time.
const SHORTEST_WAIT: Duration = Duration::from_millis(10);

/// Chooses a channel and one of its endpoints; the flow's channel is the chosen one then. Otherwise its reply says why
/// there is none.
pub(crate) fn pick(flow: &mut Flow, route: &Route) -> Result<usize> {
    flow.attempts = flow.attempts.saturating_add(1);
    flow.tried_at = flow.tick();
    // Staying on a channel while it has endpoints that were not tried is no choice of channel.
    let stay = flow.cx.channel.filter(|id| flow.refused > 0 && flow.candidates.has(*id));
    let candidates = match flow.pinned {
        Some(pinned) => ChannelSet(flow.candidates.0 & 1 << pinned.0),
        None => flow.candidates,
    };
    let mut attempt = Attempt { number: flow.attempts, candidates, chosen: stay };
    if let Verdict::Respond(reply) = route.chain.on_attempt(&mut attempt, &mut flow.cx) {
        let status = reply.status.as_u16();
        flow.reply = Some(reply);
        return Error::e_explain(ErrorType::HTTPStatus(status), "refused by a filter");
    }
    let chosen = attempt.chosen.or_else(|| route.upstream.rotate(attempt.candidates));
    let channel = chosen.and_then(|id| Some((id, route.upstream.channels.get(usize::from(id.0))?)));
    let Some((id, channel)) = channel else {
        flow.reply = Some(Box::new(unavailable("No channel is available")));
        flow.not_sent();
        return Error::e_explain(ErrorType::HTTPStatus(503), "no channel left");
    };
    flow.cx.channel = Some(id);
    Ok((channel.rotate() + flow.refused) % channel.peers.len().max(1))
}

/// The next peer to try.
pub(super) fn choose(flow: &mut Flow) -> Result<Box<HttpPeer>> {
    let Some(route) = flow.route.clone() else {
        return Error::e_explain(ErrorType::InternalError, "no route");
    };
    let endpoint = pick(flow, &route)?;
    let Some(peer) = flow.channel().and_then(|channel| channel.peers.get(endpoint)) else {
        return Error::e_explain(ErrorType::InternalError, "no endpoint");
    };
    let mut peer = Box::new(peer.clone());
    if flow.websocket && route.websocket {
        peer.options.read_timeout = Some(super::WEBSOCKET_SILENCE);
    } else if !route.websocket {
        peer.options.http_upstream_request_policy = HttpUpstreamRequestPolicy::deny_upgrades();
    }
    if flow.conn.is_none() {
        // Over HTTP/2 the door can only reset a stream that is out of time; an upstream that is silent until then is
        // answered with 504 instead.
        let left = route.timeout.saturating_sub(flow.cx.now.since(flow.arrival.at)).max(SHORTEST_WAIT);
        peer.options.read_timeout = peer.options.read_timeout.map(|silence| silence.min(left));
    }
    Ok(peer)
}

/// No connection: nothing was sent. True when another endpoint or channel may be tried.
pub(super) fn connect_failed(flow: &mut Flow) -> bool {
    flow.not_sent();
    let endpoints = flow.channel().map_or(0, |channel| {
        channel.metrics.connect_failed();
        channel.peers.len()
    });
    flow.refused += 1;
    if flow.refused >= endpoints {
        flow.refused = 0;
        if let Some(id) = flow.cx.channel {
            flow.candidates.remove(id);
        }
    }
    let verdict = ended(flow, AttemptResult::ConnectFailed, Known::NotSent, true);
    let pinned_out = flow.pinned.is_some_and(|pinned| !flow.candidates.has(pinned));
    verdict != Retry::Never && flow.candidates.first().is_some() && !pinned_out && flow.attempts < MOST_TRIES
}

/// A connected try broke. True when it may be made once more.
pub(super) fn broke(flow: &mut Flow, session: &mut Session, error: &Error, client_reused: bool) -> bool {
    if *error.esource() == ErrorSource::Downstream || matches!(error.etype(), ErrorType::HTTPStatus(_)) {
        return false;
    }
    let safe = session.req_header().method.is_safe() && !session.as_ref().retry_buffer_truncated();
    let unanswered = session.response_written().is_none();
    let died_idle = client_reused && matches!(error.retry, RetryType::ReusedOnly);
    if safe && unanswered && died_idle && flow.attempts < MOST_TRIES {
        return true;
    }
    let timed_out = matches!(error.etype(), ErrorType::ReadTimedout | ErrorType::WriteTimedout);
    if timed_out && flow.conn.as_ref().is_some_and(Conn::starved) {
        // The upstream waited for the client: nothing is to be learned about it, or slow clients could have it shut out.
        flow.reply = Some(Box::new(body_too_slow()));
        return false;
    }
    if let Some(channel) = flow.channel() {
        if timed_out { channel.metrics.timed_out() } else { channel.metrics.broken() }
    }
    let result = if timed_out { AttemptResult::TimedOut } else { AttemptResult::Broken };
    ended(flow, result, Known::Unknown, false);
    false
}

/// A status arrived.
pub(super) fn answered(flow: &mut Flow, status: StatusCode) {
    flow.known = Some(Known::Final);
    if let Some(channel) = flow.channel() {
        channel.metrics.answered(status.as_u16());
    }
    ended(flow, AttemptResult::Status(status), Known::Final, false);
}

fn ended(flow: &mut Flow, result: AttemptResult, known: Known, replayable: bool) -> Retry {
    let took = flow.tick().since(flow.tried_at);
    let (Some(channel), Some(route)) = (flow.cx.channel, flow.route.clone()) else { return Retry::NoOpinion };
    route.chain.on_attempt_end(&AttemptEnd { channel, result, known, took, replayable }, &mut flow.cx)
}

/// Nothing was sent to anybody, so the client may come back.
fn unavailable(title: &'static str) -> Reply {
    Reply::problem(StatusCode::SERVICE_UNAVAILABLE, "upstream-unavailable", title).retry_after(Duration::from_secs(1))
}

/// What the client reads about an error; `None` when nobody is there to read.
pub(super) fn reply_to(flow: &mut Flow, error: &Error) -> Option<Reply> {
    if let Some(reply) = flow.reply.take() {
        return Some(*reply);
    }
    match error.esource() {
        ErrorSource::Downstream => downstream(flow, error),
        ErrorSource::Upstream if flow.known == Some(Known::NotSent) => Some(unavailable("No channel could be reached")),
        ErrorSource::Upstream => {
            let timed_out = matches!(error.etype(), ErrorType::ReadTimedout | ErrorType::WriteTimedout);
            Some(if timed_out {
                Reply::problem(StatusCode::GATEWAY_TIMEOUT, "gateway-timeout", "The upstream did not answer in time")
            } else {
                Reply::problem(StatusCode::BAD_GATEWAY, "bad-gateway", "The upstream gave no proper answer")
            })
        }
        ErrorSource::Internal | ErrorSource::Unset => {
            tracing::error!(target: "tidegate::proxy", request_id = flow.id.as_str(), %error, "internal error");
            Some(Reply::problem(StatusCode::INTERNAL_SERVER_ERROR, "internal-error", "The gateway failed"))
        }
    }
}

fn body_too_slow() -> Reply {
    Reply::problem(StatusCode::REQUEST_TIMEOUT, "request-timeout", "The request body came too slowly")
}

fn downstream(flow: &Flow, error: &Error) -> Option<Reply> {
    let io_timed_out = error
        .root_cause()
        .downcast_ref::<std::io::Error>()
        .is_some_and(|cause| cause.kind() == std::io::ErrorKind::TimedOut);
    match error.etype() {
        _ if flow.conn.as_ref().is_some_and(Conn::malformed) => {
            Some(Reply::problem(StatusCode::BAD_REQUEST, "bad-request", "The request body is malformed"))
        }
        ErrorType::ReadTimedout => Some(body_too_slow()),
        _ if io_timed_out => Some(body_too_slow()),
        ErrorType::WriteError | ErrorType::ReadError | ErrorType::ConnectionClosed | ErrorType::WriteTimedout => None,
        _ => Some(Reply::problem(StatusCode::BAD_REQUEST, "bad-request", "The request is malformed")),
    }
}
