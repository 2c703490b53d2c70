//! The languages of payment channels: what is signed, with which key, and how it is written.
//!
//! Pure functions, for both ends: the channel simulator answers with them, a shop calls and checks callbacks with them.
//! Each dialect's rules are those of the provider's own documentation; the test vectors were made with other
//! implementations.
//!
//! | Dialect | Signature |
//! | --- | --- |
//! | `json` | HMAC-SHA256 over time and body, see [`super::signature`] |
//! | `alipay` | RSA with SHA-256 over sorted parameters ("RSA2") |
//! | `wechat` | RSA with SHA-256 over lines; AES-256-GCM for what is told |
//! | `epay` | MD5 over sorted parameters and a key |

pub mod alipay;
pub mod beijing;
pub mod epay;
pub mod money;
pub mod params;
pub mod rsa;
pub mod wechat;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod vectors;

use std::fmt;

/// How a channel is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Dialect {
    /// Plain JSON.
    #[default]
    Json,
    /// Alipay's open platform.
    Alipay,
    /// WeChat Pay, version 3.
    Wechat,
    /// The protocol of aggregators for small shops (易支付).
    Epay,
}

impl Dialect {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Json, Self::Alipay, Self::Wechat, Self::Epay];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Alipay => "alipay",
            Self::Wechat => "wechat",
            Self::Epay => "epay",
        }
    }

    /// The dialect with this name; absent when there is none.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.as_str() == name)
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why something signed was not believed. The sender learns only that it was not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Forged {
    /// There is no signature, or it cannot be read.
    #[error("the signature is missing or malformed")]
    Malformed,
    /// Somebody else's key is named.
    #[error("the key named is not known")]
    UnknownKey,
    /// The signed time is too far away.
    #[error("the signed time is outside the window")]
    OutsideWindow,
    /// The signature is of something else, or by somebody else.
    #[error("the signature does not match")]
    Mismatch,
}
