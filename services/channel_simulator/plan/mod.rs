//! The fault plan: how slow a channel is, how much it takes, whom it declines, what becomes of its callbacks.
//!
//! Every choice is a hash of (seed, what is chosen, payment number). A retry of a payment therefore meets the same
//! fate, and a second run of a test meets the same victims, in whatever order requests arrive. Only capacity is not:
//! it depends on what else is going on, which is its point.
//!
//! | File | What |
//! | --- | --- |
//! | `kind`, `fault`, `moment` | a fault as it is written, and when it applies |
//! | `force` | a plan in force, with what it counts |
//!
//! A plan lives in memory. After a restart the plan of the command line is in force, or none: a channel that behaves.

mod fault;
mod force;
mod kind;
mod moment;

pub(super) use fault::{Fault, Step};
pub(super) use force::{Force, Hit, Request};
pub(super) use kind::Kind;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::pace::Latency;

/// Code of a decline when the plan lists none.
const DEFAULT_CODE: &str = "INSUFFICIENT_FUNDS";

/// Most extra copies of one callback: more would be a flood, not a duplicate.
const MAX_COPIES: u32 = 100;

/// Longest delay of a callback: a day.
const MAX_DELAY_MS: u32 = 86_400_000;

/// A seed and what goes wrong, as sent to `PUT /sim/plan`. What is absent goes right.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Plan {
    /// Another seed chooses other victims.
    pub(super) seed: u64,
    /// How long every call takes before it does anything.
    pub(super) latency: Option<Latency>,
    /// What is too much.
    pub(super) capacity: Capacity,
    /// Who is not charged.
    pub(super) decline: Decline,
    /// What becomes of callbacks.
    pub(super) callback: Callback,
    /// What is wrong with bills.
    pub(super) bill: Bill,
    /// What becomes of calls. The first one that applies to a call is its fault.
    pub(super) faults: Vec<Fault>,
}

/// Limits of a channel; absent means none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Capacity {
    /// Calls a second, with a burst of one second's worth; beyond it 429.
    pub(super) per_second: Option<u32>,
    /// Calls at the same time; beyond it 503.
    pub(super) concurrent: Option<u32>,
}

/// Declines.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Decline {
    /// Share of payments, 0 to 1.
    pub(super) ratio: f64,
    /// Reasons, all equally likely; empty: `INSUFFICIENT_FUNDS`.
    pub(super) codes: Vec<String>,
}

/// Faults of bills, by payment number.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Bill {
    /// Payments that are not in it.
    pub(super) omit: Vec<String>,
    /// Payments that are in it with a fen too much.
    pub(super) wrong_amount: Vec<String>,
}

/// Faults of callbacks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Callback {
    /// The first attempt comes this much later; not scaled.
    pub(super) delay_ms: u32,
    /// Share of payments whose callback is never sent: only a query tells.
    pub(super) drop_ratio: f64,
    /// Share of payments whose callback comes more than once, the copies at the same time.
    pub(super) duplicate_ratio: f64,
    /// Extra copies for those; absent: one.
    pub(super) copies: Option<u32>,
    /// Share of payments whose callback is preceded by one with a wrong signature, which must be refused.
    pub(super) bad_signature_ratio: f64,
}

/// What is going to happen to one payment once the buyer confirms it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fate {
    /// Why it is declined; absent when it is charged.
    pub(super) decline: Option<String>,
    /// How much later than at once the callback is sent.
    pub(super) delay_ms: u32,
    /// The callback is never sent.
    pub(super) dropped: bool,
    /// Copies of the callback besides the real one.
    pub(super) copies: u32,
    /// A callback with a wrong signature goes before the real one.
    pub(super) probe: bool,
    /// The decision comes this much later than the buyer's consent; absent: with it.
    pub(super) after_ms: Option<u32>,
}

