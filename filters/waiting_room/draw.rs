//! Draws that anybody can recompute: the order in which those who registered before an event are let in.
//!
//! The order is a sort by HMAC: `key_i = HMAC(seed, "tidegate-lot1" ‖ 0 ‖ room ‖ 0 ‖ be64(i))`, ascending, ties by `i`. A
//! keyed permutation of few rounds is cheaper and biased for small crowds; a sort is not, and a million takes less than a
//! second once. The seed is bound to a secret that is committed to beforehand, to a public beacon and to the list of those
//! who registered, so that nobody can draw again until they like the result.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest, Sha256};

/// A seed of a draw.
pub type Seed = [u8; 32];

/// What is published before a draw: `SHA-256("tidegate-commit1" ‖ 0 ‖ secret)`.
#[must_use]
pub fn commitment(secret: &[u8; 32]) -> [u8; 32] {
    Sha256::new().chain_update(b"tidegate-commit1\0").chain_update(secret).finalize().into()
}

/// The seed of a draw: `SHA-256("tidegate-seed1" ‖ 0 ‖ secret ‖ beacon ‖ roster)`.
#[must_use]
pub fn seed(secret: &[u8; 32], beacon: &[u8; 32], roster: &[u8; 32]) -> Seed {
    Sha256::new()
        .chain_update(b"tidegate-seed1\0")
        .chain_update(secret)
        .chain_update(beacon)
        .chain_update(roster)
        .finalize()
        .into()
}

/// The indices `0..count` in the order in which they are let in.
#[must_use]
pub fn order(seed: &Seed, room: &str, count: u32) -> Vec<u32> {
    let keyed = keyed(seed).chain_update(b"tidegate-lot1\0").chain_update(room).chain_update([0]);
    let key = |index: u32| -> [u8; 32] {
        keyed.clone().chain_update(u64::from(index).to_be_bytes()).finalize().into_bytes().into()
    };
    // The first half decides in all but one of 2^64 comparisons; keeping it alone halves what is sorted.
    let head = |index: u32| {
        let key = key(index);
        let mut head = [0; 16];
        head.copy_from_slice(&key[..16]);
        (u128::from_be_bytes(head), index)
    };
    let mut keys: Vec<(u128, u32)> = (0..count).map(head).collect();
    keys.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| key(a.1).cmp(&key(b.1))).then(a.1.cmp(&b.1)));
    keys.into_iter().map(|(_, index)| index).collect()
}

/// A visitor's lot where places are given by chance: `HMAC(seed, "tidegate-rand1" ‖ 0 ‖ room ‖ 0 ‖ identity)`, its first
/// eight bytes. The same identity draws the same lot, however often and from however many devices it comes.
#[must_use]
pub fn lot(seed: &Seed, room: &str, identity: &[u8]) -> u64 {
    let keyed = keyed(seed).chain_update(b"tidegate-rand1\0").chain_update(room).chain_update([0]);
    first_eight(&keyed.chain_update(identity).finalize().into_bytes())
}

/// Eight bytes that only the holder of `seed` can make of these.
pub(super) fn stamp(seed: &Seed, what: &[u8], bytes: &[u8]) -> u64 {
    Stamp::new(seed, what).of(bytes)
}

/// The same, with the key's two blocks hashed once.
pub(super) struct Stamp(Hmac<Sha256>);

impl Stamp {
    /// For stamps of one kind.
    pub(super) fn new(seed: &Seed, what: &[u8]) -> Self {
        Self(keyed(seed).chain_update(what).chain_update([0]))
    }

    pub(super) fn of(&self, bytes: &[u8]) -> u64 {
        first_eight(&self.0.clone().chain_update(bytes).finalize().into_bytes())
    }
}

fn keyed(seed: &Seed) -> Hmac<Sha256> {
    Hmac::new_from_slice(seed).expect("invariant: HMAC takes a key of any length")
}

fn first_eight(bytes: &[u8]) -> u64 {
    bytes.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}
