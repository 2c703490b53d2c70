//! What a request, the resolver and a person do to a payment: each one operation on a draft, or a refusal.

use super::draft::Draft;
use super::model::{AttemptState, Observed, PaymentState, Refusal, Sending, Standing};
use super::{Begin, LONGEST_CALL, Result, Step, millis, news};
use crate::payments::outcome::Report;

/// A try is about to be made; closes the one before. Returns its number.
pub(super) fn begin(draft: &mut Draft, begin: &Begin, now_ms: i64) -> Result<i64> {
    let Begin { frozen, channel, considered, words, closing, resting } = begin;
    if let Some((sent, seen)) = closing {
        // The caller has decided that this frees the payment; the row must still be the one the caller sent, and nobody
        // may have sent it since.
        let before = draft.sending(*sent)?.state;
        if !matches!(before, AttemptState::Dispatching | AttemptState::Sent) || seen.state.is_live() {
            return Err(Refusal::Standing);
        }
        draft.observe(sent.n, seen, now_ms, now_ms)?;
    }
    match draft.found() {
        None => draft.insert(frozen, now_ms),
        Some(view) if view.payment.frozen != *frozen => return Err(Refusal::Mismatch),
        // Somebody took this request for lost, and has told so.
        Some(view) if *resting && view.payment.state != PaymentState::Processing => return Err(Refusal::Standing),
        Some(view) => match view.standing() {
            Standing::Open { left } if !left.contains(channel) => {
                draft.set_payment(PaymentState::Processing, now_ms)?
            }
            Standing::Open { .. } | Standing::Live(_) | Standing::Decided => return Err(Refusal::Standing),
        },
    }
    draft.add((channel, considered, words), now_ms, now_ms + millis(LONGEST_CALL))
}

/// The live try is about to be sent to its channel once more.
pub(super) fn send_again(draft: &mut Draft, n: i64, now_ms: i64) -> Result<Sending> {
    // A call that is under way is somebody else's.
    if !matches!(draft.attempt(n)?.state, AttemptState::Unknown | AttemptState::Pending) {
        return Err(Refusal::Standing);
    }
    draft.send_again(n, now_ms, now_ms + millis(LONGEST_CALL))
}

/// Closes a try that did nothing, while its payment goes on after a pause.
pub(super) fn rest(draft: &mut Draft, of: Sending, seen: &Observed, now_ms: i64) -> Result<()> {
    let before = draft.sending(of)?;
    if before.state == seen.state {
        // It is written already; only the word of it was lost.
        return Ok(());
    }
    if before.state != AttemptState::Dispatching || seen.state.is_live() {
        return Err(Refusal::Standing);
    }
    draft.observe(of.n, seen, now_ms, now_ms)
}

/// A try was written down and is not made: nobody has heard whether it was written. `words`: its evidence, which is that
/// one's alone. `true` when it was.
pub(super) fn abandon(draft: &mut Draft, words: &str, now_ms: i64) -> Result<bool> {
    let Some(last) = draft.found().and_then(|view| view.attempts.last()) else { return Ok(false) };
    if last.evidence != words {
        return Ok(false);
    }
    let of = Sending { n: last.n, sends: last.sends };
    if last.state == AttemptState::Dispatching {
        let evidence = format!("{words}, and given up before that");
        let seen = Observed { state: AttemptState::NotSent, evidence, http: None, code: None };
        settle(draft, of, &seen, now_ms, now_ms)?;
    }
    Ok(true)
}

/// No further try is coming: the payment stands as its tries say. Returns how.
pub(super) fn conclude(draft: &mut Draft, now_ms: i64) -> Result<PaymentState> {
    let view = draft.view()?;
    let (before, state) = (view.payment.state, view.by_tries());
    if before == PaymentState::Processing && before != state {
        draft.set_payment(state, now_ms)?;
    }
    Ok(draft.view()?.payment.state)
}

/// What became of a try; its payment follows.
pub(super) fn settle(draft: &mut Draft, of: Sending, seen: &Observed, now_ms: i64, next_ms: i64) -> Result<Step> {
    let n = of.n;
    let before = draft.attempt(n)?.state;
    // Somebody has sent it since, and only a charge is true of both.
    if seen.state != AttemptState::Succeeded {
        draft.sending(of)?;
    }
    if before == AttemptState::Succeeded {
        // A query was quicker. That the caller knows less is no contradiction; that it knows otherwise is.
        let agrees = matches!(seen.state, AttemptState::Succeeded | AttemptState::Pending | AttemptState::Unknown);
        return if agrees { Ok(Step::Decided) } else { Err(Refusal::Standing) };
    }
    if before == seen.state && !before.is_live() {
        // It is written already; only the word of it was lost.
        return Ok(Step::Decided);
    }
    if !before.is_live() {
        if seen.state != AttemptState::Succeeded {
            return Err(Refusal::Standing);
        }
        // The row was given up while the answer was under way. A charge is news, however late.
        return news::too_late(draft, n, Report::Succeeded, seen, now_ms);
    }
    news::settle(draft, n, seen, now_ms, next_ms)
}

/// The resolver gives up: a person has to find out. `false` when the try was decided meanwhile.
pub(super) fn give_up(draft: &mut Draft, n: i64, why: &str, now_ms: i64) -> Result<bool> {
    let attempt = draft.attempt(n)?;
    if !matches!(attempt.state, AttemptState::Unknown | AttemptState::Pending) {
        return Ok(false);
    }
    let (http, code) = (attempt.http, attempt.code.clone());
    let seen = Observed { state: AttemptState::Manual, evidence: why.to_owned(), http, code };
    news::settle(draft, n, &seen, now_ms, now_ms)?;
    draft.note("MANUAL", format!("try {n}: {why}"), now_ms);
    Ok(true)
}

/// A person has found out what became of a payment that waits for one.
pub(super) fn decide(draft: &mut Draft, state: PaymentState, reason: &str, now_ms: i64) -> Result<()> {
    if draft.view()?.payment.state != PaymentState::Manual {
        return Err(Refusal::Standing);
    }
    draft.set_payment(state, now_ms)?;
    news::end_by_hand(draft, state, reason, now_ms)?;
    draft.note("DECIDED", format!("{} by a person: {reason}", state.as_str()), now_ms);
    Ok(())
}
