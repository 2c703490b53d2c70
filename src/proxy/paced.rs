//! Deferred requests choose among channels whose time has come.
//!
//! Every channel is sent deferred requests at a pace of its own. A channel whose time has not come is no candidate, but
//! neither is a backup because of that: what is deferred can wait. A channel that cannot be used by anybody now rests, so
//! that nobody is called for it in vain.

use std::time::Duration;

use tidegate_filters::channels::{Eligible, Ineligible};
use tidegate_filters::engine::{AttemptEnd, ChannelId, ChannelSet, Reply};
use tidegate_filters::respond_async::core::May;

use super::flow::Flow;
use crate::snapshot::Route;

/// How long a channel rests when nobody says how long it cannot be used.
const REST: Duration = Duration::from_secs(1);

/// Those of `eligible` that a deferred request may be sent to now; all of them for any other request.
pub(super) fn narrow(flow: &Flow, route: &Route, eligible: Eligible) -> Eligible {
    let Some(turn) = &flow.turn else { return eligible };
    let facts = &route.upstream.facts;
    let (mut able, mut late, mut wait) = (eligible.channels, ChannelSet(0), eligible.wait);
    for id in eligible.channels.iter() {
        let says = facts.channel(id).map_or(May::Now, |channel| turn.may(&channel.name, flow.cx.now));
        match says {
            May::Now => continue,
            May::Later(_) => late.insert(id),
            May::Rests(_) => able.remove(id),
        }
        if let May::Later(time) | May::Rests(time) = says {
            wait = Some(wait.map_or(time, |wait| wait.min(time)));
        }
    }
    Eligible { channels: facts.foremost(able).without(late), wait }
}

/// Says when it is worth asking again, where a channel has only to wait for its turn: how long another one rests is not what
/// a deferred request waits for.
pub(super) fn sooner(flow: &mut Flow, route: &Route, mut reply: Box<Reply>) -> Box<Reply> {
    let Some(turn) = flow.turn.clone() else { return reply };
    let facts = &route.upstream.facts;
    let fit = facts.eligible(flow.candidates, &mut flow.cx).channels;
    let turns = fit.iter().filter_map(|id| match turn.may(&facts.channel(id)?.name, flow.cx.now) {
        May::Later(time) => Some(time),
        May::Now | May::Rests(_) => None,
    });
    if let Some(next) = turns.min() {
        reply.retry_after = Some(reply.retry_after.map_or(next, |asked| asked.min(next)));
    }
    reply
}

/// The candidates of a choice, step by step.
pub(super) struct Steps {
    /// Before anybody was asked.
    pub(super) among: ChannelSet,
    /// Left by the channels' settings, quotas and probes.
    pub(super) fit: ChannelSet,
    /// Left by their paces.
    pub(super) due: ChannelSet,
    /// Left by the filters.
    pub(super) left: ChannelSet,
}

/// Lets those rest that a choice has shown to be of no use to anybody now. `wait`: for how long, if a filter said so.
pub(super) fn note(flow: &Flow, route: &Route, steps: &Steps, wait: Option<Duration>) {
    let Some(turn) = &flow.turn else { return };
    for id in steps.among.without(steps.left).iter() {
        let Some(channel) = route.upstream.facts.channel(id) else { continue };
        let rest = match channel.ruled_out(&flow.cx) {
            _ if steps.due.has(id) => wait,
            // It has only to wait.
            _ if steps.fit.has(id) => continue,
            // Others may go there.
            Some((Ineligible::Type | Ineligible::Amount, _)) => continue,
            Some((_, wait)) => wait,
            None => None,
        };
        turn.rest(&channel.name, rest.unwrap_or(REST), flow.cx.now);
    }
}

/// Takes the chosen channel's turn; false when it has just gone to another.
pub(super) fn charge(flow: &Flow, id: ChannelId) -> bool {
    let (Some(turn), Some(route)) = (&flow.turn, &flow.route) else { return true };
    route.upstream.facts.channel(id).is_none_or(|channel| turn.charge(&channel.name, flow.cx.now))
}

/// Tells the pace of a channel how a try there has ended.
pub(super) fn tried(flow: &Flow, end: &AttemptEnd) {
    if let (Some(turn), Some(channel)) = (&flow.turn, flow.channel()) {
        turn.tried(&channel.name, end, flow.cx.now);
    }
}
