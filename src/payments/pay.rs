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
use super::job::{Done, End, Job};
use super::journal::{Attempt, AttemptState, Begin, Journal, Observed, Refusal, Standing, View};
use super::judge::{self, Tried};
use super::outcome::{Class, Money, Seen};
use super::plan::{Channel, Plan};
use super::wire::{Answer, Fault};
use crate::config::RetrySpec;
use crate::proxy::attempt;

/// A result that cannot be written down is tried again this often.
const SETTLE_TRIES: u32 = 3;
/// Pause between two of those.
const SETTLE_PAUSE: Duration = Duration::from_millis(100);
/// A number goes to one channel at most this often. Every sending puts off what the resolver may conclude; a client that
/// never tires must not keep a payment open for ever.
const MOST_SENDS: i64 = 10;

struct Run {
    engine: Arc<Engine>,
    journal: Option<Journal>,
    job: Job,
    /// Channels that may be used in a further round.
    rounds: ChannelSet,
    round: u32,
    /// The best answer of channels that did nothing, if the client must be told something.
    refusal: Option<Box<Answer>>,
    /// The try before, not yet closed in the journal.
    closing: Option<(i64, Observed)>,
}

/// Makes a payment.
pub(crate) async fn run(engine: Arc<Engine>, job: Job) -> Done {
    let journal = engine.journal().filter(|_| job.plan.journal && job.frozen.is_some());
    let rounds = job.flow.candidates;
    let mut run = Run { engine, journal, job, rounds, round: 1, refusal: None, closing: None };
    let end = run.go().await;
    Done { flow: run.job.flow, end }
}

impl Run {
    async fn go(&mut self) -> End {
        match self.standing().await {
            Ok(None) => (),
            Ok(Some(end)) => return end,
            Err(refusal) => return Self::refused(&refusal),
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
            let retry = self.ended(&tried);
            if !tried.class.frees() {
                return self.hold(channel, endpoint, n, tried).await;
            }
            self.leave(channel, &tried);
            self.closing = n.map(|n| (n, tried.seen.clone()));
            if let Some(answer) = tried.answer {
                self.refusal = Some(Box::new(answer));
            }
            if retry == Retry::Never || self.journal.is_none() {
                return self.over(End::NotSent).await;
            }
        }
    }

    fn plan(&self) -> Arc<Plan> {
        self.job.plan.clone()
    }

    fn channel(&self, id: ChannelId) -> Option<&Channel> {
        self.job.plan.channels.get(usize::from(id.0))
    }

    fn retry(&self) -> Option<RetrySpec> {
        self.job.plan.spec.as_ref().map(|spec| spec.retry)
    }

    fn id(&self) -> &str {
        self.job.frozen.as_ref().map_or("", |frozen| &frozen.id)
    }

