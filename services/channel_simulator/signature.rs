//! The signature of a channel's callback: HMAC-SHA256 over `t.body` with a secret per channel.
//!
//! The time is inside the signed text, so an old callback cannot be given a new time. The simulator signs with it; a
//! receiver in the same language may check with it: one definition, two callers.

use std::fmt::Write as _;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Name of the header that carries `t=<unix seconds>,v1=<hex>`.
pub const HEADER: &str = "x-channel-signature";

/// How far the signed time may lie from the receiver's clock, in seconds, either way.
///
/// Five minutes is what the real channels use: enough for clock drift, too little for a replay a day later.
pub const WINDOW_SECONDS: u64 = 300;

/// Why a signature was refused. The client learns only that it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The header is absent or not of the form `t=…,v1=…`.
    #[error("the signature header is missing or malformed")]
    Malformed,
    /// The signed time is more than [`WINDOW_SECONDS`] away.
    #[error("the signed time is outside the window")]
    OutsideWindow,
    /// The bytes were not signed with this secret.
    #[error("the signature does not match the body")]
    Mismatch,
}

/// A channel's secret; it does not show itself in debug output.
#[derive(Clone)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// The secret made of these bytes.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// The bytes, for signing.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Signs `body` at `unix_seconds`; the answer is the header's value.
#[must_use]
pub fn sign(secret: &[u8], unix_seconds: u64, body: &[u8]) -> String {
    let tag = mac(secret, unix_seconds, body).finalize().into_bytes();
    let mut text = format!("t={unix_seconds},v1=");
    for byte in tag {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Checks a header against the raw body, in constant time for the tag.
///
/// # Errors
/// Says what is wrong, see [`Refusal`]; the time is compared only after the tag, so a forger learns nothing from it.
pub fn verify(secret: &[u8], header: Option<&str>, now_unix_seconds: u64, body: &[u8]) -> Result<(), Refusal> {
    let (time, tag) = header.and_then(parse).ok_or(Refusal::Malformed)?;
    mac(secret, time, body).verify_slice(&tag).map_err(|_| Refusal::Mismatch)?;
    if now_unix_seconds.abs_diff(time) > WINDOW_SECONDS {
        return Err(Refusal::OutsideWindow);
    }
    Ok(())
}

fn mac(secret: &[u8], unix_seconds: u64, body: &[u8]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("invariant: HMAC takes a key of any length");
    mac.update(unix_seconds.to_string().as_bytes());
    mac.update(b".");
    mac.update(body);
    mac
}

fn parse(header: &str) -> Option<(u64, Vec<u8>)> {
    let (time, tag) = header.split_once(',')?;
    let time = time.trim().strip_prefix("t=")?.parse().ok()?;
    let hex = tag.trim().strip_prefix("v1=")?;
    if hex.len() != 64 || !hex.is_ascii() {
        return None;
    }
    let bytes = (0..64).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).ok());
    Some((time, bytes.collect::<Option<Vec<u8>>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_what_it_signed_within_the_window() {
        let header = sign(b"secret", 1_000, b"{}");
        assert_eq!(verify(b"secret", Some(&header), 1_300, b"{}"), Ok(()));
        assert_eq!(verify(b"secret", Some(&header), 1_301, b"{}"), Err(Refusal::OutsideWindow));
    }

    #[test]
    fn refuses_another_body_another_secret_and_another_time() {
        let header = sign(b"secret", 1_000, b"{}");
        assert_eq!(verify(b"secret", Some(&header), 1_000, b"{ }"), Err(Refusal::Mismatch));
        assert_eq!(verify(b"other", Some(&header), 1_000, b"{}"), Err(Refusal::Mismatch));
        let moved = header.replace("t=1000", "t=1001");
        assert_eq!(verify(b"secret", Some(&moved), 1_001, b"{}"), Err(Refusal::Mismatch));
    }

    #[test]
    fn refuses_a_header_it_cannot_read() {
        for header in [None, Some(""), Some("t=1"), Some("t=x,v1=00"), Some("v1=00,t=1"), Some("t=1,v1=zz")] {
            assert_eq!(verify(b"s", header, 1, b""), Err(Refusal::Malformed));
        }
    }
}
