//! A try at a payment upstream, and looks into the journal for what came of one that was in doubt.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use tidegate_filters::engine::Known;
use tidegate_filters::respond_async::Deferred;
use tidegate_filters::respond_async::core::{Entry, State, Verdict};
use tidegate_filters::store::Stored;
use tokio::time::Instant;

use super::keep;
use super::send::retry_after;
use super::worker::{Ending, HOLD, unix};
use crate::gateway::Gateway;
use crate::payments::job::{Done, End, Job, Progress};
use crate::payments::journal::PaymentState;
use crate::payments::pay::run;
use crate::payments::{Plan, answer, read_frozen, wire};
use crate::proxy::flow::Flow;

/// Pauses between looks into the journal, in seconds; then every minute. The channels themselves are asked in such pauses.
const PAUSES: [u64; 6] = [1, 1, 2, 4, 7, 15];
const LATER: u64 = 60;

/// Lets the payment engine carry it out: it writes every try down and asks for what is in doubt.
pub(super) async fn pay(
    gateway: &Arc<Gateway>,
    flow: Box<Flow>,
    plan: Arc<Plan>,
    request: wire::Request,
) -> (Box<Flow>, Ending) {
    let Some(engine) = gateway.shared.payments.engine() else {
        return (flow, Ending::stopped("payments are not running"));
    };
    let mut flow = flow;
    let path = request.target.split('?').next().unwrap_or_default();
    let spec = plan.spec.as_ref();
    let frozen = spec.map(|spec| read_frozen(&plan.upstream, spec, path, &request.headers, &request.body)).transpose();
    let frozen = match frozen {
        Ok(frozen) => frozen,
        // The file has changed since it was accepted, and this is no payment any more.
        Err(malformed) => {
            let ending = Ending {
                answer: Some(keep::of_reply(malformed.reply())),
                ..Ending::of(Verdict::Answered, "malformed")
            };
            return (flow, Ending { status: 400, ..ending });
        }
    };
    if let Some(frozen) = &frozen {
        flow.payment = Some(frozen.id.as_str().into());
        flow.cx.payment.kind = frozen.kind.as_deref().map(Into::into);
        flow.cx.payment.amount = frozen.money.amount;
    }
    let until = Instant::now() + spec.map_or(Duration::from_secs(10), |spec| spec.deadline);
    let job = Job { flow, plan: plan.clone(), frozen, request, progress: Arc::new(Progress::default()), until };
    let spare = Flow::new(gateway, gateway.snapshot(), arrival_of(&job.flow), job.flow.cx.client);
    match engine.spawn_payment(run(engine.clone(), job)).await {
        Ok(Done { flow, end }) => {
            let mut flow = flow;
            let ending = judge(&mut flow, &plan, end);
            (flow, ending)
        }
        Err(error) => {
            tracing::error!(target: "tidegate::deferred", %error, "a payment broke off");
            (Box::new(spare), Ending::of(Verdict::Unknown, "the payment broke off"))
        }
    }
}

fn arrival_of(flow: &Flow) -> crate::proxy::flow::Arrival {
    flow.arrival
}

