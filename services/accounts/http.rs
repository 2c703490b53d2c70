//! The interface to accounts: for services of the machine, not for buyers.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, State as Shared};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tidegate_durable::WriteError;

use super::bank::Bank;
use super::model::{Account, Branch, Leg, Reason, Refusal, State, Transfer};
use super::tcc::Wanted;
use super::{branch, coordinator, inspect, lost, notices, rows};
use crate::outbox::{self, Depth};
use crate::support::{Problem, Shard, idempotency_key, unix_ms};

/// Longest user id and transfer number in bytes.
const MAX_ID: usize = 128;

/// Entries of the ledger in one answer.
const PAGE: u32 = 100;

/// Longest a client waits for a transfer; it goes on in any case.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

type Answer = Result<Response, Problem>;
type Held = Shared<Arc<Bank>>;

/// All routes.
pub fn router(bank: Arc<Bank>) -> Router {
    Router::new()
        .route("/v1/accounts", post(open))
        .route("/v1/accounts/{id}", get(show))
        .route("/v1/accounts/{id}/close", post(close))
        .route("/v1/accounts/{id}/deposits", post(deposit))
        .route("/v1/accounts/{id}/notices", get(told))
        .route("/v1/transfers", post(transfer))
        .route("/v1/transfers/{gid}", get(stands))
        .route("/v1/ledger", get(ledger))
        .route("/tcc/{branch}/{act}", post(act))
        .route("/admin/accounts", get(invariants))
        .with_state(bank)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OpenRequest {
    user_id: String,
    currency: String,
}

async fn open(Shared(bank): Held, body: Bytes) -> Answer {
    let request: OpenRequest = parse(&body)?;
    if request.user_id.is_empty() || request.user_id.len() > MAX_ID {
        return Err(Problem::invalid(format!("user_id must be 1 to {MAX_ID} bytes")));
    }
    if request.currency.len() != 3 || !request.currency.bytes().all(|byte| byte.is_ascii_uppercase()) {
        return Err(Problem::invalid("currency must be three capital letters, as CNY"));
    }
    let (now, account) = bank.open_account(&request.user_id, &request.currency).await?;
    let location = [(header::LOCATION, format!("/v1/accounts/{}", account.id))];
    let status = if now { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, location, axum::Json(view(&account))).into_response())
}

async fn show(Shared(bank): Held, Path(id): Path<String>) -> Answer {
    Ok(axum::Json(view(&bank.account(&id).await?)).into_response())
}

async fn close(Shared(bank): Held, Path(id): Path<String>) -> Answer {
    Ok(axum::Json(view(&bank.close_account(&id).await?)).into_response())
}

