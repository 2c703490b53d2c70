//! How much may wait: records, bytes, and how many of one identity; and who is refused when there is little room left.
//!
//! What was promised is never thrown out: shedding refuses newcomers.

use std::collections::HashMap;
use std::time::Duration;

use super::record::Class;
use super::rules::{Rules, Shed};

/// From this share of a bound on newcomers may be shed, in percent.
const HIGH_WATER: u64 = 80;
/// Above this one the normal class is shed, too, in percent.
const HIGHER_WATER: u64 = 90;

/// Why a newcomer is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// There is no room for anybody, or not for this class.
    Full {
        /// When there may be room again, at the earliest.
        wait: Duration,
    },
    /// Not for this identity: it has so many already.
    Quota,
}

/// Room for one record that is on its way to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat {
    party: u64,
    size: u32,
}

/// Which bound is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    All,
    Quota,
}

/// What is taken.
#[derive(Default)]
pub(super) struct Room {
    records: usize,
    bytes: u64,
    parties: HashMap<u64, usize, ahash::RandomState>,
}

impl Room {
    pub(super) fn records(&self) -> usize {
        self.records
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether one more fits.
    pub(super) fn check(&self, rules: &Rules, class: Class, party: u64, size: u32, lot: u32) -> Result<(), Full> {
        if self.parties.get(&party).is_some_and(|count| *count >= rules.max_per_identity) {
            return Err(Full::Quota);
        }
        let bytes = self.bytes.saturating_add(u64::from(size));
        let percent = |used: u64, most: u64| used.saturating_mul(100) / most.max(1);
        let full = percent(bytes, rules.max_bytes).max(percent(self.records as u64, rules.max_records as u64));
        let shed = match (rules.shed, class) {
            (Shed::RejectNew, _) | (Shed::LowestClass, Class::High) => false,
            (Shed::LowestClass, Class::Normal) => full >= HIGHER_WATER,
            (Shed::LowestClass, Class::Low) => full >= HIGH_WATER,
            (Shed::Random, _) => {
                let above = full.saturating_sub(HIGH_WATER);
                u64::from(lot) * (100 - HIGH_WATER) < above << 32
            }
        };
        let fits = self.records < rules.max_records && bytes <= rules.max_bytes;
        if fits && !shed { Ok(()) } else { Err(Full::All) }
    }

    pub(super) fn take(&mut self, party: u64, size: u32) -> Seat {
        self.records += 1;
        self.bytes += u64::from(size);
        *self.parties.entry(party).or_default() += 1;
        Seat { party, size }
    }

    pub(super) fn give_back(&mut self, seat: Seat) {
        self.leave(seat.party, seat.size);
    }

    pub(super) fn leave(&mut self, party: u64, size: u32) {
        self.records -= 1;
        self.bytes = self.bytes.saturating_sub(u64::from(size));
        if let Some(count) = self.parties.get_mut(&party) {
            *count -= 1;
            if *count == 0 {
                self.parties.remove(&party);
            }
        }
    }
}
