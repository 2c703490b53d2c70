//! What the limits owe for every input, checked against plain models.

#![allow(clippy::unwrap_used)]

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use governor::clock::{Clock, FakeRelativeClock};
use proptest::prelude::*;
use tidegate_filters::engine::{Identity, IdentityId, Key, KeyHasher, Nanos, Rate, State};
use tidegate_filters::rate_limit::{Buckets, Claim, Counting, KeyRule, Quota, take_all};

const USER: IdentityId = IdentityId(3);

fn quota(count: u32, per: Duration, burst: u32) -> Quota {
    let count = NonZeroU32::new(count).unwrap();
    Quota::new(Rate { count, per }, NonZeroU32::new(burst)).unwrap()
}

fn rule(id: IdentityId) -> KeyRule {
    KeyRule::Identity { name: "test".into(), id }
}

fn buckets(quota: Quota) -> Buckets {
    Buckets::new("limits".into(), "user".into(), rule(USER), vec![quota], 1_000_000)
}

fn key(number: u64) -> Key {
    KeyHasher::fixed().key(3, &number.to_le_bytes())
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap()
}

/// Whether admitted cost <= burst + rate x dt for every interval between two admissions, in one walk: with the cost so
/// far measured in time, each end of an interval is compared with the worst beginning before it.
fn within_bound(log: &[(u64, u32)], quota: Quota) -> Result<(), String> {
    let (interval, tolerance) = (i128::from(nanos(quota.interval())), i128::from(nanos(quota.fill_time())));
    let (mut spent, mut best) = (0i128, i128::MAX);
    for (now, cost) in log {
        best = best.min(spent - i128::from(*now));
        spent += i128::from(*cost) * interval;
        if spent - i128::from(*now) - best > tolerance {
            return Err(format!("too much was admitted in an interval that ends at {now}"));
        }
    }
    Ok(())
}

prop_compose! {
    fn any_quota()(count in 1u32..2_000, per in 1u64..2_000_000, burst in 1u32..200) -> Quota {
        quota(count, Duration::from_micros(per), burst)
    }
}

