//! How many a backend can take, learned from how it does: additive increase, multiplicative decrease.
//!
//! While the backend answers in time and without errors, the rate grows by a fixed share of the configured one each
//! second; when it does not, the rate is multiplied by a factor below one, at most once a second, since what was decided
//! shows only after the requests that it let in have been answered. An open breaker is the strongest sign: the rate falls
//! to its least at once. Chosen over a gradient of latencies for being predictable: from full to a half in two seconds,
//! back in ten at 5 %.

/// How the controller is set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Aimd {
    /// The least rate (admissions a minute).
    pub min_per_minute: u32,
    /// Slower than this at the 95th percentile is too slow (milliseconds).
    pub p95_target: u64,
    /// More errors than this share of answers are too many (0 to 1).
    pub max_error_ratio: f64,
    /// Growth in a second, as a share of the configured rate (0 to 1).
    pub increase: f64,
    /// Factor on distress (0 to 1).
    pub decrease: f64,
}

impl Default for Aimd {
    fn default() -> Self {
        Self { min_per_minute: 60, p95_target: 300, max_error_ratio: 0.02, increase: 0.05, decrease: 0.7 }
    }
}

/// How the backend does.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Health {
    /// 95th percentile of its answers' times in milliseconds; `None` when there were none.
    pub p95: Option<u64>,
    /// Share of answers that were errors.
    pub error_ratio: f64,
    /// Whether a breaker keeps requests away from it.
    pub breaker_open: bool,
}

/// The controller's memory.
#[derive(Clone, Copy, Debug)]
pub struct Control {
    rate: f64,
    /// The configured rate when it was last decided.
    most: u32,
    decided: u64,
    lowered: Option<u64>,
}

const SECOND: u64 = 1_000;

impl Control {
    /// Begins at `now` (milliseconds) with the configured rate.
    #[must_use]
    pub fn new(per_minute: u32, now: u64) -> Self {
        Self { rate: f64::from(per_minute), most: per_minute, decided: now, lowered: None }
    }

    /// The rate from `now` on, in admissions a minute. `most` is the configured rate.
    pub fn decide(&mut self, settings: &Aimd, most: u32, health: Health, now: u64) -> u32 {
        let span = now.saturating_sub(self.decided).min(SECOND);
        self.decided = self.decided.max(now);
        // Where nothing held it back, a higher configured rate is not approached in steps.
        if self.rate >= f64::from(self.most) {
            self.rate = self.rate.max(f64::from(most));
        }
        self.most = most;
        let (least, most) = (f64::from(settings.min_per_minute.min(most)), f64::from(most));
        let slow = health.p95.is_some_and(|p95| p95 > settings.p95_target);
        // What was decided shows only after a while: until then it is neither lowered again nor raised.
        let rested = self.lowered.is_none_or(|lowered| now.saturating_sub(lowered) >= SECOND);
        if health.breaker_open {
            self.rate = least;
        } else if slow || health.error_ratio > settings.max_error_ratio {
            if rested {
                self.lowered = Some(now);
                self.rate *= settings.decrease;
            }
        } else if rested {
            self.rate += most * settings.increase * span as f64 / SECOND as f64;
        }
        self.rate = self.rate.clamp(least, most);
        self.rate as u32
    }

    /// Whether the decision of `now` lowered it for trouble.
    #[must_use]
    pub fn was_lowered_at(&self, now: u64) -> bool {
        self.lowered == Some(now)
    }
}
