//! Who a request belongs to: named identities, and the fixed-size keys that stores remember them by.

use std::sync::Arc;

use ahash::RandomState;

/// Longest part of an identity that takes part in a key, in bytes. A longer one is hashed whole and never stored.
const LONGEST_TEXT: usize = 256;

/// A fixed-size name for a bucket, a record or a place: the seeded hash of an identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(pub u128);

/// Hashes identities to keys with seeds that no client knows.
///
/// The seeds are fixed for the life of the process, so a key survives a reload; they are random, so nobody can craft
/// two names that share a bucket.
#[derive(Clone)]
pub struct KeyHasher {
    high: RandomState,
    low: RandomState,
}

impl KeyHasher {
    /// A hasher with fresh random seeds.
    #[must_use]
    pub fn random() -> Self {
        Self { high: RandomState::new(), low: RandomState::new() }
    }

    /// A hasher whose keys are the same in every run; for tests and benches only.
    #[must_use]
    pub fn fixed() -> Self {
        Self { high: RandomState::with_seeds(1, 2, 3, 4), low: RandomState::with_seeds(5, 6, 7, 8) }
    }

    /// The key of `bytes` within `domain` (say, an identity's number), so that a user and a merchant of one name differ.
    #[must_use]
    pub fn key(&self, domain: u64, bytes: &[u8]) -> Key {
        let part = |state: &RandomState| u128::from(state.hash_one((domain, bytes)));
        Key(part(&self.high) << 64 | part(&self.low))
    }
}

/// Number of a named identity in a configuration (`user`, `merchant`, …).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IdentityId(pub u8);

impl IdentityId {
    /// The client's address (IPv6 by /64); always known.
    pub const CLIENT: IdentityId = IdentityId(0);
    /// The route; always known.
    pub const ROUTE: IdentityId = IdentityId(1);
    /// The one key everybody shares; always known.
    pub const GLOBAL: IdentityId = IdentityId(2);
    /// The first identity that a file may name.
    pub const FIRST_NAMED: u8 = 3;
}

/// A verified identity of a request: the key its state is found by, and its text for upstreams and logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Where its state is found.
    pub key: Key,
    /// As verified, at most 256 bytes; `None` where no text is worth keeping.
    pub text: Option<Arc<str>>,
}

impl Identity {
    /// The identity of `text` in the domain of `id`.
    #[must_use]
    pub fn new(hasher: &KeyHasher, id: IdentityId, text: &str) -> Self {
        let key = hasher.key(u64::from(id.0), text.as_bytes());
        Self { key, text: (text.len() <= LONGEST_TEXT).then(|| Arc::from(text)) }
    }
}
