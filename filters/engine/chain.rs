//! A route's filters in file order.
//!
//! `mode` is implemented here, once: a filter in shadow mode runs, counts and is then undone, so no filter can get its
//! shadow wrong. The two switches (enabled, enforced) are Envoy's idea; that absence never means off is the lesson from
//! its default.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytes::Bytes;
use http::response;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    Attempt, AttemptEnd, Captured, ChannelId, Decider, Decision, Filter, HeldBack, Nanos, Outcome, RequestContext,
    RequestHead, Retry, Sample, SampleKind, Stages, State, Verdict,
};

/// Whether a filter's decisions count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Decisions are carried out.
    #[default]
    Enforce,
    /// Decisions are counted and otherwise ignored; the response is the same as without the filter.
    Shadow,
    /// The filter is left out of the chain.
    Off,
}

impl Mode {
    /// The word used in files and labels.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::Enforce => "enforce",
            Mode::Shadow => "shadow",
            Mode::Off => "off",
        }
    }
}

/// How often a filter decided what. Kept in the registry, so a reload does not reset the figures.
#[derive(Default)]
pub struct LinkCounters {
    filter: Arc<str>,
    by_mode: [[AtomicU64; 3]; 2],
    timed: AtomicU64,
    timed_ns: AtomicU64,
}

impl LinkCounters {
    const ALLOW: usize = 0;
    const REJECT: usize = 1;
    const QUEUE: usize = 2;
    const OUTCOMES: [&'static str; 3] = ["allow", "reject", "queue"];
    const MODES: [Mode; 2] = [Mode::Enforce, Mode::Shadow];

    /// Counters of the filter of that name, at zero.
    #[must_use]
    pub fn new(filter: Arc<str>) -> Self {
        Self { filter, ..Self::default() }
    }

    fn count(&self, mode: Mode, outcome: usize) {
        self.by_mode[usize::from(mode == Mode::Shadow)][outcome].fetch_add(1, Relaxed);
    }

    fn time(&self, began: Nanos, ended: Nanos) {
        self.timed.fetch_add(1, Relaxed);
        self.timed_ns.fetch_add(ended.0.saturating_sub(began.0), Relaxed);
    }

    #[expect(clippy::cast_precision_loss, reason = "a metric is a double by definition")]
    fn durations(&self) -> [Sample; 2] {
        let (count, nanos) = (self.timed.load(Relaxed), self.timed_ns.load(Relaxed));
        let sample = |name, help, value| Sample {
            name,
            help,
            kind: SampleKind::Counter,
            labels: vec![("filter", self.filter.to_string())],
            value,
        };
        [
            sample("tidegate_filter_duration_seconds_count", "Request stages that were timed, a sample.", count as f64),
            sample("tidegate_filter_duration_seconds_sum", "Time those took in the filter.", nanos as f64 / 1e9),
        ]
    }
}

impl State for LinkCounters {
    fn samples(&self, out: &mut Vec<Sample>) {
        out.extend(self.durations());
        for (mode, counters) in Self::MODES.iter().zip(&self.by_mode) {
            for (outcome, counter) in Self::OUTCOMES.iter().zip(counters) {
                let value = counter.load(Relaxed);
                if value == 0 && *mode == Mode::Shadow {
                    continue;
                }
                out.push(Sample {
                    name: "tidegate_filter_decisions_total",
                    help: "Decisions by filter, policy (empty: the filter as a whole), outcome and mode.",
                    kind: SampleKind::Counter,
                    labels: vec![
                        ("filter", self.filter.to_string()),
                        ("policy", String::new()),
                        ("outcome", (*outcome).to_owned()),
                        ("mode", mode.as_str().to_owned()),
                    ],
                    #[expect(clippy::cast_precision_loss, reason = "a metric is a double by definition")]
                    value: value as f64,
                });
            }
        }
    }
}

/// One filter in a chain.
#[derive(Clone)]
pub struct ChainLink {
    /// The filter; shared by every route that lists it.
    pub filter: Arc<dyn Filter>,
    /// Its name, for the log.
    pub name: Arc<str>,
    /// Enforced or shadowed. `Off` links are left out by [`FilterChain::new`].
    pub mode: Mode,
    /// Its counters.
    pub counters: Arc<LinkCounters>,
}

/// A route's filters in file order, with one list of indices per stage, so that a filter which takes no part in a stage
/// costs nothing there.
pub struct FilterChain {
    links: Box<[ChainLink]>,
    request: Box<[u8]>,
    attempt: Box<[u8]>,
    response: Box<[u8]>,
    chunk: Box<[u8]>,
    capture: Box<[u8]>,
    finish: Box<[u8]>,
}

impl FilterChain {
    /// Most filters a chain may have; the configuration check refuses more.
    pub const LONGEST: usize = 64;

