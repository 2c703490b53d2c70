//! One request and its answer over HTTP/1.

use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use http::{Method, StatusCode};
use pingora::apps::HttpServerApp;
use pingora::protocols::http::ServerSession;
use pingora::server::ShutdownWatch;
use smallvec::SmallVec;
use tidegate_filters::engine::{Decision, HeaderPair, Known, Reply, ReplyBody, RequestHead, Wait};
use tokio::time::{Instant, timeout};
use tracing::Instrument;

use super::alarm::Alarm;
use super::answer::{Answer, Framed, Sending, give};
use super::chunked::Scanner;
use super::conn::{Conn, Cut};
use super::head::{Framing, Head, HeadError, Span, parse};
use super::rewrite::rewrite;
use super::{Door, Waits, park};
use crate::proxy::flow::{Arrival, Flow};
use crate::proxy::h1::{self, HEAD_PATIENCE};
use crate::proxy::reply::{Addressee, decision};
use crate::proxy::{forward, pay, stage};
use crate::snapshot::{Route, Snapshot, path};

/// Bytes of a refused request's body that are read off to keep its connection.
const DRAIN_BYTES: usize = 64 * 1024;
/// Time that reading them off may take.
const DRAIN_TIME: Duration = Duration::from_secs(2);
/// A host so many bytes behind the target is read as text together with it.
const NEAR: u32 = 256;
/// How often within its patience the door looks whether a client still reads.
const READER_LOOKS: u32 = 3;

/// What becomes of the connection.
pub(crate) enum Next {
    /// The next request may come.
    Keep,
    /// Close it, but let the client read its answer.
    Close,
    /// It is gone already.
    Gone,
}

/// What a request stage at the door came to.
enum Step<'a> {
    /// With the target as sent.
    Answer(Box<Flow>, Box<Reply>, &'a str),
    /// On to this route's upstream.
    Forward(Box<Flow>, Arc<Route>, Vec<u8>),
    /// Nothing is wanted of an upstream, but the answer is not there yet.
    Park(Box<Flow>, Box<Wait>, Vec<u8>),
    /// What only pingora can do.
    HandOver(Box<Flow>, Vec<u8>),
}

/// Takes the request at the start of `buf`, whose head is there whole and ends at `end` at the latest, through the gateway.
pub(crate) async fn one(
    door: &Door,
    conn: &Conn,
    peer: IpAddr,
    mut buf: BytesMut,
    end: usize,
    waits: &mut Waits,
    shutdown: &ShutdownWatch,
) -> Next {
    let snapshot = door.gateway.snapshot();
    let mut head = Head::default();
    if let Err(error) = parse(&mut head, &buf[..end], Door::bounds(&snapshot.config.server.limits)) {
        return refuse(door, conn, error).await;
    }
    let end = head.len;
    let step = match decide(door, snapshot, conn, peer, &buf[..end], &head) {
        Ok(step) => step,
        Err(error) => return refuse(door, conn, error).await,
    };
    match step {
        Step::Answer(flow, reply, target) => {
            let body = arrived(head.framing, &buf[end..]);
            let keep = head.keep_alive && drainable(&head, body) && !*shutdown.borrow();
            let sending = Sending { decision: decision(&reply), keep, old: head.old };
            if give(conn, flow, target, reply, sending).await.is_err() {
                return Next::Gone;
            }
            buf.advance(end + body.unwrap_or(0));
            conn.put_buffer(buf);
            match body {
                _ if !keep => Next::Close,
                Some(_) => Next::Keep,
                None => drain(conn, head.framing).await,
            }
        }
        Step::Forward(flow, route, rewritten) => {
            buf.advance(end);
            conn.put_buffer(buf);
            if !go_on(conn, &head, &flow).await {
                return Next::Gone;
            }
            let span = crate::proxy::span("h1");
            crate::proxy::note(&span, &flow);
            h1::forward(conn, flow, &route, (&head, rewritten), &mut waits.alarm, shutdown).instrument(span).await
        }
        Step::Park(mut flow, wait, rewritten) => {
            buf.advance(end);
            conn.put_buffer(buf);
            let Some(reply) = park::wait(conn, &mut flow, *wait, &mut waits.alarm).await else {
                flow.end(499, 0, true);
                return Next::Gone;
            };
            if is_stream(&reply) {
                flow.rewritten = true;
                flow.pending = parking_lot::Mutex::new(Some(Decision::Respond(reply)));
                return hand_over(door, conn, flow, rewritten, &head, &mut waits.alarm, shutdown).await;
            }
            let keep = head.keep_alive && !*shutdown.borrow();
            let sending = Sending { decision: decision(&reply), keep, old: head.old };
            let target = std::mem::take(&mut flow.target);
            match give(conn, flow, &target, reply, sending).await {
                Ok(()) if keep => Next::Keep,
                Ok(()) => Next::Close,
                Err(_) => Next::Gone,
            }
        }
        Step::HandOver(flow, rewritten) => {
            buf.advance(end);
            conn.put_buffer(buf);
            if !go_on(conn, &head, &flow).await {
                return Next::Gone;
            }
            hand_over(door, conn, flow, rewritten, &head, &mut waits.alarm, shutdown).await
        }
    }
}

