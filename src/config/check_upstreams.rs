//! `upstreams`: channels with names and addresses of their own.

use std::collections::BTreeMap;
use std::time::Duration;

use tidegate_filters::engine::Rate;

use super::check::{Checker, DAY};
use super::file::UpstreamFile;
use super::file_channel::{AmountFile, ChannelFile, HealthFile, UpstreamProtocolFile};
use super::placed::{At, Named};
use super::types::{Channel, Class, Health, StoreSpec, Upstream};

/// Most channels of an upstream: a set of channels is one machine word.
const MOST_CHANNELS: usize = 64;
/// Most endpoints of a channel.
const MOST_ENDPOINTS: usize = 64;

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
            h2: file.protocol.value != UpstreamProtocolFile::H1,
            tls: self.tls(upstream),
            health: file.health.as_ref().map(|health| self.health(health)),
        }
    }

    fn health(&self, health: &At<HealthFile>) -> Health {
        let HealthFile { path, interval, timeout, unhealthy_after, healthy_after, expect } = &health.value;
        self.probe_path(path, health.at);
        let milliseconds = Duration::from_millis;
        let interval_value = self.span(interval, health.at, milliseconds(100), milliseconds(3_600_000));
        let timeout_value = self.span(timeout, health.at, milliseconds(10), milliseconds(60_000));
        if timeout_value > interval_value {
            let help = Some("a probe ends before the next one begins".to_owned());
            self.wrong_with_help(timeout.or(health.at), "must not be above `interval`", help);
        }
        if expect.value.is_empty() && !self.decoder.is_tainted(expect.at) {
            self.wrong(expect.or(health.at), "no answer would be good; leave it out for 200..299");
        }
        let row = |count: &At<u64>| u32::try_from(self.count(count, health.at, 1, 100)).unwrap_or(u32::MAX);
        Health {
            path: path.value.clone(),
            interval: interval_value,
            timeout: timeout_value,
            unhealthy_after: row(unhealthy_after),
            healthy_after: row(healthy_after),
            expect: expect.value.iter().map(|range| range.value).collect(),
        }
    }

    fn channel(&mut self, channel: &At<ChannelFile>, class: Class) -> Channel {
        let file = &channel.value;
        let (name, endpoints) = (&file.name, &file.endpoints);
        self.name_value(name, "a channel");
        if !(1..=MOST_ENDPOINTS).contains(&endpoints.value.len()) && !self.decoder.is_tainted(endpoints.at) {
            self.wrong(endpoints.at, format!("a channel has 1 to {MOST_ENDPOINTS} endpoints"));
        }
        for (at, endpoint) in endpoints.value.iter().enumerate() {
            self.address(endpoint, channel.at, false);
            if endpoints.value[..at].iter().any(|other| other.value == endpoint.value) {
                self.wrong(endpoint.at, "this endpoint stands here twice");
            }
        }
        for kind in &file.types.value {
            self.name_value(kind, "a type of payment");
        }
        Channel {
            name: name.value.clone(),
            endpoints: endpoints.value.iter().map(|endpoint| endpoint.value.clone()).collect(),
            weight: u16::try_from(self.count(&file.weight, channel.at, 0, 1_000)).unwrap_or(u16::MAX),
            backup: file.backup,
            enabled: file.enabled,
            types: file.types.value.iter().map(|kind| kind.value.clone()).collect(),
            amount: file.amount.as_ref().map(|amount| self.amount(amount)),
            hours: file.hours.as_ref().map(|hours| hours.value.clone()),
            rate: file.rate.as_ref().map(|rate| self.bound(rate)),
            quota: file.quota.as_ref().map(|quota| self.bound(quota)),
            cost: file.cost,
            payment: self.channel_payment(file, class),
        }
    }

    fn amount(&self, amount: &At<AmountFile>) -> (i64, i64) {
        let AmountFile { min, max } = amount.value;
        let (least, most) = (i64::try_from(min), max.map_or(Ok(i64::MAX), i64::try_from));
        match (least, most) {
            (Ok(least), Ok(most)) if least <= most => return (least, most),
            (Ok(_), Ok(_)) => self.wrong(amount.at, "`min` is above `max`: no amount would fit"),
            _ => self.wrong(amount.at, "more than any amount"),
        }
        (0, i64::MAX)
    }

    /// A rate whose bucket fills within a year.
    fn bound(&self, rate: &At<Rate>) -> Rate {
        if rate.value.per > DAY * 366 {
            self.wrong(rate.at, "the time is longer than a year");
        }
        rate.value
    }
}
