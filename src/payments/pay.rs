//! One payment, from the request to what the client is told.
//!
//! Write down, send, judge, write down: in this order, and another channel only between "judged to have done nothing" and
//! "written down". The loop has two ways on. *Another channel*, at once, when the class of the try frees the payment; and
//! a further *round* over the same channels after a pause, when all of them did nothing for certain. A try whose outcome
//! nobody knows goes on only at the same channel, with the same number, when that channel says that this is the same
//! payment.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use tidegate_filters::engine::{AttemptResult, ChannelId, ChannelSet, Known, Reply, Retry};
use tokio::time::{Instant, sleep};

use super::engine::{Engine, unix_ms};
use super::held::{abandon, conclude, settle};
use super::job::{Done, End, Job};
use super::journal::{AttemptState, Begin, Journal, Observed, PaymentState, Refusal, Sending, Standing};
use super::judge::{self, Tried};
use super::outcome::{Asked, Class, Money, Seen};
use super::pause;
use super::plan::{Channel, Plan};
use super::wire::{Answer, Fault, LARGEST_ANSWER};
use crate::config::RetrySpec;
use crate::proxy::attempt;

/// Tries of one request in all, whatever rounds and channels would allow.
const MOST_TRIES: u8 = 60;

/// A payment under way.
pub(super) struct Run {
    pub(super) engine: Arc<Engine>,
    pub(super) journal: Option<Journal>,
    pub(super) job: Job,
    /// Channels that may be used in a further round.
    rounds: ChannelSet,
    round: u32,
    /// The best answer of channels that did nothing, if the client must be told something.
    refusal: Option<Box<Answer>>,
    /// The try before, not yet closed in the journal.
    closing: Option<(Sending, Observed)>,
    /// A try was closed before a pause, and the payment is still called under way.
    resting: bool,
}

/// Makes a payment.
pub(crate) async fn run(engine: Arc<Engine>, mut job: Job) -> Done {
    let journal = engine.journal().filter(|_| job.plan.journal && job.frozen.is_some());
    if let Some(pinned) = job.flow.pinned {
        job.flow.candidates = job.flow.candidates.and(ChannelSet::only(pinned));
    }
    let rounds = job.flow.candidates;
    let mut run = Run { engine, journal, job, rounds, round: 1, refusal: None, closing: None, resting: false };
    let end = run.go().await;
    Done { flow: run.job.flow, end }
}

impl Run {
    async fn go(&mut self) -> End {
        match self.standing().await {
            Ok(None) => (),
            Ok(Some(end)) => return end,
            // A channel may have it already, and nobody can look.
            Err(refusal) => return Self::refused(&refusal, true),
        }
        loop {
            let (channel, endpoint) = match self.choose().await {
                Ok(chosen) => chosen,
                Err(end) => return self.over(end).await,
            };
            let n = match self.write_down(channel).await {
                Ok(n) => n,
                Err(end) => return end,
            };
            let tried = self.send(channel, endpoint, 0).await;
            // One address of several: the channel has not failed yet.
            let another = tried.class == Class::NotSent && attempt::has_another_endpoint(&mut self.job.flow);
            let retry = if another { self.missed() } else { self.ended(&tried) };
            if !tried.class.frees() {
                return self.hold(channel, endpoint, n.map(Sending::first), tried).await;
            }
            if !another {
                self.leave(channel, &tried);
            }
            self.closing = n.map(|n| (Sending::first(n), tried.seen.clone()));
            if let Some(answer) = tried.answer {
                self.refusal = Some(Box::new(answer));
            }
            if retry == Retry::Never || self.journal.is_none() {
                return self.over(End::NotSent).await;
            }
        }
    }

    pub(super) fn plan(&self) -> Arc<Plan> {
        self.job.plan.clone()
    }

    pub(super) fn channel(&self, id: ChannelId) -> Option<&Channel> {
        self.job.plan.channels.get(usize::from(id.0))
    }