    /// A chain of `links` in order; links that are off are left out, and so is everything past [`Self::LONGEST`].
    #[must_use]
    pub fn new(links: Vec<ChainLink>) -> Self {
        let links: Box<[ChainLink]> =
            links.into_iter().filter(|link| link.mode != Mode::Off).take(Self::LONGEST).collect();
        let at = |stage: Stages| -> Box<[u8]> {
            let taking_part = (0u8..).zip(&links).filter(|(_, link)| link.filter.stages().has(stage));
            taking_part.map(|(i, _)| i).collect()
        };
        let (request, attempt) = (at(Stages::REQUEST), at(Stages::ATTEMPT));
        let (response, chunk, finish) = (at(Stages::RESPONSE), at(Stages::CHUNK), at(Stages::FINISH));
        let capture = at(Stages::CAPTURE);
        Self { request, attempt, response, chunk, capture, finish, links }
    }

    /// The links that take part.
    #[must_use]
    pub fn links(&self) -> &[ChainLink] {
        &self.links
    }

    /// Whether any filter wants to see response bodies.
    #[must_use]
    pub fn sees_chunks(&self) -> bool {
        !self.chunk.is_empty()
    }

    /// Whether any filter wants to see response heads.
    #[must_use]
    pub fn sees_responses(&self) -> bool {
        !self.response.is_empty()
    }

    /// Whether any filter may want to see an answer whole, which a path that cannot hold answers back must not carry.
    #[must_use]
    pub fn captures(&self) -> bool {
        !self.capture.is_empty()
    }

    /// Runs from where the request stopped last: call again after a wait, or with the body after `NeedBody`.
    pub fn on_request(&self, head: &RequestHead<'_>, cx: &mut RequestContext) -> Decision {
        while let Some(&slot) = self.request.get(usize::from(cx.cursor)) {
            let link = &self.links[usize::from(slot)];
            cx.cursor += 1;
            cx.slot = slot;
            let marks = cx.marks();
            let decision = match cx.stopwatch {
                None => link.filter.on_request(head, cx),
                Some(read) => {
                    let began = read();
                    let decision = link.filter.on_request(head, cx);
                    link.counters.time(began, read());
                    decision
                }
            };
            let shadow = link.mode == Mode::Shadow;
            if shadow {
                cx.undo(&marks);
            }
            match decision {
                Decision::Continue => link.counters.count(link.mode, LinkCounters::ALLOW),
                Decision::Respond(reply) => {
                    link.counters.count(link.mode, LinkCounters::REJECT);
                    if !shadow {
                        cx.decider = Some(Decider { filter: link.name.clone(), part: cx.part.take() });
                        return Decision::Respond(reply);
                    }
                    cx.part = None;
                    cx.note("shadow_reject", u64::from(slot));
                }
                Decision::Wait(mut wait) => {
                    link.counters.count(link.mode, LinkCounters::QUEUE);
                    wait.shadow = shadow;
                    if !shadow {
                        cx.decider = Some(Decider { filter: link.name.clone(), part: cx.part.take() });
                    }
                    return Decision::Wait(wait);
                }
                // A shadow must not make anyone buffer a body: it is passed over.
                Decision::NeedBody { .. } if shadow => (),
                Decision::NeedBody { max } => {
                    cx.cursor -= 1;
                    return Decision::NeedBody { max };
                }
            }
        }
        Decision::Continue
    }

    /// Lets filters narrow the candidates and choose; leaves `chosen` empty when none does.
    pub fn on_attempt(&self, attempt: &mut Attempt, cx: &mut RequestContext) -> Verdict {
        for &slot in &self.attempt {
            let link = &self.links[usize::from(slot)];
            cx.slot = slot;
            let marks = cx.marks();
            let before = (attempt.candidates, attempt.chosen);
            let verdict = link.filter.on_attempt(attempt, cx);
            if link.mode == Mode::Shadow {
                (attempt.candidates, attempt.chosen) = before;
                cx.undo(&marks);
            } else if let Verdict::Respond(reply) = verdict {
                cx.decider = Some(Decider { filter: link.name.clone(), part: cx.part.take() });
                return Verdict::Respond(reply);
            }
        }
        Verdict::Continue
    }

