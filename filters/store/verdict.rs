//! What a record that lies somewhere else says to a claim, and how an end is sealed before it gets there: the same for
//! every store that writes rows.

use std::sync::Arc;
use std::time::Duration;

use super::seal::Seal;
use super::{Claim, Claimed, End, RecordId, Settle, Stored, codec};

/// States of a row.
pub(super) const RUNNING: i64 = 0;
pub(super) const UNKNOWN: i64 = 1;
pub(super) const DONE: i64 = 2;

/// Milliseconds since 1970.
pub(super) fn ms(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

/// A record's row.
pub(super) struct Row {
    pub(super) fence: i64,
    pub(super) fingerprint: Vec<u8>,
    pub(super) state: i64,
    pub(super) lease: i64,
    pub(super) until: i64,
    pub(super) status: Option<u16>,
    pub(super) answer: Option<Vec<u8>>,
}

/// What a row says to a claim.
pub(super) enum Verdict {
    /// This.
    Found(Found),
    /// Its claim is lost: the row is to be marked as unknown, and this is the answer.
    Lost(Found),
    /// Its time is over, or it may be carried out again: the claim takes its place.
    Replaced,
}

/// What is known of a claim; the answer is still sealed.
pub(super) enum Found {
    Plain(Claimed),
    Done { status: u16, answer: Option<Vec<u8>> },
}

impl Row {
    /// What the row says to a claim.
    pub(super) fn judge(mut self, claim: &Claim) -> Verdict {
        let now = ms(claim.now);
        let lost = self.state == RUNNING && self.lease <= now;
        if lost {
            self.state = UNKNOWN;
        }
        if self.state != RUNNING && self.until <= now {
            return Verdict::Replaced;
        }
        let found = if self.fingerprint != claim.fingerprint.0 {
            Found::Plain(Claimed::Mismatch)
        } else {
            match self.state {
                RUNNING => Found::Plain(Claimed::Running),
                DONE => Found::Done { status: self.status.unwrap_or(0), answer: self.answer },
                _ if claim.again => return Verdict::Replaced,
                _ => Found::Plain(Claimed::Unknown),
            }
        };
        if lost { Verdict::Lost(found) } else { Verdict::Found(found) }
    }
}

impl Found {
    /// With its answer opened. One that does not open is given without its body.
    pub(super) fn open(self, id: RecordId, seal: &Seal) -> Claimed {
        match self {
            Self::Plain(claimed) => claimed,
            Self::Done { status, answer } => {
                let opened = answer.and_then(|sealed| codec::decode(status, &seal.open(id, &sealed)?));
                let status = http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::OK);
                let without = || Stored { status, headers: Vec::new(), body: None };
                Claimed::Done(Arc::new(opened.unwrap_or_else(without)))
            }
        }
    }
}

/// A settlement, sealed before it gets to a writer.
pub(super) struct Sealed {
    pub(super) id: RecordId,
    pub(super) token: u128,
    pub(super) until: Duration,
    pub(super) end: SealedEnd,
}

pub(super) enum SealedEnd {
    Released,
    Unknown,
    Done(u16, Option<Vec<u8>>),
}

impl Sealed {
    pub(super) fn of(settle: Settle, seal: &Seal) -> Self {
        let Settle { id, token, end, until } = settle;
        let end = match end {
            End::Released => SealedEnd::Released,
            End::Unknown => SealedEnd::Unknown,
            End::Done(stored) => {
                let answer = codec::encode(&stored).and_then(|plain| seal.close(id, &plain));
                SealedEnd::Done(stored.status.as_u16(), answer)
            }
        };
        Self { id, token, until, end }
    }
}