async fn refuse(door: &Door, conn: &Conn, error: HeadError) -> Next {
    door.gateway.shared.telemetry.metrics().door_refused(error.reason);
    match Answer::refusal(error).send(conn, super::FAREWELL).await {
        Ok(()) => Next::Close,
        Err(_) => Next::Gone,
    }
}

fn part_of<'a>(bytes: &'a [u8], span: &Span) -> &'a [u8] {
    &bytes[span.start as usize..span.end as usize]
}

/// The request stage over the borrowed head.
fn decide<'a>(
    door: &Door,
    snapshot: Arc<Snapshot>,
    conn: &Conn,
    peer: IpAddr,
    bytes: &'a [u8],
    head: &Head,
) -> Result<Step<'a>, HeadError> {
    let part = |span: &Span| part_of(bytes, span);
    // The head check admits visible ASCII only in what is read as text here. Method and target share the first line.
    // So does the host, nearly always, in the line behind it; one look at all of them is cheaper than one at each.
    let host_is_near = head.authority.end < head.target.end + NEAR;
    let end = if host_is_near { head.target.end.max(head.authority.end) } else { head.target.end };
    let front = std::str::from_utf8(&bytes[..end as usize]).unwrap_or_default();
    let text = |span: &Span| {
        let part = front.get(span.start as usize..span.end as usize);
        part.or_else(|| std::str::from_utf8(part_of(bytes, span)).ok()).unwrap_or_default()
    };
    let origin = Some(text(&head.origin)).filter(|origin| !origin.is_empty()).unwrap_or("/");
    let path = path::normalise(origin).map_err(|_| HeadError { status: 400, reason: "malformed path" })?;
    let authority = text(&head.authority);
    let host = forward::host_of(authority);
    let mut headers: SmallVec<[HeaderPair<'_>; 24]> = SmallVec::new();
    headers.extend(head.headers.iter().map(|(name, value)| (part(name), part(value))));
    let secure = conn.is_tls();
    let view =
        RequestHead { method: text(&head.method), target: origin, path: &path, host: &host, secure, headers: &headers };
    let at = door.gateway.shared.clock.now();
    let arrival = Arrival { at, listener: door.listener, protocol: "h1", peer, secure };
    let length = match head.framing {
        Framing::Length(length) => Some(length),
        Framing::None | Framing::Chunked => None,
    };
    // A filter that panics costs its request, not the connection and not the gateway.
    let begun = catch_unwind(AssertUnwindSafe(|| stage::begin(&door.gateway, snapshot, arrival, &view, length)));
    let Ok((mut flow, decision)) = begun else {
        tracing::error!(target: "tidegate::door", path = &*path, "a filter panicked");
        return Err(HeadError { status: 500, reason: "panic" });
    };
    // A token, as the head check found; so this cannot fail.
    let method = Method::from_bytes(view.method.as_bytes()).unwrap_or_default();
    let decision = match decision {
        Decision::Respond(reply) if !is_stream(&reply) => {
            flow.method = method;
            return Ok(Step::Answer(flow, reply, text(&head.target)));
        }
        other => other,
    };
    let target = path::upstream_target(origin, &path);
    let plain = matches!(decision, Decision::Continue);
    flow.websocket = head.websocket && flow.route.as_ref().is_some_and(|route| route.websocket);
    let route = flow.route.clone().filter(|route| {
        plain && !route.upstream.h2 && !route.upstream.secure && !pay::needs_body(&flow) && !route.chain.captures()
    });
    let target = target.as_deref().unwrap_or(origin);
    let rewritten = rewrite(&flow, head, &view, (target, head.old && route.is_none()), authority.as_bytes());
    flow.method = method;
    flow.target = text(&head.target).to_owned();
    if let Some(route) = route {
        return Ok(Step::Forward(flow, route, rewritten));
    }
    let decision = match decision {
        Decision::Wait(wait) if flow.route.is_none() && head.framing == Framing::None && !wait.shadow => {
            return Ok(Step::Park(flow, wait, rewritten));
        }
        other => other,
    };
    flow.rewritten = true;
    flow.pending = parking_lot::Mutex::new(Some(decision));
    Ok(Step::HandOver(flow, rewritten))
}

