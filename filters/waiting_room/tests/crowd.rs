//! A crowd of virtual visitors, a tenth of them bots without cookies, a fifth who leave. `./dev visitors` sends more.

use super::support::Bench;
use crate::waiting_room::rules::Rules;
use crate::waiting_room::simulation::{Arrival, simulate};
use crate::waiting_room::{Entry, Visitor};

fn crowd(count: u64) -> Vec<Arrival> {
    (0..count)
        .map(|at| Arrival {
            at: at * 60_000 / count,
            leave: 0.2,
            think: 20_000 + at * 7_919 % 40_000,
            keeps_cookies: at % 10 != 0,
        })
        .collect()
}

#[test]
fn a_crowd_is_served_in_order_within_the_limits_and_told_the_truth() {
    let rules = Rules::new(2_000, 1_200, 60_000);
    let report = simulate(&rules, &crowd(6_000), 1);
    assert_eq!((report.numbers_of_bots, report.overtaken, report.inversions), (0, 0, 0));
    assert!(report.most_in_a_minute <= 1_200 && report.most_inside <= 2_000, "{report:?}");
    assert!(report.admitted + report.left >= 5_390, "{report:?}");
    assert!(report.eta_error < 0.25, "{report:?}");
}

#[test]
fn nine_in_ten_who_leave_at_once_cost_half_of_the_rate_at_most_and_no_order() {
    let leave = |at: u64| if at.is_multiple_of(10) { 0.0 } else { 1.0 };
    let visitor = |at: u64| Arrival { at: at * 6, leave: leave(at), think: 1_000, keeps_cookies: true };
    let arrivals: Vec<Arrival> = (0..20_000).map(visitor).collect();
    let report = simulate(&Rules::new(10_000, 600, 60_000), &arrivals, 2);
    assert!(report.per_minute >= 300.0, "{report:?}");
    assert_eq!(report.overtaken, 0);
}

/// Resident memory of this process in KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn a_million_who_wait_and_look_cost_less_than_eight_mebibytes() {
    let mut bench = Bench::new(Rules::new(1, 60, 300_000));
    let steady = Visitor { subject: 0, steady: true };
    bench.room.enter(bench.now, steady);
    bench.pass(200);
    let before = resident();
    for at in 0..1_000_000u32 {
        assert!(matches!(bench.room.enter(bench.now, steady), Entry::Place(_)));
        if at % 16_384 == 0 {
            bench.pass(100);
        }
    }
    // Everybody looks, in both generations of the marks.
    for _ in 0..2 {
        let (now, tail) = (bench.now, bench.room.outlook().tail);
        (2..=tail).for_each(|number| assert!(bench.room.poll(now, number, 0).is_none()));
        bench.pass(100_000);
    }
    assert_eq!(bench.room.outlook().waiting, 1_000_000);
    let grown = resident().saturating_sub(before);
    assert!(grown <= 8 * 1_024, "{grown} KiB");
}
