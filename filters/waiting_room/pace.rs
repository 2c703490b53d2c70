//! How fast the line moves, and how long somebody in it will wait.
//!
//! The pace is an exponentially weighted mean of releases (half-life 30 seconds), with the missing weight of a young mean
//! made up for. Fewer than ten seconds of queueing are no basis: then nothing is told. The 90th percentile is that of a
//! Poisson stream: the `n`-th release at rate `r` comes after a Gamma(n, r) time, about `(n + 1.28 √n + 0.5) / r`.

use super::rules::Polling;

const HALF_LIFE: f64 = 30_000.0;
const BASIS: f64 = 10_000.0;
/// Told where nothing is known: a client looks again after this many milliseconds.
const UNKNOWN: f64 = 5_000.0;

/// The line's pace, measured.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    /// Weighted releases per millisecond.
    rate: f64,
    weight: f64,
    /// Milliseconds of queueing that were measured.
    basis: f64,
}

/// How long somebody waits, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// Expected.
    pub expected: f64,
    /// A quarter waits at most this long.
    pub p25: f64,
    /// Half of all wait at most this long.
    pub p50: f64,
    /// Three quarters wait at most this long.
    pub p75: f64,
    /// Nine in ten wait at most this long.
    pub p90: f64,
}

impl Pace {
    /// Takes in `span` milliseconds of queueing in which `released` were let go on.
    pub(super) fn observe(&mut self, span: u64, released: u64) {
        if span == 0 {
            return;
        }
        let span = span as f64;
        let kept = (-span / HALF_LIFE).exp2();
        self.rate = self.rate * kept + (1.0 - kept) * released as f64 / span;
        self.weight = self.weight * kept + (1.0 - kept);
        self.basis += span;
    }

    /// Releases a second; `None` while too little is known, or when nothing moves.
    pub(super) fn per_second(&self) -> Option<f64> {
        let rate = self.rate / self.weight * 1_000.0;
        (self.basis >= BASIS && rate > 0.001).then_some(rate)
    }
}

impl Estimate {
    /// For the one behind `ahead` others when `rate` a second are released in order.
    #[must_use]
    pub fn in_order(ahead: u64, rate: f64) -> Self {
        let ahead = ahead as f64 + 1.0;
        let at = |sigmas: f64| (ahead + sigmas * ahead.sqrt()).max(0.0) / rate;
        Self { expected: ahead / rate, p25: at(-0.674), p50: at(0.0), p75: at(0.674), p90: at(1.282) }
    }

    /// For one of `waiting` when `rate` a second are picked by chance.
    #[must_use]
    pub fn by_chance(waiting: u64, rate: f64) -> Self {
        let mean = waiting.max(1) as f64 / rate;
        let at = |share: f64| -mean * (1.0 - share).ln();
        Self { expected: mean, p25: at(0.25), p50: at(0.5), p75: at(0.75), p90: at(0.9) }
    }
}

/// Milliseconds after which a client that will wait about `wait` seconds should look again. `spread` from 0 to 1 makes
/// clients come at different times; the result is up to 30 % later for it.
#[must_use]
pub fn poll_after(polling: Polling, wait: Option<f64>, spread: f64) -> u64 {
    let wanted = wait.map_or(UNKNOWN, |seconds| seconds * 1_000.0 / f64::from(polling.divisor.max(1)));
    let bounded = wanted.clamp(polling.min as f64, polling.max.max(polling.min) as f64);
    (bounded * (1.0 + 0.3 * spread.clamp(0.0, 1.0))) as u64
}
