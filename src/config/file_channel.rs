//! The format of channels and of their probes, as serde and editors see it.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;
use tidegate_filters::channels::{Cost, Hours};
use tidegate_filters::engine::{Rate, TimeSpan};

use super::file::seconds;
use super::file_payments::{CallFile, CodesFile};
use super::file_signature::SignatureFile;
use super::placed::At;
use super::types::StatusRange;

/// One channel.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ChannelFile {
    /// Its name; unique in its upstream.
    pub(super) name: At<String>,
    /// `host:port`, interchangeable; 1 to 64.
    pub(super) endpoints: At<Vec<At<String>>>,
    /// Its share under `failover: {policy: weighted}` (default 1; 0 to 1000). 0 takes no new requests.
    #[serde(default = "one")]
    pub(super) weight: At<u64>,
    /// Used only when no other channel can be (default false).
    #[serde(default)]
    pub(super) backup: bool,
    /// Whether it takes new requests (default true). Queries that are pinned to it still reach it.
    #[serde(default = "yes")]
    pub(super) enabled: bool,
    /// Types of payments it serves; default: all.
    #[serde(default)]
    pub(super) types: At<Vec<At<String>>>,
    /// Amounts it takes; default: all.
    #[serde(default)]
    pub(super) amount: Option<At<AmountFile>>,
    /// When it serves, with a time zone, as in `00:30-23:30 Asia/Shanghai`; several windows with commas; over midnight
    /// when the end is the earlier. Default: always.
    #[serde(default)]
    pub(super) hours: Option<At<Hours>>,
    /// How fast it may be asked, as in `100/s`; default: no bound. The count is also the burst.
    #[serde(default)]
    pub(super) rate: Option<At<Rate>>,
    /// How often it may be asked in each span, as in `10000/d`; default: no bound. Spans begin at multiples of their
    /// length since 1970, so days begin at midnight UTC.
    #[serde(default)]
    pub(super) quota: Option<At<Rate>>,
    /// What a payment costs on it: a share, a fixed part in minor units, or both, as in `0.6% + 10` (default `0%`).
    #[serde(default)]
    pub(super) cost: Cost,
    /// Class `payment`: the same number sent again is the same payment (default false).
    #[serde(default)]
    pub(super) idempotent: At<bool>,
    /// Class `payment`: how it signs its answers; without it whatever comes over the connection is believed.
    #[serde(default)]
    pub(super) signature: Option<At<SignatureFile>>,
    /// Class `payment`: what its answers mean; default: the words of the bundled channels.
    #[serde(default)]
    pub(super) codes: Option<At<CodesFile>>,
    /// Class `payment`: how it is asked for a payment; without it only a person can resolve a doubt.
    #[serde(default)]
    pub(super) query: Option<At<CallFile>>,
    /// Class `payment`: how it is told to accept no money for a payment any more.
    #[serde(default)]
    pub(super) close: Option<At<CallFile>>,
}

fn one() -> At<u64> {
    1.into()
}

fn yes() -> bool {
    true
}

/// What is spoken to an upstream.
#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum UpstreamProtocolFile {
    /// HTTP/1.1.
    #[default]
    H1,
    /// HTTP/2 over TLS.
    H2,
    /// HTTP/2 without TLS, by prior knowledge.
    H2c,
}

/// `tls:` of an upstream. Paths are relative to the configuration file.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct UpstreamTlsFile {
    /// The name that the upstream's certificate must carry and that is asked for (SNI); default: each endpoint's host.
    #[serde(default)]
    pub(super) server_name: Option<At<String>>,
    /// PEM file with the authorities that are trusted; default: the system's.
    #[serde(default)]
    pub(super) ca: Option<At<PathBuf>>,
    /// PEM file with the certificate chain that the gateway shows when it is asked for one; together with `key`.
    #[serde(default)]
    pub(super) certificate: Option<At<PathBuf>>,
    /// PEM file with the private key for `certificate`; readable by owner and group at most.
    #[serde(default)]
    pub(super) key: Option<At<PathBuf>>,
}

/// `amount:`; in minor units, both ends included.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AmountFile {
    /// Least amount (default 0).
    #[serde(default)]
    pub(super) min: u64,
    /// Greatest amount; default: any.
    #[serde(default)]
    pub(super) max: Option<u64>,
}

/// `health:`; a plain `GET` over HTTP/1.1 to each endpoint.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct HealthFile {
    /// What is asked for; begins with `/`.
    pub(super) path: At<String>,
    /// Time between two probes of an endpoint, give or take a tenth (default 30s; 100ms to 1h).
    #[serde(default = "thirty_seconds")]
    pub(super) interval: At<TimeSpan>,
    /// Time for an answer (default 2s; 10ms to 1m).
    #[serde(default = "two_seconds")]
    pub(super) timeout: At<TimeSpan>,
    /// Bad answers in a row until an endpoint is out (default 2; 1 to 100). A refused connection of a request is one.
    #[serde(default = "two")]
    pub(super) unhealthy_after: At<u64>,
    /// Good answers in a row until it is in again (default 2; 1 to 100).
    #[serde(default = "two")]
    pub(super) healthy_after: At<u64>,
    /// Statuses that are good, as in `[200..299, 401]` (default 200..299).
    #[serde(default = "successes")]
    pub(super) expect: At<Vec<At<StatusRange>>>,
}

fn thirty_seconds() -> At<TimeSpan> {
    seconds(30)
}

fn two_seconds() -> At<TimeSpan> {
    seconds(2)
}

fn two() -> At<u64> {
    2.into()
}

fn successes() -> At<Vec<At<StatusRange>>> {
    vec![StatusRange { from: 200, to: 299 }.into()].into()
}