fn is_stream(reply: &Reply) -> bool {
    matches!(reply.body, ReplyBody::Stream { .. })
}

/// Whether the body of a refused request can be read off, so that its connection stays; `body`: its length if it is here.
fn drainable(head: &Head, body: Option<usize>) -> bool {
    match (body, head.framing) {
        (Some(_), _) => true,
        // A client that waits for 100 (Continue) may or may not send its body after a refusal: nobody can tell.
        (None, _) if head.expects_continue => false,
        (None, Framing::Length(length)) => length <= DRAIN_BYTES as u64,
        (None, _) => true,
    }
}

/// Length of the body if all of it is in `buf`.
fn arrived(framing: Framing, buf: &[u8]) -> Option<usize> {
    match framing {
        Framing::None => Some(0),
        Framing::Length(length) => usize::try_from(length).ok().filter(|length| *length <= buf.len()),
        Framing::Chunked => {
            let mut scanner = Scanner::new();
            let body = scanner.scan(buf).ok()?;
            scanner.done().then_some(body)
        }
    }
}

/// Reads off the body of a request that was refused.
async fn drain(conn: &Conn, framing: Framing) -> Next {
    let read_off = async {
        loop {
            if conn.read_more().await.ok().filter(|read| *read > 0).is_none() {
                return Next::Gone;
            }
            let mut buf = conn.take_buffer();
            let body = arrived(framing, &buf);
            let too_much = buf.len() > 2 * DRAIN_BYTES;
            if let Some(body) = body {
                buf.advance(body);
            }
            conn.put_buffer(buf);
            match body {
                Some(_) => return Next::Keep,
                None if too_much => return Next::Close,
                None => (),
            }
        }
    };
    timeout(DRAIN_TIME, read_off).await.unwrap_or(Next::Close)
}

/// The interim answer to `Expect: 100-continue`.
const GO_ON: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Tells a client that waits for it to send its body; false when it is gone. An upstream that never says it would leave
/// the client waiting for nothing.
async fn go_on(conn: &Conn, head: &Head, flow: &Flow) -> bool {
    if !head.expects_continue || conn.buffered() > 0 || head.framing == Framing::None {
        return true;
    }
    let patience = flow.snapshot.config.server.limits.body_timeout;
    matches!(timeout(patience, conn.write(GO_ON)).await, Ok(Ok(())))
}

