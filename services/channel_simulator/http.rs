//! All routes of a channel, and what they have in common.

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::de::DeserializeOwned;

use super::channel::Channel;
use super::course::Seen;
use super::dialects::{alipay, epay, json, wechat};
use super::wire::Arrival;
use super::{bill, cashier, control, metrics};
use crate::support::{Problem, unix_ms};

/// Longest payment number, refund number, scene in bytes.
const MAX_NUMBER: usize = 64;

/// Longest subject and URL in bytes.
const MAX_SUBJECT: usize = 256;
const MAX_URL: usize = 2_048;

/// Dearest payment, in fen: a hundred million yuan. Far below what an i64 holds, so that no sum overflows.
const MAX_AMOUNT: i64 = 10_000_000_000;

/// The one currency of these channels.
const CURRENCY: &str = "CNY";

/// Largest body of a request.
const MAX_BODY: usize = 64 * 1024;

pub(super) type Shared = State<Arc<Channel>>;
pub(super) type Answer = Result<Response, Problem>;

/// All routes, those for tests under `/sim` included.
pub(super) fn router(channel: Arc<Channel>) -> Router {
    let gated = || from_fn_with_state(Arc::clone(&channel), gate);
    // A refusal at the gate is signed like any other word of the channel.
    let signs = from_fn_with_state(Arc::clone(&channel), json::sign);
    let plain = json::routes().route_layer(gated()).route_layer(signs);
    let others = alipay::routes().merge(wechat::routes()).merge(epay::routes()).merge(bill::routes());
    let pay = plain.merge(others.route_layer(gated()));
    with_rest(Router::new().merge(pay).merge(cashier::routes()).merge(control_routes()), channel)
}

/// Those for tests only, for a listener that no fault can reach.
pub(super) fn control_router(channel: Arc<Channel>) -> Router {
    with_rest(control_routes(), channel)
}

fn control_routes() -> Router<Arc<Channel>> {
    Router::new()
        .nest("/sim", control::routes())
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(figures))
}

fn with_rest(router: Router<Arc<Channel>>, channel: Arc<Channel>) -> Router {
    router
        .fallback(async || Problem::new(StatusCode::NOT_FOUND, "NOT_FOUND", "There is nothing at this path."))
        .method_not_allowed_fallback(async || {
            let detail = "This path does not know that method.";
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", detail)
        })
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(channel)
}

/// What the channel takes is decided before it looks at a call, and a call counts until it is answered.
async fn gate(State(channel): Shared, request: Request, next: Next) -> Answer {
    channel.counters.calls.add(1);
    let _place = channel.enter(unix_ms())?;
    Ok(next.run(request).await)
}

async fn ready(State(channel): Shared) -> Answer {
    channel.store.read(|connection| connection.query_row("SELECT 1", [], |_| Ok(()))).await?;
    Ok("ready\n".into_response())
}

async fn figures(State(channel): Shared) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], metrics::text(&channel)).into_response()
}

/// How a call came: what the ledger and the plan want to know.
pub(super) struct Came {
    pub(super) seen: Seen,
    pub(super) http2: bool,
}

impl<S: Sync> axum::extract::FromRequestParts<S> for Came {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut axum::http::request::Parts, _: &S) -> Result<Self, Self::Rejection> {
        let arrival = parts.extensions.get::<Arrival>();
        Ok(Self { seen: Seen::of(arrival, &parts.headers), http2: arrival.is_some_and(|arrival| arrival.http2) })
    }
}

pub(super) fn check_subject(subject: &str) -> Result<(), Problem> {
    if subject.len() > MAX_SUBJECT {
        return Err(Problem::invalid(format!("the subject must be at most {MAX_SUBJECT} bytes")));
    }
    Ok(())
}

pub(super) fn check_url(member: &str, url: &str) -> Result<(), Problem> {
    let usable = |url: reqwest::Url| url.scheme() == "http" && url.has_host();
    if url.len() > MAX_URL || !reqwest::Url::parse(url).is_ok_and(usable) {
        return Err(Problem::invalid(format!("{member} must be an http:// URL of at most {MAX_URL} bytes")));
    }
    Ok(())
}

pub(super) fn check_amount(amount: i64) -> Result<(), Problem> {
    if !(1..=MAX_AMOUNT).contains(&amount) {
        return Err(Problem::invalid(format!("amount must be 1 to {MAX_AMOUNT} fen")));
    }
    Ok(())
}

pub(super) fn check_currency(currency: &str) -> Result<(), Problem> {
    if currency != CURRENCY {
        return Err(Problem::invalid(format!("currency must be {CURRENCY}")));
    }
    Ok(())
}

/// Numbers appear in paths and logs: letters, digits, `-` and `_` only.
pub(super) fn check_number(member: &str, text: &str) -> Result<(), Problem> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if text.is_empty() || text.len() > MAX_NUMBER || !text.bytes().all(plain) {
        return Err(Problem::invalid(format!("{member} must be 1 to {MAX_NUMBER} of A-Z, a-z, 0-9, - and _")));
    }
    Ok(())
}

/// The body as JSON. What the parser says names members and positions, not values of ours.
pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| Problem::invalid(error.to_string()))
}
