//! What a decision costs: one key and a million, one thread and two, one policy and the shipped three.

#![allow(clippy::unwrap_used)]

use std::hint::black_box;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use tidegate_filters::engine::{IdentityId, Key, KeyHasher, Nanos, Rate};
use tidegate_filters::rate_limit::{Buckets, Claim, Counting, KeyRule, Quota, take_all};

const MILLION: usize = 1_000_000;

fn buckets(id: u8, count: u32, seconds: u64) -> Buckets {
    let rate = Rate { count: NonZeroU32::new(count).unwrap(), per: Duration::from_secs(seconds) };
    let rule = KeyRule::Identity { name: "bench".into(), id: IdentityId(id) };
    Buckets::new("limits".into(), "bench".into(), rule, vec![Quota::new(rate, None).unwrap()], 2 * MILLION)
}

fn keys(count: usize) -> Vec<Key> {
    let hasher = KeyHasher::fixed();
    (0..count).map(|number| hasher.key(3, &number.to_le_bytes())).collect()
}

/// An index below `count` that jumps about, so that no cache guesses it.
fn jump(state: &mut u64, count: usize) -> usize {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) as usize % count
}

/// Runs `measured` while another thread does the same, so that the locks are fought over.
fn beside(work: impl Fn(&mut u64) + Sync, measured: impl FnOnce()) {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut state = 99;
            while !stop.load(Relaxed) {
                work(&mut state);
            }
        });
        measured();
        stop.store(true, Relaxed);
    });
}

fn take(c: &mut Criterion) {
    let clock = AtomicU64::new(0);
    let tick = || Nanos(clock.fetch_add(1_000, Relaxed));
    for (name, id, count) in [("one key of everybody's", 2, 1), ("one key", 3, 1), ("a million keys", 3, MILLION)] {
        let (buckets, keys) = (buckets(id, 1_000_000, 1), keys(count));
        keys.iter().for_each(|key| {
            let _ = buckets.take(*key, 1, tick());
        });
        let work = |state: &mut u64| {
            let _ = black_box(buckets.take(keys[jump(state, count)], 1, tick()));
        };
        let mut state = 1;
        c.bench_function(&format!("take/{name}/1 thread"), |b| b.iter(|| work(&mut state)));
        beside(work, || {
            c.bench_function(&format!("take/{name}/2 threads"), |b| b.iter(|| work(&mut state)));
        });
    }
    let empty = buckets(3, 1, 3_600);
    let _ = empty.take(keys(1)[0], 1, Nanos(0));
    c.bench_function("take/refused", |b| b.iter(|| black_box(empty.take(keys_of_one(), 1, Nanos(5)))));
}

fn keys_of_one() -> Key {
    KeyHasher::fixed().key(3, &0usize.to_le_bytes())
}

fn three_policies(c: &mut Criterion) {
    let (user, api, system) = (buckets(3, 1_000_000, 1), buckets(1, 1_000_000_000, 1), buckets(2, 1_000_000_000, 1));
    let keys = keys(MILLION);
    let clock = AtomicU64::new(0);
    for (name, count) in [("hot users", 100), ("a million users", MILLION)] {
        let work = |state: &mut u64| {
            let claims = [(&user, keys[jump(state, count)]), (&api, keys[0]), (&system, keys[1])];
            let claims = claims.map(|(buckets, key)| Claim { buckets, key, cost: 1, lane: 0 });
            let _ = black_box(take_all(&claims, Counting::default(), Nanos(clock.fetch_add(1_000, Relaxed))));
        };
        let mut state = 1;
        c.bench_function(&format!("three policies/{name}/1 thread"), |b| b.iter(|| work(&mut state)));
        beside(work, || {
            c.bench_function(&format!("three policies/{name}/2 threads"), |b| b.iter(|| work(&mut state)));
        });
    }
}

criterion_group!(benches, take, three_policies);
criterion_main!(benches);
