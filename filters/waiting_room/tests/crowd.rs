//! A crowd of virtual visitors, a tenth of them bots without cookies, a fifth who leave. `./dev visitors` sends more.

use crate::waiting_room::rules::Rules;
use crate::waiting_room::simulation::{Arrival, simulate};

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