    pub(super) fn retry(&self) -> Option<RetrySpec> {
        self.job.plan.spec.as_ref().map(|spec| spec.retry)
    }

    pub(super) fn id(&self) -> &str {
        self.job.frozen.as_ref().map_or("", |frozen| &frozen.id)
    }

    fn refused(refusal: &Refusal, doubt: bool) -> End {
        match refusal {
            Refusal::Mismatch => {
                let title = "This number belongs to a payment with other content";
                let reply = Reply::problem(StatusCode::UNPROCESSABLE_ENTITY, "payment-id-reused", title);
                End::Reused(Box::new(reply))
            }
            Refusal::Standing | Refusal::Missing | Refusal::Store(_) => {
                tracing::error!(target: "tidegate::payments", %refusal, "the journal refused; nothing is sent");
                End::NoJournal { doubt }
            }
        }
    }

    /// What is known of the number; something to say instead of sending it, or nothing.
    async fn standing(&mut self) -> Result<Option<End>, Refusal> {
        let (Some(journal), Some(frozen)) = (&self.journal, &self.job.frozen) else { return Ok(None) };
        let Some(view) = journal.view(&frozen.id).await? else { return Ok(None) };
        if view.payment.frozen != *frozen {
            return Err(Refusal::Mismatch);
        }
        match view.standing() {
            Standing::Decided => Ok(Some(End::Recorded(Box::new(view)))),
            Standing::Live(live) => Ok(Some(self.again(view, &live).await?)),
            Standing::Open { left } => {
                for (id, channel) in (0..).zip(&self.job.plan.channels) {
                    if left.iter().any(|left| **left == *channel.name) {
                        self.job.flow.candidates.remove(ChannelId(id));
                    }
                }
                self.rounds = self.job.flow.candidates;
                // It has been everywhere: the last word stands.
                Ok(self.rounds.first().is_none().then(|| End::Recorded(Box::new(view))))
            }
        }
    }

    /// The next channel and endpoint; waits for the next round when this one is over, be it that those which are left
    /// cannot be used now.
    async fn choose(&mut self) -> Result<(ChannelId, usize), End> {
        loop {
            let Some(route) = self.job.flow.route.clone() else { return Err(End::NotSent) };
            let mut end = End::NotSent;
            if self.job.flow.candidates.first().is_some() && self.job.flow.attempts < MOST_TRIES {
                self.job.flow.cx.explain = true;
                let chosen = attempt::pick(&mut self.job.flow, &route);
                if let (Ok(endpoint), Some(channel)) = (chosen, self.job.flow.cx.channel) {
                    return Ok((channel, endpoint));
                }
                self.job.flow.attempts -= 1;
                end = self.job.flow.reply.take().map_or(End::NotSent, End::Refused);
                // When none can be used at all, that is the answer.
                if self.job.flow.attempts == 0 {
                    return Err(end);
                }
            }
            let Some(pause) = self.pause() else { return Err(end) };
            self.rest().await?;
            sleep(pause).await;
            self.round += 1;
            self.job.flow.candidates = self.rounds;
            self.job.flow.refused = 0;
        }
    }

    /// The pause before the next round; `None` when there is none, or none that the client would wait for.
    fn pause(&self) -> Option<Duration> {
        let retry = self.retry().filter(|retry| self.journal.is_some() && self.round < retry.attempts)?;
        if self.rounds.first().is_none() || self.job.flow.attempts >= MOST_TRIES {
            return None;
        }
        let asked = self.refusal.as_ref().and_then(|answer| answer.headers.get(http::header::RETRY_AFTER));
        let asked = asked.and_then(|value| value.to_str().ok()?.parse().ok()).map(Duration::from_secs);
        pause::fitting(retry.pause(self.round), asked, self.job.until.saturating_duration_since(Instant::now()))
    }

