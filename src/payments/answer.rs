//! What the gateway says about a payment in its own words.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde_json::{Value, json};
use tidegate_filters::engine::{ChannelId, Known, Reply, ReplyBody};

use super::journal::{AttemptState, PaymentState, View};
use super::plan::Plan;

/// When to ask again.
const COME_BACK: Duration = Duration::from_secs(2);
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// Nobody knows: 202 and where to ask, or an error when there is nowhere to ask.
pub(crate) fn doubt(plan: &Plan, id: &str, silent: bool) -> Reply {
    let Some(location) = plan.location(id) else {
        return if silent {
            Reply::problem(StatusCode::GATEWAY_TIMEOUT, "gateway-timeout", "The channel did not answer in time")
        } else {
            Reply::problem(StatusCode::BAD_GATEWAY, "bad-gateway", "The channel gave no proper answer")
        };
    };
    located(json_reply(StatusCode::ACCEPTED, &json!({ "status": "PROCESSING", "payment_id": id })), &location)
        .retry_after(COME_BACK)
}

fn located(reply: Reply, location: &str) -> Reply {
    // Made of a checked prefix and a checked number.
    match HeaderValue::from_str(location) {
        Ok(value) => reply.header(header::LOCATION, value),
        Err(_) => reply,
    }
}

/// No channel has seen it.
pub(crate) fn unavailable() -> Reply {
    let title = "No channel could be reached; nothing was sent";
    Reply::problem(StatusCode::SERVICE_UNAVAILABLE, "upstream-unavailable", title).retry_after(Duration::from_secs(1))
}

/// The journal cannot be used, so this request sends nothing.
pub(crate) fn no_journal() -> Reply {
    let title = "Payments cannot be written down or looked up; this request sent nothing";
    Reply::problem(StatusCode::SERVICE_UNAVAILABLE, "journal-unavailable", title).retry_after(Duration::from_secs(1))
}

/// The journal cannot be read just now.
pub(crate) fn unreadable() -> Reply {
    let title = "The state of payments cannot be read";
    Reply::problem(StatusCode::SERVICE_UNAVAILABLE, "journal-unavailable", title).retry_after(COME_BACK)
}

/// How a payment that is known stands, what that says about it, and the channel that has it.
pub(crate) fn recorded(plan: &Plan, view: &View) -> (Reply, Known, Option<ChannelId>) {
    let last = view.telling();
    let at = last.and_then(|last| plan.channels.iter().position(|channel| *channel.name == *last.channel));
    let channel = at.and_then(|at| u8::try_from(at).ok()).map(ChannelId);
    let open = !matches!(view.payment.state, PaymentState::Succeeded | PaymentState::Failed | PaymentState::Cancelled);
    let status = if open { StatusCode::ACCEPTED } else { StatusCode::OK };
    let mut reply = json_reply(status, &state(view)).header(REPLAYED, HeaderValue::from_static("true"));
    if let Some(location) = plan.location(&view.payment.frozen.id) {
        reply = located(reply, &location);
    }
    if open {
        reply = reply.retry_after(COME_BACK);
    }
    (reply, if open { Known::Unknown } else { Known::Final }, channel)
}

/// The state as the client reads it. What only a person can find out is still under way for the client: it must not pay
/// again.
pub(crate) fn state(view: &View) -> Value {
    let payment = &view.payment;
    let status = match payment.state {
        PaymentState::Succeeded => "SUCCEEDED",
        PaymentState::Failed => "FAILED",
        PaymentState::Cancelled => "CANCELLED",
        PaymentState::Created | PaymentState::Processing | PaymentState::Manual => "PROCESSING",
    };
    let last = view.telling();
    let code = last.filter(|last| last.state != AttemptState::Unknown).and_then(|last| last.code.clone());
    json!({
        "payment_id": payment.frozen.id,
        "status": status,
        "channel": last.map(|last| &last.channel),
        "code": code,
        "amount": payment.frozen.money.amount,
        "currency": payment.frozen.money.currency,
        "attempts": view.attempts.len(),
        "created_ms": payment.created_ms,
        "updated_ms": payment.updated_ms,
    })
}

/// A JSON answer of the gateway's own.
pub(crate) fn json_reply(status: StatusCode, body: &Value) -> Reply {
    Reply {
        status,
        retry_after: None,
        headers: smallvec::smallvec![(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))],
        body: ReplyBody::Bytes {
            content_type: HeaderValue::from_static("application/json"),
            bytes: Bytes::from(format!("{body}\n")),
        },
    }
}
