//! How much a million keys weigh, and what a flood of hostile ones changes. A binary of its own: the whole process is on
//! the scales.

#![allow(clippy::unwrap_used)]
#![cfg(target_os = "linux")]

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use tidegate_filters::engine::{IdentityId, Key, KeyHasher, Nanos, Rate, State};
use tidegate_filters::rate_limit::{Buckets, KeyRule, Quota};

const MILLION: u64 = 1_000_000;

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split_whitespace().nth(1).unwrap().parse().unwrap();
    pages * 4_096
}

fn key(hasher: &KeyHasher, number: u64) -> Key {
    hasher.key(3, &number.to_le_bytes())
}

#[test]
fn a_million_keys_take_under_200_bytes_each_and_a_flood_of_three_million_more_frees_and_adds_nothing() {
    let rate = Rate { count: NonZeroU32::new(100).unwrap(), per: Duration::from_secs(600) };
    let rule = KeyRule::Identity { name: "user".into(), id: IdentityId(3) };
    let before = resident_bytes();
    let buckets =
        Buckets::new("limits".into(), "user".into(), rule, vec![Quota::new(rate, None).unwrap()], MILLION as usize);
    let hasher = KeyHasher::fixed();
    let limited = key(&hasher, u64::MAX);
    buckets.take(limited, 100, Nanos(0)).unwrap();
    assert!(buckets.take(limited, 1, Nanos(0)).is_err());
    for number in 1..MILLION {
        buckets.take(key(&hasher, number), 1, Nanos(number)).unwrap();
    }
    assert_eq!(buckets.keys(), MILLION as usize);
    let full = resident_bytes();
    let each = full.saturating_sub(before) / MILLION as usize;
    assert!((32..200).contains(&each), "{each} bytes a key");

    let refused = (0..3 * MILLION).filter(|i| {
        let now = Nanos(MILLION + i);
        if i % 500_000 == 0 {
            assert!(buckets.take(limited, 1, now).is_err(), "the flood freed a key that was at its limit");
            buckets.sweep(now);
        }
        buckets.take(key(&hasher, 2 * MILLION + i), 1, now).is_err()
    });
    assert!(refused.count() as u64 > 3 * MILLION - 200, "what has no room shares one bucket");
    assert_eq!(buckets.keys(), MILLION as usize);
    let grown = resident_bytes().saturating_sub(full);
    assert!(grown < 4 << 20, "{grown} bytes more after the flood");

    // Six seconds on all but one have refilled: newcomers get buckets of their own, the one at its limit one unit.
    let later = Nanos(7_000_000_000);
    assert!((0..1_000).all(|i| buckets.take(key(&hasher, 9 * MILLION + i), 100, later).is_ok()));
    assert!(buckets.take(limited, 1, later).is_ok() && buckets.take(limited, 1, later).is_err());
    let started = Instant::now();
    assert_eq!(buckets.sweep(later), 1_001);
    assert!(started.elapsed() < Duration::from_secs(2), "a million keys in {:?}", started.elapsed());
}