/// A step of a key: time since the last step in intervals (in thousandths), which key, what cost.
fn steps() -> impl Strategy<Value = Vec<(u64, u64, u32)>> {
    prop::collection::vec((prop_oneof![3 => 0u64..1_500, 1 => 0u64..50_000], 0u64..3, 1u32..4), 1..200)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn decisions_and_waits_are_those_of_governor(quota in any_quota(), steps in steps()) {
        let clock = FakeRelativeClock::default();
        let theirs = governor::Quota::with_period(quota.interval()).unwrap();
        let theirs = theirs.allow_burst(NonZeroU32::new(quota.burst()).unwrap());
        let oracle = governor::RateLimiter::dashmap_with_clock(theirs, clock.clone());
        let ours = buckets(quota);
        let mut now = 0;
        for (thousandths, who, cost) in steps {
            let step = nanos(quota.interval()).saturating_mul(thousandths) / 1_000;
            clock.advance(Duration::from_nanos(step));
            now += step;
            let cost = cost.min(quota.burst());
            let expected = oracle.check_key_n(&who, NonZeroU32::new(cost).unwrap()).unwrap();
            let expected = expected.map_err(|not_until| not_until.wait_time_from(clock.now()));
            let got = ours.take(key(who), cost, Nanos(now));
            prop_assert_eq!(got.map(|_| ()).map_err(|refusal| refusal.wait), expected.map(|_| ()));
        }
    }

    #[test]
    fn no_key_gets_more_than_its_burst_and_rate_in_any_interval_whatever_the_clock_does(
        quota in any_quota(),
        steps in prop::collection::vec((-20_000i64..20_000, 0u64..3, 1u32..4, any::<bool>()), 1..300),
    ) {
        let buckets = buckets(quota);
        let mut logs = vec![Vec::new(); 3];
        let mut now = 1_000_000 * nanos(quota.interval());
        for (thousandths, who, cost, sweep) in steps {
            let step = i64::try_from(nanos(quota.interval())).unwrap().saturating_mul(thousandths) / 1_000;
            now = now.saturating_add_signed(step);
            let cost = cost.min(quota.burst());
            if buckets.take(key(who), cost, Nanos(now)).is_ok() {
                logs[usize::try_from(who).unwrap()].push((now, cost));
            }
            if sweep {
                buckets.sweep(Nanos(now));
            }
        }
        for log in logs {
            prop_assert_eq!(within_bound(&log, quota), Ok(()));
        }
    }

    #[test]
    fn the_announced_wait_is_exact_for_any_set_of_policies(
        quotas in prop::collection::vec(any_quota(), 1..4),
        costs in prop::collection::vec(1u32..4, 3),
        earlier in 0.0f64..1.0,
    ) {
        let ids = [USER, IdentityId::ROUTE, IdentityId::GLOBAL];
        let policies: Vec<Buckets> = quotas
            .iter()
            .zip(ids)
            .map(|(quota, id)| Buckets::new("limits".into(), "p".into(), rule(id), vec![*quota], 10))
            .collect();
        let claims: Vec<Claim<'_>> = policies
            .iter()
            .zip(&costs)
            .zip(&quotas)
            .map(|((buckets, cost), quota)| Claim { buckets, key: key(1), cost: (*cost).min(quota.burst()), lane: 0 })
            .collect();
        let ask = |now: u64| take_all(&claims, Counting::default(), Nanos(now)).err().map(|refusal| refusal.wait);
        let mut now = 7;
        for _ in 0..5 {
            let mut wait = ask(now);
            while wait.is_none() {
                wait = ask(now);
            }
            let wait = nanos(wait.unwrap());
            #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let part = (wait as f64 * earlier) as u64;
            for early in [part, wait / 2, wait - 1] {
                prop_assert_eq!(ask(now + early.min(wait - 1)).map(nanos), Some(wait - early.min(wait - 1)));
            }
            now += wait;
            prop_assert_eq!(ask(now), None);
        }
    }

    #[test]
    fn a_change_of_limits_keeps_the_fraction_within_one_percent_and_never_gives_any(
        old in any_quota(), new in any_quota(), spent in 0u32..200, global in any::<bool>(),
    ) {
        let id = if global { IdentityId::GLOBAL } else { USER };
        let buckets = Buckets::new("limits".into(), "p".into(), rule(id), vec![old], 10);
        buckets.take(key(1), 1, Nanos(0)).unwrap();
        for _ in 0..spent.min(old.burst()).saturating_sub(1) {
            buckets.take(key(1), 1, Nanos(0)).unwrap();
        }
        let share = |full_at: Nanos, quota: Quota| full_at.since(Nanos(0)).as_secs_f64() / quota.fill_time().as_secs_f64();
        let before = share(buckets.peek(key(1), Nanos(0)).unwrap().full_at, old);
        buckets.retune(&[new], 10);
        let after = share(buckets.peek(key(1), Nanos(0)).unwrap().full_at, new);
        prop_assert!((before - after).abs() < 0.01, "{} became {}", before, after);
        prop_assert!(after >= before - 1e-12);
        buckets.retune(&[old], 10);
        let again = share(buckets.peek(key(1), Nanos(0)).unwrap().full_at, old);
        prop_assert!(again >= before - 1e-12, "there and back is no amnesty");
    }

    #[test]
    fn across_any_reloads_the_share_admitted_stays_within_the_share_refilled(
        quotas in prop::collection::vec(any_quota(), 2..5),
        steps in prop::collection::vec((0u64..3_000, prop::option::weighted(0.1, any::<prop::sample::Index>())), 1..300),
    ) {
        let buckets = buckets(quotas[0]);
        let (mut quota, mut now, mut refilled, mut spent, mut best) = (quotas[0], 0, 0.0, 0.0, f64::MAX);
        for (thousandths, reload) in steps {
            let step = nanos(quota.interval()) * thousandths / 1_000;
            now += step;
            refilled += Duration::from_nanos(step).as_secs_f64() / quota.fill_time().as_secs_f64();
            if let Some(index) = reload {
                quota = *index.get(&quotas);
                buckets.retune(&[quota], 10);
                buckets.sweep(Nanos(now));
            }
            if buckets.take(key(1), 1, Nanos(now)).is_ok() {
                best = f64::min(best, spent - refilled);
                spent += 1.0 / f64::from(quota.burst());
                prop_assert!(spent - refilled - best <= 1.0 + 1e-6, "a reload forgave a debt");
            }
        }
    }
}

/// Runs `each` on 16 threads and joins what they return.
fn on_16_threads<T: Send + 'static>(each: impl Fn(u64) -> Vec<T> + Send + Sync + 'static) -> Vec<T> {
    let each = Arc::new(each);
    let threads: Vec<_> = (0..16)
        .map(|number| {
            let each = each.clone();
            thread::spawn(move || each(number))
        })
        .collect();
    threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
}

