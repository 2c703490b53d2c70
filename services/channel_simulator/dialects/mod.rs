//! What a channel speaks. All dialects are about the same payments, the same ledger and the same plan of faults; the
//! path of a call says which one it is.
//!
//! The identities below and the keys beside the data file are a demo merchant's. A merchant that wants to speak one of
//! the signed dialects finds them at `GET /sim/keys`.

pub(super) mod alipay;
pub(super) mod epay;
pub(super) mod json;
pub(super) mod keys;
pub(super) mod notification;
pub(super) mod wechat;

use crate::support::dialect::Dialect;

/// Alipay: the application, its seller, and the buyer of every payment.
pub(super) const APP_ID: &str = "2021000000000001";
pub(super) const SELLER_ID: &str = "2088000000000001";
pub(super) const BUYER_ID: &str = "2088000000000002";

/// WeChat Pay: merchant, application, and the buyer of every payment.
pub(super) const MCHID: &str = "1900000001";
pub(super) const APPID: &str = "wx0000000000000001";
pub(super) const OPENID: &str = "oBuyer000000000000000000001";

/// Epay: the merchant.
pub(super) const PID: &str = "1001";

/// Environment variable with a secret of the dialects.
pub const API_V3_KEY_VARIABLE: &str = "TIDEGATE_CHANNEL_API_V3_KEY";
/// See [`API_V3_KEY_VARIABLE`].
pub const EPAY_KEY_VARIABLE: &str = "TIDEGATE_CHANNEL_EPAY_KEY";

/// What it is unless the environment says otherwise: everybody can read it here, so it protects nothing.
pub const DEVELOPMENT_API_V3_KEY: &str = "development-only-api-v3-key-0001";
/// See [`DEVELOPMENT_API_V3_KEY`].
pub const DEVELOPMENT_EPAY_KEY: &str = "development-only-epay-key";

const SECOND: i64 = 1_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;

/// A receiver that was restarting is tried again after a second; from there on these are WeChat Pay's.
const SCHEDULE: [i64; 16] = [
    SECOND,
    15 * SECOND,
    15 * SECOND,
    30 * SECOND,
    3 * MINUTE,
    10 * MINUTE,
    20 * MINUTE,
    30 * MINUTE,
    30 * MINUTE,
    30 * MINUTE,
    HOUR,
    3 * HOUR,
    3 * HOUR,
    3 * HOUR,
    6 * HOUR,
    6 * HOUR,
];

/// Milliseconds from an attempt to deliver a callback to the next one.
pub(super) fn schedule(dialect: Dialect) -> &'static [i64] {
    match dialect {
        Dialect::Json => &SCHEDULE,
        Dialect::Wechat => &SCHEDULE[1..],
        Dialect::Alipay => &[4 * MINUTE, 10 * MINUTE, 10 * MINUTE, HOUR, 2 * HOUR, 6 * HOUR, 15 * HOUR],
        // Aggregators differ; this is a common one.
        Dialect::Epay => &[MINUTE, 3 * MINUTE, 20 * MINUTE, HOUR, 2 * HOUR],
    }
}
