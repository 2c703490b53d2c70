//! Latencies in fixed memory: buckets that grow with the value, so that every quantile is within 3 % of the truth.

use std::time::Duration;

use serde::Serialize;

/// Buckets of each power of two; with 32 of them a bucket is at most 1/32 as wide as its values.
const STEPS: u64 = 32;
/// From one microsecond to well over an hour.
const BUCKETS: usize = 1_024;

/// How often each latency was seen, in microseconds.
#[derive(Clone, Debug)]
pub(crate) struct Histogram {
    counts: Vec<u64>,
    seen: u64,
    max: u64,
}

/// What is told of it, in milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Latency {
    pub(crate) count: u64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) max_ms: f64,
}

impl Histogram {
    pub(crate) fn new() -> Self {
        Self { counts: vec![0; BUCKETS], seen: 0, max: 0 }
    }

    pub(crate) fn add(&mut self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.counts[bucket(micros)] += 1;
        self.seen += 1;
        self.max = self.max.max(micros);
    }

    pub(crate) fn latency(&self) -> Latency {
        let ms = |micros: u64| (micros as f64) / 1_000.0;
        Latency { count: self.seen, p50_ms: ms(self.quantile(50)), p99_ms: ms(self.quantile(99)), max_ms: ms(self.max) }
    }

    /// The smallest latency that `percent` of all stay below, rounded up to its bucket.
    fn quantile(&self, percent: u64) -> u64 {
        let rank = (self.seen * percent).div_ceil(100).max(1);
        let mut below = 0;
        for (at, count) in self.counts.iter().enumerate() {
            below += count;
            if below >= rank {
                return highest(at).min(self.max);
            }
        }
        self.max
    }
}

fn bucket(micros: u64) -> usize {
    if micros < STEPS {
        return usize::try_from(micros).unwrap_or(0);
    }
    let shift = micros.ilog2() - STEPS.ilog2();
    let at = u64::from(shift) * STEPS + (micros >> shift);
    usize::try_from(at).unwrap_or(BUCKETS).min(BUCKETS - 1)
}

/// The largest value of a bucket.
fn highest(at: usize) -> u64 {
    let at = at as u64;
    if at < STEPS {
        return at;
    }
    let shift = at / STEPS - 1;
    ((at - shift * STEPS + 1) << shift) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_its_values_and_is_narrow() {
        for micros in (0..2_000).chain((1..30).map(|power| (1_u64 << power) + 3)) {
            let at = bucket(micros);
            assert!(highest(at) >= micros, "{micros}");
            assert!(highest(at) <= micros + micros / 32, "{micros}");
            assert!(at == 0 || highest(at - 1) < micros, "{micros}");
        }
    }

    #[test]
    fn quantiles_are_those_of_the_values() {
        let mut histogram = Histogram::new();
        for ms in 1..=1_000 {
            histogram.add(Duration::from_millis(ms));
        }
        let latency = histogram.latency();
        assert!((500.0..=516.0).contains(&latency.p50_ms), "{latency:?}");
        assert!((990.0..=1_000.0).contains(&latency.p99_ms), "{latency:?}");
        assert!((latency.max_ms - 1_000.0).abs() < 1e-9);
        assert_eq!(latency.count, 1_000);
    }

    #[test]
    fn nothing_seen_is_no_latency() {
        assert!(Histogram::new().latency().max_ms.abs() < 1e-9);
    }
}
