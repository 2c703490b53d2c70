//! An upstream, as compiled: channels with addresses resolved and peers prepared.

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use pingora::protocols::ALPN;
use pingora::upstreams::peer::HttpPeer;
use tidegate_filters::engine::{ChannelId, ChannelSet, State};

use super::build::SnapshotError;
use crate::config;
use crate::proxy::h1::Pool;
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
    /// Its connections speak HTTP/2.
    pub h2: bool,
    /// Connecting takes at most this.
    pub connect_timeout: Duration,
    /// Longest silence while an answer is awaited or read.
    pub read_timeout: Duration,
    /// Longest time a write may be stuck.
    pub write_timeout: Duration,
    /// How long a connection is kept that nobody uses.
    pub idle_timeout: Duration,
    rotation: Arc<Rotation>,
}

/// One way to a service.
pub struct Channel {
    /// Its name.
    pub name: Arc<str>,
    /// Interchangeable addresses, ready to be cloned.
    pub peers: Box<[HttpPeer]>,
    /// Idle connections to the same addresses, in the same order, for what is forwarded without pingora.
    pub(crate) pools: Box<[Arc<Pool>]>,
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
        pool: impl Fn(SocketAddr) -> Arc<Pool>,
    ) -> Result<Self, SnapshotError> {
        let channel = |channel: &config::Channel| {
            let addresses = channel.endpoints.iter().map(|endpoint| resolve(name, endpoint));
            let addresses = addresses.collect::<Result<Vec<_>, _>>()?;
            Ok(Channel {
                name: channel.name.as_str().into(),
                peers: addresses.iter().map(|address| peer(*address, spec)).collect(),
                pools: addresses.iter().map(|address| pool(*address)).collect(),
                metrics: metrics(&channel.name),
                next: AtomicUsize::new(0),
            })
        };
        let channels: Result<Box<[_]>, SnapshotError> = spec.channels.iter().map(channel).collect();
        Ok(Self {
            name: name.into(),
            channels: channels?,
            h2: spec.h2,
            connect_timeout: spec.connect_timeout,
            read_timeout: spec.read_timeout,
            write_timeout: spec.write_timeout,
            idle_timeout: spec.idle_timeout,
            rotation,
        })
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

fn resolve(upstream: &str, endpoint: &str) -> Result<SocketAddr, SnapshotError> {
    let resolved = endpoint.to_socket_addrs().ok().and_then(|mut addresses| addresses.next());
    resolved.ok_or_else(|| {
        SnapshotError(format!("upstream `{upstream}`: the endpoint `{endpoint}` does not resolve to an address"))
    })
}

fn peer(address: SocketAddr, spec: &config::Upstream) -> HttpPeer {
    let mut peer = HttpPeer::new(address, false, String::new());
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
