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
use super::{cashier, control, json, metrics};
use crate::support::{Problem, unix_ms};

/// Largest body of a request.
const MAX_BODY: usize = 64 * 1024;

pub(super) type Shared = State<Arc<Channel>>;
pub(super) type Answer = Result<Response, Problem>;

/// All routes, those for tests under `/sim` included.
pub(super) fn router(channel: Arc<Channel>) -> Router {
    let pay = json::routes().route_layer(from_fn_with_state(Arc::clone(&channel), gate));
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

/// The body as JSON. What the parser says names members and positions, not values of ours.
pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| Problem::invalid(error.to_string()))
}
