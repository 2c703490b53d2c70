//! Requests that are answered now and carried out later: onto the disk first, then 202.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, StatusCode};
use pingora::Result;
use pingora::proxy::Session;
use tidegate_filters::engine::{HeaderEdit, Reply};
use tidegate_filters::idempotency;
use tidegate_filters::respond_async::core::{Id, State};
use tidegate_filters::respond_async::{Afterwards, Deferral, Deferred, Letter, Prefer, Submitted, reply};
use tidegate_filters::store::{StoreError, is_kept};

use super::flow::Flow;
use super::{park, pay};
use crate::payments::read_frozen;

/// A client is told this much before its request would run out of time.
const MARGIN: Duration = Duration::from_millis(200);

/// Carries out what a filter has decided; false when the request goes on as any other.
pub(super) async fn accept(session: &mut Session, flow: &mut Flow, deferral: Box<Deferral>) -> Result<bool> {
    let Some(route) = flow.route.clone() else { return Ok(false) };
    let mut request = pay::whole(session, flow)?;
    // Followed here; an upstream that followed it, too, would answer with a second promise.
    request.headers.remove("prefer");
    if let Some((plan, spec)) = route.upstream.plan.as_ref().and_then(|plan| Some((plan, plan.spec.as_ref()?))) {
        let path = request.target.split('?').next().unwrap_or_default();
        if !pay::is_payment(spec, path) {
            // What is about a payment does not wait for a turn of payments.
            return Ok(false);
        }
        // What can be no payment is told now and not when it is its turn.
        if let Err(malformed) = read_frozen(&plan.upstream, spec, path, &request.headers, &request.body) {
            return park::answer(session, flow, malformed.reply()).await;
        }
    }
    let pinned = flow.pinned.and_then(|id| route.upstream.channels.get(usize::from(id.0)));
    let pinned = pinned.map(|channel| channel.name.to_string());
    let letter = Letter {
        route: route.name.to_string(),
        method: request.method,
        target: request.target,
        headers: request.headers,
        body: request.body,
        channel: pinned,
        kind: flow.cx.payment.kind.as_deref().map(ToOwned::to_owned),
        amount: flow.cx.payment.amount,
        afterwards: Afterwards { edits: lasting(&flow.cx.to_client), kept: route.chain.keep(&mut flow.cx) },
    };
    let now = deferral.deferred.unix(flow.tick());
    let submitted = deferral.submit(letter, &route.upstream.name, now).await;
    let left = route.timeout.saturating_sub(flow.tick().since(flow.arrival.at)).saturating_sub(MARGIN);
    let told = match submitted {
        Ok(Submitted::Pass) => {
            deferral.pass(&mut flow.cx);
            return Ok(false);
        }
        Ok(Submitted::New(id)) => told(flow, &deferral, id, false, left).await,
        Ok(Submitted::Known(id)) => told(flow, &deferral, id, true, left).await,
        Ok(Submitted::Mismatch) => Ok(idempotency::mismatch()),
        Ok(Submitted::Refused(refused)) => Ok(deferral.deferred.refusal(refused)),
        Err(error) => Err(error),
    };
    // The stored answer has the others' changes.
    if matches!(&told, Ok(reply) if reply.status != StatusCode::ACCEPTED) {
        flow.cx.to_client.retain(|edit| !is_kept(name_of(edit)));
    }
    let answer = told.unwrap_or_else(|error| {
        deferral.store_failed();
        tracing::error!(target: "tidegate::deferred", request_id = flow.id().as_str(), %error, "nothing can be promised");
        reply::store_unavailable()
    });
    flow.answers(&answer, "deferred");
    super::write::reply(session, flow, answer, true).await?;
    Ok(true)
}

fn name_of(edit: &HeaderEdit) -> &HeaderName {
    match edit {
        HeaderEdit::Set(name, _) | HeaderEdit::Add(name, _) | HeaderEdit::Remove(name) => name,
    }
}

/// Changes that are the answer's, whenever it comes; the others are for the 202. A cookie for the request is not given
/// once more with its answer.
fn lasting(edits: &[HeaderEdit]) -> Vec<HeaderEdit> {
    let lasts = |edit: &&HeaderEdit| is_kept(name_of(edit)) && name_of(edit) != http::header::SET_COOKIE;
    edits.iter().filter(lasts).cloned().collect()
}

/// The book that a record is in: another filter's, where that had the key before, under another name for instance.
async fn keeper(flow: &Flow, deferral: &Deferral, id: Id, now: Duration) -> Result<Arc<Deferred>, StoreError> {
    let own = &deferral.deferred;
    if own.view(id, now).await?.is_none() {
        for (_, other) in flow.gateway.shared.states.all::<Deferred>() {
            // What one file cannot say another may.
            if let Ok(Some(_)) = other.view(id, now).await {
                return Ok(other);
            }
        }
    }
    Ok(own.clone())
}

/// The answer, if it comes while the client waits; else 202 and where to look.
async fn told(flow: &Flow, deferral: &Deferral, id: Id, again: bool, left: Duration) -> Result<Reply, StoreError> {
    let clock = flow.gateway.shared.clock;
    let now = || clock.unix(clock.now());
    let book = &keeper(flow, deferral, id, now()).await?;
    let wait = deferral.wait.map(|wait| wait.min(left));
    let view = match wait {
        Some(wait) => book.wait(id, |entry| entry.state.is_over(), wait, now).await?,
        None => book.view(id, now()).await?,
    };
    let Some(view) = view else { return Err(StoreError::Failed("a record has gone".to_owned())) };
    let reply = match view.entry.state {
        // Who does not wait gets a promise, also when it was kept in the same moment; who comes again gets the answer.
        State::Done if again || wait.is_some() => match book.answer(id).await? {
            Some(stored) => reply::answer(stored, again),
            None => reply::accepted(&view, again),
        },
        _ => reply::accepted(&view, again),
    };
    Ok(match Prefer::applied(deferral.prefer.respond_async, wait) {
        Some(value) => reply.header(reply::APPLIED, value),
        None => reply,
    })
}
