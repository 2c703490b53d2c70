//! Proofs of the queue: who is next, when, and that nothing is lost on any way out.

mod deciding;
mod filter;
mod pacing;
mod waiting;

use std::sync::Arc;
use std::time::Duration;

use super::inner::{Limits, Source};
use super::state::{Entered, Queue, Turn};
use crate::engine::{Key, Nanos, Permit, Priority};

const NOBODY: Key = Key(0);

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn at(count: u64) -> Nanos {
    Nanos(count * 1_000_000)
}

fn places(most: usize) -> Limits {
    limits(Source::Concurrency(most))
}

fn paced(rate: &str) -> Limits {
    limits(Source::Rate(rate.parse().expect("a rate"), None))
}

fn limits(source: Source) -> Limits {
    Limits { source, max_wait: ms(5_000), max_length: 1_000, ageing: ms(1_000), codel: None }
}

fn queue(limits: Limits) -> Arc<Queue> {
    Arc::new(Queue::new("line".into(), limits))
}

fn passes(queue: &Arc<Queue>, now: Nanos) -> Option<Permit> {
    match queue.enter(Priority::Normal, NOBODY, now) {
        Entered::Now(permit) => permit,
        Entered::Refused(_) | Entered::Waits(_) => panic!("did not pass at once"),
    }
}

fn waits(queue: &Arc<Queue>, class: Priority, flow: Key, now: Nanos) -> Turn {
    match queue.enter(class, flow, now) {
        Entered::Waits(turn) => turn,
        Entered::Now(_) | Entered::Refused(_) => panic!("does not wait"),
    }
}

/// Real time, one thread.
fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(future)
}
