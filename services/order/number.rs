//! Order numbers: they carry the shard of the user, so that an order can be found by its number alone. They are no secret:
//! only its owner sees an order.

use crate::support::Shard;

/// A number for an order of `user`, from the time and some random bits.
pub(super) fn order(user: &str, now_ms: i64, random: u32) -> String {
    Shard::of_user(user).number(now_ms, random)
}
