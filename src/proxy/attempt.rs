//! Tries on channels: which one is next, how a try ended, and whether there may be another.
//!
//! The rule that decides everything: another try is made only when it is known that the first did nothing. A refused
//! connection is such knowledge for any method. A connection that broke after bytes were accepted is not, except for a
//! safe method on a kept-alive connection that died while idle.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use pingora::proxy::Session;
use pingora::upstreams::peer::{HttpPeer, HttpUpstreamRequestPolicy};
use pingora::{Error, ErrorSource, ErrorType, Result, RetryType};
use tidegate_filters::channels::{Eligible, EndpointHealth};
use tidegate_filters::engine::{
    Attempt, AttemptEnd, AttemptResult, ChannelId, ChannelSet, Known, RequestContext, Retry, Verdict,
};

use super::fault::{body_too_slow, is_timeout, unavailable};
use super::flow::Flow;
use super::paced::{self, Steps};
use crate::config::Class;
use crate::door::conn::Conn;
use crate::health;
use crate::snapshot::Route;

/// Tries in all for one request. pingora's own bound is set to the same.
pub(crate) const MOST_TRIES: u8 = 4;

/// A try that is made at all is given this much time.
const SHORTEST_WAIT: Duration = Duration::from_millis(10);

/// Chooses a channel and one of its endpoints; the flow's channel is the chosen one then. Otherwise its reply says why
/// there is none.
///
/// A channel leaves the candidates in three ways: it refused this request's connections, its settings or probes rule it
/// out, or a filter says so. Only the first is for good; the others are asked anew at each choice.
pub(crate) fn pick(flow: &mut Flow, route: &Route) -> Result<usize> {
    flow.attempts = flow.attempts.saturating_add(1);
    flow.tried_at = flow.tick();
    flow.in_use = None;
    flow.cx.considered.clear();
    // Staying on a channel while it has endpoints that were not tried is no choice of channel.
    let stay = flow.cx.channel.filter(|id| flow.refused != 0 && flow.candidates.has(*id));
    let mut left = flow.pinned.map_or(flow.candidates, |pinned| flow.candidates.and(ChannelSet::only(pinned)));
    // Only the channel that took a payment knows what became of it, whether or not it would take another one now.
    let must_ask = flow.pinned.is_some() && flow.safe;
    let facts = &route.upstream.facts;
    let id = loop {
        let fit = if must_ask { Eligible { channels: left, wait: None } } else { facts.eligible(left, &mut flow.cx) };
        let now = paced::narrow(flow, route, fit);
        let mut attempt = Attempt {
            number: flow.attempts,
            pinned: flow.pinned.is_some(),
            safe: flow.safe,
            candidates: now.channels,
            chosen: stay,
        };
        let verdict = route.chain.on_attempt(&mut attempt, &mut flow.cx);
        let told = if let Verdict::Respond(reply) = &verdict { reply.retry_after } else { None };
        let steps = Steps { among: left, fit: fit.channels, due: now.channels, left: attempt.candidates };
        paced::note(flow, route, &steps, told);
        if let Verdict::Respond(reply) = verdict {
            let status = reply.status.as_u16();
            flow.reply = Some(paced::sooner(flow, route, reply));
            flow.not_sent();
            return Error::e_explain(ErrorType::HTTPStatus(status), "refused by a filter");
        }
        let chosen = attempt.chosen.filter(|id| attempt.candidates.has(*id));
        let Some(id) = chosen.or_else(|| route.upstream.rotate(facts.foremost(attempt.candidates))) else {
            let reply = Box::new(unavailable("No channel is available", now.wait));
            flow.reply = Some(paced::sooner(flow, route, reply));
            flow.not_sent();
            return Error::e_explain(ErrorType::HTTPStatus(503), "no channel left");
        };
        let takes = |cx: &RequestContext| facts.channel(id).is_none_or(|channel| channel.take(cx));
        let taken = must_ask || stay == Some(id) || (paced::charge(flow, id) && takes(&flow.cx));
        if taken && route.chain.on_chosen(&attempt, id, &mut flow.cx) {
            break id;
        }
        left.remove(id);
    };
    if stay != Some(id) {
        flow.refused = 0;
    }
    flow.cx.channel = Some(id);
    flow.in_use = facts.channel(id).map(|channel| channel.state.begin());
    flow.endpoint = route.upstream.endpoint(id, flow.refused).unwrap_or(0);
    Ok(flow.endpoint)
}

