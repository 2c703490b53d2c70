//! Requests on their way to upstreams. `h1` forwards from HTTP/1 to HTTP/1.1; this file is the one adapter to pingora, for
//! everything else: each of its hooks calls a stage and carries out what the stage said.
//!
//! | hook | stage |
//! | --- | --- |
//! | `on_connection_reuse` | takes over a request from the door |
//! | `request_filter` | request (HTTP/2), or what the door left to do: waits, bodies, streamed replies; payments |
//! | `upstream_peer` | attempt |
//! | `fail_to_connect`, `error_while_proxy`, `upstream_response_filter` | end of an attempt |
//! | `response_filter`, `response_body_filter` | response, chunk |
//! | `fail_to_proxy` | writes the answer to an error |
//! | `logging` | finish |

pub(crate) mod attempt;
pub(crate) mod capture;
mod defer;
mod fault;
pub(crate) mod flow;
pub(crate) mod forward;
pub(crate) mod h1;
pub(crate) mod id;
mod paced;
mod park;
pub(crate) mod pay;
pub(crate) mod reply;
pub(crate) mod shield;
mod sound;
pub(crate) mod stage;
mod view;
mod write;

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Version};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, ErrorType, Result};

use tidegate_filters::engine::Known;

use crate::door::Progress;
use crate::gateway::Gateway;
use fault::Fault;
use flow::Flow;

pub(crate) use attempt::MOST_TRIES;
use reply::{HeaderList, apply};

/// Time for reading off a body that nobody wants before the connection is reused.
const DRAIN_TIME: Duration = Duration::from_secs(5);
/// Longest silence of an agreed WebSocket, in either direction.
const WEBSOCKET_SILENCE: Duration = Duration::from_secs(3_600);
const CHANNEL: HeaderName = HeaderName::from_static("tidegate-channel");
const ATTEMPTS: HeaderName = HeaderName::from_static("tidegate-attempts");
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// pingora's view of the gateway, one for each listener.
pub struct Adapter {
    gateway: Arc<Gateway>,
    listener: usize,
}

impl Adapter {
    /// The adapter of listener number `listener`.
    #[must_use]
    pub fn new(gateway: Arc<Gateway>, listener: usize) -> Self {
        Self { gateway, listener }
    }
}

/// The span of one request behind the door; shown with `RUST_LOG=tidegate::request=debug`.
pub(crate) fn span(protocol: &'static str) -> tracing::Span {
    let empty = tracing::field::Empty;
    tracing::debug_span!(target: "tidegate::request", "request", protocol, request_id = empty, route = empty)
}

/// Says in the span which request it is.
pub(crate) fn note(span: &tracing::Span, flow: &Flow) {
    if !span.is_disabled() {
        span.record("request_id", flow.id().as_str());
        span.record("route", flow.route.as_ref().map_or("", |route| &route.name));
    }
}

/// The request's state; `None` only before its request stage began.
type Ctx = Option<Box<Flow>>;

fn lost() -> Box<Error> {
    Error::explain(ErrorType::InternalError, "a request without its flow")
}

#[async_trait]
impl ProxyHttp for Adapter {
    type CTX = Ctx;

    fn new_ctx(&self) -> Ctx {
        None
    }

    /// Response modules (compression) are not offered; leaving them out saves their set-up on every request.
    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    /// The door hands its requests over as a connection's user context.
    fn on_connection_reuse(&self, _session: &mut Session, ctx: &mut Ctx, from: Box<dyn Any + Send + Sync>) {
        *ctx = from.downcast().ok();
    }

    async fn early_request_filter(&self, session: &mut Session, ctx: &mut Ctx) -> Result<()> {
        let snapshot = ctx.as_ref().map_or_else(|| self.gateway.snapshot(), |flow| flow.snapshot.clone());
        let websocket = ctx.as_ref().is_some_and(|flow| flow.websocket);
        let silence = if websocket { WEBSOCKET_SILENCE } else { snapshot.config.server.limits.body_timeout };
        session.set_read_timeout(Some(silence));
        // A client of HTTP/1 that does not read is the door's to end: pingora would wait anew for each piece.
        let watched = ctx.is_some() && !websocket;
        session.set_write_timeout(Some(silence).filter(|_| !watched));
        session.set_total_drain_timeout(Some(DRAIN_TIME));
        // The door has read what the client wants; pingora no longer sees the header that says so.
        if let Some(flow) = ctx {
            session.set_keepalive(flow.keep_alive);
        }
        if session.req_header().version == Version::HTTP_10 {
            // Interim answers came with HTTP/1.1: a client of 1.0 would take one for the answer.
            session.as_downstream_mut().set_ignore_info_resp(true);
        }
        // A client that leaves does not cut a payment in the middle: the exchange with the upstream ends properly.
        session.set_abort_on_close(false);
        Ok(())
    }

