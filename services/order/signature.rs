//! The signature of a channel's notification: `X-Channel-Signature: t=<unix seconds>,v1=<hex>`, HMAC-SHA256 over
//! `t.body` on the raw bytes.
//!
//! The time is signed with the body, so an old notification cannot be given a new time. Five minutes either way are
//! what WeChat Pay prescribes: enough for clocks that differ, too little for a replay on the next day.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::secret::unhex;

/// Name of the header.
pub(super) const HEADER: &str = "x-channel-signature";

/// How far the signed time may lie from ours, in seconds.
const WINDOW_SECONDS: u64 = 300;

/// Whether `header` signs `body` with this secret, now. The tag is compared in constant time.
pub(super) fn is_valid(secret: &[u8], header: &str, body: &[u8], now_seconds: i64) -> bool {
    let Some((time, tag)) = parse(header) else {
        return false;
    };
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("invariant: HMAC takes keys of any length");
    mac.update(time.as_bytes());
    mac.update(b".");
    mac.update(body);
    let recent = time.parse::<i64>().is_ok_and(|time| time.abs_diff(now_seconds) <= WINDOW_SECONDS);
    mac.verify_slice(&tag).is_ok() && recent
}

/// The time as it was signed, and the tag.
fn parse(header: &str) -> Option<(&str, Vec<u8>)> {
    let (time, tag) = header.split_once(',')?;
    Some((time.trim().strip_prefix("t=")?, unhex(tag.trim().strip_prefix("v1=")?)?))
}