/// One more try on a channel that has the request already and takes it for the same: whether its settings and the filters
/// let it have one now. Nothing is chosen, so nobody who chooses is asked what he would prefer.
pub(crate) fn again(flow: &mut Flow, route: &Route, channel: ChannelId) -> bool {
    flow.tried_at = flow.tick();
    flow.in_use = None;
    let facts = &route.upstream.facts;
    let candidates = facts.eligible(ChannelSet::only(channel), &mut flow.cx).channels;
    let number = flow.attempts.saturating_add(1);
    let mut attempt = Attempt { number, pinned: true, safe: false, candidates, chosen: Some(channel) };
    let stopped = matches!(route.chain.on_attempt(&mut attempt, &mut flow.cx), Verdict::Respond(_));
    if stopped || !attempt.candidates.has(channel) {
        return false;
    }
    let taken = facts.channel(channel).is_none_or(|known| known.take(&flow.cx));
    let Some(endpoint) = route.upstream.endpoint(channel, 0).filter(|_| taken) else { return false };
    if !route.chain.on_chosen(&attempt, channel, &mut flow.cx) {
        return false;
    }
    flow.attempts = number;
    flow.cx.channel = Some(channel);
    flow.in_use = facts.channel(channel).map(|known| known.state.begin());
    flow.endpoint = endpoint;
    true
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
    if flow.websocket {
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
pub(crate) fn connect_failed(flow: &mut Flow) -> bool {
    flow.not_sent();
    let (Some(id), Some(route)) = (flow.cx.channel, flow.route.clone()) else { return false };
    if let Some(channel) = flow.channel() {
        channel.metrics.connect_failed();
    }
    let another = has_another_endpoint(flow);
    let may_retry = route.upstream.class != Class::Callback && flow.attempts < MOST_TRIES;
    if may_retry && another {
        // One address of several: the channel has not failed yet.
        return true;
    }
    flow.refused = 0;
    flow.candidates.remove(id);
    let verdict = ended(flow, AttemptResult::ConnectFailed, Known::NotSent, true);
    let pinned_out = flow.pinned.is_some_and(|pinned| !flow.candidates.has(pinned));
    verdict != Retry::Never && may_retry && !flow.candidates.is_empty() && !pinned_out
}

/// The endpoint in use could not be reached. True when its channel has another one.
pub(crate) fn has_another_endpoint(flow: &mut Flow) -> bool {
    let (Some(id), Some(route)) = (flow.cx.channel, flow.route.clone()) else { return false };
    let upstream = &route.upstream;
    if let (Some(streaks), Some(endpoint)) = (upstream.streaks(), endpoint(flow))
        && endpoint.refused(streaks)
    {
        health::say(upstream, &endpoint.address, false, "connections refused");
    }
    flow.refused |= 1 << flow.endpoint;
    upstream.endpoint(id, flow.refused).is_some()
}

fn endpoint(flow: &Flow) -> Option<Arc<EndpointHealth>> {
    let facts = flow.route.as_ref()?.upstream.facts.channel(flow.cx.channel?)?;
    facts.endpoints.get(flow.endpoint).cloned()
}

/// A connected try broke. True when it may be made once more.
pub(super) fn broke(flow: &mut Flow, session: &mut Session, error: &Error, client_reused: bool) -> bool {
    if *error.esource() == ErrorSource::Downstream || matches!(error.etype(), ErrorType::HTTPStatus(_)) {
        return false;
    }
    let callback = flow.route.as_ref().is_some_and(|route| route.upstream.class == Class::Callback);
    let safe = flow.safe && !callback && !session.as_ref().retry_buffer_truncated();
    let unanswered = session.response_written().is_none();
    let died_idle = client_reused && matches!(error.retry, RetryType::ReusedOnly);
    if safe && unanswered && died_idle && flow.attempts < MOST_TRIES {
        return true;
    }
    failed(flow, is_timeout(error));
    false
}

/// A connected try broke for good, or ran out of time.
pub(crate) fn failed(flow: &mut Flow, timed_out: bool) {
    if timed_out && flow.conn.as_ref().is_some_and(Conn::starved) {
        // The upstream waited for the client: nothing is to be learned about it, or slow clients could have it shut out.
        flow.reply = Some(Box::new(body_too_slow()));
        return;
    }
    if let Some(channel) = flow.channel() {
        if timed_out { channel.metrics.timed_out() } else { channel.metrics.broken() }
    }
    let result = if timed_out { AttemptResult::TimedOut } else { AttemptResult::Broken };
    ended(flow, result, Known::Unknown, false);
}

/// A status arrived.
pub(crate) fn answered(flow: &mut Flow, status: StatusCode) {
    flow.known = Some(Known::Final);
    if let Some(channel) = flow.channel() {
        channel.metrics.answered(status.as_u16());
    }
    heard(flow);
    ended(flow, AttemptResult::Status(status), Known::Final, false);
}

/// The endpoint in use has answered.
pub(crate) fn heard(flow: &Flow) {
    if let Some(endpoint) = endpoint(flow) {
        endpoint.answered();
    }
}

/// A try on the flow's channel has ended: the channel's record and the chain learn how.
pub(crate) fn ended(flow: &mut Flow, result: AttemptResult, known: Known, replayable: bool) -> Retry {
    let took = flow.tick().since(flow.tried_at);
    let (Some(channel), Some(route)) = (flow.cx.channel, flow.route.clone()) else { return Retry::NoOpinion };
    let end = AttemptEnd { channel, result, known, took, replayable };
    paced::tried(flow, &end);
    if let Some(facts) = route.upstream.facts.channel(channel) {
        facts.state.record.note(&end, flow.cx.now);
        facts.state.vitals.note(&end);
    }
    route.chain.on_attempt_end(&end, &mut flow.cx)
}