    fn refused(refusal: &Refusal) -> End {
        match refusal {
            Refusal::Mismatch => {
                let title = "This number belongs to a payment with other content";
                let reply = Reply::problem(StatusCode::UNPROCESSABLE_ENTITY, "payment-id-reused", title);
                End::Refused(Box::new(reply))
            }
            Refusal::Standing | Refusal::Missing | Refusal::Store(_) => {
                tracing::error!(target: "tidegate::payments", %refusal, "the journal refused; nothing is sent");
                End::NoJournal
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

    /// A try of this number is live. It is sent again only to the channel that has it, if that knows numbers again.
    async fn again(&mut self, view: View, live: &Attempt) -> Result<End, Refusal> {
        let plan = self.plan();
        let at = plan.channels.iter().position(|channel| *channel.name == *live.channel);
        let at = at.filter(|at| plan.channels[*at].terms.idempotent);
        let asked_for = matches!(live.state, AttemptState::Unknown | AttemptState::Pending) && live.sends < MOST_SENDS;
        let (Some(at), Some(journal), true) = (at, self.journal.clone(), asked_for) else {
            return Ok(End::Recorded(Box::new(view)));
        };
        match journal.send_again(self.id(), live.n, unix_ms()).await {
            Ok(()) => (),
            // Somebody else is sending it right now.
            Err(Refusal::Standing) => return Ok(End::Recorded(Box::new(view))),
            Err(refusal) => return Err(refusal),
        }
        let channel = ChannelId(u8::try_from(at).unwrap_or_default());
        self.job.flow.cx.channel = Some(channel);
        self.job.flow.attempts = self.job.flow.attempts.saturating_add(1);
        self.job.flow.tried_at = self.job.flow.tick();
        let endpoint = 0;
        let tried = self.send(channel, endpoint, live.sends).await;
        self.ended(&tried);
        Ok(self.hold(channel, endpoint, Some(live.n), tried).await)
    }

    /// The next channel and endpoint; waits for the next round when this one is over.
    async fn choose(&mut self) -> Result<(ChannelId, usize), End> {
        loop {
            let Some(route) = self.job.flow.route.clone() else { return Err(End::NotSent) };
            if self.job.flow.candidates.first().is_some() && self.job.flow.attempts < attempt::MOST_TRIES {
                self.job.flow.cx.explain = true;
                let chosen = attempt::pick(&mut self.job.flow, &route);
                return match (chosen, self.job.flow.cx.channel) {
                    (Ok(endpoint), Some(channel)) => Ok((channel, endpoint)),
                    _ => {
                        self.job.flow.attempts -= 1;
                        Err(self.job.flow.reply.take().map_or(End::NotSent, End::Refused))
                    }
                };
            }
            let Some(pause) = self.pause() else { return Err(End::NotSent) };
            self.close().await?;
            sleep(pause).await;
            self.round += 1;
            self.job.flow.candidates = self.rounds;
            self.job.flow.refused = 0;
        }
    }

    /// The pause before the next round; `None` when there is none, or none that the client would wait for.
    fn pause(&self) -> Option<Duration> {
        let retry = self.retry().filter(|retry| self.journal.is_some() && self.round < retry.attempts)?;
        if self.rounds.first().is_none() || self.job.flow.attempts >= attempt::MOST_TRIES {
            return None;
        }
        let asked = self.refusal.as_ref().and_then(|answer| answer.headers.get(http::header::RETRY_AFTER));
        let asked = asked.and_then(|value| value.to_str().ok()?.parse().ok()).map(Duration::from_secs);
        let pause = retry.pause(self.round).max(asked.unwrap_or_default());
        (Instant::now() + pause < self.job.until).then_some(pause)
    }

    /// Closes the try before on its own, when no other follows at once.
    async fn close(&mut self) -> Result<(), End> {
        let (Some(journal), Some((n, seen))) = (&self.journal, self.closing.take()) else { return Ok(()) };
        let id = self.id().to_owned();
        if settle(journal, &id, n, seen, unix_ms()).await { Ok(()) } else { Err(End::Doubt { silent: false }) }
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
        let moved = self.closing.is_some();
        let id = frozen.id.clone();
        let begin = Begin {
            frozen,
            channel: name,
            considered: self.job.considered(channel, self.rounds),
            closing: self.closing.take(),
        };
        let begun = Instant::now();
        let written = journal.begin(begin, unix_ms()).await;
        self.engine.metrics.journal(begun.elapsed());
        match written {
            Ok(n) => Ok(Some(n)),
            // Another request with this number was quicker.
            Err(Refusal::Standing) => match journal.view(&id).await {
                Ok(Some(view)) => Err(End::Recorded(Box::new(view))),
                _ => Err(End::NoJournal),
            },
            // The try before is still open in the file, so its outcome is told by nobody yet.
            Err(Refusal::Store(_)) if moved => Err(End::Doubt { silent: false }),
            Err(refusal) => Err(Self::refused(&refusal)),
        }
    }

    /// Sends it once. `sends`: how often this number went to this channel before, with an unknown outcome.
    async fn send(&self, id: ChannelId, endpoint: usize, sends: i64) -> Tried {
        self.job.progress.set(id, self.job.flow.attempts);
        let plan = self.plan();
        let found =
            plan.channels.get(usize::from(id.0)).and_then(|channel| Some((channel, channel.targets.get(endpoint)?)));
        let Some((channel, target)) = found else {
            return judge::of_fault(&Fault { seen: Seen::NoConnection, evidence: "no address".to_owned() });
        };
        let money = self.job.frozen.as_ref().map_or_else(Money::default, |frozen| frozen.money.clone());
        let mut tried = match self.engine.wire.call(target, &self.job.request).await {
            Ok(answer) => judge::of_reply(channel, answer, &money),
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
    fn ended(&mut self, tried: &Tried) -> Retry {
        let flow = &mut self.job.flow;
        let known = match tried.class {
            Class::NotSent => Known::NotSent,
            Class::NotProcessed | Class::DeclinedSoft { failover: true } => Known::NotProcessed,
            Class::Unknown => Known::Unknown,
            _ => Known::Final,
        };
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
        let result = match tried.class {
            Class::DeclinedHard => AttemptResult::Declined { hard: true },
            Class::DeclinedSoft { .. } => AttemptResult::Declined { hard: false },
            _ => tried.result,
        };
        attempt::ended(flow, result, known, tried.class.frees())
    }

    /// The try did nothing: which channels are left.
    fn leave(&mut self, id: ChannelId, tried: &Tried) {
        let flow = &mut self.job.flow;
        // Other addresses of a channel are worth a try only where none could be reached.
        if tried.class != Class::NotSent || !attempt::has_another_endpoint(flow) {
            flow.refused = 0;
            flow.candidates.remove(id);
        }
        if AttemptState::from(tried.class).has_left() {
            self.rounds.remove(id);
        }
    }

    /// The try holds the payment: decided, pending or unknown. An unknown one is sent again where that is the same payment.
    async fn hold(&mut self, id: ChannelId, endpoint: usize, n: Option<i64>, mut tried: Tried) -> End {
        let (Some(journal), Some(n), Some(retry)) = (self.journal.clone(), n, self.retry()) else {
            return told(tried);
        };
        let idempotent = self.channel(id).is_some_and(|channel| channel.terms.idempotent);
        let payment = self.id().to_owned();
        let mut sent = 1;
        loop {
            let written = settle(&journal, &payment, n, tried.seen.clone(), unix_ms() + self.first_look()).await;
            if !written {
                return End::Doubt { silent: tried.silent };
            }
            if tried.class != Class::Unknown || !idempotent || sent >= retry.attempts {
                return told(tried);
            }
            sleep(retry.pause(sent)).await;
            // The resolver, or the same request again, may have been quicker.
            if journal.send_again(&payment, n, unix_ms()).await.is_err() {
                let view = journal.view(&payment).await;
                return view
                    .ok()
                    .flatten()
                    .map_or(End::Doubt { silent: tried.silent }, |view| End::Recorded(Box::new(view)));
            }
            self.job.flow.attempts = self.job.flow.attempts.saturating_add(1);
            self.job.flow.tried_at = self.job.flow.tick();
            tried = self.send(id, endpoint, i64::from(sent)).await;
            self.ended(&tried);
            sent += 1;
        }
    }

    /// When the resolver looks first.
    fn first_look(&self) -> i64 {
        let unit = self.job.plan.spec.as_ref().map_or(Duration::from_secs(1), |spec| spec.resolve.unit);
        i64::try_from(unit.as_millis()).unwrap_or(i64::MAX)
    }
}

/// What is told of a try that holds the payment.
fn told(tried: Tried) -> End {
    match (tried.class, tried.answer) {
        (Class::Unknown, _) | (_, None) => End::Doubt { silent: tried.silent },
        (_, Some(answer)) => End::Passed(Box::new(answer)),
    }
}

/// Writes down what became of a try; `false` when that failed for good, and the resolver will have to find out.
async fn settle(journal: &Journal, id: &str, n: i64, seen: Observed, next_ms: i64) -> bool {
    for _ in 0..SETTLE_TRIES {
        match journal.settle(id, n, seen.clone(), unix_ms(), next_ms).await {
            Ok(()) => return true,
            Err(Refusal::Store(error)) => {
                tracing::error!(target: "tidegate::payments", payment = id, %error, "an outcome could not be written down");
                sleep(SETTLE_PAUSE).await;
            }
            Err(refusal) => {
                tracing::error!(target: "tidegate::payments", payment = id, %refusal, "an outcome came too late");
                return false;
            }
        }
    }
    false
}
