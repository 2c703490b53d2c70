//! Counters since the start, as JSON and in the text form for a scraper.

use std::fmt::Write;

use serde_json::{Map, Value};

use super::channel::Channel;
use super::plan::Kind;
use crate::support::Counter;

/// What happened since the start.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) calls: Counter,
    pub(super) throttled: Counter,
    pub(super) overloaded: Counter,
    pub(super) created: Counter,
    pub(super) replayed: Counter,
    pub(super) charged: Counter,
    pub(super) declined: Counter,
    pub(super) closed: Counter,
    pub(super) refunded: Counter,
    pub(super) callback_attempts: Counter,
    pub(super) callback_copies: Counter,
    pub(super) callbacks_acknowledged: Counter,
    pub(super) callbacks_given_up: Counter,
    pub(super) probes: Counter,
    pub(super) probes_accepted: Counter,
    faults: [Counter; Kind::ALL.len()],
}

impl Counters {
    /// Counts a fault.
    pub(super) fn fault(&self, kind: Kind) {
        self.faults[kind as usize].add(1);
    }
}

/// Name, help and value of every counter.
fn all(channel: &Channel) -> [(&'static str, &'static str, u64); 17] {
    let counters = &channel.counters;
    let stats = channel.store.stats();
    [
        ("calls", "Calls of shops and buyers, refused ones included.", counters.calls.get()),
        ("throttled", "Calls refused with 429 because of the plan.", counters.throttled.get()),
        ("overloaded", "Calls refused with 503 because of the plan.", counters.overloaded.get()),
        ("created", "Payments created.", counters.created.get()),
        ("replayed", "Calls answered with what an earlier one did.", counters.replayed.get()),
        ("charged", "Payments charged.", counters.charged.get()),
        ("declined", "Payments declined.", counters.declined.get()),
        ("closed", "Payments closed.", counters.closed.get()),
        ("refunded", "Refunds made.", counters.refunded.get()),
        ("callback_attempts", "Callbacks sent, retries included, copies not.", counters.callback_attempts.get()),
        ("callback_copies", "Copies of callbacks sent because of the plan.", counters.callback_copies.get()),
        ("callbacks_acknowledged", "Callbacks acknowledged.", counters.callbacks_acknowledged.get()),
        ("callbacks_given_up", "Callbacks given up after the last retry.", counters.callbacks_given_up.get()),
        ("probes", "Callbacks with a wrong signature sent because of the plan.", counters.probes.get()),
        ("probes_accepted", "Those a receiver acknowledged, which it must not.", counters.probes_accepted.get()),
        ("store_commits", "Transactions committed, one fsync each.", stats.commits),
        ("store_operations", "Operations in those transactions.", stats.operations),
    ]
}

/// All counters by name.
pub(super) fn json(channel: &Channel) -> Map<String, Value> {
    all(channel).into_iter().map(|(name, _, value)| (name.to_owned(), value.into())).collect()
}

/// How often each fault of the plans happened, without those that did not.
pub(super) fn faults(channel: &Channel) -> Map<String, Value> {
    let counted = Kind::ALL.into_iter().zip(&channel.counters.faults).filter(|(_, count)| count.get() > 0);
    counted.map(|(kind, count)| (kind.name(), count.get().into())).collect()
}

/// All counters in the text exposition format.
pub(super) fn text(channel: &Channel) -> String {
    let mut out = String::new();
    for (name, help, value) in all(channel) {
        let name = format!("channel_{name}_total");
        // Writing to a String cannot fail.
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} counter");
        let _ = writeln!(out, "{name}{{channel=\"{}\"}} {value}", channel.name);
    }
    let _ =
        writeln!(out, "# HELP channel_faults_total Faults because of the plan.\n# TYPE channel_faults_total counter");
    for (kind, count) in faults(channel) {
        let _ = writeln!(out, "channel_faults_total{{channel=\"{}\",kind=\"{kind}\"}} {count}", channel.name);
    }
    out
}
