//! The best channel by what its latest tries have shown.
//!
//! Success first, in steps of half a percent of Wilson's lower bound, so that noise does not decide; then the median time
//! to an answer, in steps of a fifth; then the cost; then file order. A better one must lead for a while before requests
//! go over (`hysteresis`), or two equal channels would take turns at random. A share of requests goes to whoever least
//! is known about, since a channel nobody asks can never show that it is well again.

use std::cmp::Reverse;
use std::time::Duration;

use parking_lot::Mutex;

use super::settings::Score;
use crate::channels::UpstreamFacts;
use crate::engine::{ChannelId, ChannelSet, Nanos};

/// Sets of channels that a lead is remembered for: requests of different types have different ones.
const MOST_LEADS: usize = 64;
/// A step of the success rate.
const SUCCESS_STEP: f64 = 0.005;
/// A step of the time to an answer.
const LATENCY_STEP: f64 = 1.2;

/// Who leads in one set of channels, by name.
struct Lead {
    among: u64,
    leader: ChannelId,
    challenger: Option<(ChannelId, Nanos)>,
    used: Nanos,
}

/// What `score` remembers.
#[derive(Default)]
pub(super) struct Leads {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    names: Vec<std::sync::Arc<str>>,
    leads: Vec<Lead>,
    /// Requests, in millionths of an exploration owed.
    owed: u64,
}

/// A channel's place in the order: less is better.
type Rank = (Reverse<u64>, u64, u128, u8);

/// What a channel is judged by.
#[derive(Clone, Copy)]
pub(super) struct Merit {
    pub(super) id: ChannelId,
    pub(super) success_rate: f64,
    pub(super) latency: Option<Duration>,
    samples: u32,
    rank: Rank,
}

pub(super) fn merit(
    id: ChannelId,
    upstream: &UpstreamFacts,
    amount: Option<i64>,
    by: &Score,
    now: Nanos,
) -> Option<Merit> {
    let channel = upstream.channel(id)?;
    let figures = channel.state.record.figures(now);
    let known = figures.samples >= by.min_samples;
    let success_rate = if known { figures.lower_bound() } else { by.default_success_rate };
    let rank =
        (Reverse(step(success_rate / SUCCESS_STEP)), latency_step(figures.latency), channel.cost.of(amount), id.0);
    Some(Merit { id, success_rate, latency: figures.latency, samples: figures.samples, rank })
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small number that is not negative")]
fn step(value: f64) -> u64 {
    value.max(0.0) as u64
}

/// An unknown time is the best: whoever has none is worth a try.
fn latency_step(latency: Option<Duration>) -> u64 {
    latency.map_or(0, |latency| step((1.0 + latency.as_secs_f64() * 1e6).ln() / LATENCY_STEP.ln()))
}

impl Leads {
    /// Chooses among `merits`, which are not empty. `choosing` false on a second choice: it explores nothing.
    pub(super) fn choose(
        &self,
        merits: &[Merit],
        upstream: &UpstreamFacts,
        by: &Score,
        explores: bool,
        now: Nanos,
    ) -> Option<(ChannelId, &'static str)> {
        let best = merits.iter().min_by_key(|merit| merit.rank)?.id;
        let mut inner = self.inner.lock();
        inner.renumber(upstream);
        let leader = inner.leader(merits, best, by.hysteresis.0, now);
        if explores && merits.len() > 1 && inner.explore(by.exploration) {
            let others = merits.iter().filter(|merit| merit.id != leader);
            if let Some(least) = others.min_by_key(|merit| (merit.samples, merit.id.0)) {
                return Some((least.id, "chosen to learn about it"));
            }
        }
        Some((leader, if leader == best { "chosen: best score" } else { "chosen: it led until now" }))
    }
}

impl Inner {
    /// Channels were renamed or moved by a reload: leads are about numbers, so they begin anew.
    fn renumber(&mut self, upstream: &UpstreamFacts) {
        if !self.names.iter().eq(upstream.channels.iter().map(|channel| &channel.name)) {
            self.names = upstream.channels.iter().map(|channel| channel.name.clone()).collect();
            self.leads.clear();
        }
    }

    fn leader(&mut self, merits: &[Merit], best: ChannelId, hysteresis: Duration, now: Nanos) -> ChannelId {
        let mut among = ChannelSet(0);
        merits.iter().for_each(|merit| among.insert(merit.id));
        let Some(lead) = self.leads.iter_mut().find(|lead| lead.among == among.0) else {
            if self.leads.len() == MOST_LEADS
                && let Some(oldest) = (0..MOST_LEADS).min_by_key(|at| self.leads[*at].used)
            {
                self.leads.swap_remove(oldest);
            }
            self.leads.push(Lead { among: among.0, leader: best, challenger: None, used: now });
            return best;
        };
        lead.used = now;
        lead.challenger = match lead.challenger {
            _ if best == lead.leader => None,
            Some((challenger, since)) if challenger == best => Some((best, since)),
            _ => Some((best, now)),
        };
        if lead.challenger.is_some_and(|(_, since)| now.since(since) >= hysteresis) {
            lead.leader = best;
            lead.challenger = None;
        }
        lead.leader
    }

    /// Whether this request is one of the share that explores: every twentieth for 0.05.
    fn explore(&mut self, share: f64) -> bool {
        const WHOLE: u64 = 1_000_000;
        self.owed += step(share * 1e6 + 0.5);
        let due = self.owed >= WHOLE;
        if due {
            self.owed -= WHOLE;
        }
        due
    }
}
