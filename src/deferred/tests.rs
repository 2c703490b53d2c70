//! Books and the thread that works them off.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_filters::respond_async::Deferred;

use crate::reload::Source;
use crate::reload::tests::{Case, file};

/// A file with these filters and a store.
fn with(filters: &str) -> String {
    format!("{}stores: {{disk: {{type: sqlite}}}}\n", file(filters))
}

fn until(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !so() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_book_that_owes_nothing_is_dropped_also_while_its_task_sleeps() {
    let case = Case::new(&with("  later: {respond_async: {store: disk}}\n"));
    let shared = &case.gateway.shared;
    shared.deferred.attach(&case.gateway).expect("a thread");
    let worked_on = || shared.states.all::<Deferred>().iter().any(|(_, book)| Arc::weak_count(book) >= 2);
    until("the thread finds it", worked_on);
    case.write(&with(""));
    case.reloader.reload(Source::Admin).expect("a file that can be used");
    // A task that wakes up just then holds it for a moment.
    for _ in 0..40 {
        shared.states.sweep(shared.clock.now(), Duration::ZERO);
        if shared.states.all::<Deferred>().is_empty() {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("it is kept for ever");
}
