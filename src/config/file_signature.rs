//! `signature` of a payment channel, as it stands in the file.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use super::placed::At;

/// How a channel proves that an answer is its own: exactly one of the three. An answer of 2xx without a good signature is
/// unknown; of any other answer without one only the status counts.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SignatureFile {
    /// HMAC with SHA-256 over `t.body` in a header of the form `t=<unix seconds>,v1=<hex>`.
    #[serde(default)]
    pub(super) hmac: Option<At<HmacFile>>,
    /// WeChat Pay, version 3: RSA with SHA-256 over time, nonce and body, in `Wechatpay-…` headers.
    #[serde(default)]
    pub(super) wechatpay: Option<At<PublicKeyFile>>,
    /// Alipay: RSA with SHA-256 over the answer's node, in its member `sign`. The pointers of `codes` begin at the node.
    #[serde(default)]
    pub(super) alipay: Option<At<PublicKeyFile>>,
}

/// `hmac:`; exactly one of `secret` and `secret_file` is given.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct HmacFile {
    /// Name of the header.
    pub(super) header: At<String>,
    /// The shared secret as `${NAME}`.
    #[serde(default)]
    pub(super) secret: Option<At<String>>,
    /// File that holds the secret, relative to the configuration file; mode 0640 at most.
    #[serde(default)]
    pub(super) secret_file: Option<At<PathBuf>>,
}

/// `wechatpay:` and `alipay:`
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PublicKeyFile {
    /// PEM file with the channel's public RSA key, relative to the configuration file.
    pub(super) public_key_file: At<PathBuf>,
}
