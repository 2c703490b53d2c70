//! `upstreams`: channels with names and addresses of their own.

use std::collections::BTreeMap;

use super::check::Checker;
use super::file::{ChannelFile, UpstreamFile};
use super::file_server::ProtocolFile;
use super::placed::{At, Named};
use super::types::{Channel, StoreSpec, Upstream};
use super::types_payments::UpstreamClass;

/// Most channels of an upstream: a set of channels is one machine word.
const MOST_CHANNELS: usize = 64;

impl Checker<'_, '_> {
    pub(super) fn upstreams(
        &mut self,
        file: &Named<UpstreamFile>,
        stores: &BTreeMap<String, StoreSpec>,
    ) -> BTreeMap<String, Upstream> {
        let upstreams = file.0.iter().map(|(name, upstream)| {
            self.name(upstream.at, name, "an upstream");
            (name.clone(), self.upstream(upstream, name, stores))
        });
        upstreams.collect()
    }

    fn upstream(&mut self, upstream: &At<UpstreamFile>, name: &str, stores: &BTreeMap<String, StoreSpec>) -> Upstream {
        let file = &upstream.value;
        let channels = &file.channels;
        let fits = (1..=MOST_CHANNELS).contains(&channels.value.len());
        if !fits && !self.decoder.is_tainted(channels.at) {
            self.wrong(channels.at, format!("an upstream has 1 to {MOST_CHANNELS} channels"));
        }
        for (at, channel) in channels.value.iter().enumerate() {
            let name = &channel.value.name;
            if channels.value[..at].iter().any(|other| other.value.name.value == name.value) {
                self.wrong(name.at, format!("two channels are named `{}`", name.value));
            }
        }
        let (class, journal, payment) = self.payments(upstream, name, stores);
        Upstream {
            class,
            journal,
            payment,
            channels: channels.value.iter().map(|channel| self.channel(channel, class)).collect(),
            connect_timeout: self.timeout(&file.connect_timeout, upstream.at),
            read_timeout: self.timeout(&file.read_timeout, upstream.at),
            write_timeout: self.timeout(&file.write_timeout, upstream.at),
            idle_timeout: self.timeout(&file.idle_timeout, upstream.at),
            h2: file.protocol == ProtocolFile::H2c,
        }
    }

    fn channel(&self, channel: &At<ChannelFile>, class: UpstreamClass) -> Channel {
        let ChannelFile { name, endpoints, .. } = &channel.value;
        self.name_value(name, "a channel");
        if endpoints.value.is_empty() && !self.decoder.is_tainted(endpoints.at) {
            self.wrong(endpoints.at, "a channel needs at least one endpoint");
        }
        for (at, endpoint) in endpoints.value.iter().enumerate() {
            self.address(endpoint, channel.at, false);
            if endpoints.value[..at].iter().any(|other| other.value == endpoint.value) {
                self.wrong(endpoint.at, "this endpoint stands here twice");
            }
        }
        let endpoints = endpoints.value.iter().map(|endpoint| endpoint.value.clone()).collect();
        let payment = self.channel_payment(&channel.value, class);
        Channel { name: name.value.clone(), endpoints, payment }
    }
}
