//! Chooses the channel of a request, and another one when it is known that the first did nothing.
//!
//! **Stage.** Request, to learn what a payment is; attempt, to choose. Stands last: settings, quotas, probes and breakers
//! have taken out what cannot be used.
//!
//! **Method.** `priority`: file order. `weighted`: nginx's smooth weighted round robin. `score`: success, then speed, then
//! cost, with hysteresis and a little exploration, as payment routers do it (juspay's and Hyperswitch's are the nearest).
//! Backups come only when nobody else can be used. Which channels there are to choose from is
//! [`UpstreamFacts::eligible`]'s word, whether or not this filter is in the chain.
//!
//! **Another channel** is asked for ([`Retry::Again`]) only when it is known that the request was not sent or not
//! processed, at most `max_changes` times.
//!
//! **State.** The turn (`weighted`) and the leads (`score`) for each filter name and upstream, kept over a reload. What
//! scores count is the channels' own record, which all filters share.
//!
//! **Explanation.** With `cx.explain` on, `cx.considered` has a line for each channel behind every choice.
//!
//! **Pinned requests** have one candidate, and nothing is chosen.
//!
//! **Units.** Amounts in minor units; rates from 0 to 1.
//!
//! **Fails.** A type or amount that is missing or unreadable rules no channel out: the channel itself refuses what it
//! does not serve.
//!
//! **Wrong for.** Retrying what may have been done: no setting allows that.

mod score;
mod settings;
#[cfg(test)]
mod tests;
mod weighted;

use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

use crate::channels::{Considered, UpstreamFacts};
use crate::engine::{
    Attempt, AttemptEnd, BuildContext, BuildError, ChannelId, CheckContext, Decision, Filter, FilterSpec, Known,
    Problems, RequestContext, RequestHead, Retry, Stages, State, Step, Verdict,
};
use score::{Leads, merit};
use weighted::Balance;

pub use settings::{Failover, Policy, Score, Source};

impl FilterSpec for Failover {
    fn step(&self) -> Step {
        Step::Choose
    }

    fn check(&self, _: &CheckContext<'_>, problems: &mut Problems) {
        self.find_problems(problems);
    }

    fn build(&self, cx: &mut BuildContext<'_>) -> Result<Arc<dyn Filter>, BuildError> {
        let mut upstreams = Vec::new();
        for facts in cx.upstreams {
            let memory: Arc<Memory> = cx.state("failover", Some(&facts.name), (), Memory::default);
            let places = memory.balance.places(facts);
            upstreams.push(Chooser { facts: facts.clone(), memory, places });
        }
        let minds_payments = cx.upstreams.iter().any(|facts| facts.minds_payments());
        let by_cost = self.policy == Policy::Score;
        Ok(Arc::new(Choice { settings: self.clone(), reads: minds_payments || by_cost, upstreams: upstreams.into() }))
    }
}

/// What is remembered for one upstream.
#[derive(Default)]
struct Memory {
    balance: Balance,
    leads: Leads,
}

impl State for Memory {}

struct Chooser {
    facts: Arc<UpstreamFacts>,
    memory: Arc<Memory>,
    places: Box<[usize]>,
}

/// The runtime half.
struct Choice {
    settings: Failover,
    /// Whether anybody minds what a payment is.
    reads: bool,
    upstreams: Box<[Chooser]>,
}

impl Source {
    fn read<'a>(&self, head: &'a RequestHead<'_>, body: Option<&'a Value>) -> Option<std::borrow::Cow<'a, str>> {
        if let Some(name) = &self.header {
            return head.header_str(name).map(Into::into);
        }
        match body?.pointer(self.json.as_deref()?)? {
            Value::String(text) => Some(text.as_str().into()),
            Value::Number(number) => Some(number.to_string().into()),
            _ => None,
        }
    }
}

impl Choice {
    fn chooser(&self, cx: &RequestContext) -> Option<&Chooser> {
        self.upstreams.iter().find(|chooser| chooser.facts.id == cx.upstream)
    }

