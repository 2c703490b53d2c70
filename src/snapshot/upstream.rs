//! An upstream, as compiled: channels with addresses resolved and peers prepared.

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use pingora::protocols::ALPN;
use pingora::upstreams::peer::HttpPeer;
use tidegate_filters::channels::{ChannelFacts, ChannelState, Streaks, UpstreamFacts};
use tidegate_filters::engine::{ChannelId, ChannelSet, State, UpstreamId};

use super::build::SnapshotError;
use crate::config::{self, Class};
use crate::payments::Plan;
use crate::proxy::h1::Pool;
use crate::telemetry::ChannelMetrics;
use crate::upstream_tls::{Secured, Tls};

/// Where an upstream's rotation stands. Kept over reloads, so that a reload does not send everybody to the first channel.
#[derive(Default)]
pub(super) struct Rotation(AtomicUsize);

impl State for Rotation {}

/// A named group of interchangeable ways to a service.
pub struct Upstream {
    /// Its name.
    pub name: Arc<str>,
    /// Its channels; 1 to 64.
    pub channels: Box<[Channel]>,
    /// What filters know of it.
    pub facts: Arc<UpstreamFacts>,
    /// What its requests are.
    pub class: config::Class,
    /// How its endpoints are probed; `None`: not at all.
    pub health: Option<Arc<config::Health>>,
    /// Its connections speak HTTP/2.
    pub h2: bool,
    /// Its connections speak TLS.
    pub secure: bool,
    /// Connecting takes at most this.
    pub connect_timeout: Duration,
    /// Longest silence while an answer is awaited or read.
    pub read_timeout: Duration,
    /// Longest time a write may be stuck.
    pub write_timeout: Duration,
    /// How long a connection is kept that nobody uses.
    pub idle_timeout: Duration,
    /// How payments are made; `None` for an upstream of another class.
    pub(crate) plan: Option<Arc<Plan>>,
    rotation: Arc<Rotation>,
}

/// One way to a service.
pub struct Channel {
    /// Its name.
    pub name: Arc<str>,
    /// Interchangeable addresses, ready to be cloned.
    pub peers: Box<[HttpPeer]>,
    /// How each address is spoken to with TLS, in the same order; empty without.
    pub(crate) tls: Box<[Tls]>,
    /// Idle connections to the same addresses, in the same order, for what is forwarded without pingora.
    pub(crate) pools: Box<[Arc<Pool>]>,
    /// Counters.
    pub metrics: Arc<ChannelMetrics>,
    next: AtomicUsize,
}

impl Upstream {
    pub(super) fn new(
        id: UpstreamId,
        (name, spec): (&str, &config::Upstream),
        rotation: Arc<Rotation>,
        kept: impl Fn(&str) -> (Arc<ChannelMetrics>, Arc<ChannelState>),
        pool: impl Fn(SocketAddr) -> Arc<Pool>,
    ) -> Result<Self, SnapshotError> {
        let mut facts = Vec::with_capacity(spec.channels.len());
        let mut channels = Vec::with_capacity(spec.channels.len());
        let wrong = |message: String| SnapshotError(format!("upstream `{name}`: {message}"));
        let secured = spec.tls.as_ref().map(|tls| Secured::new(tls, spec.h2)).transpose().map_err(wrong)?;
        for channel in &spec.channels {
            let addresses = channel.endpoints.iter().map(|endpoint| resolve(name, endpoint));
            let addresses = addresses.collect::<Result<Vec<_>, _>>()?;
            let endpoints = || addresses.iter().zip(&channel.endpoints);
            let tls = secured.iter().flat_map(|tls| channel.endpoints.iter().map(|endpoint| tls.to(endpoint)));
            let (metrics, state) = kept(&channel.name);
            facts.push(known(channel, spec, state));
            channels.push(Channel {
                name: channel.name.as_str().into(),
                peers: endpoints().map(|(address, host)| peer(*address, host, spec, secured.as_ref())).collect(),
                tls: tls.collect::<Result<_, _>>().map_err(wrong)?,
                pools: addresses.iter().map(|address| pool(*address)).collect(),
                metrics,
                next: AtomicUsize::new(0),
            });
        }
        let channels: Box<[Channel]> = channels.into();
        let plan = || Arc::new(Plan::new(name, spec, |at| (&*channels[at].peers, &*channels[at].tls)));
        Ok(Self {
            name: name.into(),
            plan: (spec.class == Class::Payment).then(plan),
            channels,
            facts: Arc::new(UpstreamFacts::new(id, name.into(), facts)),
            class: spec.class,
            health: spec.health.clone().map(Arc::new),
            h2: spec.h2,
            secure: spec.tls.is_some(),
            connect_timeout: spec.connect_timeout,
            read_timeout: spec.read_timeout,
            write_timeout: spec.write_timeout,
            idle_timeout: spec.idle_timeout,
            rotation,
        })
    }

