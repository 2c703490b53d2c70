//! The signature of a channel's callback: HMAC-SHA256 over `t.body` with a secret per channel.
//!
//! The time is inside the signed text, so an old callback cannot be given a new time. The channel simulator signs with
//! it, the order service checks with it: one definition, two callers.

use axum::http::HeaderName;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::hex::{hex, unhex};

/// Signs unless another secret is given: everybody can read it here, so it protects nothing.
pub const DEVELOPMENT_SECRET: &str = "development-only-secret-of-the-channels";

/// Environment variable with the secret.
pub const SECRET_VARIABLE: &str = "TIDEGATE_CHANNEL_SECRET";

/// Name of the header that carries `t=<unix seconds>,v1=<hex>`.
pub const HEADER: HeaderName = HeaderName::from_static("x-channel-signature");

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

/// Signs `body` at `unix_seconds`; the answer is the header's value.
#[must_use]
pub fn sign(secret: &[u8], unix_seconds: u64, body: &[u8]) -> String {
    let time = unix_seconds.to_string();
    format!("t={time},v1={}", hex(&mac(secret, &time, body).finalize().into_bytes()))
}

/// Checks a header against the raw body, in constant time for the tag.
///
/// # Errors
/// Says what is wrong, see [`Refusal`]; the time is compared only after the tag, so a forger learns nothing from it.
pub fn verify(secret: &[u8], header: Option<&str>, now_unix_seconds: u64, body: &[u8]) -> Result<(), Refusal> {
    let (time, tag) = header.and_then(parse).ok_or(Refusal::Malformed)?;
    let seconds: u64 = time.parse().map_err(|_| Refusal::Malformed)?;
    mac(secret, time, body).verify_slice(&tag).map_err(|_| Refusal::Mismatch)?;
    if now_unix_seconds.abs_diff(seconds) > WINDOW_SECONDS {
        return Err(Refusal::OutsideWindow);
    }
    Ok(())
}

fn mac(secret: &[u8], time: &str, body: &[u8]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("invariant: HMAC takes a key of any length");
    mac.update(time.as_bytes());
    mac.update(b".");
    mac.update(body);
    mac
}

/// The time as it was signed, and the tag.
fn parse(header: &str) -> Option<(&str, Vec<u8>)> {
    let (time, tag) = header.split_once(',')?;
    Some((time.trim().strip_prefix("t=")?, unhex(tag.trim().strip_prefix("v1=")?)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_what_it_signed_within_the_window() {
        let header = sign(b"secret", 1_000, b"{}");
        assert_eq!(verify(b"secret", Some(&header), 1_300, b"{}"), Ok(()));
        assert_eq!(verify(b"secret", Some(&header), 700, b"{}"), Ok(()));
        for now in [699, 1_301] {
            assert_eq!(verify(b"secret", Some(&header), now, b"{}"), Err(Refusal::OutsideWindow));
        }
    }

    #[test]
    fn signs_as_another_implementation_does() {
        let header = "t=1000,v1=026360fb6284f077f1148b1ae7c62679730497810a6a0321574de01e8b009e7a";
        assert_eq!(sign(b"secret", 1_000, b"{}"), header);
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
        for header in ["", "t=1", "t=x,v1=00", "v1=00,t=1", "t=1,v1=zz", "t=1,v1=0", "t=-1,v1=00"] {
            assert_eq!(verify(b"s", Some(header), 1, b""), Err(Refusal::Malformed), "{header}");
        }
        assert_eq!(verify(b"s", None, 1, b""), Err(Refusal::Malformed));
        // Readable, but a tag of another length is none of ours.
        assert_eq!(verify(b"s", Some("t=1,v1=00"), 1, b""), Err(Refusal::Mismatch));
    }
}
