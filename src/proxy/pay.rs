//! Requests that the payment engine carries: the whole body in, a task that outlives the client, a whole answer out.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version, header};
use pingora::http::RequestHeader;
use pingora::proxy::Session;
use pingora::{Error, ErrorType, Result};
use tidegate_filters::channels::PaymentFacts;
use tidegate_filters::engine::{Known, Reply, ReplyBody};
use tokio::time::{Instant, timeout_at};

use super::flow::Flow;
use super::forward::Hops;
use super::h1::HEAD_PATIENCE;
use super::reply::{Map, apply};
use super::{ATTEMPTS, CHANNEL, capture, park, view, write};
use crate::config::PaymentSpec;
use crate::payments::job::{Done, End, Job, Progress};
use crate::payments::pay::run;
use crate::payments::{Engine, Plan, answer, find_part, read_frozen, wire};
use crate::snapshot::path::normalise;

/// Larger requests are no payments.
const LARGEST_PAYMENT: usize = 64 * 1024;
/// A payment is waited for until this much before the request runs out of time, at most.
const MARGIN: Duration = Duration::from_millis(50);

/// How this request is to be paid; `None` for one that takes the ordinary way.
pub(super) fn plan(flow: &Flow) -> Option<Arc<Plan>> {
    let plan = flow.route.as_ref()?.upstream.plan.as_ref()?;
    (!flow.safe).then(|| plan.clone())
}

/// Whether the request cannot be streamed: it is deferred, a payment, or a callback that tells of one.
pub(crate) fn needs_body(flow: &Flow) -> bool {
    flow.cx.deferral.is_some()
        || plan(flow).is_some()
        || flow.route.as_ref().is_some_and(|route| route.callback.is_some())
}

/// Whether payments are made on this path.
pub(super) fn is_payment(spec: &PaymentSpec, path: &str) -> bool {
    let path = normalise(path).unwrap_or(path.into());
    let bare = |path: &str| path.trim_end_matches('/').to_owned();
    spec.paths.is_empty() || spec.paths.iter().any(|known| bare(known) == bare(&path))
}

/// Makes the payment and answers; false when the request is none: it goes to another path than payments do. To close or
/// refund what a channel has is its sender's own affair, and only that channel can do it.
pub(super) async fn pay(session: &mut Session, flow: &mut Flow, plan: Arc<Plan>) -> Result<bool> {
    let Some(engine) = flow.gateway.shared.payments.engine() else {
        return Error::e_explain(ErrorType::InternalError, "payments are not running");
    };
    if let Some(spec) = plan.spec.as_ref() {
        let target = String::from_utf8_lossy(session.req_header().raw_path()).into_owned();
        if !is_payment(spec, target.split('?').next().unwrap_or_default()) {
            if flow.pinned.is_some() {
                return Ok(false);
            }
            let title = "No payment is made on this path; what is about one names its channel with Tidegate-Channel";
            let reply = Reply::problem(StatusCode::BAD_REQUEST, "channel-missing", title);
            return park::answer(session, flow, reply).await;
        }
    }
    if flow.cx.body.is_none()
        && let Some(reply) = park::read_body(session, flow, LARGEST_PAYMENT).await?
    {
        return park::answer(session, flow, reply).await;
    }
    let request = whole(session, flow)?;
    let path = request.target.split('?').next().unwrap_or_default();
    let spec = plan.spec.as_ref();
    let frozen = spec.map(|spec| read_frozen(&plan.upstream, spec, path, &request.headers, &request.body)).transpose();
    let frozen = match frozen {
        Ok(frozen) => frozen,
        Err(malformed) => return park::answer(session, flow, malformed.reply()).await,
    };
    if let Some(frozen) = &frozen {
        let kind = frozen.kind.as_deref().map(Into::into);
        flow.cx.payment = PaymentFacts { kind, amount: frozen.money.amount };
    }
    flow.payment = frozen.as_ref().map(|frozen| frozen.id.as_str().into());
    if let Some(conn) = &flow.conn {
        // From here on a channel may have it, whatever becomes of this connection.
        conn.set_sent();
    }
    let end = wait(flow, &engine, &plan, frozen, request).await;
    tell(session, flow, &plan, end).await?;
    Ok(true)
}

