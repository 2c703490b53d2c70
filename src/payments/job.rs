//! A payment as it is handed over, and as it comes back.

use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::json;
use tidegate_filters::engine::{ChannelId, ChannelSet, Reply};
use tokio::time::Instant;

use super::journal::{Frozen, View};
use super::plan::Plan;
use super::wire::{Answer, Request};
use crate::proxy::flow::Flow;

/// How far a payment has come, for a client that does not wait to the end.
#[derive(Default)]
pub(crate) struct Progress(Mutex<(Option<ChannelId>, u8)>);

impl Progress {
    /// A try on this channel begins; it is number so and so.
    pub(super) fn set(&self, channel: ChannelId, attempts: u8) {
        *self.0.lock() = (Some(channel), attempts);
    }

    /// The channel in use and the number of tries.
    pub(crate) fn get(&self) -> (Option<ChannelId>, u8) {
        *self.0.lock()
    }
}

/// What is to be done.
pub(crate) struct Job {
    /// The request's state, for the stages that choose channels.
    pub(crate) flow: Box<Flow>,
    /// The upstream.
    pub(crate) plan: Arc<Plan>,
    /// What is asked for; `None` when payments are not recognised.
    pub(crate) frozen: Option<Frozen>,
    /// What is sent.
    pub(crate) request: Request,
    /// Where others see how far it has come.
    pub(crate) progress: Arc<Progress>,
    /// Until when the client waits.
    pub(crate) until: Instant,
}

impl Job {
    /// The channels as they were when one was chosen, for whoever asks later.
    pub(super) fn considered(&self, chosen: ChannelId, rounds: ChannelSet) -> String {
        let explained = &self.flow.cx.considered;
        let all = (0..).map(ChannelId).zip(&self.plan.channels).map(|(id, channel)| {
            if let Some(known) = explained.iter().find(|known| known.channel == id) {
                let latency_ms = known.latency.map(|latency| latency.as_millis());
                return json!({
                    "channel": &*channel.name, "eligible": known.eligible, "reason": known.why,
                    "success_rate": known.success_rate, "latency_ms": latency_ms, "weight": known.weight,
                });
            }
            let reason = if id == chosen {
                "chosen"
            } else if self.flow.candidates.has(id) {
                "available"
            } else if rounds.has(id) {
                "did nothing in this round"
            } else {
                "was left for good"
            };
            json!({ "channel": &*channel.name, "reason": reason })
        });
        serde_json::Value::Array(all.collect()).to_string()
    }
}

/// What the client is told.
pub(crate) enum End {
    /// The channel's own answer.
    Passed(Box<Answer>),
    /// Nobody knows, `silent`: because the channel said nothing in time.
    Doubt {
        /// The channel said nothing in time.
        silent: bool,
    },
    /// Nothing was sent anywhere.
    NotSent,
    /// Refused by a filter or by what is asked for.
    Refused(Box<Reply>),
    /// The number is known and this is how it stands; nothing was sent.
    Recorded(Box<View>),
    /// The number belongs to something else, which may be paid.
    Reused(Box<Reply>),
    /// The journal could not be used, and this request sent nothing.
    NoJournal {
        /// An earlier one with this number may have.
        doubt: bool,
    },
}

/// A payment that has ended, or is left to the resolver.
pub(crate) struct Done {
    /// The request's state.
    pub(crate) flow: Box<Flow>,
    /// What the client is told.
    pub(crate) end: End,
}
