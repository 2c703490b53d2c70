//! Forwarding from HTTP/1 to HTTP/1.1 without pingora's proxy machinery: the way nearly all requests go.
//!
//! The door has the request's head as bytes, and the upstream's answer comes as bytes. Parsing both into header maps and
//! writing them out again is most of what a proxied request costs; here they are checked in one pass each and stay
//! bytes. Owning both ends has a second reason: it is known exactly whether a byte of a request has left this machine,
//! which is what decides whether a payment may be tried elsewhere.
//!
//! A WebSocket is a request until the upstream agrees, and then bytes (`tunnel`).
//!
//! HTTP/2 clients and upstreams that speak HTTP/2 or TLS are pingora's.

mod answer;
mod download;
mod edits;
mod exchange;
mod heads;
mod pool;
mod tunnel;
mod upload;

use pingora::server::ShutdownWatch;
use tidegate_filters::engine::ReplyBody;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::attempt::{self, MOST_TRIES};
use super::fault::{Fault, internal_error};
use super::flow::Flow;
use crate::config::Class;
use crate::door::conn::{ClientStream, Conn};
use crate::door::head::Head;
use crate::door::{Alarm, Next, Sending, give};
use crate::snapshot::Route;
use download::Download;
use exchange::{End, Exchange};
use upload::Upload;

pub(crate) use edits::line;
pub(crate) use pool::Pool;

/// An upstream that drips its head gets this many read timeouts for the whole of it.
pub(crate) const HEAD_PATIENCE: u32 = 3;

/// A request on its way, over all its tries.
struct Request {
    /// The head for the upstream, before the edits of filters.
    head: Vec<u8>,
    client: ClientStream,
    upload: Upload,
    /// Its method changes nothing (RFC 9110 §9.2.1).
    safe: bool,
    to_head: bool,
    /// Over HTTP/1.0.
    old: bool,
    /// The client wants its connection kept.
    keep_alive: bool,
    /// When it was looked at the clock last; a wait for a connection moves it.
    now: Instant,
    /// End of its time.
    until: Instant,
    /// The upstream's connection, once another protocol is spoken on it.
    switched: Option<TcpStream>,
}

impl Request {
    /// Whether it may be made once more although an upstream may have seen it.
    fn may_be_repeated(&self, flow: &Flow) -> bool {
        let callback = flow.route.as_ref().is_some_and(|route| route.upstream.class == Class::Callback);
        self.safe && !callback && self.upload.is_whole() && flow.attempts < MOST_TRIES
    }
}

/// Takes a request whose chain said continue to an upstream, and the answer back. `rewritten`: the head for the upstream.
pub(crate) async fn forward(
    conn: &Conn,
    mut flow: Box<Flow>,
    route: &Route,
    (head, rewritten): (&Head, Vec<u8>),
    alarm: &mut Alarm,
    stopping: &ShutdownWatch,
) -> Next {
    let patience = flow.snapshot.config.server.limits.body_timeout;
    let now = Instant::now();
    let mut request = Request {
        head: rewritten,
        client: conn.begin(head.framing, flow.websocket, patience),
        upload: Upload::new(head.framing),
        safe: flow.safe,
        to_head: flow.method == http::Method::HEAD,
        old: head.old,
        keep_alive: head.keep_alive,
        now,
        until: now + route.timeout,
        switched: None,
    };
    flow.conn = Some(conn.clone());
    let (end, mut download) = tries(conn, &mut flow, route, &mut request, alarm, stopping).await;
    if let Some(wire) = request.switched {
        let bytes = {
            let drain = flow.snapshot.config.server.drain_timeout;
            tunnel::run(conn, (request.client, wire), download.rest(), alarm, (stopping, drain)).await
        };
        flow.end(answer::SWITCHING_PROTOCOLS, bytes, false);
        return Next::Close;
    }
    let gone = match end {
        End::Whole => download.deaf,
        End::Cut { by_client } => by_client,
        End::Fault(fault) => {
            let keep = request.keep_alive && !*stopping.borrow();
            return fail(conn, flow, fault, keep, request.old).await;
        }
        End::NothingTaken | End::DiedIdle => return fail(conn, flow, Fault::Internal, false, request.old).await,
    };
    if gone || end != End::Whole {
        flow.decision = "cut";
    }
    flow.end(download.status.unwrap_or(499), download.body - download.unsent(), gone);
    match end {
        _ if gone => Next::Gone,
        End::Whole if download.keep && conn.at_request_boundary() => Next::Keep,
        _ => Next::Close,
    }
}