    /// Closes the try before on its own, while the payment goes on after a pause.
    async fn rest(&mut self) -> Result<(), End> {
        let (Some(journal), Some((n, seen))) = (&self.journal, self.closing.take()) else { return Ok(()) };
        self.resting = true;
        match journal.rest(self.id(), n, seen, unix_ms()).await {
            Ok(()) => Ok(()),
            Err(refusal) => {
                let payment = self.id();
                tracing::error!(target: "tidegate::payments", payment, %refusal, "an outcome could not be written down");
                Err(End::Doubt { silent: false })
            }
        }
    }

    /// Closes the try before, and the payment with it: no other follows.
    async fn close(&mut self) -> Result<(), End> {
        let Some(journal) = &self.journal else { return Ok(()) };
        let id = self.id().to_owned();
        let closed = match self.closing.take() {
            Some((n, seen)) => settle((&self.engine, journal), &id, n, seen, unix_ms()).await,
            None if self.resting => return self.conclude().await,
            None => true,
        };
        if closed { Ok(()) } else { Err(End::Doubt { silent: false }) }
    }

    /// Between two rounds: no further one is coming, and nobody else would say so.
    async fn conclude(&self) -> Result<(), End> {
        let Some(journal) = &self.journal else { return Ok(()) };
        match conclude((&self.engine, journal), self.id()).await {
            Some(PaymentState::Failed) => Ok(()),
            // Another request with this number is at work on it.
            Some(_) => Err(self.recorded(journal).await),
            None => Err(End::Doubt { silent: false }),
        }
    }

    /// What the journal says of the payment, which another request has taken further.
    async fn recorded(&self, journal: &Journal) -> End {
        match journal.view(self.id()).await {
            Ok(Some(view)) => End::Recorded(Box::new(view)),
            _ => End::NoJournal { doubt: true },
        }
    }

    /// No further try: what the client is told.
    async fn over(&mut self, end: End) -> End {
        if let Err(end) = self.close().await {
            return end;
        }
        match (end, self.refusal.take()) {
            // A channel's own refusal says more than ours.
            (End::NotSent | End::Refused(_), Some(answer)) => End::Passed(answer),
            (end, _) => end,
        }
    }

    /// The row that must be on the disk before a byte leaves. `None`: there is no journal.
    async fn write_down(&mut self, channel: ChannelId) -> Result<Option<i64>, End> {
        let (Some(journal), Some(frozen)) = (self.journal.clone(), self.job.frozen.clone()) else { return Ok(None) };
        let name = self.channel(channel).map_or_else(String::new, |channel| channel.name.to_string());
        let closing = self.closing.take();
        let begin = Begin {
            frozen,
            channel: name,
            considered: self.job.considered(channel, self.rounds),
            words: format!("about to be sent ({:016x})", rand::random::<u64>()),
            closing: closing.clone(),
            resting: self.resting,
        };
        let words = begin.words.clone();
        let begun = Instant::now();
        let written = journal.begin(begin, unix_ms()).await;
        self.engine.metrics.journal(begun.elapsed());
        match written {
            Ok(n) => Ok(Some(n)),
            // Another request with this number was quicker.
            Err(Refusal::Standing) => Err(self.recorded(&journal).await),
            Err(refusal @ Refusal::Store(_)) => Err(self.unwritten(&journal, &words, closing, &refusal).await),
            Err(refusal) => Err(Self::refused(&refusal, false)),
        }
    }

    /// The row could not be written, so nothing is sent. What the client is told.
    async fn unwritten(
        &self,
        journal: &Journal,
        words: &str,
        closing: Option<(Sending, Observed)>,
        refusal: &Refusal,
    ) -> End {
        // Of a database nobody knows whether it has written it all the same.
        if journal.is_shared() && !abandon(journal, self.id(), words).await {
            return End::Doubt { silent: false };
        }
        if let Some((of, seen)) = closing {
            // The try before may still be open there, so its outcome is told by nobody yet.
            if journal.is_shared() {
                settle((&self.engine, journal), self.id(), of, seen, unix_ms()).await;
            }
            return End::Doubt { silent: false };
        }
        if self.resting
            && let Err(end) = self.conclude().await
        {
            return end;
        }
        Self::refused(refusal, false)
    }

