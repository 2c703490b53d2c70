//! A hundred thousand virtual visitors in a minute, a tenth of them bots without cookies, a fifth who leave: is the line
//! fair, are the limits kept, and were the waits that people were told true?
//!
//! `cargo run --release -p tidegate-filters --example crowd`

#![allow(clippy::print_stdout)]

use std::time::Instant;

use tidegate_filters::waiting_room::rules::Rules;
use tidegate_filters::waiting_room::simulation::{Arrival, simulate};

const VISITORS: u64 = 100_000;

fn main() {
    let visitor = |at: u64| Arrival {
        at: at * 60_000 / VISITORS,
        leave: 0.2,
        think: 20_000 + at * 7_919 % 40_000,
        keeps_cookies: !at.is_multiple_of(10),
    };
    let arrivals: Vec<Arrival> = (0..VISITORS).map(visitor).collect();
    let started = Instant::now();
    let report = simulate(&Rules::new(20_000, 12_000, 60_000), &arrivals, 1);
    println!("{report:#?}");
    println!("simulated in {:.1} s", started.elapsed().as_secs_f64());
}
