//! What becomes of a payment when something is heard about one of its tries.
//!
//! Two kinds of news. About a try that is open: it moves, and the payment follows from all of its tries. About a try that
//! was taken for dead, or whose payment a person has decided: only a charge is news, and somebody must see it.

use super::draft::Draft;
use super::model::{Attempt, AttemptState, Observed, PaymentState};
use super::{Result, Schedule, Step};
use crate::payments::outcome::Report;

/// Moves a try; its payment follows.
pub(super) fn settle(draft: &mut Draft, n: i64, seen: &Observed, now_ms: i64, next_ms: i64) -> Result<Step> {
    draft.observe(n, seen, now_ms, next_ms)?;
    let view = draft.view()?;
    let state = view.by_tries();
    let charged = |attempt: &&Attempt| attempt.state.has_charged();
    let other = view.attempts.iter().filter(charged).find(|other| other.n != n);
    let twice = other.filter(|_| seen.state.has_charged()).map(|other| {
        let this = view.attempts.iter().find(|this| this.n == n).map_or("", |this| &this.channel);
        format!("try {n} at {this} is charged; try {} at {} is, too", other.n, other.channel)
    });
    draft.set_payment(state, now_ms)?;
    let Some(detail) = twice else { return Ok(Step::Decided) };
    alarm(draft, "DUPLICATE_CHARGE", detail, now_ms);
    Ok(Step::Alarm("DUPLICATE_CHARGE"))
}

/// What a channel told when it was asked for a try that had been sent so often.
pub(super) fn told(
    draft: &mut Draft,
    (n, sends): (i64, i64),
    report: Report,
    seen: &Observed,
    at: Schedule,
) -> Result<Step> {
    let attempt = draft.attempt(n)?.clone();
    // What waits for a person can still be answered by the channel, until the person has spoken.
    let open = match attempt.state {
        AttemptState::Unknown | AttemptState::Pending => true,
        // What the channel has not done so far it may still do. What it has done, it has.
        AttemptState::Dispatching | AttemptState::Sent => report == Report::Succeeded,
        AttemptState::Manual => draft.view()?.payment.state == PaymentState::Manual,
        _ => false,
    };
    if !open {
        return too_late(draft, n, report, seen, at.now_ms);
    }
    let state = match report {
        Report::Succeeded => AttemptState::Succeeded,
        _ if attempt.sends != sends => return Ok(Step::Wait),
        Report::Nothing => {
            draft.look_again(n, attempt.not_found, at.next_ms)?;
            return Ok(Step::Wait);
        }
        Report::NotFound => {
            let not_found = attempt.not_found + 1;
            draft.look_again(n, not_found, at.next_ms)?;
            let believed = not_found >= 2 && at.now_ms - attempt.sent_ms >= at.min_age_ms;
            return Ok(if believed { Step::Close } else { Step::Wait });
        }
        Report::Pending => AttemptState::Pending,
        Report::DeclinedHard => AttemptState::DeclinedHard,
        Report::DeclinedSoft => AttemptState::DeclinedSoft,
        Report::Closed => AttemptState::Closed,
    };
    if state == AttemptState::Pending && attempt.state == AttemptState::Pending {
        draft.look_again(n, 0, at.next_ms)?;
        return Ok(Step::Wait);
    }
    let step = settle(draft, n, &Observed { state, ..seen.clone() }, at.now_ms, at.next_ms)?;
    draft.look_again(n, 0, at.next_ms)?;
    Ok(if state == AttemptState::Pending { Step::Wait } else { step })
}

/// A channel speaks of a try that was decided. Only a charge is news.
pub(super) fn too_late(draft: &mut Draft, n: i64, report: Report, seen: &Observed, now_ms: i64) -> Result<Step> {
    let attempt = draft.attempt(n)?;
    let under_way = matches!(attempt.state, AttemptState::Dispatching | AttemptState::Sent);
    if report != Report::Succeeded || attempt.state.has_charged() || under_way {
        return Ok(Step::Decided);
    }
    let live = draft.view()?.attempts.iter().any(|other| other.n != n && other.state.is_live());
    // The index has room for one live try.
    let state = if live { AttemptState::ChargedLate } else { AttemptState::Succeeded };
    let detail = format!("try {n} at {} was {} and is charged", attempt.channel, attempt.state.as_str());
    alarm(draft, "LATE_SUCCESS", detail, now_ms);
    let step = settle(draft, n, &Observed { state, ..seen.clone() }, now_ms, now_ms)?;
    // Two charges are worse than a late one.
    Ok(if step == Step::Decided { Step::Alarm("LATE_SUCCESS") } else { step })
}

/// A person has found out what became of a payment: the tries that waited for that have ended with it.
pub(super) fn end_by_hand(draft: &mut Draft, decided: PaymentState, reason: &str, now_ms: i64) -> Result<()> {
    let mut waiting = draft.view()?.attempts.iter().filter(|attempt| attempt.state == AttemptState::Manual);
    let (Some(one), None) = (waiting.next(), waiting.next()) else { return Ok(()) };
    let state = if decided == PaymentState::Succeeded { AttemptState::Succeeded } else { AttemptState::Rejected };
    let evidence = format!("{} by a person: {reason}", decided.as_str());
    let seen = Observed { state, evidence, http: one.http, code: one.code.clone() };
    let n = one.n;
    draft.observe(n, &seen, now_ms, now_ms)
}

/// Each of these follows from a try that becomes charged, which a try does once.
fn alarm(draft: &mut Draft, kind: &'static str, detail: String, now_ms: i64) {
    tracing::error!(target: "tidegate::payments", payment = %draft.id(), detail, "{kind}: somebody must look at this");
    draft.note(kind, detail, now_ms);
}