    /// Sends it once. `sends`: how often this number went to this channel before, with an unknown outcome.
    pub(super) async fn send(&mut self, id: ChannelId, endpoint: usize, sends: i64) -> Tried {
        // A slow disk of ours is no slow channel.
        self.job.flow.tried_at = self.job.flow.tick();
        self.job.progress.set(id, self.job.flow.attempts);
        let plan = self.plan();
        let found =
            plan.channels.get(usize::from(id.0)).and_then(|channel| Some((channel, channel.targets.get(endpoint)?)));
        let Some((channel, target)) = found else {
            return judge::of_fault(&Fault { seen: Seen::NoConnection, evidence: "no address".to_owned() });
        };
        let money = self.job.frozen.as_ref().map_or_else(Money::default, |frozen| frozen.money.clone());
        let mut tried = match self.engine.wire.call(target, &self.job.request, LARGEST_ANSWER).await {
            Ok(answer) => judge::of_reply(channel, answer, Asked { id: self.id(), money: &money }, unix_ms()),
            Err(fault) => judge::of_fault(&fault),
        };
        if sends > 0 {
            tried.class = tried.class.after_unknown();
        }
        tried.seen.state = tried.class.into();
        self.engine.metrics.attempt(&channel.name, tried.class.as_str());
        if let Some(alert) = tried.alert {
            let payment = self.id();
            tracing::error!(target: "tidegate::payments", payment, channel = &*channel.name, "{alert}");
            self.engine.metrics.alert("ANSWER");
            if let Some(journal) = &self.journal {
                let detail = format!("{}: {}", channel.name, tried.seen.evidence);
                // It is in the log, too; the payment goes on without.
                let _ = journal.event(payment, "ANSWER", detail, unix_ms()).await;
            }
        }
        tried
    }

    /// Tells the filters how the try ended.
    pub(super) fn ended(&mut self, tried: &Tried) -> Retry {
        let flow = &mut self.job.flow;
        let known_of = |class| match class {
            Class::NotSent => Known::NotSent,
            Class::NotProcessed | Class::DeclinedSoft { failover: true } => Known::NotProcessed,
            Class::Unknown => Known::Unknown,
            _ => Known::Final,
        };
        let known = known_of(tried.class);
        // A channel that refused to act has seen it, whatever the next one did.
        if known != Known::NotSent || flow.known != Some(Known::NotProcessed) {
            flow.known = Some(known);
        }
        if let Some(channel) = flow.channel() {
            match tried.result {
                AttemptResult::Status(status) => channel.metrics.answered(status.as_u16()),
                AttemptResult::Declined { .. } => channel.metrics.answered(200),
                AttemptResult::ConnectFailed => channel.metrics.connect_failed(),
                AttemptResult::TimedOut => channel.metrics.timed_out(),
                AttemptResult::Broken => channel.metrics.broken(),
            }
        }
        if tried.answer.is_some() {
            attempt::heard(flow);
        }
        let result = match tried.alone {
            Class::DeclinedHard => AttemptResult::Declined { hard: true },
            Class::DeclinedSoft { .. } => AttemptResult::Declined { hard: false },
            _ => tried.result,
        };
        attempt::ended(flow, result, known_of(tried.alone), tried.class.frees())
    }

    /// An address could not be reached, and its channel has others.
    fn missed(&mut self) -> Retry {
        let flow = &mut self.job.flow;
        flow.known = flow.known.or(Some(Known::NotSent));
        if let Some(channel) = flow.channel() {
            channel.metrics.connect_failed();
        }
        Retry::NoOpinion
    }

    /// The try did nothing: which channels are left.
    fn leave(&mut self, id: ChannelId, tried: &Tried) {
        let flow = &mut self.job.flow;
        flow.refused = 0;
        flow.candidates.remove(id);
        if AttemptState::from(tried.class).has_left() {
            self.rounds.remove(id);
        }
    }
}
