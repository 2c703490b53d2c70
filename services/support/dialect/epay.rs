//! 易支付 (Epay): MD5 over sorted parameters followed by the merchant's key. MD5 is what these aggregators speak; with a
//! secret key at its end it is weak, not worthless, and nothing here can choose another.

use md5::{Digest, Md5};
use subtle::ConstantTimeEq;

use super::Forged;
use super::params::Params;
use crate::support::hex;

/// The one kind of signature.
pub const SIGN_TYPE: &str = "MD5";

/// A notification is acknowledged by exactly this body.
pub const ACKNOWLEDGED: &str = "success";

/// Signs parameters.
pub fn sign(params: &mut Params, key: &str) {
    params.set("sign", signature(params, key));
    params.set("sign_type", SIGN_TYPE);
}

/// Checks parameters, in constant time for the signature.
///
/// # Errors
/// See [`Forged`].
pub fn verify(params: &Params, key: &str) -> Result<(), Forged> {
    let sign = params.get("sign").ok_or(Forged::Malformed)?;
    if params.get("sign_type").is_some_and(|sign_type| sign_type != SIGN_TYPE) {
        return Err(Forged::Malformed);
    }
    let right = signature(params, key);
    if bool::from(right.as_bytes().ct_eq(sign.as_bytes())) { Ok(()) } else { Err(Forged::Mismatch) }
}

fn signature(params: &Params, key: &str) -> String {
    let text = params.signed_text(&["sign", "sign_type"]);
    hex(&Md5::digest(format!("{text}{key}")))
}
