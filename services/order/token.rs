//! Who is buying: JSON Web Tokens (RFC 7519) signed with HMAC-SHA256.
//!
//! Exactly one algorithm is known, so the header of a token cannot choose a weaker one. The gateway checks the same
//! tokens with the same secret; this service checks them again and trusts no header that says who somebody is.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use rand::RngCore;
use serde::Deserialize;
use sha2::Sha256;

use crate::support::hex;

/// How long a token is good: a working day and some, in seconds.
pub(super) const LIFETIME_SECONDS: i64 = 12 * 3_600;

/// Longest subject in bytes.
const MAX_SUBJECT: usize = 128;

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    crit: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    exp: i64,
    #[serde(default)]
    nbf: i64,
}

/// A new name for somebody who has none: 64 random bits.
pub(super) fn new_user() -> String {
    let mut bits = [0_u8; 8];
    rand::rng().fill_bytes(&mut bits);
    format!("u_{}", hex(&bits))
}

/// A token for `user`.
pub(super) fn issue(secret: &[u8], user: &str, now_seconds: i64) -> String {
    let header = serde_json::json!({ "alg": "HS256", "typ": "JWT" });
    let claims = serde_json::json!({ "sub": user, "iat": now_seconds, "exp": now_seconds + LIFETIME_SECONDS });
    let part = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", part(&header), part(&claims));
    let signature = URL_SAFE_NO_PAD.encode(mac(secret, message.as_bytes()).finalize().into_bytes());
    format!("{message}.{signature}")
}

/// Whom the token names, if it is ours and its time is not over.
pub(super) fn verify(secret: &[u8], token: &str, now_seconds: i64) -> Option<String> {
    let (message, signature) = token.rsplit_once('.')?;
    let (header, claims) = message.split_once('.')?;
    mac(secret, message.as_bytes()).verify_slice(&URL_SAFE_NO_PAD.decode(signature).ok()?).ok()?;
    let header: Header = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()?;
    let claims: Claims = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
    let known = header.alg == "HS256" && header.crit.is_none();
    let in_time = (claims.nbf..claims.exp).contains(&now_seconds);
    let named = !claims.sub.is_empty() && claims.sub.len() <= MAX_SUBJECT;
    (known && in_time && named).then_some(claims.sub)
}

fn mac(secret: &[u8], message: &[u8]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("invariant: HMAC takes keys of any length");
    mac.update(message);
    mac
}
