//! An upstream, as compiled: channels with addresses resolved and peers prepared.

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use pingora::protocols::ALPN;
use pingora::upstreams::peer::HttpPeer;
use tidegate_filters::engine::{ChannelId, ChannelSet, State};

use super::build::SnapshotError;
use crate::config::{self, UpstreamClass};
use crate::payments::Plan;
use crate::telemetry::ChannelMetrics;

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
    /// Longest silence while an answer is awaited or read.
    pub read_timeout: Duration,
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
    /// Counters.
    pub metrics: Arc<ChannelMetrics>,
    next: AtomicUsize,
}

impl Upstream {
    pub(super) fn new(
        name: &str,
        spec: &config::Upstream,
        rotation: Arc<Rotation>,
        metrics: impl Fn(&str) -> Arc<ChannelMetrics>,
    ) -> Result<Self, SnapshotError> {
        let channel = |channel: &config::Channel| {
            let peers: Result<Vec<_>, _> = channel.endpoints.iter().map(|address| peer(name, address, spec)).collect();
            Ok(Channel {
                name: channel.name.as_str().into(),
                peers: peers?.into(),
                metrics: metrics(&channel.name),
                next: AtomicUsize::new(0),
            })
        };
        let channels: Result<Box<[Channel]>, SnapshotError> = spec.channels.iter().map(channel).collect();
        let channels = channels?;
        let plan = || Arc::new(Plan::new(name, spec, |at| &channels[at].peers));
        let plan = (spec.class == UpstreamClass::Payment).then(plan);
        Ok(Self { name: name.into(), plan, channels, read_timeout: spec.read_timeout, rotation })
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

impl Channel {
    /// The endpoint to begin with, in turn.
    #[must_use]
    pub fn rotate(&self) -> usize {
        if self.peers.len() == 1 { 0 } else { self.next.fetch_add(1, Relaxed) % self.peers.len().max(1) }
    }
}

fn peer(upstream: &str, endpoint: &str, spec: &config::Upstream) -> Result<HttpPeer, SnapshotError> {
    let resolved: Option<SocketAddr> = endpoint.to_socket_addrs().ok().and_then(|mut addresses| addresses.next());
    let address = resolved.ok_or_else(|| {
        SnapshotError(format!("upstream `{upstream}`: the endpoint `{endpoint}` does not resolve to an address"))
    })?;
    let mut peer = HttpPeer::new(address, false, String::new());
    peer.options.connection_timeout = Some(spec.connect_timeout);
    peer.options.total_connection_timeout = Some(spec.connect_timeout);
    peer.options.read_timeout = Some(spec.read_timeout);
    peer.options.write_timeout = Some(spec.write_timeout);
    peer.options.idle_timeout = Some(spec.idle_timeout);
    if spec.h2 {
        peer.options.alpn = ALPN::H2;
    }
    Ok(peer)
}
