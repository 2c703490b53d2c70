//! What filters know of upstreams: each channel's settings, and what its tries have shown.
//!
//! The gateway makes one [`UpstreamFacts`] for each upstream of a file; the memory behind it ([`ChannelState`]) is in
//! the registry, so a reload finds it again. What a channel's settings rule out is ruled out before any filter of the
//! attempt stage runs and whether or not there is one: a channel that is switched off is off.
//!
//! Time is an argument here as everywhere: opening hours take wall time, everything else the monotonic clock.

mod cost;
mod eligible;
mod endpoint;
mod hours;
mod pace;
mod record;
mod state;
#[cfg(test)]
mod tests;
mod vitals;

use std::sync::Arc;

use crate::engine::{ChannelId, ChannelSet, Rate, UpstreamId};

pub use cost::Cost;
pub use eligible::{Considered, Eligible, Ineligible};
pub use endpoint::{EndpointHealth, Streaks};
pub use hours::Hours;
pub use record::{Figures, Judged, Record, judge};
pub use state::ChannelState;
pub use vitals::{Reading, Vitals};

/// What is known about a payment. Filled by the gateway's payment engine or by `failover` from headers or the body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PaymentFacts {
    /// Type of the payment, as in a channel's `types`; `None`: not known, and then no channel is ruled out by it.
    pub kind: Option<Arc<str>>,
    /// Amount in minor units; `None`: not known, and then no channel is ruled out by it.
    pub amount: Option<i64>,
}

/// An upstream, as filters know it.
pub struct UpstreamFacts {
    /// Its number in the snapshot.
    pub id: UpstreamId,
    /// Its name.
    pub name: Arc<str>,
    /// Its channels in file order; the place is the [`ChannelId`].
    pub channels: Box<[ChannelFacts]>,
    restricted: ChannelSet,
    backups: ChannelSet,
    watched: bool,
}

/// A channel, as filters know it.
pub struct ChannelFacts {
    /// Its name.
    pub name: Arc<str>,
    /// Whether it takes new requests at all.
    pub enabled: bool,
    /// Whether it is used only when no other channel can be.
    pub backup: bool,
    /// Its share where shares count, 0 to 1000; 0 takes no new requests.
    pub weight: u16,
    /// Types of payments it serves; empty: all.
    pub types: Box<[Arc<str>]>,
    /// Least and greatest amount in minor units, both included; `None`: all.
    pub amount: Option<(i64, i64)>,
    /// When it serves; `None`: always.
    pub hours: Option<Hours>,
    /// How fast it may be asked; `None`: no bound.
    pub rate: Option<Rate>,
    /// How many tries it may get in each span of that length; `None`: no bound.
    pub quota: Option<Rate>,
    /// What a payment costs on it.
    pub cost: Cost,
    /// Whether the same request sent twice under one key acts once.
    pub idempotent: bool,
    /// Whether its endpoints are probed.
    pub watched: bool,
    /// Its endpoints in file order.
    pub endpoints: Box<[Arc<EndpointHealth>]>,
    /// What its tries have shown; outlives reloads.
    pub state: Arc<ChannelState>,
}

impl UpstreamFacts {
    /// An upstream of these channels.
    #[must_use]
    pub fn new(id: UpstreamId, name: Arc<str>, channels: Vec<ChannelFacts>) -> Self {
        let those = |wanted: fn(&ChannelFacts) -> bool| {
            let mut set = ChannelSet(0);
            let numbered = (0u8..64).zip(&channels);
            numbered.filter(|(_, channel)| wanted(channel)).for_each(|(at, _)| set.insert(ChannelId(at)));
            set
        };
        let restricted = those(ChannelFacts::is_restricted);
        let backups = those(|channel| channel.backup);
        let watched = channels.iter().any(|channel| channel.watched);
        Self { id, name, channels: channels.into(), restricted, backups, watched }
    }

    /// The channel of that number; `None` when there is none.
    #[must_use]
    pub fn channel(&self, id: ChannelId) -> Option<&ChannelFacts> {
        self.channels.get(usize::from(id.0))
    }

    /// Those of `among` that come first: backups only when there is nobody else.
    #[must_use]
    pub fn foremost(&self, among: ChannelSet) -> ChannelSet {
        let front = among.without(self.backups);
        if front.is_empty() { among } else { front }
    }

    /// Whether any channel minds the type or the amount of a payment.
    #[must_use]
    pub fn minds_payments(&self) -> bool {
        self.channels.iter().any(|channel| !channel.types.is_empty() || channel.amount.is_some())
    }
}

impl ChannelFacts {
    /// A channel without restrictions.
    #[must_use]
    pub fn open(name: Arc<str>, state: Arc<ChannelState>) -> Self {
        Self {
            name,
            enabled: true,
            backup: false,
            weight: 1,
            types: Box::default(),
            amount: None,
            hours: None,
            rate: None,
            quota: None,
            cost: Cost::default(),
            idempotent: false,
            watched: false,
            endpoints: Box::default(),
            state,
        }
    }

    fn is_restricted(&self) -> bool {
        let plain = self.enabled && self.weight > 0 && self.types.is_empty() && self.amount.is_none();
        !(plain && self.hours.is_none() && self.rate.is_none() && self.quota.is_none())
    }

    /// Whether an endpoint of it can be used, as far as probes know.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        !self.watched || self.endpoints.iter().any(|endpoint| endpoint.is_in())
    }
}
