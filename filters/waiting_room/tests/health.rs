//! The rate follows what the backend can take.

use crate::waiting_room::{Aimd, Control, Health};

/// A backend that is slow as soon as it is asked for more than `capacity` a minute.
fn run(control: &mut Control, from: u64, seconds: u64, capacity: u32) -> u32 {
    let mut rate = 0;
    for tick in 0..seconds * 10 {
        let now = from + tick * 100;
        let p95 = Some(if rate > capacity { 900 } else { 80 });
        rate = control.decide(&Aimd::default(), 1_200, Health { p95, ..Health::default() }, now);
    }
    rate
}

#[test]
fn a_backend_that_halves_is_followed_in_seconds_and_back() {
    let mut control = Control::new(1_200, 0);
    assert_eq!(run(&mut control, 0, 5, 2_000), 1_200);
    let halved = run(&mut control, 5_000, 5, 600);
    assert!((400..=720).contains(&halved), "{halved}");
    assert_eq!(run(&mut control, 10_000, 30, 2_000), 1_200);
}

#[test]
fn an_open_breaker_brings_the_least_rate_at_once_and_errors_lower_it() {
    let mut control = Control::new(1_200, 0);
    let errors = Health { error_ratio: 0.1, ..Health::default() };
    assert_eq!(control.decide(&Aimd::default(), 1_200, errors, 100), 840);
    assert_eq!(control.decide(&Aimd::default(), 1_200, errors, 200), 840, "not twice for the same trouble");
    let open = Health { breaker_open: true, ..Health::default() };
    assert_eq!(control.decide(&Aimd::default(), 1_200, open, 300), 60);
    assert_eq!(control.decide(&Aimd::default(), 30, open, 400), 30, "never above what is configured");
}