impl Plan {
    /// Reads a plan.
    ///
    /// # Errors
    /// One sentence that names what is wrong: an unknown member with the list of known ones, or a number out of range.
    pub(super) fn parse(body: &[u8]) -> Result<Self, String> {
        let plan: Self = serde_json::from_slice(body).map_err(|error| error.to_string())?;
        plan.check()?;
        Ok(plan)
    }

    fn check(&self) -> Result<(), String> {
        self.latency.map_or(Ok(()), Latency::check)?;
        for (name, share) in [
            ("decline.ratio", self.decline.ratio),
            ("callback.drop_ratio", self.callback.drop_ratio),
            ("callback.duplicate_ratio", self.callback.duplicate_ratio),
            ("callback.bad_signature_ratio", self.callback.bad_signature_ratio),
        ] {
            if !(0.0..=1.0).contains(&share) {
                return Err(format!("{name} must be 0 to 1"));
            }
        }
        if self.capacity.per_second == Some(0) || self.capacity.concurrent == Some(0) {
            return Err("a capacity must be at least 1; leave it out for none".to_owned());
        }
        if !self.decline.codes.iter().all(|code| is_code(code)) {
            return Err("decline.codes must be 1 to 64 of A-Z, 0-9 and _".to_owned());
        }
        if !(1..=MAX_COPIES).contains(&self.callback.copies.unwrap_or(1)) {
            return Err(format!("callback.copies must be 1 to {MAX_COPIES}"));
        }
        if self.callback.delay_ms > MAX_DELAY_MS {
            return Err(format!("callback.delay_ms must be at most {MAX_DELAY_MS}"));
        }
        let faults = self.faults.iter().enumerate();
        faults.into_iter().try_for_each(|(at, fault)| fault.check().map_err(|why| format!("faults[{at}].{why}")))
    }

    /// What the plan has in store for a payment.
    pub(super) fn fate(&self, payment_no: &str) -> Fate {
        let hit = |what: &str, share: f64| dice(self.seed, what, payment_no) < share;
        let callback = &self.callback;
        let duplicated = hit("duplicate", callback.duplicate_ratio);
        Fate {
            decline: hit("decline", self.decline.ratio).then(|| self.code(payment_no)),
            delay_ms: callback.delay_ms,
            dropped: hit("drop", callback.drop_ratio),
            copies: if duplicated { callback.copies.unwrap_or(1) } else { 0 },
            probe: hit("probe", callback.bad_signature_ratio),
            after_ms: None,
        }
    }

    fn code(&self, payment_no: &str) -> String {
        let codes = &self.decline.codes;
        let at = word(self.seed, "code", payment_no) as usize % codes.len().max(1);
        codes.get(at).map_or(DEFAULT_CODE, String::as_str).to_owned()
    }

    /// How long the step `what` of a payment takes.
    pub(super) fn latency(&self, what: &str, payment_no: &str) -> std::time::Duration {
        let roll = |salt: &str| dice(self.seed, &format!("{salt} of {what}"), payment_no);
        self.latency.map_or(std::time::Duration::ZERO, |latency| latency.sample(roll("latency"), roll("shape")))
    }
}

fn is_code(code: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    (1..=64).contains(&code.len()) && code.bytes().all(plain)
}

/// A number in [0, 1) that depends on nothing but its arguments.
fn dice(seed: u64, what: &str, payment_no: &str) -> f64 {
    f64::from(word(seed, what, payment_no)) / (f64::from(u32::MAX) + 1.0)
}

fn word(seed: u64, what: &str, payment_no: &str) -> u32 {
    let mut hash = Sha256::new();
    hash.update(seed.to_le_bytes());
    hash.update(what);
    // Without a separator "a" of "bc" and "ab" of "c" would be the same throw.
    hash.update([0]);
    hash.update(payment_no);
    let digest = hash.finalize();
    u32::from_le_bytes([digest[0], digest[1], digest[2], digest[3]])
}

#[cfg(test)]
mod tests;
