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

#[test]
fn one_dead_address_of_several_is_no_failure_of_its_channel() {
    let (dead, a, b) = (std::net::SocketAddr::from(([127, 0, 0, 1], free_port())), good(), good());
    let channels = [("a", a.address, PLAIN), ("b", b.address, PLAIN)];
    let gateway = choosing("consecutive_failures: 1, open_for: 1h", "policy: priority", &channels);
    let yaml = std::fs::read_to_string(gateway.folder().join("tidegate.yaml")).expect("its file");
    let (one, two) = (format!("[\"{}\"]", a.address), format!("[\"{dead}\", \"{}\"]", a.address));
    gateway.reload(&yaml.replace(&one, &two));
    for number in 0..6 {
        let got = pay(&gateway, &format!("p{number}"));
        assert_eq!((got.status, got.header("tidegate-channel")), (200, Some("a")), "{got:?}");
    }
    assert_eq!((charges(&a), charges(&b)), (6, 0));
    let tries = super::desk::states(&gateway, "p0").1.len() + super::desk::states(&gateway, "p1").1.len();
    assert!(tries > 2, "the dead address was tried");
}

#[test]
fn a_channel_that_asks_for_more_patience_than_there_is_time_gets_none() {
    let a = Origin::with(|_, stream| {
        let text = "HTTP/1.1 429 X\r\nRetry-After: 18446744073709551615\r\nContent-Length: 2\r\n\r\n{}";
        std::io::Write::write_all(stream, text.as_bytes()).is_ok()
    });
    let gateway = Desk::default().open(&[("a", a.address, PLAIN)]);
    let begun = Instant::now();
    let got = pay(&gateway, "p1");
    assert_eq!((got.status, got.header("tidegate-outcome")), (429, Some("not-processed")), "{got:?}");
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    assert_eq!(charges(&a), 1);
}

#[test]
fn a7_slow_answers_are_waited_for_and_counted_and_open_the_breaker() {
    let a = with(
        |_, stream| {
            std::thread::sleep(Duration::from_millis(250));
            answer(stream, 200, r#"{"status":"SUCCESS"}"#)
        },
        (200, "{}"),
    );
    let b = good();
    let gateway = choosing(
        "consecutive_failures: 5, slow_call: 200ms, open_for: 2s",
        "policy: priority",
        &[("a", a.address, PLAIN), ("b", b.address, PLAIN)],
    );
    for number in 1..=5 {
        let got = pay(&gateway, &format!("p{number}"));
        assert_eq!((got.status, got.header("tidegate-channel")), (200, Some("a")), "{got:?}");
    }
    let begun = Instant::now();
    assert_eq!(pay(&gateway, "p6").header("tidegate-channel"), Some("b"));
    std::thread::sleep(Duration::from_millis(2_100).saturating_sub(begun.elapsed()));
    // One probe at a time: of three at once one goes there.
    let pays: Vec<_> = std::thread::scope(|all| {
        let one = |id: &'static str| all.spawn(|| pay(&gateway, id).header("tidegate-channel").map(str::to_owned));
        let threads = ["p7", "p8", "p9"].map(one);
        threads.into_iter().map(|thread| thread.join().expect("an answer")).collect()
    });
    assert_eq!(pays.iter().filter(|channel| channel.as_deref() == Some("a")).count(), 1, "{pays:?}");
    assert_eq!(charges(&a), 6);
}
