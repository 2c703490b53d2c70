//! The admin side: health, metrics, the running configuration, limits, and a page that shows them.
//!
//! It has a thread and a listener of its own, so an operator gets an answer whatever the data path does. What changes
//! something leaves a line in the log with who asked.

mod breakers;
mod channels;
mod configuration;
mod dashboard;
mod deferred;
mod extract;
mod guard;
mod limits;
mod payments;
mod problem;
mod queues;
mod room_edits;
mod room_views;
mod routes;
#[cfg(test)]
mod tests;
mod waiting_rooms;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Extension, Router};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

use crate::config::LARGEST_FILE;
use crate::gateway::Gateway;
use crate::reload::Reloader;
use problem::Problem;

/// Connections served at once. For one more the oldest has to go: one that lasts is one that nobody uses.
const MOST_CONNECTIONS: usize = 64;
/// Longest time for a request's head.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// Longest life of a connection: scrapers and pages simply connect anew, and nobody can hold a place for ever.
const LONGEST_CONNECTION: Duration = Duration::from_secs(60);
/// Time for the answer that is being given at the end of that life.
const LAST_ANSWER: Duration = Duration::from_secs(30);
/// Pause after an accept that failed, for the usual reason is that the process has no file left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the admin side looks at.
#[derive(Clone)]
pub struct AdminState {
    /// The gateway.
    pub gateway: Arc<Gateway>,
    /// Reloads its configuration.
    pub reloader: Arc<Reloader>,
    /// Whether the process is on its way out.
    pub stopping: Arc<AtomicBool>,
    /// Names of the public listeners and where they listen.
    pub addresses: Vec<(String, SocketAddr)>,
}

/// Who sent a request.
#[derive(Clone, Copy)]
struct Peer(SocketAddr);

/// Serves until the task is dropped.
///
/// # Errors
/// When the listener cannot be used.
pub async fn serve(listener: std::net::TcpListener, state: AdminState) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let loopback = listener.local_addr()?.ip().is_loopback();
    let router = router(state, loopback);
    let mut open: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                make_room(&mut open);
                let router = router.clone().layer(Extension(Peer(peer)));
                open.push_back(tokio::spawn(connection(stream, router)).abort_handle());
            }
            Err(error) => {
                tracing::warn!(target: "tidegate::admin", %error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn make_room(open: &mut VecDeque<AbortHandle>) {
    if open.len() >= MOST_CONNECTIONS {
        open.retain(|connection| !connection.is_finished());
    }
    if open.len() >= MOST_CONNECTIONS
        && let Some(oldest) = open.pop_front()
    {
        oldest.abort();
    }
}

async fn connection(stream: TcpStream, router: Router) {
    let mut builder = Builder::new(TokioExecutor::new()).http1_only();
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIME);
    let mut served = pin!(builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)));
    // A connection that breaks has nobody left to tell.
    if tokio::time::timeout(LONGEST_CONNECTION, served.as_mut()).await.is_err() {
        served.as_mut().graceful_shutdown();
        let _ = tokio::time::timeout(LAST_ANSWER, served).await;
    }
}

fn router(state: AdminState, loopback: bool) -> Router {
    let guard = guard::Guard::new(state.gateway.clone(), loopback);
    Router::new()
        .route("/", get(dashboard::page))
        .route("/-/dashboard.js", get(dashboard::script))
        .route("/-/dashboard.css", get(dashboard::style))
        .route("/-/health", get(health))
        .route("/-/ready", get(ready))
        .route("/metrics", get(metrics))
        .route("/-/config", get(configuration::show))
        .route("/-/config/status", get(configuration::status))
        .route("/-/config/check", post(configuration::check))
        .route("/-/config/versions", get(configuration::versions))
        .route("/-/config/rollback", post(configuration::rollback))
        .route("/-/reload", post(configuration::reload))
        .route("/-/limits", get(limits::show).delete(limits::forget))
        .route("/-/breakers", get(breakers::show))
        .route("/-/breakers/{upstream}/{channel}/{what}", post(breakers::change))
        .route("/-/channels", get(channels::show))
        .route("/-/queues", get(queues::show))
        .route("/-/routes", get(routes::show))
        .route("/-/async", get(deferred::show))
        .route("/-/async/requests", get(deferred::list))
        .route("/-/async/requests/{id}", get(deferred::one))
        .route("/-/async/requests/{id}/requeue", post(deferred::requeue))
        .route("/-/async/requests/{id}/resolve", post(deferred::resolve))
        .route("/-/async/requests/{id}/cancel", post(deferred::cancel))
        .route("/-/payments", get(payments::list))
        .route("/-/payments/{id}", get(payments::show))
        .route("/-/payments/{id}/attempts", get(payments::attempts))
        .route("/-/payments/{id}/route", get(payments::route))
        .route("/-/payments/{id}/query", post(payments::query))
        .route("/-/payments/{id}/close", post(payments::close))
        .route("/-/payments/{id}/manual-resolve", post(payments::decide))
        .merge(rooms())
        .fallback(async || Problem::new(StatusCode::NOT_FOUND, "not-found", "There is nothing at this path"))
        .method_not_allowed_fallback(async || {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "This path does not know that method")
        })
        .layer(axum::extract::DefaultBodyLimit::max(LARGEST_FILE))
        .layer(axum::middleware::from_fn_with_state(guard, guard::check))
        .with_state(state)
}

fn rooms() -> Router<AdminState> {
    let one = get(waiting_rooms::show).put(room_edits::edit).patch(room_edits::edit).delete(room_edits::edit);
    Router::new()
        .route("/-/waiting_rooms", get(waiting_rooms::list).post(room_edits::edit))
        .route("/-/waiting_rooms/{room}", one)
        .route("/-/waiting_rooms/{room}/status", get(room_views::status))
        .route("/-/waiting_rooms/{room}/events", get(room_views::events))
        .route("/-/waiting_rooms/{room}/rules", get(room_views::rules))
        .route("/-/waiting_rooms/{room}/preview", get(room_views::preview).post(room_views::preview_of))
        .route("/-/waiting_rooms/{room}/predict", get(waiting_rooms::predict))
        .route("/-/waiting_rooms/{room}/sold_out", post(waiting_rooms::sold_out))
        .route("/-/waiting_rooms/{room}/drain", post(waiting_rooms::drain))
        .route("/-/waiting_rooms/{room}/reopen", post(waiting_rooms::reopen))
        .route("/-/waiting_rooms/{room}/revoke", post(room_views::revoke))
        .route("/-/waiting_rooms/{room}/reset", post(waiting_rooms::reset))
        .route("/-/waiting_rooms/{room}/message", put(waiting_rooms::tell).delete(waiting_rooms::hush))
}

/// The process answers.
async fn health() -> &'static str {
    "ok\n"
}

/// New requests are welcome.
async fn ready(State(state): State<AdminState>) -> Response {
    if state.stopping.load(SeqCst) {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n").into_response();
    }
    "ready\n".into_response()
}

async fn metrics(State(state): State<AdminState>) -> Result<Response, Infallible> {
    let text = state.gateway.shared.telemetry.render(&state.gateway);
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response())
}
