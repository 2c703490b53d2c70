//! Finds out what became of payments that nobody knows about: asks the channel that has them, and nobody else.
//!
//! A try that is unknown or pending is asked for 1, 2, 4, 8, 15, 30 and then every 60 units after it was sent. A failed
//! query changes nothing. "Not found" is no proof: the request may still be under way. Only when the channel has not known
//! it twice in a row, and long enough after it was sent, it is told to accept it no more; its word that it will not is what
//! lets the payment go on or fail. What stays open too long becomes a person's: the payment is never called failed for
//! want of an answer.
//!
//! A success told of a try that counted as dead raises an alarm, and so does a second one.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use super::engine::{Engine, unix_ms};
use super::journal::{Attempt, AttemptState, Due, Journal, Observed, Payment, Refusal, Schedule, Step};
use super::outcome::{Asked, Judged, Report, Seen, Words, of_query};
use super::plan::{Channel, Plan};
use super::wire::{Fault, LARGEST_ANSWER, Request};
use crate::config::{CallSpec, Flow, ResolveSpec};
use crate::gateway::Gateway;

/// When to ask, in units since the doubt began; then every [`STEADY`].
const FIRST: [u32; 6] = [1, 2, 4, 8, 15, 30];
const STEADY: u32 = 60;
/// So often a channel is asked, since the last sending or the gateway's start, before a person is called.
const LEAST_QUESTIONS: i64 = 3;
/// What an upstream's doubts wait for that has left the configuration and may come back.
const GONE: Duration = Duration::from_secs(600);
/// How often due tries are looked for; a twentieth of the shortest unit that makes sense outside tests.
const LOOK: Duration = Duration::from_millis(50);
/// Every so many looks, a second's worth, connections are swept and figures taken.
const CHORES: u32 = 20;
/// Tries taken at once, and queries under way at once.
const AT_ONCE: usize = 64;
/// Of these for one channel.
const FOR_ONE: usize = AT_ONCE / 2;
/// A query takes less than this; then its try is due again.
const LEASE: Duration = Duration::from_secs(60);

/// Resolves for as long as the gateway lives.
pub(super) async fn run(engine: Weak<Engine>, gateway: Weak<Gateway>) {
    let (places, asked) = (Arc::new(Semaphore::new(AT_ONCE)), Asking::default());
    let mut looks = 0_u32;
    loop {
        sleep(LOOK).await;
        let (Some(engine), Some(gateway)) = (engine.upgrade(), gateway.upgrade()) else { return };
        looks = looks.wrapping_add(1);
        let chores = looks.is_multiple_of(CHORES);
        if chores {
            engine.wire.sweep();
        }
        let Some(journal) = engine.journal() else { continue };
        engine.metrics.commits(journal.commits());
        if chores && let Err(refusal) = journal.take_over(unix_ms()).await {
            tracing::error!(target: "tidegate::payments", %refusal, "what others have left is not looked at");
        }
        if chores && let Ok(figures) = journal.figures().await {
            engine.metrics.figures(figures);
        }
        let free = places.available_permits().min(FOR_ONE);
        let due = Due { now_ms: unix_ms(), but: asked.busy(), upstreams: upstreams(&gateway) };
        // A look costs a read; only what is due costs a write.
        if free == 0 || matches!(journal.is_due(&due).await, Ok(false)) {
            continue;
        }
        match journal.claim(&due, LEASE, free).await {
            Ok(due) => due.into_iter().for_each(|attempt| {
                let question = asked.begin(&attempt.channel);
                start(&engine, &gateway, &journal, (&places, question), attempt);
            }),
            Err(refusal) => {
                tracing::error!(target: "tidegate::payments", %refusal, "payments cannot be resolved");
                sleep(LEASE / 60).await;
            }
        }
    }
}

/// Questions under way, by channel.
#[derive(Clone, Default)]
struct Asking(Arc<Mutex<HashMap<String, usize>>>);

/// One of them.
struct Question(Asking, String);

