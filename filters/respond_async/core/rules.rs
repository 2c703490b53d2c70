//! What a file says about waiting and sending, as the book needs it. Tunable at any time; nothing here is remembered.

use std::collections::HashMap;
use std::time::Duration;

use crate::engine::Rate;

/// Who is refused when there is little room left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shed {
    /// Everybody, and only when there is none.
    #[default]
    RejectNew,
    /// From four fifths on newcomers by lot, more and more of them.
    Random,
    /// From four fifths on the low class, from nine tenths on the normal one too.
    LowestClass,
}

/// When a request that was surely not carried out is sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retries {
    /// Quick tries in all, the first included; at least 1.
    pub quick: u8,
    /// Pause behind the first.
    pub initial: Duration,
    /// Each pause is so many times the one before, in percent.
    pub factor_percent: u32,
    /// Further tries as a dead letter.
    pub late: u8,
    /// Pause before each of those.
    pub every: Duration,
}

impl Retries {
    /// Longest pause between two quick tries.
    const LONGEST: Duration = Duration::from_secs(3_600);

    /// The pause behind try number `tries`, counted from 1.
    pub(super) fn pause(&self, tries: u8) -> Duration {
        let mut pause = self.initial;
        for _ in 1..tries {
            pause = (pause * self.factor_percent / 100).min(Self::LONGEST);
        }
        pause
    }
}

/// Bounds, pace and patience of one filter.
#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    /// Records that are not over, at most.
    pub max_records: usize,
    /// Bytes of their bodies on the disk, at most.
    pub max_bytes: u64,
    /// Records of one identity, at most.
    pub max_per_identity: usize,
    /// Who is refused first.
    pub shed: Shed,
    /// How fast an upstream is sent to.
    pub rate: Rate,
    /// Requests under way at one upstream, at most.
    pub max_in_flight: usize,
    /// An answer that takes longer slows the sending down.
    pub slow_call: Duration,
    /// So much waiting counts as one class of importance more.
    pub ageing: Duration,
    /// When something is sent again.
    pub retries: Retries,
    /// The upstream recognises keys: what is unknown may be sent again.
    pub idempotent: bool,
    /// Turns in a row of identities that have more than one; by hash.
    pub weights: HashMap<u64, u32>,
}
