//! How fast a channel answers and how much it takes: a distribution of answer times and a token bucket.
//!
//! Answer times of payment channels are skewed to the right: most answers come quickly, a few take ten times as long.
//! A log-normal distribution is given by its median and its 99th percentile, the two figures an operator knows.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The standard normal distribution's 99th percentile.
const Z99: f64 = 2.326_347_874;

/// A tail beyond a minute would only be a hang.
const LONGEST_MS: f64 = 60_000.0;

/// How long a channel thinks before it does anything.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Latency {
    /// Always the same.
    Fixed {
        /// Milliseconds.
        ms: f64,
    },
    /// Anything between two bounds, all equally likely.
    Uniform {
        /// Least milliseconds.
        min_ms: f64,
        /// Most milliseconds.
        max_ms: f64,
    },
    /// Log-normal.
    Lognormal {
        /// Median in milliseconds.
        p50_ms: f64,
        /// 99th percentile in milliseconds.
        p99_ms: f64,
    },
}

impl Latency {
    /// What is wrong with the numbers, if anything is.
    pub(super) fn check(self) -> Result<(), String> {
        let (least, most) = match self {
            Self::Fixed { ms } => (ms, ms),
            Self::Uniform { min_ms, max_ms } => (min_ms, max_ms),
            Self::Lognormal { p50_ms, p99_ms } => (p50_ms, p99_ms),
        };
        if !(0.0..=LONGEST_MS).contains(&least) || !(least..=LONGEST_MS).contains(&most) {
            return Err(format!("latency: milliseconds must be 0 to {LONGEST_MS}, the smaller figure first"));
        }
        Ok(())
    }

    /// One answer time, from two uniform numbers in [0, 1). The dice are the caller's.
    pub(super) fn sample(self, first: f64, second: f64) -> Duration {
        let millis = match self {
            Self::Fixed { ms } => ms,
            Self::Uniform { min_ms, max_ms } => min_ms + (max_ms - min_ms) * first,
            Self::Lognormal { p50_ms, .. } if p50_ms <= 0.0 => 0.0,
            Self::Lognormal { p50_ms, p99_ms } => {
                let sigma = (p99_ms / p50_ms).ln() / Z99;
                // Box-Muller: one normal number from two uniform ones. 1 - x, because the logarithm of 0 is no number.
                let normal = (-2.0 * (1.0 - first).ln()).sqrt() * (std::f64::consts::TAU * second).cos();
                p50_ms * (sigma * normal).exp()
            }
        };
        Duration::from_secs_f64(millis.clamp(0.0, LONGEST_MS) / 1_000.0)
    }
}

/// Token bucket that holds one second of its rate.
#[derive(Debug)]
pub(super) struct Bucket {
    rate: f64,
    tokens: f64,
    at_ms: i64,
}

impl Bucket {
    /// A full bucket.
    pub(super) fn new(per_second: u32, now_ms: i64) -> Self {
        let rate = f64::from(per_second);
        Self { rate, tokens: rate, at_ms: now_ms }
    }

    /// Takes one token; false when there is none.
    pub(super) fn take(&mut self, now_ms: i64) -> bool {
        // A clock that was set back grows nothing; it does not take anything away either.
        let elapsed = u64::try_from(now_ms.saturating_sub(self.at_ms)).unwrap_or(0);
        self.at_ms = self.at_ms.max(now_ms);
        self.tokens = (self.tokens + Duration::from_millis(elapsed).as_secs_f64() * self.rate).min(self.rate);
        let enough = self.tokens >= 1.0;
        if enough {
            self.tokens -= 1.0;
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_the_samples_is_the_given_median() {
        let latency = Latency::Lognormal { p50_ms: 20.0, p99_ms: 200.0 };
        // cos(τ/4) is 0: the normal number 0, the median.
        let middle = latency.sample(0.5, 0.25).as_secs_f64();
        assert!((middle - 0.020).abs() < 1e-6, "{middle}");
    }

    #[test]
    fn a_sample_stays_within_its_bounds() {
        let between = Latency::Uniform { min_ms: 10.0, max_ms: 30.0 };
        assert_eq!(between.sample(0.0, 0.0), Duration::from_millis(10));
        assert_eq!(between.sample(0.5, 0.0), Duration::from_millis(20));
        let wild = Latency::Lognormal { p50_ms: 1.0, p99_ms: 60_000.0 };
        assert!(wild.sample(1.0 - f64::EPSILON, 0.0) <= Duration::from_secs(60));
        assert_eq!(Latency::Lognormal { p50_ms: 0.0, p99_ms: 9.0 }.sample(0.5, 0.5), Duration::ZERO);
    }

    #[test]
    fn an_empty_bucket_refuses_until_a_token_has_grown() {
        let mut bucket = Bucket::new(2, 0);
        assert!(bucket.take(0) && bucket.take(0));
        assert!(!bucket.take(499));
        assert!(bucket.take(500));
        assert!(!bucket.take(500));
        assert!(!bucket.take(0), "a clock that was set back");
    }
}