/// Reads which payment a callback tells of; true when the request is answered. A body that is announced as too large for
/// a callback passes unread.
pub(super) async fn note_callback(session: &mut Session, flow: &mut Flow) -> Result<bool> {
    let Some(spec) = flow.route.as_ref().and_then(|route| route.callback.clone()) else { return Ok(false) };
    let length = session.req_header().headers.get(header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if length.is_some_and(|length| length > LARGEST_PAYMENT) {
        return Ok(false);
    }
    if flow.cx.body.is_none()
        && let Some(reply) = park::read_body(session, flow, LARGEST_PAYMENT).await?
    {
        return park::answer(session, flow, reply).await;
    }
    let json = flow.cx.body.as_ref().and_then(|body| serde_json::from_slice(body).ok());
    flow.told_of = find_part(&spec.id, &session.req_header().headers, json.as_ref());
    Ok(false)
}

/// The backend has answered a callback. Only what it acknowledged, as the one who can check signatures, is worth a query;
/// what the callback said is not looked at.
pub(super) fn callback_answered(flow: &mut Flow, status: http::StatusCode) {
    let Some(id) = flow.told_of.take().filter(|_| status.is_success()) else { return };
    if let Some(engine) = flow.gateway.shared.payments.engine() {
        engine.ask_now(&flow.gateway, id);
    }
}

/// Runs the payment as a task of its own and waits as long as the client does.
async fn wait(
    flow: &mut Flow,
    engine: &Arc<Engine>,
    plan: &Arc<Plan>,
    frozen: Option<crate::payments::Frozen>,
    request: wire::Request,
) -> End {
    let total = flow.route.as_ref().map_or(Duration::MAX, |route| route.timeout);
    let left = total.saturating_sub(flow.tick().since(flow.arrival.at)).saturating_sub(MARGIN);
    // The door gives up on an upstream that is silent for longer, and would have no location to tell.
    let silence = flow.route.as_ref().map_or(Duration::MAX, |route| route.upstream.read_timeout * HEAD_PATIENCE);
    let left = left.min(silence.saturating_sub(MARGIN));
    let deadline = plan.spec.as_ref().filter(|_| plan.journal).map_or(left, |spec| spec.deadline.min(left));
    let until = Instant::now() + deadline;
    let progress = Arc::new(Progress::default());
    let job = Job { flow: flow.lend(), plan: plan.clone(), frozen, request, progress: progress.clone(), until };
    let task = engine.spawn_payment(run(engine.clone(), job));
    match timeout_at(until, task).await {
        Ok(Ok(Done { flow: lent, end })) => {
            flow.take_back(lent);
            end
        }
        ended => {
            if let Ok(Err(error)) = ended {
                tracing::error!(target: "tidegate::payments", request_id = flow.id().as_str(), %error, "a payment broke off");
            }
            (flow.cx.channel, flow.attempts) = progress.get();
            flow.known = Some(Known::Unknown);
            End::Doubt { silent: true }
        }
    }
}

/// The request as a channel gets it.
pub(super) fn whole(session: &Session, flow: &mut Flow) -> Result<wire::Request> {
    let mut head: RequestHeader = session.req_header().clone();
    if !flow.rewritten {
        view::rewrite(flow, session.req_header(), &mut head)?;
    }
    apply(&mut flow.cx.to_upstream.clone(), &mut super::Upward(&mut head));
    let mut headers = head.headers.clone();
    if !headers.contains_key(header::HOST)
        && let Some(host) = session.req_header().uri.authority()
        && let Ok(host) = HeaderValue::from_str(host.as_str())
    {
        headers.insert(header::HOST, host);
    }
    forget_hops(&mut headers);
    // An answer that cannot be read is one that nobody knows.
    headers.remove(header::ACCEPT_ENCODING);
    let target = String::from_utf8_lossy(head.raw_path()).into_owned();
    let body = flow.cx.body.clone().unwrap_or_default();
    Ok(wire::Request { method: head.method.clone(), target, headers, body })
}

/// Takes out what is about one connection only.
fn forget_hops(headers: &mut HeaderMap) {
    let gone: Vec<HeaderName> = {
        let hops = Hops::of(headers.get_all(header::CONNECTION).iter().map(HeaderValue::as_bytes));
        headers.keys().filter(|name| hops.has(name.as_str().as_bytes())).cloned().collect()
    };
    for name in gone.iter().chain([&header::CONNECTION, &header::TRANSFER_ENCODING, &header::CONTENT_LENGTH]) {
        headers.remove(name);
    }
}

/// Answers the client.
async fn tell(session: &mut Session, flow: &mut Flow, plan: &Plan, end: End) -> Result<()> {
    let id = flow.payment.clone();
    let id = id.as_deref().unwrap_or_default();
    let (reply, decision) = match end {
        End::Passed(answer) => (passed(session, flow, *answer), "proxied"),
        End::Doubt { silent } => {
            flow.known = Some(Known::Unknown);
            (answer::doubt(plan, id, silent), "failed")
        }
        End::NotSent => {
            flow.known = flow.known.filter(|known| *known == Known::NotProcessed).or(Some(Known::NotSent));
            (answer::unavailable(), "failed")
        }
        End::NoJournal { doubt } => {
            flow.known = Some(if doubt { Known::Unknown } else { Known::NotSent });
            (answer::no_journal(), "failed")
        }
        End::Reused(reply) => {
            // Of the payment that has this number, this says nothing.
            flow.known = None;
            (*reply, "refused")
        }
        End::Refused(reply) => {
            flow.not_sent();
            (*reply, "refused")
        }
        End::Recorded(view) => {
            let (reply, known, channel) = answer::recorded(plan, &view);
            flow.known = Some(known);
            flow.cx.channel = channel.or(flow.cx.channel);
            (reply, "recorded")
        }
    };
    if let Some(held) = capture::end(flow) {
        capture::hold(held).await;
    }
    let reply = name_channel(flow, reply);
    flow.answers(&reply, decision);
    write::reply(session, flow, reply, true).await
}

fn name_channel(flow: &Flow, mut reply: Reply) -> Reply {
    if let Some(channel) = flow.channel()
        && let Ok(value) = HeaderValue::from_str(&channel.name)
    {
        reply = reply.header(CHANNEL, value);
    }
    reply.header(ATTEMPTS, HeaderValue::from(u16::from(flow.attempts)))
}

/// The channel's own answer, through the response stage.
fn passed(session: &Session, flow: &mut Flow, answer: wire::Answer) -> Reply {
    let wire::Answer { status, mut headers, body } = answer;
    forget_hops(&mut headers);
    // What the gateway says about a payment, nobody else says.
    let ours: Vec<HeaderName> = headers.keys().filter(|name| name.as_str().starts_with("tidegate-")).cloned().collect();
    for name in &ours {
        headers.remove(name);
    }
    let mut response = http::Response::new(());
    *response.status_mut() = status;
    *response.version_mut() = Version::HTTP_11;
    *response.headers_mut() = headers;
    let (mut parts, ()) = response.into_parts();
    let body = body.unwrap_or_default();
    flow.tick();
    capture::begin(flow, parts.status, &parts.headers);
    capture::add(flow, &body);
    if let Some(route) = flow.route.clone() {
        route.chain.on_response(&parts, &mut flow.cx);
        if route.chain.sees_chunks() {
            route.chain.on_chunk(&body, true, &mut flow.cx);
        }
    }
    apply(&mut flow.cx.to_client, &mut Map(&mut parts.headers));
    let bytes = if session.req_header().method == http::Method::HEAD { bytes::Bytes::new() } else { body };
    let plain = || HeaderValue::from_static("application/octet-stream");
    let content_type = parts.headers.remove(header::CONTENT_TYPE).unwrap_or_else(plain);
    parts.headers.remove(super::X_REQUEST_ID);
    let mut reply = Reply {
        status: parts.status,
        retry_after: None,
        headers: smallvec::SmallVec::new(),
        body: ReplyBody::Bytes { content_type, bytes },
    };
    let mut last = None;
    for (name, value) in parts.headers {
        last = name.or(last);
        if let Some(name) = &last {
            reply = reply.header(name.clone(), value);
        }
    }
    reply
}
