//! Payments for operators: how they stand, why a channel was chosen, and the last word on what only a person can find out.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::AdminState;
use super::extract::Asked;
use super::problem::Problem;
use crate::payments::journal::{Attempt, AttemptState, Journal, Payment, PaymentState, Refusal, Step, View};
use crate::payments::{Engine, Plan, resolver, unix_ms};

/// Payments of a list when nobody says how many.
const USUAL_LIST: usize = 100;
/// Longest reason a person may give.
const LONGEST_REASON: usize = 500;

type Answer = Result<Response, Problem>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    state: Option<String>,
    limit: Option<usize>,
}

/// Payments, the latest change first.
pub(super) async fn list(State(state): State<AdminState>, Asked(wanted): Asked<Wanted>) -> Answer {
    let of = match &wanted.state {
        None => None,
        Some(word) => {
            Some(PaymentState::parse(&word.to_uppercase()).ok_or_else(|| bad("`state` is no state of a payment"))?)
        }
    };
    let journal = journal(&state)?;
    let payments = journal.list(of, wanted.limit.unwrap_or(USUAL_LIST)).await.map_err(problem)?;
    let payments: Vec<Value> = payments.iter().map(payment).collect();
    Ok(Json(json!({ "payments": payments })).into_response())
}

/// One payment with its tries and what people should see of it.
pub(super) async fn show(State(state): State<AdminState>, Path(id): Path<String>) -> Answer {
    let journal = journal(&state)?;
    let view = view(&journal, &id).await?;
    let events = journal.events(&id).await.map_err(problem)?;
    let event = |event: &crate::payments::journal::Event| json!({ "kind": event.kind, "detail": event.detail, "at_ms": event.at_ms });
    let mut body = payment(&view.payment);
    body["attempts"] = view.attempts.iter().map(shown).collect();
    body["events"] = events.iter().map(event).collect();
    Ok(Json(body).into_response())
}

/// Its tries.
pub(super) async fn attempts(State(state): State<AdminState>, Path(id): Path<String>) -> Answer {
    let view = view(&journal(&state)?, &id).await?;
    let attempts: Vec<Value> = view.attempts.iter().map(shown).collect();
    Ok(Json(json!({ "attempts": attempts })).into_response())
}

/// Which channels were looked at for each try, and why.
pub(super) async fn route(State(state): State<AdminState>, Path(id): Path<String>) -> Answer {
    let view = view(&journal(&state)?, &id).await?;
    let one = |attempt: &Attempt| {
        let considered: Value = serde_json::from_str(&attempt.considered).unwrap_or_default();
        json!({ "n": attempt.n, "channel": attempt.channel, "considered": considered })
    };
    let tries: Vec<Value> = view.attempts.iter().map(one).collect();
    Ok(Json(json!({ "payment_id": id, "attempts": tries })).into_response())
}

/// Asks the channels that may have it, now. What is told is written down as if the resolver had asked.
pub(super) async fn query(State(state): State<AdminState>, Path(id): Path<String>) -> Answer {
    now(state, id, |attempt| attempt.state.is_worth_asking(), Act::Ask).await
}

