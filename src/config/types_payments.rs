//! What the file says about payments: plain values, nothing compiled.

use std::time::Duration;

use http::{HeaderName, Method};
use schemars::JsonSchema;
use serde::Deserialize;

use super::secret::Secret;

/// `payment:` of an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaymentSpec {
    /// Paths to which payments are made, normalised; empty: any path.
    pub paths: Vec<String>,
    /// Where our number of the payment stands.
    pub id: Locator,
    /// Where the amount stands, an integer in minor units; `None`: not looked at.
    pub amount: Option<Locator>,
    /// Where the currency stands.
    pub currency: Option<Locator>,
    /// Where the payment type stands.
    pub kind: Option<Locator>,
    /// Further parts that must not change between two requests with one number, such as the payee.
    pub frozen: Vec<Locator>,
    /// How long a client waits for the outcome (2500ms); then it gets 202 and the work goes on.
    pub deadline: Duration,
    /// Tries again after what certainly did nothing, or on the same channel when that is idempotent.
    pub retry: RetrySpec,
    /// Path of the status resource in front of the payment's number (`/.tidegate/payments/`).
    pub location: String,
    /// How doubts are resolved.
    pub resolve: ResolveSpec,
}

/// Where a part of a request is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Locator {
    /// A header.
    Header(HeaderName),
    /// A member of the JSON body, as an RFC 6901 pointer.
    Json(String),
}

/// `payments:` of a route of callbacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallbackSpec {
    /// The upstream whose payments are told of.
    pub upstream: String,
    /// Where the payment's number stands.
    pub id: Locator,
}

/// `payment.retry:`
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetrySpec {
    /// Rounds in all (3).
    pub attempts: u32,
    /// Pause before the second (1s).
    pub initial: Duration,
    /// By what each further pause is longer (2.0).
    pub factor: f64,
}

impl Eq for RetrySpec {}

impl RetrySpec {
    /// The pause behind round number `round`, from 1.
    #[must_use]
    pub fn pause(&self, round: u32) -> Duration {
        let exponent = i32::try_from(round.saturating_sub(1)).unwrap_or(i32::MAX);
        Duration::try_from_secs_f64(self.initial.as_secs_f64() * self.factor.powi(exponent)).unwrap_or(Duration::MAX)
    }
}

/// `payment.resolve:`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResolveSpec {
    /// Queries are made 1, 2, 4, 8, 15, 30 and then every 60 of these (1s).
    pub unit: Duration,
    /// An outcome that is unknown for this long is a person's (10m).
    pub deadline: Duration,
    /// A payment that a channel calls pending for this long is a person's (24h).
    pub hold: Duration,
    /// A channel that does not know a payment is believed this long after it was sent at the earliest (60s).
    pub not_found_min_age: Duration,
}

/// What a payment upstream's channel says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChannelPayment {
    /// The same number sent again is the same payment.
    pub idempotent: bool,
    /// How it signs its answers; `None`: it does not, or nobody looks.
    pub signature: Option<Signature>,
    /// What its answers mean.
    pub codes: Codes,
    /// How it is asked for a payment; `None`: it cannot be asked.
    pub query: Option<CallSpec>,
    /// How it is told to accept no money for a payment any more; `None`: it cannot be told.
    pub close: Option<CallSpec>,
}

/// How a channel proves that an answer is its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signature {
    /// HMAC with SHA-256 over `t.body` in a header of the form `t=<unix seconds>,v1=<hex>`.
    Hmac {
        /// The header.
        header: HeaderName,
        /// The shared secret.
        secret: Secret,
    },
    /// WeChat Pay, version 3; the PEM text of the platform's public key.
    WechatPay(Vec<u8>),
    /// Alipay; the PEM text of its public key.
    Alipay(Vec<u8>),
}

/// A call about one payment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallSpec {
    /// Its method.
    pub method: Method,
    /// Its path in front of the number, and behind it.
    pub path: (String, String),
    /// Its headers.
    pub headers: Vec<(HeaderName, http::HeaderValue)>,
    /// For a close: statuses that acknowledge it whatever the body says.
    pub acknowledged_by: Vec<u16>,
}

/// What a channel's answers mean: rules, the first that fits decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Codes {
    /// Pointer to the business code.
    pub code: String,
    /// Pointer to the code below it.
    pub subcode: Option<String>,
    /// Pointer to the amount; compared where the answer has it.
    pub amount: Option<String>,
    /// Pointer to the currency; compared where the answer has it.
    pub currency: Option<String>,
    /// Pointer to our number of the payment; compared where the answer has it.
    pub id: Option<String>,
    /// The rules in order.
    pub rules: Vec<CodeRule>,
}

/// One rule: it fits when everything it names is as it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeRule {
    /// Of answers to what it speaks; `None`: to all.
    pub flow: Option<Flow>,
    /// The status; `None`: any of 2xx.
    pub http: Option<u16>,
    /// The business code; `None`: any, and the body is not looked at.
    pub code: Option<String>,
    /// The code below it; `None`: any.
    pub subcode: Option<String>,
    /// What it means.
    pub meaning: Meaning,
    /// For a soft decline: another channel may be tried by the gateway itself.
    pub failover: bool,
}

/// What a channel was called for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Flow {
    /// A payment.
    Pay,
    /// How one stands.
    Query,
    /// To accept no money for one.
    Close,
}

/// What an answer can mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// Charged.
    Succeeded,
    /// Taken, not decided.
    Pending,
    /// Not charged, and no other channel will do better.
    Declined,
    /// Not charged for a reason of the channel's own.
    SoftDeclined,
    /// The request is wrong.
    Rejected,
    /// The channel did not act.
    NotProcessed,
    /// Nobody knows.
    Unknown,
    /// Closed: no money will be taken any more.
    Closed,
    /// The channel does not know the payment.
    NotFound,
}

impl Meaning {
    /// All, with the words of the file.
    pub const WORDS: [(&'static str, Self); 9] = [
        ("succeeded", Self::Succeeded),
        ("pending", Self::Pending),
        ("declined", Self::Declined),
        ("soft_declined", Self::SoftDeclined),
        ("rejected", Self::Rejected),
        ("not_processed", Self::NotProcessed),
        ("unknown", Self::Unknown),
        ("closed", Self::Closed),
        ("not_found", Self::NotFound),
    ];
}

impl Default for Codes {
    /// The words of the bundled channels: JSON with `status`, `code`, `amount` and `currency`.
    fn default() -> Self {
        let words = [
            ("SUCCESS", Meaning::Succeeded),
            // What was paid back was paid.
            ("REFUNDED", Meaning::Succeeded),
            ("PARTIALLY_REFUNDED", Meaning::Succeeded),
            ("PENDING", Meaning::Pending),
            ("PROCESSING", Meaning::Pending),
            ("DECLINED", Meaning::Declined),
            ("FAILED", Meaning::Declined),
            ("CLOSED", Meaning::Closed),
        ];
        let rule = |(code, meaning): (&str, Meaning)| CodeRule {
            flow: None,
            http: None,
            code: Some(code.to_owned()),
            subcode: None,
            meaning,
            failover: false,
        };
        Self {
            code: "/status".to_owned(),
            subcode: Some("/code".to_owned()),
            amount: Some("/amount".to_owned()),
            currency: Some("/currency".to_owned()),
            id: Some("/payment_no".to_owned()),
            rules: words.into_iter().map(rule).collect(),
        }
    }
}
