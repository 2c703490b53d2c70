//! `class`, `journal` and `payment` of an upstream, and what its channels say of payments, as they stand in the file.

use schemars::JsonSchema;
use serde::Deserialize;
use tidegate_filters::engine::TimeSpan;

use super::file::seconds;
use super::placed::{At, Named};
use super::types_payments::Flow;

/// `payment:` of an upstream of class `payment`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PaymentFile {
    /// Paths to which payments are made; default: every path of the upstream. What goes elsewhere, such as a close or a
    /// refund, is its sender's own affair and names its channel with `Tidegate-Channel`.
    #[serde(default)]
    pub(super) paths: Vec<At<String>>,
    /// Where our number of the payment stands: 1 to 64 letters, digits, `-`, `_` and `.`. Sent to every channel as it is.
    pub(super) id: At<LocatorFile>,
    /// Where the amount stands, an integer in minor units; it cannot change between two requests with one number.
    #[serde(default)]
    pub(super) amount: Option<At<LocatorFile>>,
    /// Where the currency stands; it cannot change either.
    #[serde(default)]
    pub(super) currency: Option<At<LocatorFile>>,
    /// Where the payment type stands; it cannot change either.
    #[serde(default, rename = "type")]
    pub(super) kind: Option<At<LocatorFile>>,
    /// Further parts that cannot change, such as the payee.
    #[serde(default)]
    pub(super) frozen: Vec<At<LocatorFile>>,
    /// How long a client waits for the outcome before it gets 202 (default 2500ms; never more than three read timeouts of
    /// the upstream). The work goes on.
    #[serde(default = "deadline")]
    pub(super) deadline: At<TimeSpan>,
    /// Tries again: of what certainly did nothing, or on the same channel when that is idempotent.
    #[serde(default)]
    pub(super) retry: At<RetryFile>,
    /// Path of the status resource, ending with `{id}` (default `/.tidegate/payments/{id}`).
    #[serde(default = "location")]
    pub(super) location: At<String>,
    /// How doubts are resolved.
    #[serde(default)]
    pub(super) resolve: At<ResolveFile>,
}

fn deadline() -> At<TimeSpan> {
    TimeSpan(std::time::Duration::from_millis(2_500)).into()
}

fn location() -> At<String> {
    "/.tidegate/payments/{id}".to_owned().into()
}

/// Where a part of a request is found: exactly one of the two.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LocatorFile {
    /// Name of a header.
    #[serde(default)]
    pub(super) header: Option<At<String>>,
    /// Pointer into the JSON body (RFC 6901), as in `/amount`.
    #[serde(default)]
    pub(super) json: Option<At<String>>,
}

/// `payment.retry:`
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RetryFile {
    /// Rounds over the channels in all (default 3; 1 to 10).
    pub(super) attempts: At<u64>,
    /// Pause before the second round (default 1s).
    pub(super) initial: At<TimeSpan>,
    /// By what each further pause is longer (default 2.0; 1 to 10).
    pub(super) factor: At<f64>,
}

impl Default for RetryFile {
    fn default() -> Self {
        Self { attempts: 3.into(), initial: seconds(1), factor: 2.0.into() }
    }
}

/// `payment.resolve:`
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ResolveFile {
    /// Channels are asked 1, 2, 4, 8, 15, 30 and then every 60 of these after a doubt (default 1s).
    pub(super) unit: At<TimeSpan>,
    /// An outcome that is unknown for this long is a person's to find out (default 10m).
    pub(super) deadline: At<TimeSpan>,
    /// A payment that its channel calls pending for this long is a person's (default 24h).
    pub(super) hold: At<TimeSpan>,
    /// "Not found" counts this long after the last sending at the earliest (default 60s).
    pub(super) not_found_min_age: At<TimeSpan>,
}

impl Default for ResolveFile {
    fn default() -> Self {
        Self { unit: seconds(1), deadline: seconds(600), hold: seconds(86_400), not_found_min_age: seconds(60) }
    }
}

/// `payments:` of a route of callbacks.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CallbackFile {
    /// The upstream of class `payment` whose payments are told of.
    pub(super) upstream: At<String>,
    /// Where the payment's number stands in a callback.
    pub(super) id: At<LocatorFile>,
}

/// A call about one payment.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CallFile {
    /// Its method (default GET for `query`, POST for `close`).
    #[serde(default)]
    pub(super) method: Option<At<String>>,
    /// Its path with `{id}` for the payment's number.
    pub(super) path: At<String>,
    /// Its headers.
    #[serde(default)]
    pub(super) headers: Named<String>,
    /// `close` only: statuses that acknowledge it, in an answer with a code of the channel's own, for channels that answer
    /// 404 about a payment they will never accept any more.
    #[serde(default)]
    pub(super) acknowledged_by: Vec<At<u64>>,
}

/// What a channel's answers mean. Whatever no rule names is unknown, and unknown stops.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CodesFile {
    /// Pointer to the business code (default `/status`).
    #[serde(default = "status")]
    pub(super) code: At<String>,
    /// Pointer to the code below it (default `/code`).
    #[serde(default = "code")]
    pub(super) subcode: At<String>,
    /// Pointer to the amount (default `/amount`); an answer with another amount than was asked for is unknown.
    #[serde(default = "amount")]
    pub(super) amount: At<String>,
    /// Pointer to the currency (default `/currency`).
    #[serde(default = "currency")]
    pub(super) currency: At<String>,
    /// Pointer to our number of the payment (default `/payment_no`); an answer about another one is unknown.
    #[serde(default = "number")]
    pub(super) id: At<String>,
    /// The rules in order; the first that fits decides. Default: the words of the bundled channels.
    #[serde(default)]
    pub(super) map: Option<At<Vec<At<CodeFile>>>>,
}

fn status() -> At<String> {
    "/status".to_owned().into()
}

fn code() -> At<String> {
    "/code".to_owned().into()
}

fn amount() -> At<String> {
    "/amount".to_owned().into()
}

fn currency() -> At<String> {
    "/currency".to_owned().into()
}

fn number() -> At<String> {
    "/payment_no".to_owned().into()
}

/// One rule; at least one of `http` and `code` is given.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CodeFile {
    /// Of answers to what it speaks: `pay`, `query` or `close`; default: to all.
    #[serde(default)]
    pub(super) flow: Option<Flow>,
    /// The status; default: any of 2xx.
    #[serde(default)]
    pub(super) http: Option<At<u64>>,
    /// The business code; default: any.
    #[serde(default)]
    pub(super) code: Option<String>,
    /// The code below it; default: any.
    #[serde(default)]
    pub(super) subcode: Option<At<String>>,
    /// `succeeded`, `pending`, `declined`, `soft_declined`, `rejected`, `not_processed`, `unknown`, `closed` or
    /// `not_found`.
    #[schemars(schema_with = "meanings")]
    pub(super) class: At<String>,
    /// For `soft_declined`: the gateway may try another channel by itself (default false).
    #[serde(default)]
    pub(super) failover: At<bool>,
}

fn meanings(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    let words: Vec<&str> = super::types_payments::Meaning::WORDS.iter().map(|(word, _)| *word).collect();
    schemars::json_schema!({ "enum": words })
}
