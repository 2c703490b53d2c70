//! What a file says about a queue, what is refused in it, and what it becomes.

use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::QueueFilter;
use super::codel::Target;
use super::pace::WarmUp;
use super::state::{Limits, Queue as Shared, Source};
use crate::engine::{BuildContext, BuildError, CheckContext, Filter, FilterSpec, Mode, Problems, Rate, Step, TimeSpan};

/// Longest line a file may ask for: each who waits holds a connection.
const LONGEST_LINE: usize = 1_000_000;
/// Longest wait a file may ask for; people and proxies in front have given up by then.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// Settings of `queue`. Either `max_concurrent` or `rate` says what is waited for.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Queue {
    /// Requests behind this filter at once.
    pub max_concurrent: Option<usize>,
    /// Requests let through one by one at this pace, as in `100/s`; the count is no burst.
    pub rate: Option<Rate>,
    /// Longest wait; who would wait longer is refused at once (default 500ms).
    pub max_wait: TimeSpan,
    /// How many may wait (default 1000).
    pub max_length: usize,
    /// An identity whose members take turns, so that one with many requests does not hold up the others. Default: none,
    /// first come, first served within a class.
    pub fair_by: Option<String>,
    /// Every so much waiting counts as one class of importance more, so that nobody waits for ever (default 1s).
    pub ageing: TimeSpan,
    /// Sheds the least important when the line does not get short any more. Default: off.
    pub codel: Option<CoDel>,
    /// A slow beginning; with `rate` only. Default: off.
    pub warm_up: Option<WarmUpFile>,
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            max_concurrent: None,
            rate: None,
            max_wait: TimeSpan(Duration::from_millis(500)),
            max_length: 1_000,
            fair_by: None,
            ageing: TimeSpan(Duration::from_secs(1)),
            codel: None,
            warm_up: None,
        }
    }
}

/// When a line sheds (RFC 8289).
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CoDel {
    /// The standing wait that is fine (default 5ms).
    pub target: TimeSpan,
    /// For how long it may be above that (default 100ms).
    pub interval: TimeSpan,
}

impl Default for CoDel {
    fn default() -> Self {
        let ms = |count| TimeSpan(Duration::from_millis(count));
        Self { target: ms(5), interval: ms(100) }
    }
}

/// A slow beginning.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WarmUpFile {
    /// From cold to the full rate; the same time of idleness makes it cold again (default 10s).
    pub period: TimeSpan,
    /// The full rate is so many times the cold one (default 3).
    pub cold_factor: u32,
}

impl Default for WarmUpFile {
    fn default() -> Self {
        Self { period: TimeSpan(Duration::from_secs(10)), cold_factor: 3 }
    }
}

impl Queue {
    fn source(&self) -> Option<Source> {
        let warm_up = self.warm_up.map(|file| WarmUp { period: file.period, cold_factor: file.cold_factor });
        match (self.max_concurrent, self.rate) {
            (Some(most), None) => Some(Source::Concurrency(most)),
            (None, Some(rate)) => Some(Source::Rate(rate, warm_up)),
            _ => None,
        }
    }

    fn check_numbers(&self, problems: &mut Problems) {
        if self.max_concurrent == Some(0) {
            problems.add_with_help("max_concurrent", "0 lets nothing pass", "leave the route out or use `mode: off`");
        }
        if self.max_length > LONGEST_LINE {
            problems.add("max_length", format!("at most {LONGEST_LINE} can wait"));
        }
        if self.max_wait.0 > LONGEST_WAIT {
            problems.add("max_wait", "at most 10m: who is in front has given up by then");
        }
        if self.ageing.0.is_zero() {
            problems.add_with_help("ageing", "0 makes all classes alike", "write a time, like `1s`");
        }
        if self.codel.is_some_and(|codel| codel.target.0.is_zero() || codel.interval.0 <= codel.target.0) {
            let help = "RFC 8289 suggests a target of 5 to 10 % of the interval";
            problems.add_with_help("codel", "the target must lie between 0 and the interval", help);
        }
        if self.warm_up.is_some_and(|warm| warm.period.0.is_zero() || !(2..=100).contains(&warm.cold_factor)) {
            problems.add("warm_up", "needs a period above 0 and a cold_factor from 2 to 100");
        }
    }
}

impl FilterSpec for Queue {
    fn step(&self) -> Step {
        Step::Wait
    }

    fn check(&self, cx: &CheckContext<'_>, problems: &mut Problems) {
        match (self.max_concurrent, self.rate) {
            (None, None) => {
                let help = "write `max_concurrent: 200` or `rate: 100/s`";
                problems.add_with_help("", "a queue needs something to wait for", help);
            }
            (Some(_), Some(_)) => {
                let help = "use two queues to have both";
                problems.add_with_help("rate", "a queue waits for a place or for its time, not for both", help);
            }
            _ => (),
        }
        if self.rate.is_none() && self.warm_up.is_some() {
            problems.add("warm_up", "only a queue with a `rate` can begin slowly");
        }
        if self.max_concurrent.is_none() && self.codel.is_some() {
            problems
                .add("codel", "only a queue with `max_concurrent` can shed: with a `rate`, waits are known beforehand");
        }
        if let Some(name) = self.fair_by.as_ref().filter(|name| !cx.identities.contains(name)) {
            let help = format!("there are: {}", cx.identities.join(", "));
            problems.add_with_help("fair_by", format!("no identity is named `{name}`"), help);
        }
        self.check_numbers(problems);
    }

    fn identities(&self) -> Vec<String> {
        // Who has no such identity takes turns by address.
        self.fair_by.iter().flat_map(|name| [name.clone(), "client".to_owned()]).collect()
    }

    fn build(&self, cx: &mut BuildContext<'_>) -> Result<Arc<dyn Filter>, BuildError> {
        let source = self.source().ok_or_else(|| BuildError("write either `max_concurrent` or `rate`".into()))?;
        let limits = Limits {
            source,
            max_wait: self.max_wait.0,
            max_length: self.max_length,
            ageing: self.ageing.0,
            codel: self.codel.map(|codel| Target { target: codel.target.0, interval: codel.interval.0 }),
        };
        let fair_by = self.fair_by.as_deref().map(|name| cx.identity(name)).transpose()?;
        let name = cx.name.clone();
        // A shadow holds nobody back: what it counts is not what an enforced line knows.
        let shadow = cx.mode == Mode::Shadow;
        let state = cx.state("queue", None, shadow, || Shared::new(name, limits.clone()));
        Ok(Arc::new(QueueFilter { state, limits, fair_by, shadow }))
    }
}