fn view(account: &Account) -> Value {
    json!({
        "id": account.id, "user_id": account.user, "currency": account.currency,
        "status": if account.open { "OPEN" } else { "CLOSED" }, "available": account.available,
        "frozen": account.frozen, "incoming": account.incoming, "version": account.version,
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DepositRequest {
    amount: i64,
}

async fn deposit(Shared(bank): Held, Path(id): Path<String>, headers: HeaderMap, body: Bytes) -> Answer {
    let key = idempotency_key(&headers)?;
    let amount = check_amount(parse::<DepositRequest>(&body)?.amount)?;
    let (now, number, account) = bank.deposit(&id, key, amount).await?;
    let body = json!({ "deposit": number, "amount": amount, "account": view(&account) });
    Ok(replayed(!now, (StatusCode::CREATED, axum::Json(body)).into_response()))
}

async fn told(Shared(bank): Held, Path(id): Path<String>) -> Answer {
    let shard = Shard::of_number(&id).ok_or(Refusal::UnknownAccount)?;
    let found = bank.read(shard, move |connection| {
        rows::get(connection, &id)?;
        Ok(notices::newest(connection, &id)?)
    });
    let notices: Vec<Value> =
        found.await?.into_iter().map(|(gid, text)| json!({ "transfer": gid, "text": text })).collect();
    Ok(axum::Json(json!({ "notices": notices })).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TransferRequest {
    from: String,
    to: String,
    amount: i64,
}

async fn transfer(Shared(bank): Held, headers: HeaderMap, body: Bytes) -> Answer {
    let idem_key = idempotency_key(&headers)?;
    let request: TransferRequest = parse(&body)?;
    let amount = check_amount(request.amount)?;
    if request.from == request.to {
        return Err(Problem::invalid("from and to must be two accounts"));
    }
    if request.to.len() > MAX_ID {
        return Err(Problem::invalid("to is no account"));
    }
    let wanted = Wanted { payer: request.from, payee: request.to, amount, idem_key };
    // It goes on even if the client leaves.
    let done = tokio::spawn(coordinator::transfer(bank, wanted));
    match tokio::time::timeout(ANSWER_WITHIN, done).await {
        Ok(Ok(made)) => {
            let (now, transfer) = made?;
            Ok(replayed(!now, outcome(&transfer)))
        }
        Ok(Err(error)) => {
            tracing::error!(%error, "a transfer ended abnormally");
            Err(Problem::internal())
        }
        Err(_) => {
            let detail = "The transfer takes long. Repeat the request with the same key to see what becomes of it.";
            Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "BUSY", detail).retry_after(2))
        }
    }
}

async fn stands(Shared(bank): Held, Path(gid): Path<String>) -> Answer {
    Ok(axum::Json(view_transfer(&bank.transfer(&gid).await?)).into_response())
}

fn view_transfer(transfer: &Transfer) -> Value {
    json!({
        "gid": transfer.gid, "from": transfer.payer, "to": transfer.payee, "amount": transfer.amount,
        "currency": transfer.currency, "status": transfer.state.as_str(),
        "reason": transfer.reason.map(Reason::as_str),
    })
}

/// 201 when the money has moved, 202 while it is not known or not everywhere yet, a problem when it will not move.
fn outcome(transfer: &Transfer) -> Response {
    let location = [(header::LOCATION, format!("/v1/transfers/{}", transfer.gid))];
    let Some(reason) = transfer.reason else {
        let known = transfer.state == State::Confirmed;
        let status = if known { StatusCode::CREATED } else { StatusCode::ACCEPTED };
        return (status, location, axum::Json(view_transfer(transfer))).into_response();
    };
    let problem = match reason {
        Reason::InsufficientFunds => Refusal::InsufficientFunds.into(),
        Reason::UnknownAccount => Refusal::UnknownAccount.into(),
        Reason::AccountClosed => Refusal::AccountClosed.into(),
        Reason::CurrencyMismatch => Refusal::CurrencyMismatch.into(),
        Reason::AccountFull => Refusal::AccountFull.into(),
        Reason::BranchUnknown | Reason::TimedOut => {
            let detail = "The transfer was given up, no money has moved. Ask again with another key.";
            Problem::new(StatusCode::CONFLICT, "TRANSFER_CANCELLED", detail)
        }
    };
    (location, problem).into_response()
}

#[derive(Deserialize)]
struct LedgerRequest {
    account: String,
    cursor: Option<i64>,
}

async fn ledger(Shared(bank): Held, Query(request): Query<LedgerRequest>) -> Answer {
    let entries = bank.entries(&request.account, request.cursor.unwrap_or(0), PAGE).await?;
    let next = entries.last().filter(|_| entries.len() == PAGE as usize).map(|entry| entry.seq);
    let entries: Vec<Value> = entries
        .iter()
        .map(|entry| {
            json!({
                "seq": entry.seq, "gid": entry.gid, "kind": entry.kind, "amount": entry.amount, "at_ms": entry.at_ms,
            })
        })
        .collect();
    Ok(axum::Json(json!({ "entries": entries, "next_cursor": next })).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ActRequest {
    gid: String,
    account: String,
    /// Needed to try; confirm and cancel go by what was tried.
    #[serde(default)]
    amount: i64,
    #[serde(default)]
    currency: String,
}

/// The branches, for another coordinator.
async fn act(Shared(bank): Held, Path((half, act)): Path<(String, String)>, body: Bytes) -> Answer {
    let nowhere = || Problem::new(StatusCode::NOT_FOUND, "NOT_FOUND", "There is nothing at this path.");
    let branch = Branch::parse(&half).ok_or_else(nowhere)?;
    let operation = match act.as_str() {
        "try" => branch::attempt,
        "confirm" => branch::confirm,
        "cancel" => branch::cancel,
        _ => return Err(nowhere()),
    };
    let ActRequest { gid, account, amount, currency } = parse(&body)?;
    if gid.is_empty() || gid.len() > MAX_ID {
        return Err(Problem::invalid(format!("gid must be 1 to {MAX_ID} bytes")));
    }
    if act == "try" {
        check_amount(amount)?;
    }
    let shard = Shard::of_number(&account).ok_or(Refusal::UnknownAccount)?;
    let (leg, now_ms) = (Leg { gid: gid.clone(), branch, account, amount, currency }, unix_ms());
    let done: Result<(), WriteError<Refusal>> =
        bank.store(shard).write(move |connection| operation(connection, &leg, now_ms)).await;
    done.map_err(lost)?;
    Ok(axum::Json(json!({ "gid": gid, "branch": half, "done": act })).into_response())
}

/// 200 when everything adds up, 500 with the violations when not.
async fn invariants(Shared(bank): Held) -> Answer {
    let violations = inspect::violations(&bank).await?;
    let status = if violations.is_empty() { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR };
    let mut events = Depth::default();
    for store in &bank.stores {
        let Depth { waiting, dead, parked } = store.read(outbox::depth).await?;
        events.waiting += waiting;
        events.dead += dead;
        events.parked += parked;
    }
    let Depth { waiting, dead, parked } = events;
    let answer = json!({
        "violations": violations,
        "stuck_transfers": bank.counters.stuck.get(),
        "events": { "waiting": waiting, "dead": dead, "parked": parked },
    });
    Ok((status, axum::Json(answer)).into_response())
}

fn check_amount(amount: i64) -> Result<i64, Problem> {
    if (1..=rows::MAX_BALANCE).contains(&amount) {
        return Ok(amount);
    }
    Err(Problem::invalid(format!("amount must be 1 to {} minor units", rows::MAX_BALANCE)))
}

fn replayed(again: bool, mut answer: Response) -> Response {
    if again {
        let name = HeaderName::from_static("idempotent-replayed");
        answer.headers_mut().insert(name, HeaderValue::from_static("true"));
    }
    answer
}

/// The body as JSON. What the parser says names members and positions, not values of ours.
fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| Problem::invalid(error.to_string()))
}
