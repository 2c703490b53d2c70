//! A gateway that dies in the middle of a payment, and one whose disk does.

use std::time::Duration;

use super::desk::{Desk, PLAIN, becomes, charges, good, pay, stands, with};
use crate::support::{Origin, Raw, eventually};

/// Takes a payment and answers nothing before the test is over.
fn hangs(asked: (u16, &'static str)) -> Origin {
    let hang = |_: &_, _: &mut std::net::TcpStream| {
        std::thread::sleep(Duration::from_secs(20));
        false
    };
    with(hang, asked)
}

#[test]
fn a_gateway_that_is_killed_while_it_sends_knows_afterwards_that_it_does_not_know() {
    let (a, b) = (hangs((500, "{}")), good());
    let channels = [("a", a.address, PLAIN), ("b", b.address, PLAIN)];
    let yaml = Desk::default().yaml(&channels).replace("read_timeout: 700ms", "read_timeout: 15s");
    let mut gateway = crate::support::Gateway::start(&yaml);
    let mut raw = Raw::connect(gateway.public());
    raw.send(super::desk::request("p1", super::desk::BODY));
    eventually("the channel has it", Duration::from_secs(5), || charges(&a) == 1);
    stands(&gateway, "p1", "PROCESSING a:DISPATCHING");
    gateway.crash_and_restart();
    stands(&gateway, "p1", "PROCESSING a:UNKNOWN");
    // The same number again: not to another channel, and not to this one either.
    let got = pay(&gateway, "p1");
    assert_eq!((got.status, got.header("tidegate-channel")), (202, Some("a")), "{got:?}");
    assert_eq!((charges(&a), charges(&b)), (1, 0));
}

#[test]
fn what_a_killed_gateway_has_sent_is_resolved_by_the_next() {
    let a = hangs((200, r#"{"status":"SUCCESS","amount":100}"#));
    let yaml = Desk::default().yaml(&[("a", a.address, PLAIN)]).replace("read_timeout: 700ms", "read_timeout: 15s");
    let mut gateway = crate::support::Gateway::start(&yaml);
    let mut raw = Raw::connect(gateway.public());
    raw.send(super::desk::request("p1", super::desk::BODY));
    eventually("the channel has it", Duration::from_secs(5), || charges(&a) == 1);
    gateway.crash_and_restart();
    becomes(&gateway, "p1", "SUCCEEDED a:SUCCEEDED");
    assert_eq!(charges(&a), 1);
}

#[test]
fn what_cannot_be_written_down_is_not_sent() {
    let a = good();
    let gateway = Desk::default().open(&[("a", a.address, PLAIN)]);
    assert_eq!(pay(&gateway, "p0").status, 200);
    // Somebody holds the file: the journal gives up after its five seconds.
    let file = rusqlite::Connection::open(gateway.data_dir().join("payments.db")).expect("the journal");
    file.execute_batch("BEGIN EXCLUSIVE").expect("held");
    let got = pay(&gateway, "p1");
    // The client has got its deadline's answer; the payment itself has been given up.
    assert!(matches!(got.status, 202 | 503), "{got:?}");
    eventually("it is given up", Duration::from_secs(15), || gateway.stderr().contains("nothing is sent"));
    file.execute_batch("ROLLBACK").expect("let go");
    assert_eq!(charges(&a), 1, "only the first");
    assert_eq!(gateway.admin("GET", "/-/payments/p1").status, 404);
    assert_eq!(pay(&gateway, "p1").status, 200);
}
