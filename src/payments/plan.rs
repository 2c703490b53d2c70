//! A payment upstream, as compiled.

use std::sync::Arc;

use pingora::upstreams::peer::HttpPeer;

use super::signature::{Doubt, Verifier};
use super::wire::{Answer, Target};
use crate::config::{self, ChannelPayment, PaymentSpec};
use crate::upstream_tls::Tls;

/// What the engine knows of an upstream of class `payment`.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The upstream's name.
    pub(crate) upstream: Arc<str>,
    /// How payments are recognised; `None`: they are not, each is tried once.
    pub(crate) spec: Option<PaymentSpec>,
    /// Whether payments are written down.
    pub(crate) journal: bool,
    /// Its channels, numbered as in the upstream.
    pub(crate) channels: Box<[Channel]>,
}

/// What the engine knows of a channel.
#[derive(Debug)]
pub(crate) struct Channel {
    /// Its name.
    pub(crate) name: Arc<str>,
    /// What it says of itself.
    pub(crate) terms: ChannelPayment,
    /// Its addresses, numbered as in the upstream.
    pub(crate) targets: Box<[Target]>,
    verifier: Option<Verifier>,
}

impl Channel {
    /// The part of the body that counts; `None`: it was too large to be read. Where the channel signs, what is not its own
    /// says nothing, whatever its status: a forger could take a signature away, and a refusal frees a payment.
    ///
    /// # Errors
    /// Why it says nothing.
    pub(super) fn believed<'a>(&self, answer: &'a Answer, now_ms: i64) -> Result<Option<&'a [u8]>, &'static str> {
        let Some(verifier) = &self.verifier else { return Ok(answer.body.as_deref()) };
        let body = answer.body.as_deref().ok_or("an answer that is too large to be verified")?;
        verifier.check(&answer.headers, body, now_ms).map(Some).map_err(Doubt::as_str)
    }
}

impl Plan {
    /// The plan of a payment upstream; `ways`: the prepared addresses of channel number so and so, and their TLS if there is any.
    pub(crate) fn new<'p>(
        name: &str,
        spec: &config::Upstream,
        ways: impl Fn(usize) -> (&'p [HttpPeer], &'p [Tls]),
    ) -> Self {
        let channel = |(at, channel): (usize, &config::Channel)| Channel {
            name: channel.name.as_str().into(),
            terms: channel.payment.clone(),
            verifier: channel.payment.signature.as_ref().map(Verifier::new),
            targets: {
                let (peers, tls) = ways(at);
                let tls = tls.iter().cloned().map(Some).chain(std::iter::repeat(None));
                let ways = peers.iter().zip(&channel.endpoints).zip(tls);
                ways.filter_map(|((peer, endpoint), tls)| Target::of(peer, endpoint, spec.h2, tls)).collect()
            },
        };
        Self {
            upstream: name.into(),
            spec: spec.payment.clone(),
            journal: spec.journal.is_some(),
            channels: spec.channels.iter().enumerate().map(channel).collect(),
        }
    }

    /// The channel of that name.
    pub(crate) fn channel(&self, name: &str) -> Option<&Channel> {
        self.channels.iter().find(|channel| &*channel.name == name)
    }

    /// Where a client finds the state of a payment; `None` without a journal.
    pub(crate) fn location(&self, id: &str) -> Option<String> {
        let spec = self.spec.as_ref().filter(|_| self.journal)?;
        Some(format!("{}{id}", spec.location))
    }
}