    /// Asks every filter of the attempt stage whether the chosen channel may be used; the first that objects decides.
    pub fn on_chosen(&self, attempt: &Attempt, channel: ChannelId, cx: &mut RequestContext) -> bool {
        self.attempt.iter().all(|&slot| {
            let link = &self.links[usize::from(slot)];
            cx.slot = slot;
            let marks = cx.marks();
            let agrees = link.filter.on_chosen(attempt, channel, cx);
            if link.mode == Mode::Shadow {
                cx.undo(&marks);
            }
            agrees || link.mode == Mode::Shadow
        })
    }

    /// Tells every filter of the attempt stage how a try ended.
    pub fn on_attempt_end(&self, end: &AttemptEnd, cx: &mut RequestContext) -> Retry {
        let mut retry = Retry::NoOpinion;
        for &slot in &self.attempt {
            let link = &self.links[usize::from(slot)];
            cx.slot = slot;
            let opinion = link.filter.on_attempt_end(end, cx);
            match opinion {
                _ if link.mode == Mode::Shadow => (),
                Retry::Never => retry = Retry::Never,
                Retry::Again if retry == Retry::NoOpinion => retry = Retry::Again,
                Retry::Again | Retry::NoOpinion => (),
            }
        }
        retry
    }

    /// What filters must know of a request when its answer comes later, each with its name.
    pub fn keep(&self, cx: &mut RequestContext) -> Vec<(Arc<str>, Vec<u8>)> {
        let mut kept = Vec::new();
        for (slot, link) in (0u8..).zip(&self.links).filter(|(_, link)| link.mode == Mode::Enforce) {
            cx.slot = slot;
            kept.extend(link.filter.keep(cx).map(|bytes| (link.name.clone(), bytes)));
        }
        kept
    }

    /// Gives filters back what [`FilterChain::keep`] had of them, by name; the others have joined since, or left.
    pub fn recollect(&self, kept: &[(Arc<str>, Vec<u8>)], cx: &mut RequestContext) {
        for (slot, link) in (0u8..).zip(&self.links) {
            if let Some((_, bytes)) = kept.iter().find(|(name, _)| *name == link.name) {
                cx.slot = slot;
                link.filter.recollect(bytes, cx);
            }
        }
    }

    /// The response head is about to go out.
    pub fn on_response(&self, response: &response::Parts, cx: &mut RequestContext) {
        for &slot in self.response.iter().rev() {
            self.shielded(slot, cx, |filter, cx| filter.on_response(response, cx));
        }
    }

    /// A piece of the response body is about to go out.
    pub fn on_chunk(&self, chunk: &Bytes, end: bool, cx: &mut RequestContext) {
        for &slot in self.chunk.iter().rev() {
            self.shielded(slot, cx, |filter, cx| filter.on_chunk(chunk, end, cx));
        }
    }

    /// The answer is there as a whole; its end waits for what is returned.
    pub fn on_captured(&self, answer: &Captured, cx: &mut RequestContext) -> Option<HeldBack> {
        let mut futures: Vec<HeldBack> = Vec::new();
        for &slot in self.capture.iter().rev() {
            let shadow = self.links[usize::from(slot)].mode == Mode::Shadow;
            self.shielded(slot, cx, |filter, cx| {
                // Nobody waits for a shadow.
                futures.extend(filter.on_captured(answer, cx).filter(|_| !shadow));
            });
        }
        if futures.len() < 2 {
            return futures.pop();
        }
        Some(Box::pin(async move {
            for future in futures {
                future.await;
            }
        }))
    }

    /// The request is over.
    pub fn on_finish(&self, outcome: &Outcome, cx: &mut RequestContext) {
        for &slot in self.finish.iter().rev() {
            self.shielded(slot, cx, |filter, cx| filter.on_finish(outcome, cx));
        }
    }

    fn shielded(&self, slot: u8, cx: &mut RequestContext, call: impl FnOnce(&dyn Filter, &mut RequestContext)) {
        let link = &self.links[usize::from(slot)];
        cx.slot = slot;
        let marks = cx.marks();
        call(&*link.filter, cx);
        if link.mode == Mode::Shadow {
            cx.undo(&marks);
        }
    }
}
