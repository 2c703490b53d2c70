//! Which channels a request may use, by their settings, their quotas and their probes; and why not the others.
//!
//! Health has a panic threshold as Envoy's balancer has: when every endpoint of every channel that is switched on is
//! out, the prober is the likelier culprit, and health is ignored until one is in again.

use std::time::Duration;

use super::{ChannelFacts, UpstreamFacts};
use crate::engine::{ChannelId, ChannelSet, RequestContext};

/// Why a channel may not be used for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ineligible {
    /// `enabled: false`.
    Disabled,
    /// `weight: 0`.
    NoWeight,
    /// It does not serve this type of payment.
    Type,
    /// The amount is outside its range.
    Amount,
    /// It is closed at this hour.
    Hours,
    /// It was asked as fast as it may be.
    Rate,
    /// It was asked as often as it may be.
    Quota,
    /// None of its endpoints answers probes.
    Unhealthy,
}

impl Ineligible {
    /// The words of logs and admin answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Ineligible::Disabled => "disabled",
            Ineligible::NoWeight => "weight 0",
            Ineligible::Type => "payment type",
            Ineligible::Amount => "amount",
            Ineligible::Hours => "outside its hours",
            Ineligible::Rate => "rate used up",
            Ineligible::Quota => "quota used up",
            Ineligible::Unhealthy => "unhealthy",
        }
    }
}

/// What was thought of one channel when one was chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct Considered {
    /// The channel.
    pub channel: ChannelId,
    /// Whether it could have been chosen.
    pub eligible: bool,
    /// Why, or why not; `chosen…` for the one that was.
    pub why: &'static str,
    /// Success rate it was judged by, 0 to 1; `None` where it did not matter.
    pub success_rate: Option<f64>,
    /// Median time to its answers; `None` where it did not matter or is not known.
    pub latency: Option<Duration>,
    /// Its share; `None` where it did not matter.
    pub weight: Option<u16>,
}

impl Considered {
    /// A channel that could not be chosen.
    #[must_use]
    pub fn ruled_out(channel: ChannelId, why: &'static str) -> Self {
        Self { channel, eligible: false, why, success_rate: None, latency: None, weight: None }
    }
}

/// The channels a request may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Eligible {
    /// Those.
    pub channels: ChannelSet,
    /// How long until one of the others may be; `None` when that is not a matter of time, or not known.
    pub wait: Option<Duration>,
}

impl UpstreamFacts {
    /// Those of `among` that this request may use now.
    pub fn eligible(&self, among: ChannelSet, cx: &mut RequestContext) -> Eligible {
        let mut eligible = Eligible { channels: among, wait: None };
        let minded = if self.watched && !self.panics() { among } else { among.and(self.restricted) };
        for id in minded.iter() {
            let Some(channel) = self.channel(id) else { continue };
            let healthy = !self.watched || channel.is_healthy() || self.panics();
            let why = channel.ruled_out(cx).or_else(|| (!healthy).then_some((Ineligible::Unhealthy, None)));
            if let Some((why, wait)) = why {
                eligible.channels.remove(id);
                eligible.wait = eligible.wait.into_iter().chain(wait).min();
                cx.consider(|| Considered::ruled_out(id, why.as_str()));
            }
        }
        eligible
    }

    /// Whether probes are ignored because they say that nothing is alive.
    #[must_use]
    pub fn panics(&self) -> bool {
        self.watched && !self.channels.iter().any(|channel| channel.enabled && channel.is_healthy())
    }
}

impl ChannelFacts {
    /// Why its settings keep this request off, and how long until they no longer do.
    #[must_use]
    pub fn ruled_out(&self, cx: &RequestContext) -> Option<(Ineligible, Option<Duration>)> {
        let payment = &cx.payment;
        if !self.enabled {
            return Some((Ineligible::Disabled, None));
        }
        if self.weight == 0 {
            return Some((Ineligible::NoWeight, None));
        }
        if let Some(kind) = &payment.kind
            && !self.types.is_empty()
            && !self.types.contains(kind)
        {
            return Some((Ineligible::Type, None));
        }
        if let (Some(amount), Some((least, most))) = (payment.amount, self.amount)
            && !(least..=most).contains(&amount)
        {
            return Some((Ineligible::Amount, None));
        }
        if let Some(wait) = self.hours.as_ref().and_then(|hours| hours.closed_for(cx.wall)) {
            return Some((Ineligible::Hours, Some(wait)));
        }
        if let Some(wait) = self.rate.and_then(|rate| self.state.pace.wait(rate, cx.now)) {
            return Some((Ineligible::Rate, Some(wait)));
        }
        let wait = self.quota.and_then(|quota| self.state.pace.quota_wait(quota, cx.wall));
        wait.map(|wait| (Ineligible::Quota, Some(wait)))
    }

    /// Takes a try from the channel's rate and quota. False when another request took the last one meanwhile.
    #[must_use]
    pub fn take(&self, cx: &RequestContext) -> bool {
        self.rate.is_none_or(|rate| self.state.pace.take(rate, cx.now))
            && self.quota.is_none_or(|quota| self.state.pace.take_quota(quota, cx.wall))
    }
}