impl Asking {
    /// Channels that are asked as much as one may be: a dead one must not keep the others from being heard.
    fn busy(&self) -> Vec<String> {
        let asked = self.0.lock();
        asked.iter().filter(|(_, count)| **count >= FOR_ONE).map(|(channel, _)| channel.clone()).collect()
    }

    fn begin(&self, channel: &str) -> Question {
        *self.0.lock().entry(channel.to_owned()).or_default() += 1;
        Question(self.clone(), channel.to_owned())
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        let mut asked = self.0.0.lock();
        if let Some(count) = asked.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                asked.remove(&self.1);
            }
        }
    }
}

fn start(
    engine: &Arc<Engine>,
    gateway: &Arc<Gateway>,
    journal: &Journal,
    (places, question): (&Arc<Semaphore>, Question),
    attempt: Attempt,
) {
    let (engine, gateway, journal, places) = (engine.clone(), gateway.clone(), journal.clone(), places.clone());
    tokio::spawn(async move {
        let _question = question;
        let Ok(_place) = places.acquire().await else { return };
        let id = attempt.payment_id.clone();
        if let Err(refusal) = one(&engine, &gateway, &journal, &attempt).await {
            tracing::error!(target: "tidegate::payments", payment = id, %refusal, "a payment could not be resolved");
        }
    });
}

/// Looks at one try that is due.
async fn one(engine: &Engine, gateway: &Gateway, journal: &Journal, attempt: &Attempt) -> Result<(), Refusal> {
    let Some(view) = journal.view(&attempt.payment_id).await? else { return Ok(()) };
    let plan = plan_of(gateway, &view.payment);
    let resolve = plan.as_ref().and_then(|plan| plan.spec.as_ref()).map(|spec| spec.resolve);
    let mut step = Step::Wait;
    if let (Some(plan), Some(resolve)) = (&plan, resolve) {
        // What cannot be written down does not end the patience with it.
        step = ask(engine, journal, plan, &view.payment, attempt, resolve).await.unwrap_or_else(|refusal| {
            tracing::error!(target: "tidegate::payments", payment = attempt.payment_id, %refusal, "an answer is lost");
            Step::Wait
        });
        if step == Step::Close {
            step = close(engine, journal, plan, &view.payment, attempt, resolve).await?;
        }
    }
    if attempt.state == AttemptState::Unknown {
        note_outcome(gateway, journal, &view.payment, attempt).await?;
    }
    if step != Step::Wait {
        return Ok(());
    }
    // Patience ends behind a question, never before one: nobody may have asked while the gateway was down. An upstream
    // that is gone from the configuration cannot be asked at all.
    let pending = attempt.state == AttemptState::Pending;
    let patience = resolve.map_or(GONE, |resolve| if pending { resolve.hold } else { resolve.deadline });
    let since = if pending { attempt.created_ms } else { attempt.sent_ms };
    let now = unix_ms();
    if now - since >= millis(patience) && attempt.tries >= LEAST_QUESTIONS {
        let why = format!("{} for {patience:?}: {}", attempt.state.as_str(), attempt.evidence);
        if journal.give_up(&attempt.payment_id, attempt.n, &why, now).await? {
            alarm(engine, "MANUAL", attempt, &why);
        }
    }
    Ok(())
}

/// The channel's record counted the try as half a success; now more is known. A decline says nothing about a channel.
async fn note_outcome(gateway: &Gateway, journal: &Journal, payment: &Payment, of: &Attempt) -> Result<(), Refusal> {
    let Some(view) = journal.view(&of.payment_id).await? else { return Ok(()) };
    let state = view.attempts.iter().find(|attempt| attempt.n == of.n).map(|attempt| attempt.state);
    let succeeded = match state {
        // That it is at work on it is as good an answer as any.
        Some(AttemptState::Pending) => true,
        Some(state) if state.has_charged() => true,
        Some(AttemptState::Closed) => false,
        _ => return Ok(()),
    };
    let snapshot = gateway.snapshot();
    let upstream = snapshot.upstreams.iter().find(|upstream| *upstream.name == *payment.frozen.upstream);
    if let Some(upstream) = upstream
        && let Some(channel) = upstream.channel_named(&of.channel).and_then(|id| upstream.facts.channel(id))
    {
        channel.state.record.resolved(succeeded);
    }
    Ok(())
}