async fn hand_over(
    door: &Door,
    conn: &Conn,
    mut flow: Box<Flow>,
    rewritten: Vec<u8>,
    head: &Head,
    alarm: &mut Alarm,
    shutdown: &ShutdownWatch,
) -> Next {
    flow.conn = Some(conn.clone());
    let id = flow.id();
    let limits = &flow.snapshot.config.server.limits;
    let patience = limits.body_timeout;
    let idle = limits.idle_timeout.as_secs().max(1);
    flow.keep_alive = (head.keep_alive && !*shutdown.borrow()).then_some(idle);
    let (total, read_timeout) = flow
        .route
        .as_ref()
        .map_or((limits.request_timeout, limits.body_timeout), |route| (route.timeout, route.upstream.read_timeout));
    let first_byte = (read_timeout * HEAD_PATIENCE).min(total);
    let stream = conn.lend(head.framing, flow.websocket, patience);
    let mut session = ServerSession::new_http1(stream);
    session.set_pipelined_prefix(BytesMut::from(&rewritten[..]));
    session.set_connection_user_context(Some(flow));
    let exchange = door.proxy.process_new_http(session, shutdown).instrument(crate::proxy::span("h1"));
    let cut = tokio::select! {
        biased;
        reused = exchange => {
            if !conn.at_request_boundary() {
                return Next::Close;
            }
            // What pingora did not mean to reuse it may not have flushed.
            let flushed = async { matches!(timeout(patience, conn.write(&[])).await, Ok(Ok(()))) };
            let keep = reused.is_some() || (conn.whole() && flushed.await);
            return if keep { Next::Keep } else { Next::Close };
        }
        cut = out_of_time(alarm, conn, first_byte, total, patience) => cut,
    };
    // The exchange was dropped with its upstream connection; its flow's drop wrote the log line.
    if cut == Cut::NoAnswer {
        let reply =
            Reply::problem(StatusCode::GATEWAY_TIMEOUT, "gateway-timeout", "The upstream did not answer in time");
        let unix = door.gateway.shared.clock.unix(door.gateway.shared.clock.now());
        let outcome = Some(if conn.sent() { Known::Unknown } else { Known::NotSent }.as_str());
        let to = Addressee { request_id: &id, person: false, edits: &[], outcome };
        let framed = Framed { keep: false, bodiless: false, old: head.old, unix };
        if let Some(answer) = Answer::of(Box::new(reply), &to, framed) {
            let _ = answer.send(conn, super::FAREWELL).await;
            return Next::Close;
        }
    }
    Next::Gone
}

/// Resolves when the request has run out of time: `first_byte` from its last byte to an upstream to the first byte of an answer,
/// `total` over all, `patience` with a client that does not read. Connections that became another protocol are exempt.
async fn out_of_time(alarm: &mut Alarm, conn: &Conn, first_byte: Duration, total: Duration, patience: Duration) -> Cut {
    let begun = Instant::now();
    let mut next = begun + first_byte;
    let mut look = begun + patience / READER_LOOKS;
    loop {
        alarm.until(next.min(look).min(begun + total)).await;
        if conn.is_raw() {
            std::future::pending::<()>().await;
        }
        let now = Instant::now();
        let client = conn.shielded();
        let deaf = client.as_ref().is_some_and(|client| client.is_deaf());
        let mut unread = conn.reader_deadline().map(Instant::from_std).filter(|_| !deaf);
        if unread.take_if(|deadline| now >= *deadline).is_some() {
            let Some(client) = client else {
                conn.set_cut(Cut::TooLong);
                return Cut::TooLong;
            };
            client.forsake();
        }
        if now >= look {
            look = now + patience / READER_LOOKS;
        }
        look = unread.map_or(look, |deadline| look.min(deadline));
        if now < next.min(begun + total) {
            continue;
        }
        // Who is deaf is not written to, and the upstream has its own time for each piece.
        let waiting_since = if conn.answered() || deaf { None } else { conn.upstream_has_it().map(Instant::from_std) };
        let cut = match waiting_since {
            Some(since) if now >= since + first_byte => Cut::NoAnswer,
            _ if now >= begun + total && conn.answered() => Cut::TooLong,
            _ if now >= begun + total => Cut::NoAnswer,
            Some(since) => {
                next = since + first_byte;
                continue;
            }
            None => {
                next = now + first_byte;
                continue;
            }
        };
        conn.set_cut(cut);
        return cut;
    }
}
