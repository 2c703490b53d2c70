//! Tokens by which a browser may download the keys of one order for a few minutes.
//!
//! A link cannot carry a header, and a password does not belong into an address, where logs and histories keep it. So
//! whoever has shown the password is given `<unix seconds>.<HMAC-SHA256 over order number and that time>`.

use subtle::ConstantTimeEq;

use super::keyring::{Keyring, hmac_sha256};
use crate::support::{hex, unhex};

/// How long a token is good, in seconds.
const LIFETIME_SECONDS: i64 = 600;

/// A token for the keys of this order.
pub(super) fn issue(keyring: &Keyring, order_no: &str, now_ms: i64) -> String {
    let until = now_ms / 1_000 + LIFETIME_SECONDS;
    format!("{until}.{}", hex(&sign(keyring, order_no, until)))
}

/// Whether this is a token for this order whose time is not over.
pub(super) fn is_good(keyring: &Keyring, order_no: &str, token: &str, now_ms: i64) -> bool {
    let parts = token.split_once('.').and_then(|(until, tag)| Some((until.parse().ok()?, unhex(tag)?)));
    let Some((until, tag)) = parts else { return false };
    let right: bool = sign(keyring, order_no, until).ct_eq(tag.as_slice()).into();
    right && now_ms / 1_000 < until
}

fn sign(keyring: &Keyring, order_no: &str, until: i64) -> [u8; 32] {
    hmac_sha256(keyring.token_key(), &[&until.to_be_bytes(), order_no.as_bytes()])
}