/// Asks about every try of a payment that a channel may know something of.
pub(super) async fn ask_all(engine: &Engine, gateway: &Gateway, id: &str) {
    let Some(journal) = engine.journal() else { return };
    let asking = async {
        let Some(view) = journal.view(id).await? else { return Ok(()) };
        let plan = plan_of(gateway, &view.payment);
        let Some((plan, resolve)) = plan.and_then(|plan| Some((plan.clone(), plan.spec.as_ref()?.resolve))) else {
            return Ok(());
        };
        for attempt in view.attempts.iter().filter(|attempt| attempt.state.is_worth_asking()) {
            ask(engine, &journal, &plan, &view.payment, attempt, resolve).await?;
        }
        Ok::<(), Refusal>(())
    };
    if let Err(refusal) = asking.await {
        tracing::error!(target: "tidegate::payments", payment = id, %refusal, "a payment could not be asked for");
    }
}

/// The running configuration's plan for a payment.
pub(crate) fn plan_of(gateway: &Gateway, payment: &Payment) -> Option<Arc<Plan>> {
    let snapshot = gateway.snapshot();
    let mut plans = snapshot.routes.iter().filter_map(|route| route.upstream.plan.as_ref());
    plans.find(|plan| *plan.upstream == *payment.frozen.upstream).cloned()
}