#[test]
fn sixteen_threads_get_no_more_than_burst_and_rate_and_no_less_than_one_under_it() {
    for id in [USER, IdentityId::GLOBAL] {
        let quota = quota(1_000, Duration::from_millis(1), 50);
        let buckets = Arc::new(Buckets::new("limits".into(), "p".into(), rule(id), vec![quota], 10));
        let clock = Arc::new(AtomicU64::new(0));
        let mut log = on_16_threads(move |_| {
            let mut admitted = Vec::new();
            for _ in 0..20_000 {
                let now = clock.fetch_add(100, SeqCst);
                if buckets.take(key(1), 1, Nanos(now)).is_ok() {
                    admitted.push((now, 1));
                }
            }
            admitted
        });
        log.sort_unstable();
        assert_eq!(within_bound(&log, quota), Ok(()));
        // 320,000 steps of 100 ns at one a microsecond; a thread that sleeps with an old reading only loses its own turn.
        let most = 50 + 32_000;
        assert!((most - 40..=most).contains(&log.len()), "{} of {most}", log.len());
    }
}

#[test]
fn sixteen_threads_and_a_hundred_reloads_forgive_no_debt() {
    let per = Duration::from_secs(10);
    let (small, large) = (quota(100, per, 100), quota(200, per, 200));
    let buckets = Arc::new(buckets(small));
    let done = Arc::new(AtomicBool::new(false));
    let reloader = {
        let (buckets, done) = (buckets.clone(), done.clone());
        thread::spawn(move || {
            let mut reloads = 0;
            while !done.load(SeqCst) || reloads < 100 {
                buckets.retune(&[if reloads % 2 == 0 { large } else { small }], 10);
                reloads += 1;
                thread::yield_now();
            }
        })
    };
    let clock = Arc::new(AtomicU64::new(0));
    let mut log = on_16_threads(move |_| {
        let takes = (0..5_000).map(|_| clock.fetch_add(1_000_000, SeqCst));
        takes.filter(|now| buckets.take(key(1), 1, Nanos(*now)).is_ok()).map(|now| (now, 1)).collect()
    });
    done.store(true, SeqCst);
    reloader.join().unwrap();
    log.sort_unstable();
    // Both fill in ten seconds, so whatever the order of reloads, never more than the larger of the two allows.
    assert_eq!(within_bound(&log, large), Ok(()));
    assert!(log.len() >= 800, "{} in 80 s at no less than 10 a second", log.len());
}

#[test]
fn under_a_storm_of_refusals_every_bucket_holds_exactly_what_was_admitted() {
    let (wide, narrow) =
        (quota(10_000, Duration::from_secs(3_600), 10_000), quota(700, Duration::from_secs(3_600), 700));
    let make = |id, quota| Arc::new(Buckets::new("limits".into(), "p".into(), rule(id), vec![quota], 100));
    let (user, api, system) = (make(USER, wide), make(IdentityId::ROUTE, wide), make(IdentityId::GLOBAL, narrow));
    let shared = (user.clone(), api.clone(), system.clone());
    let admitted = on_16_threads(move |number| {
        let (user, api, system) = &shared;
        let claims = [(user, number % 4), (api, 100), (system, 0)];
        let claims = claims.map(|(buckets, who)| Claim { buckets, key: key(who), cost: 1, lane: 0 });
        let takes = (0..500).filter(|_| take_all(&claims, Counting::default(), Nanos(0)).is_ok());
        takes.map(|_| number % 4).collect()
    });
    assert_eq!(admitted.len(), 700);
    let spent = |buckets: &Buckets, who| buckets.peek(key(who), Nanos(0)).map_or(0, |view| view.burst - view.remaining);
    for who in 0..4 {
        let of_user = admitted.iter().filter(|admitted| **admitted == who).count();
        assert_eq!(spent(&user, who) as usize, of_user);
    }
    assert_eq!((spent(&api, 100), spent(&system, 0)), (700, 700));
}

#[test]
fn a_hundred_thousand_keys_each_under_its_limit_are_never_refused() {
    let buckets = buckets(quota(10, Duration::from_secs(1), 10));
    for round in 0..10u64 {
        for who in 0..100_000 {
            assert!(buckets.take(key(who), 1, Nanos(round)).is_ok());
        }
    }
    assert_eq!(buckets.keys(), 100_000);
}

#[test]
fn a_text_has_the_same_key_for_a_request_and_for_an_operator() {
    let hasher = KeyHasher::random();
    assert_eq!(rule(USER).key(&hasher, "ann"), Identity::new(&hasher, USER, "ann").key);
}