/// Tries channels and endpoints until one answers or none may be tried.
async fn tries(
    conn: &Conn,
    flow: &mut Flow,
    route: &Route,
    request: &mut Request,
    alarm: &mut Alarm,
    stopping: &ShutdownWatch,
) -> (End, Download) {
    let mut fresh = false;
    loop {
        // Its error is the reply that the flow has now.
        let Ok(endpoint) = attempt::pick(flow, route) else { return failed(Fault::Refused) };
        let channel = flow.cx.channel.and_then(|id| route.upstream.channels.get(usize::from(id.0)));
        let Some(pool) = channel.and_then(|channel| channel.pools.get(endpoint)) else {
            return failed(Fault::Internal);
        };
        let (end, download) = one(conn, flow, (route, pool, fresh), request, alarm, stopping).await;
        match end {
            End::DiedIdle => fresh = true,
            End::NothingTaken if attempt::connect_failed(flow) => (),
            End::NothingTaken => return failed(Fault::Broken),
            _ => return (end, download),
        }
    }
}

/// One try at one endpoint, on a kept connection unless it has to be `fresh`.
async fn one(
    conn: &Conn,
    flow: &mut Flow,
    (route, pool, fresh): (&Route, &Pool, bool),
    request: &mut Request,
    alarm: &mut Alarm,
    stopping: &ShutdownWatch,
) -> (End, Download) {
    let listener = flow.arrival.listener;
    loop {
        let kept = if fresh { None } else { pool.take(listener, flow.cx.now) };
        let reused = kept.is_some();
        let wire = match kept {
            Some(wire) => Some(wire),
            None => connect(pool, route, request, alarm).await,
        };
        let Some(wire) = wire else {
            if request.now < request.until {
                return (End::NothingTaken, Download::new());
            }
            flow.not_sent();
            return failed(Fault::TimedOut);
        };
        request.upload.begin(&request.head, &flow.cx.to_upstream);
        let mut exchange = Exchange::new((conn, stopping), flow, request, (wire, reused));
        let end = exchange.run(alarm).await;
        let (download, wire) = exchange.into_parts(end);
        if download.switched() {
            request.switched = wire;
        } else if let Some(wire) = wire {
            pool.put(listener, wire, flow.cx.now, route.upstream.idle_timeout);
        }
        // What was kept may have died just now; that says nothing about the endpoint.
        if end != End::NothingTaken || !reused {
            return (end, download);
        }
    }
}

fn failed(fault: Fault) -> (End, Download) {
    (End::Fault(fault), Download::new())
}

/// `None`: no connection in time.
async fn connect(pool: &Pool, route: &Route, request: &mut Request, alarm: &mut Alarm) -> Option<TcpStream> {
    let deadline = request.until.min(Instant::now() + route.upstream.connect_timeout);
    let wire = tokio::select! {
        biased;
        connected = pool.connect() => connected.ok(),
        () = alarm.until(deadline) => None,
    };
    request.now = Instant::now();
    wire
}

/// Answers a request that got no answer from an upstream.
async fn fail(conn: &Conn, mut flow: Box<Flow>, fault: Fault, keep: bool, old: bool) -> Next {
    let Some(mut reply) = fault.reply(&mut flow) else {
        flow.end(499, 0, true);
        return Next::Gone;
    };
    if matches!(reply.body, ReplyBody::Stream { .. }) {
        tracing::error!(target: "tidegate::proxy", request_id = flow.id().as_str(), "an attempt cannot be answered by a stream");
        reply = internal_error();
    }
    // An upstream's failure is no reason to make its clients connect anew, thousands of them at once.
    let keep = keep && conn.at_request_boundary() && !fault.is_the_clients();
    let target = std::mem::take(&mut flow.target);
    match give(conn, flow, &target, Box::new(reply), Sending { decision: "failed", keep, old }).await {
        Ok(()) if keep => Next::Keep,
        Ok(()) => Next::Close,
        Err(_) => Next::Gone,
    }
}