    /// How many signs in a row change an endpoint's state; `None` when nobody would bring it back.
    #[must_use]
    pub fn streaks(&self) -> Option<Streaks> {
        let health = self.health.as_ref()?;
        Some(Streaks { out: health.unhealthy_after, back: health.healthy_after })
    }

    /// The endpoint of a channel to use next, in turn; `refused`: those that refused this request, as bits. Endpoints that
    /// are out are left out unless all are. `None` when none is left.
    #[must_use]
    pub fn endpoint(&self, id: ChannelId, refused: u64) -> Option<usize> {
        let at = usize::from(id.0);
        let (channel, facts) = (self.channels.get(at)?, self.facts.channel(id)?);
        let count = channel.peers.len();
        let some_in = facts.is_healthy();
        let usable = |at: &usize| {
            let is_in = !facts.watched || !some_in || facts.endpoints.get(*at).is_none_or(|known| known.is_in());
            is_in && refused & 1 << at == 0
        };
        if count == 1 {
            return Some(0).filter(usable);
        }
        let start = channel.next.fetch_add(1, Relaxed);
        (0..count).map(|step| (start + step) % count).find(usable)
    }

    /// The next channel in turn among the candidates; `None` when there are none.
    #[must_use]
    pub fn rotate(&self, candidates: ChannelSet) -> Option<ChannelId> {
        if self.channels.len() == 1 {
            return candidates.first();
        }
        let turn = self.rotation.0.fetch_add(1, Relaxed) % self.channels.len().max(1);
        candidates.next_from(u8::try_from(turn).unwrap_or(0))
    }

    /// The number of a channel by name; `None` when there is none of that name.
    #[must_use]
    pub fn channel_named(&self, name: &str) -> Option<ChannelId> {
        let at = self.channels.iter().position(|channel| &*channel.name == name)?;
        u8::try_from(at).ok().map(ChannelId)
    }
}

fn known(channel: &config::Channel, spec: &config::Upstream, state: Arc<ChannelState>) -> ChannelFacts {
    ChannelFacts {
        enabled: channel.enabled,
        backup: channel.backup,
        weight: channel.weight,
        types: channel.types.iter().map(|kind| kind.as_str().into()).collect(),
        amount: channel.amount,
        hours: channel.hours.clone(),
        rate: channel.rate,
        quota: channel.quota,
        cost: channel.cost,
        idempotent: channel.payment.idempotent,
        watched: spec.health.is_some(),
        endpoints: channel.endpoints.iter().map(|address| state.endpoint(address)).collect(),
        ..ChannelFacts::open(channel.name.as_str().into(), state)
    }
}

fn resolve(upstream: &str, endpoint: &str) -> Result<SocketAddr, SnapshotError> {
    let resolved = endpoint.to_socket_addrs().ok().and_then(|mut addresses| addresses.next());
    resolved.ok_or_else(|| {
        SnapshotError(format!("upstream `{upstream}`: the endpoint `{endpoint}` does not resolve to an address"))
    })
}

fn peer(address: SocketAddr, endpoint: &str, spec: &config::Upstream, tls: Option<&Secured>) -> HttpPeer {
    let plain = || HttpPeer::new(address, false, String::new());
    let mut peer = tls.map_or_else(plain, |tls| tls.peer(address, endpoint));
    peer.options.connection_timeout = Some(spec.connect_timeout);
    peer.options.total_connection_timeout = Some(spec.connect_timeout);
    peer.options.read_timeout = Some(spec.read_timeout);
    peer.options.write_timeout = Some(spec.write_timeout);
    peer.options.idle_timeout = Some(spec.idle_timeout);
    if spec.h2 {
        peer.options.alpn = ALPN::H2;
    }
    peer
}
