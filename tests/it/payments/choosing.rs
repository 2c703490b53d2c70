//! Payments that choose their channel by breaker and weight.

use std::time::{Duration, Instant};

use super::desk::{Desk, IDEMPOTENT, PLAIN, answer, charges, good, pay, stands, with};
use crate::support::{Gateway, Origin, free_port};

/// A gateway whose payments go through a breaker and a choice.
fn choosing(breaker: &str, pick: &str, channels: &[(&str, std::net::SocketAddr, &str)]) -> Gateway {
    let desk = Desk { route: "    filters: [guard, pick]\n", ..Desk::default() };
    let yaml = desk.yaml(channels);
    let filters =
        format!("filters:\n  guard: {{circuit_breaker: {{{breaker}}}}}\n  pick: {{failover: {{{pick}}}}}\nroutes:\n");
    Gateway::start(&yaml.replacen("routes:\n", &filters, 1))
}

fn failing() -> Origin {
    with(|_, stream| answer(stream, 500, "{}"), (500, "{}"))
}

#[test]
fn a5_a_payment_in_doubt_is_no_other_channel_s_and_five_of_them_open_the_breaker_for_new_ones() {
    let (a, b) = (failing(), good());
    let gateway = choosing(
        "consecutive_failures: 5, open_for: 1h",
        "policy: priority",
        &[("a", a.address, PLAIN), ("b", b.address, PLAIN)],
    );
    for number in 1..=5 {
        let id = format!("p{number}");
        assert_eq!(pay(&gateway, &id).status, 202, "{id}");
        stands(&gateway, &id, "PROCESSING a:UNKNOWN");
    }
    assert_eq!((charges(&a), charges(&b)), (5, 0));
    // The very next one.
    let next = pay(&gateway, "p6");
    assert_eq!((next.status, next.header("tidegate-channel")), (200, Some("b")));
    assert_eq!((charges(&a), charges(&b)), (5, 1));
    let route = gateway.admin("GET", "/-/payments/p6/route").json();
    assert_eq!(route["attempts"][0]["considered"][0]["reason"], "breaker open", "{route}");
}

#[test]
fn a_resend_to_a_channel_that_rests_is_left_to_the_resolver() {
    let a = failing();
    let gateway =
        choosing("consecutive_failures: 2, open_for: 1h", "policy: priority", &[("a", a.address, IDEMPOTENT)]);
    // The first try and one more open the breaker; without it there would be a third.
    assert_eq!(pay(&gateway, "p1").status, 202);
    assert_eq!(charges(&a), 2);
    assert_eq!(pay(&gateway, "p1").status, 202, "asking again sends nothing either");
    assert_eq!(charges(&a), 2);
}

#[test]
fn a6_a_refused_connection_costs_the_buyer_next_to_nothing() {
    let (dead, b) = (std::net::SocketAddr::from(([127, 0, 0, 1], free_port())), good());
    let gateway =
        choosing("consecutive_failures: 50", "policy: priority", &[("a", dead, PLAIN), ("b", b.address, PLAIN)]);
    assert_eq!(pay(&gateway, "warm").status, 200);
    let mut took: Vec<Duration> = (0..9)
        .map(|number| {
            let begun = Instant::now();
            assert_eq!(pay(&gateway, &format!("p{number}")).header("tidegate-channel"), Some("b"));
            begun.elapsed()
        })
        .collect();
    took.sort_unstable();
    assert!(took[4] < Duration::from_millis(100), "{took:?}");
    assert_eq!(charges(&b), 10);
}

#[test]
fn payments_are_spread_by_weight_with_one_row_each() {
    let (a, b) = (good(), good());
    let channels = [("a", a.address, "        weight: 70\n"), ("b", b.address, "        weight: 30\n")];
    let gateway = choosing("consecutive_failures: 5", "policy: weighted", &channels);
    for number in 0..100 {
        assert_eq!(pay(&gateway, &format!("p{number}")).status, 200);
    }
    assert_eq!((charges(&a), charges(&b)), (70, 30));
}
