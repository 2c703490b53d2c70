//! Whether an answer is the channel's own.
//!
//! A signature covers the bytes of the body as they came. Three schemes: HMAC with SHA-256 under a time (as Stripe signs
//! its events, and the bundled channels everything), WeChat Pay's version 3, and Alipay's RSA2. A signed answer can be shown
//! again, for another payment: that it names the right one is for `codes.id` to say.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderName};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::value::RawValue;

use crate::config::Signature;

/// How far a signed time may be from ours; five minutes, as both WeChat Pay and Stripe advise.
const WINDOW_SECONDS: i64 = 300;

/// Why an answer is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doubt {
    /// It has no signature.
    Unsigned,
    /// Its signature cannot be read.
    Malformed,
    /// It was signed with another key, or is not what was signed.
    Wrong,
    /// It was signed too long ago, or in the future.
    Stale,
}

impl Doubt {
    /// The same for people.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Unsigned => "an answer without a signature",
            Self::Malformed => "a signature that cannot be read",
            Self::Wrong => "a signature that is not the channel's",
            Self::Stale => "a signature of another time",
        }
    }
}

/// Checks a channel's answers.
pub(super) enum Verifier {
    /// The header, and the shared secret.
    Hmac(HeaderName, DecodingKey),
    /// The platform's key.
    WechatPay(DecodingKey),
    /// Alipay's key.
    Alipay(DecodingKey),
    /// A key that cannot be used believes nothing; the checks of the file let none through.
    Broken,
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Verifier")
    }
}

impl Verifier {
    pub(super) fn new(signature: &Signature) -> Self {
        let rsa = |pem: &[u8], make: fn(DecodingKey) -> Self| DecodingKey::from_rsa_pem(pem).map_or(Self::Broken, make);
        match signature {
            Signature::Hmac { header, secret } => Self::Hmac(header.clone(), DecodingKey::from_secret(secret.expose())),
            Signature::WechatPay(pem) => rsa(pem, Self::WechatPay),
            Signature::Alipay(pem) => rsa(pem, Self::Alipay),
        }
    }

    /// Checks an answer at `now_ms`, in unix milliseconds. What is signed of the body: all of it, or Alipay's node.
    ///
    /// # Errors
    /// Why it is not believed.
    pub(super) fn check<'b>(&self, headers: &HeaderMap, body: &'b [u8], now_ms: i64) -> Result<&'b [u8], Doubt> {
        match self {
            Self::Hmac(header, key) => hmac(headers, header, body, key, now_ms).map(|()| body),
            Self::WechatPay(key) => wechatpay(headers, body, key, now_ms).map(|()| body),
            Self::Alipay(key) => alipay(body, key),
            Self::Broken => Err(Doubt::Malformed),
        }
    }
}

fn hmac(headers: &HeaderMap, header: &HeaderName, body: &[u8], key: &DecodingKey, now_ms: i64) -> Result<(), Doubt> {
    let value = one(headers, header.as_str())?;
    let (time, tags) = value.split_once(',').ok_or(Doubt::Malformed)?;
    let time = time.trim().strip_prefix("t=").ok_or(Doubt::Malformed)?;
    let text = [time.as_bytes(), b".", body].concat();
    let mut outcome = Err(Doubt::Malformed);
    // While a secret is replaced there is a tag for each of the two. Schemes of other names are none of ours.
    for tag in tags.split(',').filter_map(|tag| tag.trim().strip_prefix("v1=")) {
        outcome = verify(&text, &unhex(tag).ok_or(Doubt::Malformed)?, key, Algorithm::HS256);
        if outcome.is_ok() {
            break;
        }
    }
    outcome.and_then(|()| recent(time, now_ms))
}

fn wechatpay(headers: &HeaderMap, body: &[u8], key: &DecodingKey, now_ms: i64) -> Result<(), Doubt> {
    let signature = one(headers, "wechatpay-signature")?;
    let (time, nonce) = (one(headers, "wechatpay-timestamp")?, one(headers, "wechatpay-nonce")?);
    let text = [time.as_bytes(), b"\n", nonce.as_bytes(), b"\n", body, b"\n"].concat();
    let signature = STANDARD.decode(signature).map_err(|_| Doubt::Malformed)?;
    verify(&text, &signature, key, Algorithm::RS256)?;
    recent(time, now_ms)
}

/// The node is signed byte by byte as it stands in the body: it must not be parsed and written again. What stands beside
/// it is not signed and not looked at.
fn alipay<'b>(body: &'b [u8], key: &DecodingKey) -> Result<&'b [u8], Doubt> {
    let members: BTreeMap<&str, &'b RawValue> = serde_json::from_slice(body).map_err(|_| Doubt::Unsigned)?;
    let sign = members.get("sign").ok_or(Doubt::Unsigned)?;
    let sign: String = serde_json::from_str(sign.get()).map_err(|_| Doubt::Malformed)?;
    let sign = STANDARD.decode(sign).map_err(|_| Doubt::Malformed)?;
    let mut nodes = members.iter().filter(|(name, _)| name.ends_with("_response"));
    let (Some((_, node)), None) = (nodes.next(), nodes.next()) else { return Err(Doubt::Malformed) };
    let node = node.get().as_bytes();
    verify(node, &sign, key, Algorithm::RS256).map(|()| node)
}

fn verify(text: &[u8], signature: &[u8], key: &DecodingKey, algorithm: Algorithm) -> Result<(), Doubt> {
    // The library takes signatures as they stand in tokens.
    let signature = URL_SAFE_NO_PAD.encode(signature);
    match jsonwebtoken::crypto::verify(&signature, text, key, algorithm) {
        Ok(true) => Ok(()),
        _ => Err(Doubt::Wrong),
    }
}

/// Only after the signature, so that a forger learns nothing from it.
fn recent(time: &str, now_ms: i64) -> Result<(), Doubt> {
    let seconds: i64 = time.parse().map_err(|_| Doubt::Malformed)?;
    let apart = (now_ms / 1_000).abs_diff(seconds);
    if apart > WINDOW_SECONDS.unsigned_abs() { Err(Doubt::Stale) } else { Ok(()) }
}

/// A header that comes once: of two, another reader might look at the other.
fn one<'h>(headers: &'h HeaderMap, name: &str) -> Result<&'h str, Doubt> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().ok_or(Doubt::Unsigned)?;
    if values.next().is_some() {
        return Err(Doubt::Malformed);
    }
    value.to_str().map_err(|_| Doubt::Malformed)
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| Some(digit(*pair.first()?)? << 4 | digit(*pair.get(1)?)?)).collect()
}

#[cfg(test)]
mod tests;