fn judge(flow: &mut Flow, plan: &Plan, end: End) -> Ending {
    match end {
        // Every channel refused without acting: the payment may be made later.
        End::Passed(answer) if flow.known == Some(Known::NotProcessed) => {
            let verdict = Verdict::Nothing { wait: retry_after(&answer.headers) };
            let said = format!("no channel acted; the last answered {}", answer.status.as_u16());
            Ending { status: answer.status.as_u16(), ..Ending::of(verdict, said) }
        }
        End::Passed(answer) => {
            let status = answer.status.as_u16();
            let answer = Some(keep::of_upstream(flow, *answer));
            Ending { answer, status, ..Ending::of(Verdict::Answered, format!("answered {status}")) }
        }
        End::Doubt { silent } => {
            let why = if silent { "the channel did not answer in time" } else { "the channel gave no proper answer" };
            Ending { status: 202, ..Ending::of(Verdict::Unknown, why) }
        }
        End::NotSent => Ending { status: 503, ..Ending::of(Verdict::Nothing { wait: None }, "no channel was reached") },
        // Nothing was sent by this try; what an earlier one may have done the journal will tell.
        End::NoJournal { .. } => Ending::stopped("the journal cannot be used"),
        End::Refused(reply) if reply.status == StatusCode::SERVICE_UNAVAILABLE => {
            Ending::postponed(reply.retry_after.unwrap_or(HOLD), "no channel may be asked now")
        }
        End::Refused(reply) | End::Reused(reply) => {
            let status = reply.status.as_u16();
            let why = reply.code().unwrap_or("refused").to_owned();
            Ending { answer: Some(keep::of_reply(*reply)), status, ..Ending::of(Verdict::Answered, why) }
        }
        End::Recorded(view) => match view.payment.state {
            PaymentState::Succeeded | PaymentState::Failed | PaymentState::Cancelled => {
                let answer = Some(keep::of_reply(answer::recorded(plan, &view).0));
                Ending { answer, status: 200, ..Ending::of(Verdict::Answered, "decided earlier") }
            }
            PaymentState::Created | PaymentState::Processing | PaymentState::Manual => {
                Ending { status: 202, ..Ending::of(Verdict::Unknown, "an earlier try is not decided") }
            }
        },
    }
}

/// Looks into the journal for a record in doubt: the resolver may have found out, or it was never sent at all.
pub(super) async fn look(gateway: Arc<Gateway>, deferred: Arc<Deferred>, entry: Entry) {
    let now = unix(&gateway);
    match found(&gateway, &deferred, &entry).await {
        Found::Nothing => deferred.look_again(entry, None),
        Found::Open => {
            let pause = PAUSES.get(usize::from(entry.looks)).copied().unwrap_or(LATER);
            deferred.look_again(entry, Some(now + Duration::from_secs(pause)));
        }
        Found::Decided(answer) => {
            let (again, mut done) = (entry.clone(), entry);
            _ = done.resolve();
            if deferred.settle(done, Some(&answer), "found out", now).await.is_err() {
                deferred.look_again(again, Some(now + HOLD));
            }
        }
        Found::NeverSent => {
            let (again, mut queued) = (entry.clone(), entry);
            queued.doubt = false;
            let until = queued.expires;
            _ = queued.requeue(until);
            if deferred.settle(queued, None, "the journal knows that it was not sent", now).await.is_err() {
                deferred.look_again(again, Some(now + HOLD));
            }
        }
    }
}

enum Found {
    /// There is no journal to look into.
    Nothing,
    /// It is not decided.
    Open,
    Decided(Stored),
    NeverSent,
}

async fn found(gateway: &Arc<Gateway>, deferred: &Arc<Deferred>, entry: &Entry) -> Found {
    debug_assert_eq!(entry.state, State::Unknown, "only what is in doubt is looked for");
    let letters = deferred.letters(std::slice::from_ref(entry)).await;
    let Some((_, letter)) = letters.ok().and_then(|mut letters| letters.pop()) else { return Found::Open };
    let snapshot = gateway.snapshot();
    let Some(route) = snapshot.routes.iter().find(|route| *route.name == *letter.route) else { return Found::Open };
    let Some(plan) = route.upstream.plan.as_ref().filter(|plan| plan.journal) else { return Found::Nothing };
    let (Some(spec), Some(journal)) = (&plan.spec, gateway.shared.payments.engine().and_then(|it| it.journal())) else {
        return Found::Nothing;
    };
    let path = letter.target.split('?').next().unwrap_or_default();
    let Ok(frozen) = read_frozen(&plan.upstream, spec, path, &letter.headers, &letter.body) else {
        return Found::Nothing;
    };
    match journal.view(&frozen.id).await {
        Ok(None) => Found::NeverSent,
        Ok(Some(view)) => match view.payment.state {
            PaymentState::Succeeded | PaymentState::Failed | PaymentState::Cancelled => {
                Found::Decided(keep::edited(keep::of_reply(answer::recorded(plan, &view).0), &letter.afterwards))
            }
            PaymentState::Created | PaymentState::Processing | PaymentState::Manual => Found::Open,
        },
        Err(_) => Found::Open,
    }
}
