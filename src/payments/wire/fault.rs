//! What an error of the HTTP library says about the request. The library's words are not enough: the bytes that the
//! kernel took decide, and over HTTP/2 the code with which the other side ended the stream.

use std::error::Error;

use h2::Reason;

use crate::payments::outcome::Seen;

/// A try without an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// What was seen.
    pub(crate) seen: Seen,
    /// The same for people.
    pub(crate) evidence: String,
}

impl Fault {
    pub(crate) fn new(seen: Seen, evidence: impl Into<String>) -> Self {
        Self { seen, evidence: evidence.into() }
    }

    /// An error before the answer's head was there. `accepted`, `received`: bytes of this exchange.
    pub(super) fn before_answer(error: &hyper::Error, accepted: u64, received: u64) -> Self {
        let evidence = format!("{} after {accepted} bytes sent, {received} received", whole(error));
        let seen = if accepted == 0 {
            Seen::Broken { accepted }
        } else if let Some(error) = find_h2(error) {
            of_h2(error, accepted)
        } else if error.is_parse() || error.is_parse_too_large() || error.is_parse_status() {
            Seen::Undecodable
        } else {
            Seen::Broken { accepted }
        };
        Self { seen, evidence }
    }

    /// An error within the answer's body. Whatever its name, the head has shown that the channel was at work.
    pub(super) fn within_answer(error: &hyper::Error) -> Self {
        Self::new(Seen::Truncated, format!("the answer ended early: {}", whole(error)))
    }
}

fn of_h2(error: &h2::Error, accepted: u64) -> Seen {
    let reason = error.reason();
    if error.is_reset() && error.is_remote() {
        return match reason {
            Some(Reason::REFUSED_STREAM) => Seen::Refused,
            Some(Reason::HTTP_1_1_REQUIRED) => Seen::NeedsHttp11,
            _ => Seen::Protocol,
        };
    }
    // The library ends a stream with the other side's GOAWAY only if the stream is above the last one it named.
    if error.is_go_away() && error.is_remote() && reason == Some(Reason::NO_ERROR) {
        return Seen::GoneAway;
    }
    if error.is_io() { Seen::Broken { accepted } } else { Seen::Protocol }
}

fn find_h2(error: &hyper::Error) -> Option<&h2::Error> {
    let mut next: Option<&(dyn Error + 'static)> = error.source();
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// An error with its causes.
fn whole(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
