//! When the journal cannot be used, nothing is sent, and what is said stays true.

use super::desk::{Desk, PLAIN, charges, good, pay, stands};
use crate::support::Gateway;

/// Does this to the journal's file, as an operator's mistake would.
fn meddle(gateway: &Gateway, sql: &str) {
    let file = rusqlite::Connection::open(gateway.data_dir().join("payments.db")).expect("the journal");
    file.busy_timeout(std::time::Duration::from_secs(5)).expect("a timeout");
    file.execute_batch(sql).expect("a change");
}

#[test]
fn a_journal_that_cannot_be_read_sends_nothing_and_does_not_call_an_earlier_request_unsent() {
    let a = good();
    let gateway = Desk::default().open(&[("a", a.address, PLAIN)]);
    assert_eq!(pay(&gateway, "p1").status, 200);
    meddle(&gateway, "ALTER TABLE payments RENAME TO elsewhere");
    for id in ["p1", "p2"] {
        let got = pay(&gateway, id);
        let seen = (got.status, got.header("tidegate-outcome"), got.json()["code"].clone());
        assert_eq!(seen, (503, Some("unknown"), "journal-unavailable".into()), "{id}: {got:?}");
        assert!(got.header("retry-after").is_some());
    }
    assert_eq!(charges(&a), 1);
    meddle(&gateway, "ALTER TABLE elsewhere RENAME TO payments");
    assert_eq!(pay(&gateway, "p1").json()["status"], "SUCCEEDED", "from the record");
    assert_eq!((pay(&gateway, "p2").status, charges(&a)), (200, 2));
}

#[test]
fn a_journal_that_cannot_be_written_sends_nothing_and_says_so() {
    let a = good();
    let gateway = Desk::default().open(&[("a", a.address, PLAIN)]);
    meddle(
        &gateway,
        "CREATE TRIGGER full BEFORE INSERT ON attempts BEGIN SELECT RAISE(ABORT, 'the disk is full'); END",
    );
    let got = pay(&gateway, "p1");
    assert_eq!((got.status, got.header("tidegate-outcome")), (503, Some("not-sent")), "{got:?}");
    assert_eq!(charges(&a), 0);
    meddle(&gateway, "DROP TRIGGER full");
    assert_eq!((pay(&gateway, "p1").status, charges(&a)), (200, 1));
    stands(&gateway, "p1", "SUCCEEDED a:SUCCEEDED");
}