/// Payment upstreams of the running configuration.
fn upstreams(gateway: &Gateway) -> Vec<String> {
    let snapshot = gateway.snapshot();
    let plans = snapshot.routes.iter().filter_map(|route| route.upstream.plan.as_ref());
    let mut names: Vec<String> = plans.map(|plan| plan.upstream.to_string()).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// Asks the channel and writes down what it told.
pub(crate) async fn ask(
    engine: &Engine,
    journal: &Journal,
    plan: &Plan,
    payment: &Payment,
    attempt: &Attempt,
    resolve: ResolveSpec,
) -> Result<Step, Refusal> {
    let call = plan.channel(&attempt.channel).and_then(|channel| Some((channel, channel.terms.query.as_ref()?)));
    let (report, seen, _) = match call {
        Some((channel, query)) => told(engine, channel, (Flow::Query, query), payment, attempt).await,
        None => (Report::Nothing, observed(attempt, "the channel cannot be asked".to_owned(), None), false),
    };
    written(engine, journal, attempt, report, seen, resolve).await
}

/// Tells the channel to accept no money for it any more. Only its agreement counts.
pub(crate) async fn close(
    engine: &Engine,
    journal: &Journal,
    plan: &Plan,
    payment: &Payment,
    attempt: &Attempt,
    resolve: ResolveSpec,
) -> Result<Step, Refusal> {
    let call = plan.channel(&attempt.channel).and_then(|channel| Some((channel, channel.terms.close.as_ref()?)));
    let Some((channel, close)) = call else { return Ok(Step::Wait) };
    let (report, seen, words) = told(engine, channel, (Flow::Close, close), payment, attempt).await;
    let agreed = words && seen.http.is_some_and(|status| close.acknowledged_by.contains(&status));
    let report = match report {
        Report::NotFound | Report::Nothing if agreed => Report::Closed,
        // It was asked for a close: that it does not know the number is no further proof.
        Report::NotFound => Report::Nothing,
        // With many channels the word for "done" is the word for "charged". What was done is asked for.
        Report::Succeeded => return ask(engine, journal, plan, payment, attempt, resolve).await,
        other => other,
    };
    written(engine, journal, attempt, report, seen, resolve).await
}

async fn written(
    engine: &Engine,
    journal: &Journal,
    attempt: &Attempt,
    report: Report,
    seen: Observed,
    resolve: ResolveSpec,
) -> Result<Step, Refusal> {
    let now_ms = unix_ms();
    let next_ms = now_ms + next(attempt.tries, resolve.unit);
    let at = Schedule { now_ms, next_ms, min_age_ms: millis(resolve.not_found_min_age) };
    let evidence = seen.evidence.clone();
    let step = journal.told(&attempt.payment_id, (attempt.n, attempt.sends), report, seen, at).await?;
    if let Step::Alarm(kind) = step {
        alarm(engine, kind, attempt, &evidence);
    }
    Ok(step)
}

/// From query number `tries` to the next.
fn next(tries: i64, unit: Duration) -> i64 {
    let at = |number: i64| usize::try_from(number).ok().and_then(|at| FIRST.get(at).copied());
    let units = match (at(tries), tries.checked_sub(1).and_then(at)) {
        (Some(next), Some(this)) => next - this,
        (Some(next), None) => next,
        (None, _) => STEADY,
    };
    millis(unit * units)
}

/// Asks, or tells. The last part says whether the channel itself has answered, and of the right money.
async fn told(
    engine: &Engine,
    channel: &Channel,
    (flow, call): (Flow, &CallSpec),
    payment: &Payment,
    attempt: &Attempt,
) -> (Report, Observed, bool) {
    // One address after the other: the first may be the one that is down.
    let turn = usize::try_from(attempt.tries).unwrap_or_default() % channel.targets.len().max(1);
    let Some(target) = channel.targets.get(turn) else {
        return (Report::Nothing, observed(attempt, "no address".to_owned(), None), false);
    };
    let what = if flow == Flow::Close { "told to close" } else { "asked" };
    let headers: HeaderMap = call.headers.iter().cloned().collect();
    let (before, behind) = &call.path;
    let path = format!("{before}{}{behind}", attempt.number);
    let request = Request { method: call.method.clone(), target: path, headers, body: Bytes::new() };
    // Its turn comes again when the lease ends: two questions at once would count as two in a row.
    let called = timeout(LEASE * 3 / 4, engine.wire.call(target, &request, LARGEST_ANSWER)).await;
    let called = called.unwrap_or_else(|_| Err(Fault::new(Seen::Silent { accepted: 1 }, "no whole answer in time")));
    match called {
        Ok(answer) => {
            let codes = &channel.terms.codes;
            let judged = match channel.believed(&answer, unix_ms()) {
                Ok(body) => of_query(
                    codes,
                    flow,
                    answer.status,
                    body,
                    Asked { id: &attempt.number, money: &payment.frozen.money },
                ),
                Err(alert) => Judged { class: Report::Nothing, words: Words::default(), alert: Some(alert) },
            };
            let status = answer.status.as_u16();
            let code = judged.words.code.clone();
            engine.metrics.query(&channel.name, judged.class.as_str());
            if let Some(alert) = judged.alert {
                alarm(engine, "ANSWER", attempt, alert);
            }
            let mut evidence = format!("{what}: {status} {}", code.as_deref().unwrap_or_default());
            evidence.truncate(evidence.trim_end().len());
            let own = judged.alert.is_none() && (answer.status.is_success() || judged.words.any());
            (judged.class, Observed { http: Some(status), code, ..observed(attempt, evidence, None) }, own)
        }
        Err(fault) => {
            engine.metrics.query(&channel.name, Report::Nothing.as_str());
            (Report::Nothing, observed(attempt, format!("{what}: {}", fault.evidence), None), false)
        }
    }
}

fn observed(attempt: &Attempt, evidence: String, http: Option<u16>) -> Observed {
    Observed { state: attempt.state, evidence, http, code: None }
}

fn alarm(engine: &Engine, kind: &'static str, attempt: &Attempt, why: &str) {
    engine.metrics.alert(kind);
    let Attempt { payment_id, n, channel, .. } = attempt;
    tracing::error!(target: "tidegate::payments", payment = %payment_id, attempt = n, channel, why, "{kind}: somebody must look at this");
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_are_asked_at_1_2_4_8_15_30_and_then_every_60() {
        let unit = Duration::from_secs(1);
        // The first look is one unit after the doubt; `tries` counts the query that was just made.
        let mut at = 1;
        let mut asked = vec![at];
        for tries in 1..9 {
            at += next(tries, unit) / 1_000;
            asked.push(at);
        }
        assert_eq!(asked, [1, 2, 4, 8, 15, 30, 90, 150, 210]);
    }
}
