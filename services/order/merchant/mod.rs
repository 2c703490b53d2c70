//! The shop as a merchant of channels that speak a dialect of their own: calls to them, and what they notify.
//!
//! A file says which channel speaks which dialect, who the merchant is there, and where the keys are. A channel that is
//! not in it speaks plain JSON, through the gateway. What is written here follows the providers' own rules; what an
//! answer means for money is decided where the JSON answers are, by the same words ([`Reply`]).
//!
//! Nothing is believed that is not signed by the channel, and a notification not before application, merchant, amount
//! and state have been looked at.

mod alipay;
mod bill;
mod epay;
mod wechat;

pub use bill::Bills;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use reqwest::{Client, RequestBuilder};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::channel::{Reply, failed, is_refusal};
use super::model::{Channel, Payment};
use super::settle::Report;
use crate::support::StartError;
use crate::support::dialect::rsa::{SigningKey, VerifyingKey};

/// What a notification says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Notice {
    /// The same however often it comes.
    pub(super) notify_id: String,
    pub(super) payment_no: String,
    pub(super) report: Report,
}

/// A notification as it arrived.
pub(super) struct Delivered<'a> {
    pub(super) uri: &'a Uri,
    pub(super) headers: &'a HeaderMap,
    /// The raw bytes: signatures are over these.
    pub(super) body: &'a Bytes,
    pub(super) now_seconds: u64,
}

/// Why a notification is not taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Untrue {
    /// It is not signed by the channel, or too long ago.
    #[error("the signature is missing, wrong or too old")]
    Forged,
    /// It is signed, and about another merchant or application.
    #[error("it is for somebody else")]
    NotOurs,
    /// It is signed, and makes no sense.
    #[error("it cannot be read")]
    Unreadable,
}

/// How a channel is called.
#[derive(Debug, Clone)]
struct Wire {
    base: String,
    client: Client,
    timeout: Duration,
}

impl Wire {
    /// Sends a call whose answer is text.
    ///
    /// # Errors
    /// What is known about the call when there is no answer.
    async fn text(&self, call: RequestBuilder) -> Result<(StatusCode, HeaderMap, String), Reply> {
        let answer = call.timeout(self.timeout).send().await.map_err(|error| failed(&error))?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let text = answer.text().await.map_err(|error| Reply::Unknown(error.without_url().to_string()))?;
        Ok((status, headers, text))
    }
}

/// What an answer means that is no answer in the dialect.
fn by_status(status: StatusCode) -> Reply {
    let text = format!("status {}", status.as_u16());
    if is_refusal(status) { Reply::NotSent(text) } else { Reply::Unknown(text) }
}

/// The merchant at one channel.
pub(super) enum Merchant {
    Alipay(alipay::Merchant),
    Wechat(wechat::Merchant),
    Epay(epay::Merchant),
}

/// Carries a call on to whichever dialect it is.
macro_rules! each {
    ($self:ident, $merchant:ident => $call:expr) => {
        match $self {
            Self::Alipay($merchant) => $call,
            Self::Wechat($merchant) => $call,
            Self::Epay($merchant) => $call,
        }
    };
}

impl Merchant {
    /// Starts a payment. Doing it again with the same number is the same payment.
    pub(super) async fn create(&self, payment: &Payment, notify_url: &str) -> Reply {
        if payment.currency != "CNY" {
            return Reply::NotSent(format!("the channel takes no {}", payment.currency));
        }
        each!(self, merchant => merchant.create(payment, notify_url).await)
    }

    /// Where a payment stands.
    pub(super) async fn query(&self, payment_no: &str) -> Reply {
        each!(self, merchant => merchant.query(payment_no).await)
    }

    /// Asks the channel to accept no money for a payment any more.
    pub(super) async fn close(&self, payment_no: &str) -> Reply {
        each!(self, merchant => merchant.close(payment_no).await)
    }

    /// Has a payment paid back in full.
    ///
    /// # Errors
    /// What came instead of an agreement; asking again is right.
    pub(super) async fn refund(&self, payment: &Payment, refund_no: &str) -> Result<(), String> {
        each!(self, merchant => merchant.refund(payment, refund_no).await)
    }

