//! Order numbers: 64 bits in 13 letters of Crockford's base 32.
//!
//! From the top: 41 bits of milliseconds since 2024 (good until 2093), 19 random bits, and in the low four bits the
//! shard of the user, so that an order can be found by its number alone should the orders ever be spread over several
//! files. Numbers rise with time, which keeps the index compact. They are no secret: only its owner sees an order.

use sha2::{Digest, Sha256};

/// Without the letters that are mistaken for digits.
const LETTERS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// 2024-01-01 UTC in milliseconds.
const EPOCH_MS: i64 = 1_704_067_200_000;

/// A number for an order of `user`, from the time and some random bits.
pub(super) fn order(user: &str, now_ms: i64, random: u32) -> String {
    let time = u64::try_from(now_ms - EPOCH_MS).unwrap_or(0) & ((1 << 41) - 1);
    let shard = u64::from(Sha256::digest(user.as_bytes())[0] & 0xF);
    let number = time << 23 | u64::from(random & 0x7_FFFF) << 4 | shard;
    // 13 letters hold 65 bits; the first one stands for the top four.
    (0..13).rev().map(|place| char::from(LETTERS[(number >> (place * 5) & 31) as usize])).collect()
}