    async fn request_filter(&self, session: &mut Session, ctx: &mut Ctx) -> Result<bool> {
        if ctx.is_none() {
            *ctx = Some(view::begin(&self.gateway, self.listener, session));
        }
        let flow = ctx.as_mut().ok_or_else(lost)?;
        if let Some(route) = &flow.route {
            Progress::note_total(route.timeout);
        }
        note(&tracing::Span::current(), flow);
        if park::request_stage(session, flow).await? {
            return Ok(true);
        }
        if let Some(deferral) = flow.cx.deferral.take()
            && defer::accept(session, flow, deferral).await?
        {
            return Ok(true);
        }
        let answered = match pay::plan(flow) {
            Some(plan) => pay::pay(session, flow, plan).await?,
            None => pay::note_callback(session, flow).await?,
        };
        if !answered {
            shield::raise(session, flow);
        }
        Ok(answered)
    }

    async fn request_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        ctx: &mut Ctx,
    ) -> Result<()> {
        let bytes = body.as_ref().map_or(0, Bytes::len);
        Progress::note(bytes, end);
        let flow = ctx.as_mut().ok_or_else(lost)?;
        flow.body_seen += bytes as u64;
        if flow.route.as_ref().is_some_and(|route| flow.body_seen > route.max_body) {
            flow.reply = Some(Box::new(stage::too_large()));
            return Error::e_explain(ErrorType::HTTPStatus(413), "body too large");
        }
        Ok(())
    }

    async fn upstream_peer(&self, _session: &mut Session, ctx: &mut Ctx) -> Result<Box<HttpPeer>> {
        attempt::choose(ctx.as_mut().ok_or_else(lost)?)
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        ctx: &mut Ctx,
    ) -> Result<()> {
        let flow = ctx.as_mut().ok_or_else(lost)?;
        if !flow.rewritten {
            view::rewrite(flow, session.req_header(), request)?;
        }
        apply(&mut flow.cx.to_upstream.clone(), &mut Upward(request));
        // From here on bytes may arrive, whatever becomes of the request.
        flow.known = Some(Known::Unknown);
        if let Some(conn) = &flow.conn {
            conn.set_sent();
        }
        Ok(())
    }

    fn fail_to_connect(
        &self,
        _session: &mut Session,
        _peer: &HttpPeer,
        ctx: &mut Ctx,
        mut error: Box<Error>,
    ) -> Box<Error> {
        let again = ctx.as_mut().is_some_and(|flow| attempt::connect_failed(flow));
        error.set_retry(again);
        error
    }

    fn error_while_proxy(
        &self,
        peer: &HttpPeer,
        session: &mut Session,
        error: Box<Error>,
        ctx: &mut Ctx,
        client_reused: bool,
    ) -> Box<Error> {
        let mut error = error.more_context(format!("Peer: {peer}"));
        let again = ctx.as_mut().is_some_and(|flow| attempt::broke(flow, session, &error, client_reused));
        error.set_retry(again);
        error
    }

    async fn upstream_response_filter(
        &self,
        _session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Ctx,
    ) -> Result<()> {
        let flow = ctx.as_mut().ok_or_else(lost)?;
        sound::check(response, flow).map_err(|why| Error::explain(ErrorType::InvalidHTTPHeader, why).into_up())?;
        if !response.status.is_informational() {
            attempt::answered(flow, response.status);
            pay::callback_answered(flow, response.status);
        }
        Ok(())
    }

    async fn response_filter(&self, session: &mut Session, response: &mut ResponseHeader, ctx: &mut Ctx) -> Result<()> {
        sound::frame(session, response);
        let flow = ctx.as_mut().ok_or_else(lost)?;
        let Some(route) = flow.route.clone() else { return Ok(()) };
        flow.tick();
        Progress::answering(patience(flow));
        sound::forget_hop(response);
        capture::begin(flow, response.status, &response.headers);
        if capture::ends_with_head(response.status, &response.headers)
            && let Some(held) = capture::end(flow)
        {
            capture::hold(held).await;
        }
        route.chain.on_response(response.as_ref(), &mut flow.cx);
        apply(&mut flow.cx.to_client, &mut Downward(response));
        response.remove_header(&forward::COMMAND);
        if route.upstream.channels.len() > 1
            && let Some(channel) = flow.channel()
        {
            response.insert_header(CHANNEL, &*channel.name)?;
            response.insert_header(ATTEMPTS, flow.attempts.to_string())?;
        }
        Ok(())
    }

    fn response_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        ctx: &mut Ctx,
    ) -> Result<Option<Duration>> {
        let flow = ctx.as_mut().ok_or_else(lost)?;
        Progress::answering(patience(flow));
        if let Some(route) = flow.route.clone()
            && route.chain.sees_chunks()
        {
            flow.tick();
            route.chain.on_chunk(&body.clone().unwrap_or_default(), end, &mut flow.cx);
        }
        if let Some(piece) = body {
            capture::add(flow, piece);
        }
        if end && let Some(held) = capture::end(flow) {
            capture::hold_here(held);
        }
        Ok(None)
    }

    async fn fail_to_proxy(&self, session: &mut Session, error: &Error, ctx: &mut Ctx) -> FailToProxy {
        let Some(flow) = ctx.as_mut() else {
            return FailToProxy { error_code: 500, can_reuse_downstream: false };
        };
        tracing::debug!(target: "tidegate::proxy", request_id = flow.id().as_str(), %error, "request failed");
        let mut error_code = 0;
        // An upstream's failure is no reason to make its clients connect anew, thousands of them at once.
        let whole = flow.conn.as_ref().is_some_and(crate::door::conn::Conn::at_request_boundary);
        let mut reusable = whole && flow.keep_alive.is_some() && *error.esource() != ErrorSource::Downstream;
        if let Some(client) = &flow.client {
            reusable &= !client.is_deaf();
            if !reusable {
                client.close();
            }
        }
        if sound::begun(session).is_none()
            && let Some(reply) = Fault::of(error, flow).reply(flow)
        {
            error_code = reply.status.as_u16();
            flow.answers(&reply, "failed");
            // The client may be gone; the log line says what it would have got.
            reusable &= write::reply(session, flow, reply, reusable).await.is_ok();
        } else {
            reusable = false;
        }
        if reusable && let Some(conn) = &flow.conn {
            // pingora lets go of the connection after any failure; the door knows better.
            conn.set_whole();
        }
        FailToProxy { error_code, can_reuse_downstream: reusable }
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, ctx: &mut Ctx) {
        let Some(flow) = ctx.as_mut() else { return };
        // An answer over HTTP/2 may have ended with its head, which no other hook is told.
        if error.is_none()
            && let Some(held) = capture::end(flow)
        {
            capture::hold(held).await;
        }
        let begun = sound::begun(session);
        let status = begun.unwrap_or(499);
        let deaf = flow.client.as_ref().is_some_and(|client| client.is_deaf());
        let gone = deaf || error.is_some_and(|error| *error.esource() == ErrorSource::Downstream);
        if deaf && flow.decision == "proxied" {
            flow.decision = "cut";
        }
        if error.is_some() && begun.is_some() && matches!(flow.decision, "proxied" | "cut") {
            flow.decision = "cut";
            flow.known = flow.known.or(Some(Known::Unknown));
        }
        flow.end(status, session.body_bytes_sent() as u64, gone);
    }

    /// The access log has a line for every failure, with its outcome; pingora's own would carry paths with queries.
    fn suppress_error_log(&self, _session: &Session, _ctx: &Ctx, _error: &Error) -> bool {
        true
    }

    fn suppress_proxy_warn_log(
        &self,
        _session: &Session,
        _ctx: &Ctx,
        _error: &Error,
        _context: ProxyWarnLogContext,
    ) -> bool {
        true
    }
}

/// How long an HTTP/2 answer may make no progress: what the upstream may take for its next piece, and what the client may
/// take to make room for it.
fn patience(flow: &Flow) -> Duration {
    let read = flow.route.as_ref().map_or(Duration::ZERO, |route| route.upstream.read_timeout);
    read + flow.snapshot.config.server.limits.body_timeout
}

struct Upward<'a>(&'a mut RequestHeader);
struct Downward<'a>(&'a mut ResponseHeader);

macro_rules! header_list {
    ($type:ident) => {
        impl HeaderList for $type<'_> {
            fn set(&mut self, name: HeaderName, value: HeaderValue) {
                // Both halves are valid already, so the only error left is a map beyond 32 Ki entries.
                let _ = self.0.insert_header(name, value);
            }
            fn add(&mut self, name: HeaderName, value: HeaderValue) {
                let _ = self.0.append_header(name, value);
            }
            fn remove(&mut self, name: &HeaderName) {
                self.0.remove_header(name);
            }
        }
    };
}

header_list!(Upward);
header_list!(Downward);
