//! From what the wire brought to what is written down, told to filters and told to the client.

use tidegate_filters::engine::AttemptResult;

use super::journal::Observed;
use super::outcome::{Asked, Class, Judged, Seen, Words, of_answer, of_wire};
use super::plan::Channel;
use super::wire::{Answer, Fault};

/// Longest code that is kept; a channel's codes are words.
const LONGEST_CODE: usize = 64;

/// A try, judged.
pub(super) struct Tried {
    /// What it came to.
    pub(super) class: Class,
    /// What it would have come to as the first of its number: of the channel's health that says more.
    pub(super) alone: Class,
    /// What is written down.
    pub(super) seen: Observed,
    /// What filters are told.
    pub(super) result: AttemptResult,
    /// The answer, if there was one.
    pub(super) answer: Option<Answer>,
    /// The channel said nothing in time.
    pub(super) silent: bool,
    /// Why somebody should look at it.
    pub(super) alert: Option<&'static str>,
}

/// A try without an answer.
pub(super) fn of_fault(fault: &Fault) -> Tried {
    let class = of_wire(fault.seen);
    let result = match fault.seen {
        Seen::NoConnection | Seen::NoHandshake => AttemptResult::ConnectFailed,
        Seen::Silent { .. } => AttemptResult::TimedOut,
        _ => AttemptResult::Broken,
    };
    let seen = Observed { state: class.into(), evidence: fault.evidence.clone(), http: None, code: None };
    Tried { class, alone: class, seen, result, answer: None, silent: result == AttemptResult::TimedOut, alert: None }
}

/// A try with an answer that came at `now_ms`.
pub(super) fn of_reply(channel: &Channel, answer: Answer, asked: Asked<'_>, now_ms: i64) -> Tried {
    let judged = match channel.believed(&answer, now_ms) {
        Ok(body) => of_answer(&channel.terms.codes, answer.status, body, asked),
        Err(alert) => Judged { class: Class::Unknown, words: Words::default(), alert: Some(alert) },
    };
    let words = &judged.words;
    let mut evidence = format!("answered {}", answer.status.as_u16());
    for word in [&words.code, &words.subcode].into_iter().flatten() {
        evidence.push(' ');
        evidence.extend(word.chars().filter(|c| !c.is_control()).take(LONGEST_CODE));
    }
    if let Some(alert) = judged.alert {
        evidence.push_str(": ");
        evidence.push_str(alert);
    }
    let code = words.code.as_ref().map(|code| code.chars().take(LONGEST_CODE).collect());
    let seen = Observed { state: judged.class.into(), evidence, http: Some(answer.status.as_u16()), code };
    let result = AttemptResult::Status(answer.status);
    let class = judged.class;
    Tried { class, alone: class, seen, result, answer: Some(answer), silent: false, alert: judged.alert }
}
