//! What bounds the admissions of a waiting room beside its limits: how the backend does, and what there is to sell.

use schemars::JsonSchema;
use serde::Deserialize;
use tidegate_filters::engine::TimeSpan;

use super::placed::At;

/// `admission_control:` admissions follow how the upstreams do that the room stands before: they grow while answers come
/// in time and without errors, and fall when not. `new_users_per_minute` is the most.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct AdmissionFile {
    /// How: `aimd` (default), additive increase and multiplicative decrease.
    #[serde(rename = "mode")]
    pub(super) _mode: AdmissionMode,
    /// Admissions a minute, at least, whatever happens (default 60). They find out when the upstream is well again.
    pub(super) min_per_minute: At<u64>,
    /// Slower than this for one answer in twenty is too slow (default 300ms; 1ms to 1h).
    pub(super) p95_target: At<TimeSpan>,
    /// More failures than this share of tries are too many (default 0.02; 0 to 1). 429 counts as one.
    pub(super) max_error_ratio: At<f64>,
    /// Growth in a second while all is well, as a share of the most (default 0.05; above 0, to 1).
    pub(super) increase: At<f64>,
    /// What the rate is multiplied by when it is not, at most once a second (default 0.7; above 0, below 1).
    pub(super) decrease: At<f64>,
}

impl Default for AdmissionFile {
    fn default() -> Self {
        Self {
            _mode: AdmissionMode::Aimd,
            min_per_minute: 60.into(),
            p95_target: TimeSpan(std::time::Duration::from_millis(300)).into(),
            max_error_ratio: 0.02.into(),
            increase: 0.05.into(),
            decrease: 0.7.into(),
        }
    }
}

/// How admissions follow the upstream.
#[derive(Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum AdmissionMode {
    /// Additive increase, multiplicative decrease.
    #[default]
    Aimd,
}

/// `admission_cap:` people are let in by what there is to sell. With `inventory`, `multiplier` times as many in all. Where
/// the backend says how much is left (`X-Tidegate-Waiting-Room: available=37`), no more than `multiplier` times that are
/// inside at once, besides those who have ordered and go to pay.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CapFile {
    /// What there is to sell in all; at least 1 (default: what the backend says is left counts alone).
    pub(super) inventory: Option<At<u64>>,
    /// How many are admitted for each piece (default 4; 1 to 1000).
    #[serde(default = "four")]
    pub(super) multiplier: At<u64>,
    /// Asks the backend how much is left (default: its answers to visitors say so, where `sold_out` is among
    /// `enabled_origin_commands`).
    pub(super) probe: Option<At<StockProbeFile>>,
}

/// `probe:` a plain `GET` over HTTP/1.1 whose answer has `X-Tidegate-Waiting-Room: available=37`, or `sold_out`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct StockProbeFile {
    /// The upstream that is asked.
    pub(super) upstream: At<String>,
    /// The path that is asked for.
    pub(super) path: At<String>,
    /// How often (default 1s; 100ms to 1h).
    #[serde(default = "a_second")]
    pub(super) interval: At<TimeSpan>,
}

fn four() -> At<u64> {
    4.into()
}

fn a_second() -> At<TimeSpan> {
    TimeSpan(std::time::Duration::from_secs(1)).into()
}
