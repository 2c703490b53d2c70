//! Tokens that were verified, so that somebody who asks every second pays for one signature check and not for thousands.
//!
//! Bounded three ways: entries in all, bytes in all, and nothing but tokens with a good signature gets in, so filling it
//! takes as many honest tokens. A full shard replaces an entry at random: no list to keep in order on a hit, and no
//! pattern of requests that empties it on purpose. Bad tokens are not remembered: there are too many of them to choose
//! from, and a full cache of them would only cost memory.
//!
//! Comparing a cached token with the one presented stops at the first difference, and so takes a time that depends on the
//! two. That tells nothing: the comparison only happens when both have one 64-bit hash, whose seeds nobody knows, so there
//! is no way to approach a token byte by byte.

use std::collections::HashMap;

use ahash::RandomState;
use parking_lot::RwLock;
use tidegate_filters::engine::Identity;

#[cfg(test)]
mod tests;

/// A power of two, so that a few bits of the hash choose a shard; many more than cores, so that writers seldom meet.
const SHARDS: usize = 64;
/// 65,536 tokens in all.
const ENTRIES_PER_SHARD: usize = 1024;
/// 64 MiB of tokens in all: common ones have 300 to 1000 bytes, so this binds only for unusually long ones.
const BYTES_PER_SHARD: usize = 1 << 20;

/// What is known about a verified token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verified {
    /// Whose it is.
    pub(super) identity: Identity,
    /// First second of its life, leeway included.
    pub(super) not_before: u64,
    /// First second after its life, leeway included.
    pub(super) expires: u64,
}

impl Verified {
    /// Whether the token is alive at `second` (since 1970).
    pub(super) fn is_alive(&self, second: u64) -> bool {
        self.not_before <= second && second < self.expires
    }
}

/// Verified tokens by source and token.
pub(super) struct TokenCache {
    hash: RandomState,
    shards: Box<[RwLock<Shard>]>,
}

#[derive(Default)]
struct Shard {
    /// Positions in `entries` by hash.
    index: HashMap<u64, usize, RandomState>,
    entries: Vec<Entry>,
    bytes: usize,
    dice: u64,
}

struct Entry {
    hash: u64,
    source: usize,
    token: Box<[u8]>,
    verified: Verified,
}

impl TokenCache {
    pub(super) fn new() -> Self {
        Self { hash: RandomState::new(), shards: (0..SHARDS).map(|_| RwLock::default()).collect() }
    }

    /// What is known about `token`, as source number `source` verified it.
    pub(super) fn get(&self, source: usize, token: &[u8]) -> Option<Verified> {
        let hash = self.hash.hash_one((source, token));
        let shard = self.shard(hash).read();
        let entry = &shard.entries[*shard.index.get(&hash)?];
        (entry.source == source && *entry.token == *token).then(|| entry.verified.clone())
    }

    pub(super) fn put(&self, source: usize, token: &[u8], verified: Verified) {
        let hash = self.hash.hash_one((source, token));
        self.shard(hash).write().put(Entry { hash, source, token: token.into(), verified });
    }

    fn shard(&self, hash: u64) -> &RwLock<Shard> {
        &self.shards[usize::try_from(hash >> 32).unwrap_or_default() % SHARDS]
    }

    #[cfg(test)]
    pub(super) fn size(&self) -> (usize, usize) {
        let shards = self.shards.iter().map(|shard| shard.read());
        shards.fold((0, 0), |(entries, bytes), shard| (entries + shard.entries.len(), bytes + shard.bytes))
    }
}

impl Shard {
    fn put(&mut self, entry: Entry) {
        if let Some(&at) = self.index.get(&entry.hash) {
            self.remove(at);
        }
        while self.entries.len() >= ENTRIES_PER_SHARD || self.bytes + entry.token.len() > BYTES_PER_SHARD {
            // Knuth's generator, stirred with seeded hashes: nobody outside can tell whose entry goes.
            self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(entry.hash | 1);
            let roll = usize::try_from(self.dice >> 33).unwrap_or_default();
            match self.entries.len() {
                0 => return,
                length => self.remove(roll % length),
            }
        }
        self.bytes += entry.token.len();
        self.index.insert(entry.hash, self.entries.len());
        self.entries.push(entry);
    }

    fn remove(&mut self, at: usize) {
        let gone = self.entries.swap_remove(at);
        self.bytes -= gone.token.len();
        self.index.remove(&gone.hash);
        if let Some(moved) = self.entries.get(at) {
            self.index.insert(moved.hash, at);
        }
    }
}
