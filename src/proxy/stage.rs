//! The request stage, the same for HTTP/1 at the door and for HTTP/2 behind pingora: find the route, learn who asks,
//! run the chain.

use std::sync::{Arc, LazyLock};
use std::time::Instant;

use http::{HeaderName, HeaderValue, StatusCode, header};
use tidegate_filters::engine::{Decision, IdentityId, Nanos, Reply, RequestHead};

use super::flow::{Arrival, Flow};
use super::id::RequestId;
use super::reply::is_person;
use crate::deferred;
use crate::gateway::Gateway;
use crate::snapshot::{Snapshot, routes};
use crate::waiting_room::paths::Found;

const X_REQUEST_ID: &str = "x-request-id";
/// Pins a request to a channel; taken off before it goes upstream.
pub(crate) const PIN: &str = "tidegate-channel";

/// The filters of one request in this many are timed, chosen by the microsecond in which it came.
const TIMED_ONE_IN: u64 = 61;

/// Time since some moment of this process. Filters have no clock to decide by; this one is only for metrics.
fn stopwatch() -> Nanos {
    static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
    Nanos(u64::try_from(BEGAN.elapsed().as_nanos()).unwrap_or(u64::MAX))
}

/// Begins a request and takes it through its chain as far as it goes. `length`: the body's announced length.
pub(crate) fn begin(
    gateway: &Arc<Gateway>,
    snapshot: Arc<Snapshot>,
    arrival: Arrival,
    head: &RequestHead<'_>,
    length: Option<u64>,
) -> (Box<Flow>, Decision) {
    let client = snapshot.identities.client_address(arrival.peer, head);
    let mut flow = Box::new(Flow::new(gateway, snapshot, arrival, client));
    // Only a proxy of ours may name a request; anybody else's name could collide on purpose.
    if flow.snapshot.identities.trusts(arrival.peer)
        && let Some(id) = head.header(X_REQUEST_ID).and_then(RequestId::parse)
    {
        flow.cx.request_id = id.digits();
    }
    flow.safe = matches!(head.method, "GET" | "HEAD" | "OPTIONS" | "TRACE");
    let decision = run(&mut flow, head, length);
    if matches!(decision, Decision::Respond(_)) {
        flow.person = is_person(head);
    }
    (flow, decision)
}

fn run(flow: &mut Flow, head: &RequestHead<'_>, length: Option<u64>) -> Decision {
    let status = flow.snapshot.payment_status.decide(&flow.gateway.shared.payments, flow.arrival.listener, head);
    if let Some(decision) = status {
        return decision;
    }
    if let Some(decision) = deferred::status::decide(flow, head) {
        return decision;
    }
    if let Some(decision) = room(flow, head) {
        return decision;
    }
    let route = match flow.snapshot.table.find(flow.arrival.listener, head) {
        routes::Found::Route(at) => flow.snapshot.routes[at].clone(),
        routes::Found::MethodNotAllowed(allowed) => return not_allowed(&allowed.to_string()),
        routes::Found::None => {
            return respond(Reply::problem(StatusCode::NOT_FOUND, "no-route", "No route matches this request"));
        }
    };
    if length.is_some_and(|length| length > route.max_body) {
        flow.enter(route);
        return respond(too_large());
    }
    let (unix_now, needs) = (flow.cx.wall, route.needs);
    flow.cx.set_identity(IdentityId::ROUTE, route.identity.clone());
    flow.snapshot.identities.resolve(needs, flow.arrival.peer, head, unix_now, &mut flow.cx);
    let pinned = head.header_str(PIN).filter(|_| route.upstream.channels.len() > 1 || route.upstream.plan.is_some());
    flow.pinned = pinned.and_then(|name| route.upstream.channel_named(name));
    flow.enter(route);
    if (flow.arrival.at.0 / 1_000).is_multiple_of(TIMED_ONE_IN) {
        flow.cx.stopwatch = Some(stopwatch);
    }
    if pinned.is_some() && flow.pinned.is_none() {
        let reply = Reply::problem(StatusCode::BAD_REQUEST, "bad-request", "Tidegate-Channel names no channel");
        return respond(reply);
    }
    go_on(flow, head)
}

/// The answer to a request for the public side of a waiting room; `None` for any other request.
fn room(flow: &mut Flow, head: &RequestHead<'_>) -> Option<Decision> {
    if !flow.snapshot.room_paths.covers(head.path) {
        return None;
    }
    let snapshot = flow.snapshot.clone();
    match snapshot.room_paths.find(flow.arrival.listener, head.path)? {
        Found::Asked(asked) => {
            snapshot.identities.resolve(asked.needs, flow.arrival.peer, head, flow.cx.wall, &mut flow.cx);
            Some(asked.answer(head, &flow.cx))
        }
        Found::Nothing(reply) => Some(Decision::Respond(reply)),
    }
}

/// Runs the chain from where it stopped.
pub(crate) fn go_on(flow: &mut Flow, head: &RequestHead<'_>) -> Decision {
    match flow.route.clone() {
        Some(route) => route.chain.on_request(head, &mut flow.cx),
        None => Decision::Continue,
    }
}

/// The answer to a body beyond the route's bound.
pub(crate) fn too_large() -> Reply {
    Reply::problem(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", "The request body is too large")
}

fn respond(reply: Reply) -> Decision {
    Decision::Respond(Box::new(reply))
}

fn not_allowed(allowed: &str) -> Decision {
    let mut reply =
        Reply::problem(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "This path does not take that method");
    if let Ok(value) = HeaderValue::from_str(allowed) {
        let name: HeaderName = header::ALLOW;
        reply = reply.header(name, value);
    }
    respond(reply)
}
