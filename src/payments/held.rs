//! A try that holds its payment: nobody knows, or the channel is at work on it, or it is decided.
//!
//! No other channel may see the payment. The same one may, with the same number, if it says that this is the same
//! payment: a further try asks the breaker and the quota like the first.

use std::time::Duration;

use tidegate_filters::engine::ChannelId;
use tokio::time::{Instant, sleep};

use super::engine::{Engine, unix_ms};
use super::job::End;
use super::journal::{Attempt, AttemptState, Journal, Observed, PaymentState, Refusal, Sending, Step, View};
use super::judge::Tried;
use super::outcome::Class;
use super::pay::Run;
use crate::proxy::attempt;

/// A result that cannot be written down is tried again this often.
const SETTLE_TRIES: u32 = 3;
/// A database that fails over is waited for: nobody else knows what we know.
const FAILOVER: Duration = Duration::from_secs(90);
/// Pause between two tries at first.
const SETTLE_PAUSE: Duration = Duration::from_millis(100);
/// A number goes to one channel at most this often. Every sending puts off what the resolver may conclude; a client that
/// never tires must not keep a payment open for ever.
const MOST_SENDS: i64 = 10;

impl Run {
    /// A try of this number is live. It is sent again only to the channel that has it, if that knows numbers again.
    pub(super) async fn again(&mut self, view: View, live: &Attempt) -> Result<End, Refusal> {
        let plan = self.plan();
        let at = plan.channels.iter().position(|channel| *channel.name == *live.channel);
        let at = at.filter(|at| plan.channels[*at].terms.idempotent);
        let channel = at.and_then(|at| u8::try_from(at).ok()).map(ChannelId);
        // Who names another channel wants nothing of this one.
        let channel = channel.filter(|channel| self.job.flow.pinned.is_none_or(|pinned| pinned == *channel));
        let asked_for = matches!(live.state, AttemptState::Unknown | AttemptState::Pending) && live.sends < MOST_SENDS;
        let (Some(channel), Some(journal), true) = (channel, self.journal.clone(), asked_for) else {
            return Ok(End::Recorded(Box::new(view)));
        };
        if !self.once_more(channel) {
            return Ok(End::Recorded(Box::new(view)));
        }
        let sending = match journal.send_again(self.id(), live.n, unix_ms()).await {
            Ok(sending) => sending,
            // Somebody else is sending it right now.
            Err(Refusal::Standing) => return Ok(End::Recorded(Box::new(view))),
            Err(refusal) => return Err(refusal),
        };
        let endpoint = self.job.flow.endpoint;
        let tried = self.send(channel, endpoint, live.sends).await;
        if live.state == AttemptState::Unknown {
            self.counts_once();
        }
        self.ended(&tried);
        Ok(self.hold(channel, endpoint, Some(sending), tried).await)
    }

    /// The try holds the payment: decided, pending or unknown. An unknown one is sent again where that is the same payment.
    pub(super) async fn hold(
        &mut self,
        id: ChannelId,
        endpoint: usize,
        sending: Option<Sending>,
        mut tried: Tried,
    ) -> End {
        let (Some(journal), Some(mut sending), Some(retry)) = (self.journal.clone(), sending, self.retry()) else {
            return told(tried);
        };
        let idempotent = self.channel(id).is_some_and(|channel| channel.terms.idempotent);
        let payment = self.id().to_owned();
        let mut sent = 1;
        loop {
            let next_ms = unix_ms() + self.first_look();
            let written = settle((&self.engine, &journal), &payment, sending, tried.seen.clone(), next_ms).await;
            if !written {
                return End::Doubt { silent: tried.silent };
            }
            if tried.class != Class::Unknown || !idempotent || sent >= retry.attempts {
                return told(tried);
            }
            sleep(retry.pause(sent)).await;
            if !self.once_more(id) {
                return told(tried);
            }
            // The resolver, or the same request again, may have been quicker.
            let Ok(again) = journal.send_again(&payment, sending.n, unix_ms()).await else {
                let view = journal.view(&payment).await;
                return view
                    .ok()
                    .flatten()
                    .map_or(End::Doubt { silent: tried.silent }, |view| End::Recorded(Box::new(view)));
            };
            sending = again;
            tried = self.send(id, endpoint, i64::from(sent)).await;
            self.counts_once();
            self.ended(&tried);
            sent += 1;
        }
    }

    /// Asks those who protect the channel for one more try there; `false`: it rests, or has had enough. The resolver will
    /// ask it all the same.
    fn once_more(&mut self, channel: ChannelId) -> bool {
        let Some(route) = self.job.flow.route.clone() else { return false };
        attempt::again(&mut self.job.flow, &route, channel)
    }

    /// The channel's record has the try before as unknown; what this one has shown stands in its place.
    fn counts_once(&self) {
        let facts = self.job.flow.route.as_ref().map(|route| &route.upstream.facts);
        if let Some(channel) = facts.zip(self.job.flow.cx.channel).and_then(|(facts, id)| facts.channel(id)) {
            channel.state.record.again();
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
pub(super) async fn settle(
    (engine, journal): (&Engine, &Journal),
    id: &str,
    of: Sending,
    seen: Observed,
    next_ms: i64,
) -> bool {
    let written = persist(journal, id, || journal.settle(id, of, seen.clone(), unix_ms(), next_ms)).await;
    if let Some(Step::Alarm(kind)) = written {
        // The journal has said so in the log.
        engine.metrics.alert(kind);
    }
    written.is_some()
}

/// Writes down that no further try is coming; returns how the payment stands then. `None` when that failed for good. A
/// restart finds out then, or the same number again.
pub(super) async fn conclude((engine, journal): (&Engine, &Journal), id: &str) -> Option<PaymentState> {
    let written = persist(journal, id, || journal.conclude(id, unix_ms())).await;
    if written.is_none() {
        engine.metrics.alert("JOURNAL");
    }
    written
}

/// A try was to be written down and nobody has heard whether it was. It is not made, and this says so; `false` when nobody
/// knows.
pub(super) async fn abandon(journal: &Journal, id: &str, words: &str) -> bool {
    persist(journal, id, || journal.abandon(id, words, unix_ms())).await.is_some()
}

/// Tries to write until it works or there is no more use in it.
async fn persist<T, F: Future<Output = Result<T, Refusal>>>(
    journal: &Journal,
    id: &str,
    write: impl Fn() -> F,
) -> Option<T> {
    let begun = Instant::now();
    for tries in 1.. {
        match write().await {
            Ok(written) => return Some(written),
            Err(Refusal::Store(error)) => {
                tracing::error!(target: "tidegate::payments", payment = id, %error, "an outcome could not be written down");
                let patient = journal.is_shared() && begun.elapsed() < FAILOVER;
                if tries >= SETTLE_TRIES && !patient {
                    break;
                }
                sleep(SETTLE_PAUSE * tries.min(20)).await;
            }
            Err(refusal) => {
                tracing::error!(target: "tidegate::payments", payment = id, %refusal, "an outcome came too late");
                return None;
            }
        }
    }
    None
}
