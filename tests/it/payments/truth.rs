//! Many payments, channels that fail in every way, impatient clients: by the channels' own ledgers nobody pays twice.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::desk::{BODY, Desk, IDEMPOTENT, NOT_FOUND, SOFT, answer, request, states};
use crate::support::{Origin, Seen, exchange};

/// A channel's ledger: what it has charged, and what it has been told to accept no more.
#[derive(Default)]
struct Ledger {
    charged: HashMap<String, usize>,
    closed: HashSet<String>,
}

/// What becomes of a payment at a channel, always the same for both.
fn fate(channel: &str, id: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (channel, id).hash(&mut hasher);
    hasher.finish() % 8
}

fn channel(name: &'static str, idempotent: bool) -> (Origin, Arc<Mutex<Ledger>>) {
    let ledger: Arc<Mutex<Ledger>> = Arc::default();
    let book = ledger.clone();
    let origin = Origin::with(move |seen, stream| {
        let id = seen.target.trim_start_matches("/pay/v1/payments").trim_start_matches('/').to_owned();
        match (seen.method.as_str(), id.strip_suffix("/close")) {
            ("GET", _) => {
                let charged = book.lock().expect("no poison").charged.contains_key(&id);
                let (status, body) = if charged { (200, r#"{"status":"SUCCESS"}"#) } else { (404, NOT_FOUND) };
                answer(stream, status, body)
            }
            (_, Some(id)) => {
                let mut book = book.lock().expect("no poison");
                if book.charged.contains_key(id) {
                    return answer(stream, 409, r#"{"code":"PAID"}"#);
                }
                book.closed.insert(id.to_owned());
                answer(stream, 200, r#"{"status":"CLOSED"}"#)
            }
            _ => charge(name, idempotent, &book, seen, stream),
        }
    });
    (origin, ledger)
}

fn charge(name: &str, idempotent: bool, book: &Mutex<Ledger>, seen: &Seen, stream: &mut TcpStream) -> bool {
    let id = seen.header("idempotency-key").expect("a number").to_owned();
    let take = || {
        let mut book = book.lock().expect("no poison");
        let replayed = idempotent && book.charged.contains_key(&id);
        if !replayed && !book.closed.contains(&id) {
            *book.charged.entry(id.clone()).or_default() += 1;
        }
    };
    let success = r#"{"status":"SUCCESS","amount":100}"#;
    match fate(name, &id) {
        0 => answer(stream, 429, "{}"),
        1 => answer(stream, 200, r#"{"status":"DECLINED","code":"CHANNEL_MAINTENANCE"}"#),
        2 => {
            take();
            false
        }
        3 => {
            take();
            answer(stream, 500, "{}")
        }
        4 => false,
        5 => {
            take();
            std::thread::sleep(Duration::from_millis(900));
            answer(stream, 200, success)
        }
        _ => {
            take();
            answer(stream, 200, success)
        }
    }
}

#[test]
fn no_payment_is_charged_twice_whatever_its_channels_do() {
    let (a, book_a) = channel("a", false);
    let (b, book_b) = channel("b", true);
    let (c, book_c) = channel("c", false);
    let idempotent = format!("{IDEMPOTENT}{SOFT}");
    let channels = [("a", a.address, SOFT), ("b", b.address, idempotent.as_str()), ("c", c.address, SOFT)];
    let gateway = Arc::new(Desk { payment: "      deadline: 300ms\n", ..Desk::default() }.open(&channels));
    let threads: Vec<_> = (0..8)
        .map(|thread| {
            let gateway = gateway.clone();
            std::thread::spawn(move || (0..12).for_each(|n| one(&gateway, &format!("p{thread}-{n}"))))
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().expect("joined"));
    let (mut paid, mut failed) = (0, 0);
    for id in (0..8).flat_map(|thread| (0..12).map(move |n| format!("p{thread}-{n}"))) {
        let charges: usize = [&book_a, &book_b, &book_c]
            .iter()
            .filter_map(|book| book.lock().expect("no poison").charged.get(&id).copied())
            .sum();
        let (state, tries) = states(&gateway, &id);
        let fates = ["a", "b", "c"].map(|channel| fate(channel, &id));
        assert!(charges <= 1, "{id} was charged {charges} times: {state} {tries:?}, fates {fates:?}");
        assert_eq!(state == "SUCCEEDED", charges == 1, "{id}: {state} {tries:?}, fates {fates:?}");
        if charges == 1 { paid += 1 } else { failed += 1 }
    }
    assert!(paid > 60 && failed < 36, "{paid} paid, {failed} failed");
}

/// Pays, comes back with the same number while it is told that nobody knows, and takes no for an answer late.
fn one(gateway: &crate::support::Gateway, id: &str) {
    let begun = Instant::now();
    let mut refusals = 0;
    while refusals < 3 {
        let got = exchange(gateway.public(), &request(id, BODY));
        let body = got.text();
        if body.contains(r#""SUCCEED"#) || body.contains(r#""SUCCESS""#) {
            return;
        }
        assert!(matches!(got.status, 200 | 202 | 429 | 503), "{got:?}");
        if got.status != 202 {
            refusals += 1;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{id} is never decided: {got:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
