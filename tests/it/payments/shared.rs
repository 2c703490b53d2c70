//! Two gateways, one journal in a database: it does not matter which of them gets the repeat of a payment, or which is left.

use std::net::TcpStream;
use std::time::Duration;

use super::desk::{BODY, Desk, PLAIN, becomes, charges, good, pay, request, stands, with};
use crate::support::{Gateway, Origin, Postgres, Raw, eventually};

/// Charges, is silent for the length of a test, and says so when it is asked.
fn charges_then_hangs() -> Origin {
    let hang = |_: &_, _: &mut TcpStream| {
        std::thread::sleep(Duration::from_secs(40));
        false
    };
    with(hang, (200, r#"{"status":"SUCCESS","amount":100}"#))
}

fn two(server: &Postgres, read_timeout: &str, a: &Origin, b: &Origin) -> [Gateway; 2] {
    let desk = Desk { read_timeout, ..Desk::default() };
    let store = format!("{{type: postgres, url: \"{}\", secret: \"${{NOT_SET:-{}}}\"}}", server.url(), "0f".repeat(32));
    let yaml = desk.yaml(&[("a", a.address, PLAIN), ("b", b.address, PLAIN)]);
    let yaml = yaml.replace("{type: sqlite}", &store);
    [(); 2].map(|()| Gateway::start(&yaml))
}

#[test]
fn a_payment_that_one_gateway_does_not_know_the_end_of_is_sent_by_no_other() {
    let server = Postgres::start();
    let (a, b) = (charges_then_hangs(), good());
    let [first, second] = two(&server, "700ms", &a, &b);
    let got = pay(&first, "p1");
    assert_eq!((got.status, got.header("tidegate-channel")), (202, Some("a")), "{got:?}");
    let again = pay(&second, "p1");
    assert!(matches!(again.status, 200 | 202), "{again:?}");
    for gateway in [&first, &second] {
        becomes(gateway, "p1", "SUCCEEDED a:SUCCEEDED");
        assert_eq!(pay(gateway, "p1").json()["status"], "SUCCEEDED");
    }
    assert_eq!((charges(&a), charges(&b)), (1, 0));
}

#[test]
fn a_payment_whose_gateway_is_gone_is_resolved_by_the_other() {
    let server = Postgres::start();
    let (a, b) = (charges_then_hangs(), good());
    let [first, second] = two(&server, "60s", &a, &b);
    let mut raw = Raw::connect(first.public());
    raw.send(request("p1", BODY));
    eventually("the channel has it", Duration::from_secs(5), || charges(&a) == 1);
    stands(&second, "p1", "PROCESSING a:DISPATCHING");
    // Killed, and nobody starts it again.
    drop(first);
    let repeat = pay(&second, "p1");
    assert_eq!((repeat.status, charges(&b)), (202, 0), "{repeat:?}");
    eventually("the other has asked", Duration::from_secs(40), || pay(&second, "p1").status == 200);
    stands(&second, "p1", "SUCCEEDED a:SUCCEEDED");
    assert_eq!((charges(&a), charges(&b)), (1, 0));
}
