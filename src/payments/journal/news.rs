//! What becomes of a payment when something is heard about one of its tries.
//!
//! Two kinds of news. About a try that is open: it moves, and the payment follows from all of its tries. About a try that
//! was taken for dead, or whose payment a person has decided: only a charge is news, and somebody must see it.

use rusqlite::Connection;

use super::model::{Attempt, AttemptState, PaymentState, Refusal, View};
use super::rows::{self, Observed};
use super::{Result, Schedule, Step};
use crate::payments::outcome::Report;

/// Moves a try; its payment follows.
pub(super) fn settle(
    connection: &Connection,
    id: &str,
    n: i64,
    seen: &Observed,
    now_ms: i64,
    next_ms: i64,
) -> Result<Step> {
    rows::set_attempt(connection, id, n, seen, now_ms, next_ms)?;
    let view = rows::view(connection, id)?.ok_or(Refusal::Missing)?;
    rows::set_payment(connection, id, view.by_tries(), now_ms)?;
    let charged = || view.attempts.iter().filter(|attempt| attempt.state.has_charged());
    if seen.state.has_charged()
        && let Some(other) = charged().find(|other| other.n != n)
    {
        let this = charged().find(|this| this.n == n).map_or("", |this| &this.channel);
        let detail = format!("try {n} at {this} is charged; try {} at {} is, too", other.n, other.channel);
        alarm(connection, id, "DUPLICATE_CHARGE", &detail, now_ms)?;
        return Ok(Step::Alarm("DUPLICATE_CHARGE"));
    }
    Ok(Step::Decided)
}

/// What a channel told when it was asked for a try that had been sent so often.
pub(super) fn told(
    connection: &Connection,
    id: &str,
    (n, sends): (i64, i64),
    report: Report,
    seen: &Observed,
    at: Schedule,
) -> Result<Step> {
    let view = rows::view(connection, id)?.ok_or(Refusal::Missing)?;
    let attempt = view.attempts.iter().find(|attempt| attempt.n == n).ok_or(Refusal::Missing)?;
    // What waits for a person can still be answered by the channel, until the person has spoken.
    let open = match attempt.state {
        AttemptState::Unknown | AttemptState::Pending => true,
        // What the channel has not done so far it may still do. What it has done, it has.
        AttemptState::Dispatching | AttemptState::Sent => report == Report::Succeeded,
        AttemptState::Manual => view.payment.state == PaymentState::Manual,
        _ => false,
    };
    if !open {
        return too_late(connection, &view, attempt, report, seen, at.now_ms);
    }
    let state = match report {
        Report::Succeeded => AttemptState::Succeeded,
        _ if attempt.sends != sends => return Ok(Step::Wait),
        Report::Nothing => {
            rows::look_again(connection, id, n, attempt.not_found, at.next_ms)?;
            return Ok(Step::Wait);
        }
        Report::NotFound => {
            let not_found = attempt.not_found + 1;
            rows::look_again(connection, id, n, not_found, at.next_ms)?;
            let believed = not_found >= 2 && at.now_ms - attempt.sent_ms >= at.min_age_ms;
            return Ok(if believed { Step::Close } else { Step::Wait });
        }
        Report::Pending => AttemptState::Pending,
        Report::DeclinedHard => AttemptState::DeclinedHard,
        Report::DeclinedSoft => AttemptState::DeclinedSoft,
        Report::Closed => AttemptState::Closed,
    };
    if state == AttemptState::Pending && attempt.state == AttemptState::Pending {
        rows::look_again(connection, id, n, 0, at.next_ms)?;
        return Ok(Step::Wait);
    }
    let step = settle(connection, id, n, &Observed { state, ..seen.clone() }, at.now_ms, at.next_ms)?;
    rows::look_again(connection, id, n, 0, at.next_ms)?;
    Ok(if state == AttemptState::Pending { Step::Wait } else { step })
}

/// A channel speaks of a try that was decided. Only a charge is news.
pub(super) fn too_late(
    connection: &Connection,
    view: &View,
    attempt: &Attempt,
    report: Report,
    seen: &Observed,
    now_ms: i64,
) -> Result<Step> {
    let under_way = matches!(attempt.state, AttemptState::Dispatching | AttemptState::Sent);
    if report != Report::Succeeded || attempt.state.has_charged() || under_way {
        return Ok(Step::Decided);
    }
    let Attempt { payment_id: id, n, channel, .. } = attempt;
    let live = view.attempts.iter().any(|other| other.n != *n && other.state.is_live());
    // The index has room for one live try.
    let state = if live { AttemptState::ChargedLate } else { AttemptState::Succeeded };
    let before = attempt.state.as_str();
    alarm(connection, id, "LATE_SUCCESS", &format!("try {n} at {channel} was {before} and is charged"), now_ms)?;
    let step = settle(connection, id, *n, &Observed { state, ..seen.clone() }, now_ms, now_ms)?;
    // Two charges are worse than a late one.
    Ok(if step == Step::Decided { Step::Alarm("LATE_SUCCESS") } else { step })
}

/// A person has found out what became of a payment: the tries that waited for that have ended with it.
pub(super) fn end_by_hand(
    connection: &Connection,
    view: &View,
    decided: PaymentState,
    reason: &str,
    now_ms: i64,
) -> Result<()> {
    let mut waiting = view.attempts.iter().filter(|attempt| attempt.state == AttemptState::Manual);
    let (Some(one), None) = (waiting.next(), waiting.next()) else { return Ok(()) };
    let state = if decided == PaymentState::Succeeded { AttemptState::Succeeded } else { AttemptState::Rejected };
    let Attempt { http, code, .. } = one.clone();
    let evidence = format!("{} by a person: {reason}", decided.as_str());
    let seen = Observed { state, evidence, http, code };
    Ok(rows::set_attempt(connection, &one.payment_id, one.n, &seen, now_ms, now_ms)?)
}

fn alarm(connection: &Connection, id: &str, kind: &str, detail: &str, now_ms: i64) -> Result<()> {
    // The same news twice is one event.
    if !rows::events(connection, id)?.iter().any(|event| event.kind == kind && event.detail == detail) {
        rows::event(connection, id, kind, detail, now_ms)?;
        tracing::error!(target: "tidegate::payments", payment = %id, detail, "{kind}: somebody must look at this");
    }
    Ok(())
}
