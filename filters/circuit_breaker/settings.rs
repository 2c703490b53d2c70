//! What the file says about a breaker, and the rules that are made of it.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::engine::{Problems, TimeSpan};

/// Longest that any span of a breaker may be.
const DAY: Duration = Duration::from_secs(86_400);
/// Most buckets of a window.
pub(super) const MOST_BUCKETS: usize = 60;

/// Settings of `circuit_breaker`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CircuitBreaker {
    /// Failures in a row that open it (default 5; 1 to 10000). A slow call is one.
    pub consecutive_failures: u32,
    /// An answer that took at least this counts as slow (default 3s). It is counted, never cut off.
    pub slow_call: TimeSpan,
    /// How long it stays open the first time (default 30s; 1ms to 1d).
    pub open_for: TimeSpan,
    /// Each time it opens again without having closed, it stays open this many times longer (default 2; 1 to 10).
    pub open_factor: f64,
    /// Longest it stays open (default 2m, or `open_for` if that is longer).
    pub open_max: Option<TimeSpan>,
    /// Up to this share is added to the time it stays open, so that many gateways do not probe at once (default 0; 0 to 1).
    pub jitter: f64,
    /// The window in which ratios are counted.
    pub window: Window,
    /// Ratios count from so many outcomes in the window on (default 20).
    pub min_requests: u32,
    /// Share of failures in the window that opens it (default 0.5; above 0, at most 1).
    pub failure_ratio: f64,
    /// Share of slow calls in the window that opens it (default 0.8; above 0, at most 1).
    pub slow_ratio: f64,
    /// Probing after the time is over.
    pub half_open: HalfOpen,
}

/// `window:`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Window {
    /// Its length (default 10s; 1s to 1h).
    pub size: TimeSpan,
    /// Parts it moves by (default 10; 1 to 60).
    pub buckets: u32,
}

/// `half_open:`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HalfOpen {
    /// Requests let through at once to see how it is (default 1; 1 to 1000).
    pub max_concurrent: u32,
    /// Successes in a row that close it (default 1; 1 to 1000).
    pub successes: u32,
    /// A probe without a result gives its place back after this (default 10s).
    pub max_duration: TimeSpan,
}

impl Default for CircuitBreaker {
    fn default() -> Self {
        Self {
            consecutive_failures: 5,
            slow_call: TimeSpan(Duration::from_secs(3)),
            open_for: TimeSpan(Duration::from_secs(30)),
            open_factor: 2.0,
            open_max: None,
            jitter: 0.0,
            window: Window::default(),
            min_requests: 20,
            failure_ratio: 0.5,
            slow_ratio: 0.8,
            half_open: HalfOpen::default(),
        }
    }
}

impl Default for Window {
    fn default() -> Self {
        Self { size: TimeSpan(Duration::from_secs(10)), buckets: 10 }
    }
}

impl Default for HalfOpen {
    fn default() -> Self {
        Self { max_concurrent: 1, successes: 1, max_duration: TimeSpan(Duration::from_secs(10)) }
    }
}

impl CircuitBreaker {
    pub(super) fn find_problems(&self, problems: &mut Problems) {
        let mut count = |path: &str, value: u32, most: u32| {
            if value == 0 || value > most {
                problems.add(path, format!("must be between 1 and {most}"));
            }
        };
        count("consecutive_failures", self.consecutive_failures, 10_000);
        count("min_requests", self.min_requests, 1_000_000);
        count("window.buckets", self.window.buckets, MOST_BUCKETS as u32);
        count("half_open.max_concurrent", self.half_open.max_concurrent, 1_000);
        count("half_open.successes", self.half_open.successes, 1_000);
        let mut ratio = |path: &str, value: f64| {
            if !(value > 0.0 && value <= 1.0) {
                problems.add_with_help(path, "must be above 0 and at most 1", "write a share, as in `0.5` for half");
            }
        };
        ratio("failure_ratio", self.failure_ratio);
        ratio("slow_ratio", self.slow_ratio);
        if !(0.0..=1.0).contains(&self.jitter) {
            problems.add_with_help("jitter", "must be between 0 and 1", "write a share, as in `0.2` for a fifth");
        }
        if !(1.0..=10.0).contains(&self.open_factor) {
            problems.add("open_factor", "must be between 1 and 10");
        }
        let mut span = |path: &str, TimeSpan(value): TimeSpan, least: Duration, most: Duration| {
            if value < least || value > most {
                problems.add(path, format!("must be between {} and {}", TimeSpan(least), TimeSpan(most)));
            }
        };
        let (instant, second) = (Duration::from_millis(1), Duration::from_secs(1));
        span("slow_call", self.slow_call, instant, DAY);
        span("open_for", self.open_for, instant, DAY);
        span("window.size", self.window.size, second, Duration::from_secs(3_600));
        span("half_open.max_duration", self.half_open.max_duration, instant, DAY);
        if let Some(most) = self.open_max {
            span("open_max", most, instant, DAY);
            if most < self.open_for {
                problems.add("open_max", "must not be below `open_for`");
            }
        }
    }

    pub(super) fn rules(&self) -> Rules {
        let most = self.open_max.map_or(Duration::from_secs(120), |TimeSpan(most)| most);
        Rules {
            consecutive_failures: self.consecutive_failures,
            slow_call: self.slow_call.0,
            open_for: self.open_for.0,
            open_factor: self.open_factor,
            open_max: most.max(self.open_for.0),
            jitter: self.jitter,
            bucket: self.window.size.0 / self.window.buckets.max(1),
            buckets: self.window.buckets.max(1),
            min_requests: self.min_requests,
            failure_ratio: self.failure_ratio,
            slow_ratio: self.slow_ratio,
            max_concurrent: self.half_open.max_concurrent as usize,
            successes: self.half_open.successes,
            max_duration: self.half_open.max_duration.0,
        }
    }
}

/// The settings, ready to use. Not part of what is remembered: whoever asks a breaker brings its own.
#[derive(Clone, Debug)]
pub struct Rules {
    pub(super) consecutive_failures: u32,
    pub(super) slow_call: Duration,
    open_for: Duration,
    open_factor: f64,
    open_max: Duration,
    jitter: f64,
    pub(super) bucket: Duration,
    pub(super) buckets: u32,
    pub(super) min_requests: u32,
    pub(super) failure_ratio: f64,
    pub(super) slow_ratio: f64,
    pub(super) max_concurrent: usize,
    pub(super) successes: u32,
    pub(super) max_duration: Duration,
}

impl Rules {
    /// How long it stays open the `times`th time in a row (from 1). `luck`: 0 to 1, its place in the jitter.
    #[must_use]
    pub fn open_time(&self, times: u32, luck: f64) -> Duration {
        let powers = i32::try_from(times.saturating_sub(1).min(64)).unwrap_or(64);
        let longest = self.open_max.as_secs_f64();
        let base = (self.open_for.as_secs_f64() * self.open_factor.powi(powers)).min(longest);
        Duration::from_secs_f64(base * (1.0 + self.jitter * luck))
    }
}
