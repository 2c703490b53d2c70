//! Stops asking a channel that fails or crawls, and asks again, carefully, after a while.
//!
//! **Stage.** Attempt: channels whose breaker is open leave the candidates; results come back when a try ends.
//!
//! **Method.** The circuit breaker of Nygard's *Release It!* in the form that Polly and resilience4j gave it: closed,
//! open, half-open; opened by failures in a row or by their share in a moving window; closed by probes. A slow answer is
//! counted as a failure in a row and never cut off: a payment that takes four seconds is a payment. What counts as a
//! failure is [`crate::channels::judge`]'s word. Each change begins a generation, and results of an earlier one are
//! dropped. A probe that never reports gives its place back twice over: with its request, and after `max_duration`.
//!
//! **State.** One [`Breaker`] for each filter name, upstream and channel, kept over a reload with what an operator did
//! to it; thresholds are those of the file that a request lives under, so they apply to what was counted before.
//!
//! **Pinned requests.** A request that names its channel (`Tidegate-Channel`) and has a safe method passes an open
//! breaker: only that channel knows what became of its payment, and not knowing costs more than asking. When a probe is
//! due, such a query is the probe. One that an operator holds open lets nothing through at all. Other methods obey it.
//!
//! **Units.** Time since the process began; wall time only for what people read.
//!
//! **Fails.** Nothing can. When every candidate's breaker is open: 503 with the exact time until the first is probed.
//!
//! **Wrong for.** Overload of the gateway itself (limit it), and one endpoint of several (`health` of the upstream).

mod breaker;
mod history;
mod settings;
#[cfg(test)]
mod tests;
mod window;

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use parking_lot::Mutex;

use crate::channels::{Considered, judge};
use crate::engine::{
    Attempt, AttemptEnd, BuildContext, BuildError, ChannelId, CheckContext, Filter, FilterSpec, Problems, Reply,
    RequestContext, Retry, Sample, SampleKind, Stages, State, Step, UpstreamId, Verdict,
};

pub use breaker::{Admits, Breaker, Entry, Held, Phase, View};
pub use history::{Event, Manual};
pub use settings::{CircuitBreaker, HalfOpen, Rules, Window};
pub use window::Counts;

/// What a client is told while an operator holds everything open: nobody knows, so ask in a while.
const HELD_WAIT: Duration = Duration::from_secs(30);

impl FilterSpec for CircuitBreaker {
    fn step(&self) -> Step {
        Step::Guard
    }

    fn check(&self, _: &CheckContext<'_>, problems: &mut Problems) {
        self.find_problems(problems);
    }

    fn build(&self, cx: &mut BuildContext<'_>) -> Result<Arc<dyn Filter>, BuildError> {
        let rules = self.rules();
        let mut upstreams = Vec::new();
        for upstream in cx.upstreams {
            let mut breakers = Vec::new();
            for channel in &upstream.channels {
                let part = format!("{}/{}", upstream.name, channel.name);
                let (filter, rules) = (cx.name.clone(), rules.clone());
                let make = || Guarded {
                    breaker: Arc::new(Breaker::new(filter, upstream.name.clone(), channel.name.clone())),
                    rules: Mutex::new(rules),
                };
                breakers.push(cx.state("circuit_breaker", Some(&part), (), make));
            }
            upstreams.push((upstream.id, breakers.into()));
        }
        Ok(Arc::new(Guard { rules, upstreams: upstreams.into() }))
    }
}

/// A breaker in the registry, with the rules of the running file for those who look at it.
pub struct Guarded {
    breaker: Arc<Breaker>,
    rules: Mutex<Rules>,
}

impl Guarded {
    /// The filter, the upstream and the channel it belongs to.
    #[must_use]
    pub fn names(&self) -> [&str; 3] {
        [&self.breaker.filter, &self.breaker.upstream, &self.breaker.channel]
    }

    /// The breaker.
    #[must_use]
    pub fn breaker(&self) -> &Breaker {
        &self.breaker
    }

    /// How it stands under the running file.
    #[must_use]
    pub fn view(&self, now: crate::engine::Nanos) -> View {
        self.breaker.view(&self.rules.lock(), now)
    }
}