    fn learn(&self, head: &RequestHead<'_>, cx: &mut RequestContext) {
        let wanted = self.settings.kind.json.is_some() || self.settings.amount.json.is_some();
        let parse = |bytes: &Bytes| serde_json::from_slice(bytes).ok();
        let body: Option<Value> = cx.body.as_ref().filter(|_| wanted).and_then(parse);
        // What somebody who knows better has put there stays.
        if cx.payment.kind.is_none() {
            cx.payment.kind = self.settings.kind.read(head, body.as_ref()).map(|kind| kind.as_ref().into());
        }
        if cx.payment.amount.is_none() {
            let amount = self.settings.amount.read(head, body.as_ref());
            cx.payment.amount = amount.and_then(|amount| amount.trim().parse().ok());
        }
    }

    fn choose(&self, chooser: &Chooser, attempt: &Attempt, cx: &mut RequestContext) -> Option<ChannelId> {
        let facts = &chooser.facts;
        let front = facts.foremost(attempt.candidates);
        for id in attempt.candidates.without(front).iter() {
            cx.consider(|| Considered {
                eligible: true,
                ..Considered::ruled_out(id, "a backup, and others can be used")
            });
        }
        match self.settings.policy {
            Policy::Priority => {
                let chosen = front.first()?;
                explain(front, chosen, "chosen: first in the file", cx, |_| ());
                Some(chosen)
            }
            Policy::Weighted => {
                let chosen = chooser.memory.balance.next(front, facts, &chooser.places)?;
                let weight = |considered: &mut Considered| {
                    considered.weight = facts.channel(considered.channel).map(|channel| channel.weight);
                };
                explain(front, chosen, "chosen: its turn by weight", cx, weight);
                Some(chosen)
            }
            Policy::Score => {
                let (by, now) = (&self.settings.score, cx.now);
                let merits: Vec<_> =
                    front.iter().filter_map(|id| merit(id, facts, cx.payment.amount, by, now)).collect();
                let explores = attempt.number == 1;
                let (chosen, why) = chooser.memory.leads.choose(&merits, facts, by, explores, now)?;
                let judged = |considered: &mut Considered| {
                    if let Some(merit) = merits.iter().find(|merit| merit.id == considered.channel) {
                        considered.success_rate = Some(merit.success_rate);
                        considered.latency = merit.latency;
                    }
                };
                explain(front, chosen, why, cx, judged);
                Some(chosen)
            }
        }
    }
}

fn explain(
    among: crate::engine::ChannelSet,
    chosen: ChannelId,
    why: &'static str,
    cx: &mut RequestContext,
    more: impl Fn(&mut Considered),
) {
    for id in among.iter() {
        cx.consider(|| {
            let why = if id == chosen { why } else { "could have been chosen" };
            let mut considered = Considered { eligible: true, ..Considered::ruled_out(id, why) };
            more(&mut considered);
            considered
        });
    }
}

impl Filter for Choice {
    fn stages(&self) -> Stages {
        if self.reads { Stages::REQUEST.and(Stages::ATTEMPT) } else { Stages::ATTEMPT }
    }

    fn on_request(&self, head: &RequestHead<'_>, cx: &mut RequestContext) -> Decision {
        self.learn(head, cx);
        Decision::Continue
    }

    fn on_attempt(&self, attempt: &mut Attempt, cx: &mut RequestContext) -> Verdict {
        let Some(chooser) = self.chooser(cx) else { return Verdict::Continue };
        match attempt.chosen {
            Some(id) => cx.consider(|| Considered {
                eligible: true,
                ..Considered::ruled_out(id, "chosen: another endpoint of the same channel")
            }),
            None if attempt.pinned => {
                if let Some(id) = attempt.candidates.first() {
                    cx.consider(|| Considered {
                        eligible: true,
                        ..Considered::ruled_out(id, "chosen: the request names it")
                    });
                }
            }
            None => attempt.chosen = self.choose(chooser, attempt, cx),
        }
        Verdict::Continue
    }

    fn on_chosen(&self, _: &Attempt, channel: ChannelId, cx: &mut RequestContext) -> bool {
        let changed = cx.channel.is_some_and(|before| before != channel);
        let changes = cx.token().unwrap_or(0);
        cx.set_token(changes + u64::from(changed));
        true
    }

    fn on_attempt_end(&self, end: &AttemptEnd, cx: &mut RequestContext) -> Retry {
        let changes = cx.token().unwrap_or(0);
        match end.known {
            _ if changes >= u64::from(self.settings.max_changes) => Retry::Never,
            Known::NotSent | Known::NotProcessed => Retry::Again,
            Known::Unknown | Known::Final => Retry::NoOpinion,
        }
    }
}