    /// Reads a notification; absent when it is of a kind that needs no attention.
    ///
    /// # Errors
    /// See [`Untrue`].
    pub(super) fn notice(&self, delivered: &Delivered<'_>) -> Result<Option<Notice>, Untrue> {
        each!(self, merchant => merchant.notice(delivered))
    }

    /// The answer after which a notification does not come again.
    pub(super) fn acknowledged(&self) -> Response {
        match self {
            Self::Alipay(_) => crate::support::dialect::alipay::ACKNOWLEDGED.into_response(),
            Self::Epay(_) => crate::support::dialect::epay::ACKNOWLEDGED.into_response(),
            Self::Wechat(_) => StatusCode::NO_CONTENT.into_response(),
        }
    }

    /// The answer after which it does.
    pub(super) fn refused(&self, status: StatusCode, code: &str) -> Response {
        match self {
            Self::Alipay(_) => (status, "failure").into_response(),
            Self::Epay(_) => (status, "fail").into_response(),
            Self::Wechat(_) => {
                (status, axum::Json(serde_json::json!({ "code": "FAIL", "message": code }))).into_response()
            }
        }
    }
}

/// One channel in the file.
#[derive(Deserialize)]
#[serde(tag = "dialect", rename_all = "lowercase", deny_unknown_fields)]
enum Entry {
    Alipay { url: String, app_id: String, seller_id: String, keys: PathBuf },
    Wechat { url: String, appid: String, mchid: String, keys: PathBuf, api_v3_key: String },
    Epay { url: String, pid: String, key: String },
}

/// Reads the file: a JSON object with a member for each channel that speaks a dialect. Paths in it start at its folder.
///
/// # Errors
/// [`StartError::Setup`] with the file it is about.
pub(super) fn read(file: &Path, client: &Client, timeout: Duration) -> Result<HashMap<Channel, Merchant>, StartError> {
    let wrong = |what: &dyn std::fmt::Display| StartError::Setup(format!("{}: {what}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|error| wrong(&error))?;
    let entries: HashMap<String, Entry> = serde_json::from_str(&text).map_err(|error| wrong(&error))?;
    let folder = file.parent().unwrap_or(Path::new("."));
    let mut merchants = HashMap::new();
    for (name, entry) in entries {
        let channel = Channel::parse(&name).ok_or_else(|| wrong(&format!("there is no channel {name}")))?;
        let wire = |url: &str| Wire { base: url.trim_end_matches('/').to_owned(), client: client.clone(), timeout };
        let merchant = match entry {
            Entry::Alipay { url, app_id, seller_id, keys } => {
                let Pair { own, platform } = Pair::read(&folder.join(keys))?;
                Merchant::Alipay(alipay::Merchant { wire: wire(&url), app_id, seller_id, own, platform })
            }
            Entry::Wechat { url, appid, mchid, keys, api_v3_key } => {
                let Pair { own, platform } = Pair::read(&folder.join(keys))?;
                let key = api_v3_key.as_bytes().try_into().map_err(|_| wrong(&"api_v3_key must have 32 bytes"))?;
                Merchant::Wechat(wechat::Merchant { wire: wire(&url), appid, mchid, own, platform, api_v3_key: key })
            }
            Entry::Epay { url, pid, key } => Merchant::Epay(epay::Merchant { wire: wire(&url), pid, key }),
        };
        merchants.insert(channel, merchant);
    }
    Ok(merchants)
}

/// `merchant-private.pem` and `platform-public.pem` of a folder.
struct Pair {
    own: SigningKey,
    platform: VerifyingKey,
}

impl Pair {
    fn read(folder: &Path) -> Result<Self, StartError> {
        let read = |name: &str| {
            let path = folder.join(name);
            let text = std::fs::read_to_string(&path);
            text.map_err(|error| StartError::Setup(format!("{}: {error}", path.display())))
        };
        let bad = |error| StartError::Setup(format!("{}: {error}", folder.display()));
        Ok(Self {
            own: SigningKey::from_pem(&read("merchant-private.pem")?).map_err(bad)?,
            platform: VerifyingKey::from_pem(&read("platform-public.pem")?).map_err(bad)?,
        })
    }
}

/// A text of JSON as what it should be.
fn json<T: DeserializeOwned>(text: &str) -> Result<T, Untrue> {
    serde_json::from_str(text).map_err(|_| Untrue::Unreadable)
}
