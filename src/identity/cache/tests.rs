//! The cache finds what it was given and stays within its bounds.

use tidegate_filters::engine::{Identity, IdentityId, KeyHasher};

use super::{BYTES_PER_SHARD, ENTRIES_PER_SHARD, SHARDS, TokenCache, Verified};

fn verified(name: &str) -> Verified {
    let identity = Identity::new(&KeyHasher::fixed(), IdentityId(3), name);
    Verified { identity, not_before: 10, expires: 20 }
}

#[test]
fn finds_a_token_only_for_the_source_that_verified_it() {
    let cache = TokenCache::new();
    cache.put(1, b"token", verified("alice"));
    assert_eq!(cache.get(1, b"token"), Some(verified("alice")));
    assert_eq!(cache.get(2, b"token"), None);
    assert_eq!(cache.get(1, b"tokem"), None);
    cache.put(1, b"token", verified("bob"));
    assert_eq!(cache.get(1, b"token"), Some(verified("bob")));
    assert_eq!(cache.size(), (1, 5));
}

#[test]
fn a_token_lives_from_its_first_second_to_the_one_before_its_last() {
    let alive: Vec<u64> = (0..30).filter(|&second| verified("alice").is_alive(second)).collect();
    assert_eq!(alive, (10..20).collect::<Vec<_>>());
}

#[test]
fn never_keeps_more_entries_than_its_bound_and_finds_those_it_keeps() {
    let cache = TokenCache::new();
    let most = SHARDS * ENTRIES_PER_SHARD;
    let token = |number: usize| number.to_le_bytes();
    for number in 0..most + most / 2 {
        cache.put(1, &token(number), verified("x"));
    }
    let (entries, bytes) = cache.size();
    assert!(entries <= most && entries > most * 9 / 10, "{entries}");
    assert_eq!(bytes, entries * 8);
    let found = (0..most + most / 2).filter(|&number| cache.get(1, &token(number)).is_some()).count();
    assert_eq!(found, entries);
}

#[test]
fn never_keeps_more_bytes_than_its_bound() {
    let cache = TokenCache::new();
    let mut token = vec![0; 8 * 1024];
    for number in 0..12_000_u32 {
        token[..4].copy_from_slice(&number.to_le_bytes());
        cache.put(1, &token, verified("x"));
    }
    assert!(cache.size().1 <= SHARDS * BYTES_PER_SHARD);
    cache.put(1, &vec![0; BYTES_PER_SHARD + 1], verified("x"));
    assert_eq!(cache.get(1, &vec![0; BYTES_PER_SHARD + 1]), None);
}