impl State for Guarded {
    fn samples(&self, out: &mut Vec<Sample>) {
        let [filter, upstream, channel] = self.names().map(str::to_owned);
        let labels = vec![("filter", filter), ("upstream", upstream), ("channel", channel)];
        out.push(Sample {
            name: "tidegate_circuit_state",
            help: "Breakers: 0 closed, 1 open, 2 half-open.",
            kind: SampleKind::Gauge,
            labels: labels.clone(),
            value: f64::from(self.breaker.phase() as u8),
        });
        let phases = [Phase::Closed, Phase::Open, Phase::HalfOpen];
        for (phase, changes) in phases.into_iter().zip(self.breaker.changes()) {
            let mut labels = labels.clone();
            labels.push(("to", phase.as_str().to_owned()));
            out.push(Sample {
                name: "tidegate_circuit_transitions_total",
                help: "Changes of breakers.",
                kind: SampleKind::Counter,
                labels,
                #[expect(clippy::cast_precision_loss, reason = "a metric is a double by definition")]
                value: changes as f64,
            });
        }
    }
}

/// The breakers of an upstream's channels, in their order.
type Breakers = Box<[Arc<Guarded>]>;

/// The runtime half.
struct Guard {
    rules: Rules,
    upstreams: Box<[(UpstreamId, Breakers)]>,
}

impl Guard {
    fn breakers(&self, cx: &RequestContext) -> Option<&[Arc<Guarded>]> {
        let mut upstreams = self.upstreams.iter();
        upstreams.find(|(id, _)| *id == cx.upstream).map(|(_, breakers)| &**breakers)
    }

    fn breaker(&self, channel: ChannelId, cx: &RequestContext) -> Option<&Arc<Breaker>> {
        self.breakers(cx)?.get(usize::from(channel.0)).map(|guarded| &guarded.breaker)
    }
}

/// Whether the request has to reach the channel that knows its payment.
fn must_ask(attempt: &Attempt) -> bool {
    attempt.pinned && attempt.safe
}

/// What this request has from the last choice of this channel, if that one has not ended.
fn earlier(channel: ChannelId, cx: &RequestContext) -> Option<u64> {
    cx.token().filter(|_| cx.channel == Some(channel))
}

impl Filter for Guard {
    fn stages(&self) -> Stages {
        Stages::ATTEMPT
    }

    fn activate(&self) {
        for guarded in self.upstreams.iter().flat_map(|(_, breakers)| breakers) {
            *guarded.rules.lock() = self.rules.clone();
        }
    }

    fn on_attempt(&self, attempt: &mut Attempt, cx: &mut RequestContext) -> Verdict {
        let Some(breakers) = self.breakers(cx) else { return Verdict::Continue };
        let mut soonest: Option<Duration> = None;
        for channel in attempt.candidates.iter() {
            let Some(guarded) = breakers.get(usize::from(channel.0)) else { continue };
            let wait = match guarded.breaker.admits(earlier(channel, cx), &self.rules, cx.now) {
                Admits::Yes => continue,
                Admits::NotFor(_) if must_ask(attempt) => continue,
                Admits::NotFor(wait) => wait,
                Admits::Held => HELD_WAIT,
            };
            soonest = Some(soonest.map_or(wait, |soonest| soonest.min(wait)));
            attempt.candidates.remove(channel);
            cx.consider(|| Considered::ruled_out(channel, "breaker open"));
        }
        match soonest {
            Some(wait) if attempt.candidates.is_empty() => {
                let title = "Every channel is resting after failures";
                let reply = Reply::problem(StatusCode::SERVICE_UNAVAILABLE, "upstream-unavailable", title);
                Verdict::Respond(Box::new(reply.retry_after(wait)))
            }
            _ => Verdict::Continue,
        }
    }

    fn on_chosen(&self, attempt: &Attempt, channel: ChannelId, cx: &mut RequestContext) -> bool {
        let Some(breaker) = self.breaker(channel, cx) else { return true };
        let before = earlier(channel, cx);
        match breaker.enter(before, &self.rules, cx.now, cx.wall) {
            Entry::Counted(token) => cx.set_token(token),
            Entry::Probe(token, permit) => {
                cx.set_token(token);
                cx.hold(permit);
            }
            Entry::Refused => {
                cx.take_token();
                // Asked all the same; what comes of it changes nothing before the breaker's time is over.
                return must_ask(attempt) && breaker.admits(None, &self.rules, cx.now) != Admits::Held;
            }
        }
        true
    }

    fn on_attempt_end(&self, end: &AttemptEnd, cx: &mut RequestContext) -> Retry {
        let token = cx.take_token();
        if let (Some(token), Some(breaker)) = (token, self.breaker(end.channel, cx)) {
            breaker.report(token, judge(end), end.took, &self.rules, cx.now, cx.wall);
        }
        Retry::NoOpinion
    }
}
