//! What the file says about choosing a channel.

use std::time::Duration;

use http::HeaderName;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::engine::{Problems, TimeSpan};

/// How a channel is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// The first that can be used, in file order.
    #[default]
    Priority,
    /// By their weights, spread evenly.
    Weighted,
    /// The one that succeeds most, then the fastest, then the cheapest.
    Score,
}

/// Settings of `failover`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Failover {
    /// `priority` (default): file order. `weighted`: by `weight`. `score`: by success, speed and cost.
    pub policy: Policy,
    /// Most changes of channel for one request (default 2; 0 to 3).
    pub max_changes: u32,
    /// Where the type of a payment stands (default: the header `payment-type`).
    #[serde(rename = "type")]
    pub kind: Source,
    /// Where the amount stands, in minor units (default: the header `payment-amount`).
    pub amount: Source,
    /// How `score` judges.
    pub score: Score,
}

/// Where a fact about a payment stands: a header or a place in a JSON body, not both.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Source {
    /// Name of a header.
    pub header: Option<String>,
    /// JSON pointer (RFC 6901) into the body, as in `/pay/type`; works where an earlier filter has read the body.
    pub json: Option<String>,
}

/// `score:`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Score {
    /// Success rate a channel is given until enough is known about it (default 0.8; 0 to 1).
    pub default_success_rate: f64,
    /// Outcomes that are enough (default 20; 1 to 200).
    pub min_samples: u32,
    /// How long another channel must be the better one before requests go over to it (default 30s; 0s to 1h).
    pub hysteresis: TimeSpan,
    /// Share of requests that go to the channel least is known about (default 0.05; 0 to 0.5). None is ever sent twice.
    pub exploration: f64,
}

impl Default for Failover {
    fn default() -> Self {
        let header = |name: &str| Source { header: Some(name.to_owned()), json: None };
        Self {
            policy: Policy::default(),
            max_changes: 2,
            kind: header("payment-type"),
            amount: header("payment-amount"),
            score: Score::default(),
        }
    }
}

impl Default for Score {
    fn default() -> Self {
        Self {
            // Below the bound of twenty successes (0.84): a channel that proves good must not fall behind an unknown one.
            default_success_rate: 0.8,
            min_samples: 20,
            hysteresis: TimeSpan(Duration::from_secs(30)),
            exploration: 0.05,
        }
    }
}

impl Failover {
    pub(super) fn find_problems(&self, problems: &mut Problems) {
        if self.max_changes > 3 {
            problems.add("max_changes", "must be between 0 and 3: a request is tried four times at most");
        }
        for (path, source) in [("type", &self.kind), ("amount", &self.amount)] {
            source.find_problems(path, problems);
        }
        let score = &self.score;
        if !(0.0..=1.0).contains(&score.default_success_rate) {
            problems.add("score.default_success_rate", "must be between 0 and 1");
        }
        if !(1..=200).contains(&score.min_samples) {
            problems.add("score.min_samples", "must be between 1 and 200");
        }
        if score.hysteresis.0 > Duration::from_secs(3_600) {
            problems.add("score.hysteresis", "must be between 0s and 1h");
        }
        if !(0.0..=0.5).contains(&score.exploration) {
            problems.add_with_help("score.exploration", "must be between 0 and 0.5", "write a share, as in `0.05`");
        }
    }
}

impl Source {
    fn find_problems(&self, path: &str, problems: &mut Problems) {
        match (&self.header, &self.json) {
            (Some(_), Some(_)) => problems.add(path, "either `header` or `json`, not both"),
            (None, None) => problems.add_with_help(path, "says nowhere", "write `header:` or `json:`"),
            (Some(name), None) if HeaderName::try_from(name).is_err() => {
                problems.add(format!("{path}.header"), format!("`{name}` is no header name"));
            }
            (None, Some(pointer)) if !pointer.starts_with('/') => {
                let help = "write it like `/pay/type`";
                problems.add_with_help(format!("{path}.json"), "a JSON pointer begins with `/`", help);
            }
            _ => (),
        }
    }
}