/// Tells the channel of an undecided try to accept no money for it any more.
pub(super) async fn close(State(state): State<AdminState>, Path(id): Path<String>, Asked(how): Asked<Force>) -> Answer {
    if !how.force {
        let known = view(&journal(&state)?, &id).await?;
        let plan = resolver::plan_of(&state.gateway, &known.payment);
        let age = plan.and_then(|plan| Some(plan.spec.as_ref()?.resolve.not_found_min_age)).unwrap_or_default();
        let young = |attempt: &Attempt| {
            let at_work = matches!(attempt.state, AttemptState::Unknown | AttemptState::Manual);
            at_work && u128::try_from(unix_ms() - attempt.sent_ms).unwrap_or_default() < age.as_millis()
        };
        if known.attempts.iter().any(young) {
            let title =
                "It was sent too recently: it may still be on its way to the channel; `?force=true` closes anyway";
            return Err(Problem::new(StatusCode::CONFLICT, "too-early", title));
        }
    }
    let open = |attempt: &Attempt| {
        matches!(attempt.state, AttemptState::Unknown | AttemptState::Pending | AttemptState::Manual)
    };
    now(state, id, open, Act::Close).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Force {
    /// Whatever may still be on its way.
    #[serde(default)]
    force: bool,
}

#[derive(Clone, Copy)]
enum Act {
    Ask,
    Close,
}

async fn now(state: AdminState, id: String, which: impl Fn(&Attempt) -> bool, act: Act) -> Answer {
    let (engine, journal) = (engine(&state)?, journal(&state)?);
    let before = view(&journal, &id).await?;
    let gone =
        || Problem::new(StatusCode::CONFLICT, "no-upstream", "The payment's upstream is not in the running file");
    let plan = resolver::plan_of(&state.gateway, &before.payment).ok_or_else(gone)?;
    let chosen: Vec<Attempt> = before.attempts.iter().filter(|attempt| which(attempt)).cloned().collect();
    if chosen.is_empty() {
        return Err(Problem::new(StatusCode::CONFLICT, "wrong-state", "No try of this payment stands so"));
    }
    for attempt in chosen {
        step(&engine, &journal, &plan, &before.payment, attempt, act).await?;
    }
    let after = view(&journal, &id).await?;
    let mut body = payment(&after.payment);
    body["attempts"] = after.attempts.iter().map(shown).collect();
    Ok(Json(body).into_response())
}

/// On the payments' thread: its connections live there.
async fn step(
    engine: &std::sync::Arc<Engine>,
    journal: &Journal,
    plan: &std::sync::Arc<Plan>,
    payment: &Payment,
    attempt: Attempt,
    act: Act,
) -> Result<Step, Problem> {
    let Some(resolve) = plan.spec.as_ref().map(|spec| spec.resolve) else { return Ok(Step::Wait) };
    let (theirs, journal, plan, payment) = (engine.clone(), journal.clone(), plan.clone(), payment.clone());
    let task = engine.spawn(async move {
        match act {
            Act::Ask => resolver::ask(&theirs, &journal, &plan, &payment, &attempt, resolve).await,
            Act::Close => resolver::close(&theirs, &journal, &plan, &payment, &attempt, resolve).await,
        }
    });
    let failed = |_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal-error", "The gateway failed");
    task.await.map_err(failed)?.map_err(problem)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Word {
    state: String,
    reason: String,
}

/// A person has found out what became of a payment.
pub(super) async fn decide(State(state): State<AdminState>, Path(id): Path<String>, body: axum::body::Bytes) -> Answer {
    let Ok(Word { state: word, reason }) = serde_json::from_slice(&body) else {
        return Err(bad("The body is `{\"state\": …, \"reason\": …}`"));
    };
    let wanted = PaymentState::parse(&word.to_uppercase());
    let allowed = |state: &PaymentState| {
        matches!(state, PaymentState::Succeeded | PaymentState::Failed | PaymentState::Cancelled)
    };
    let wanted = wanted.filter(allowed).ok_or_else(|| bad("`state` is SUCCEEDED, FAILED or CANCELLED"))?;
    let reason = reason.trim();
    if reason.is_empty() || reason.len() > LONGEST_REASON {
        return Err(bad("A reason is needed, of 500 bytes at most"));
    }
    let journal = journal(&state)?;
    journal.decide(&id, wanted, reason, unix_ms()).await.map_err(problem)?;
    Ok(Json(payment(&view(&journal, &id).await?.payment)).into_response())
}

fn bad(title: &'static str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "bad-request", title)
}

fn problem(refusal: Refusal) -> Problem {
    match refusal {
        Refusal::Missing => Problem::new(StatusCode::NOT_FOUND, "payment-unknown", "No payment has this number"),
        Refusal::Standing => Problem::new(
            StatusCode::CONFLICT,
            "wrong-state",
            "Only a payment that waits for a person is decided by one",
        ),
        Refusal::Mismatch | Refusal::Store(_) => {
            tracing::error!(target: "tidegate::payments", %refusal, "the journal refused an operator");
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "journal-unavailable", "The journal cannot be used")
        }
    }
}

fn engine(state: &AdminState) -> Result<std::sync::Arc<Engine>, Problem> {
    let none = || Problem::new(StatusCode::NOT_FOUND, "no-payments", "The running file has no payment upstream");
    state.gateway.shared.payments.engine().ok_or_else(none)
}

fn journal(state: &AdminState) -> Result<Journal, Problem> {
    let none =
        || Problem::new(StatusCode::NOT_FOUND, "no-journal", "No payment upstream of the running file has a journal");
    engine(state)?.journal().ok_or_else(none)
}

async fn view(journal: &Journal, id: &str) -> Result<View, Problem> {
    journal.view(id).await.map_err(problem)?.ok_or_else(|| problem(Refusal::Missing))
}

fn payment(payment: &Payment) -> Value {
    let frozen = &payment.frozen;
    json!({
        "payment_id": frozen.id, "upstream": frozen.upstream, "state": payment.state.as_str(),
        "amount": frozen.money.amount, "currency": frozen.money.currency, "type": frozen.kind,
        "created_ms": payment.created_ms, "updated_ms": payment.updated_ms,
    })
}

fn shown(attempt: &Attempt) -> Value {
    json!({
        "n": attempt.n, "channel": attempt.channel, "number": attempt.number, "state": attempt.state.as_str(),
        "evidence": attempt.evidence, "http": attempt.http, "code": attempt.code, "sends": attempt.sends,
        "queries": attempt.tries, "not_found": attempt.not_found, "created_ms": attempt.created_ms,
        "sent_ms": attempt.sent_ms, "updated_ms": attempt.updated_ms, "next_ms": attempt.next_ms,
    })
}
