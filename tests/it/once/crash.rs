//! The gateway dies, and what it promised holds.

use super::*;
use crate::support::{eventually, kill_rounds};

#[test]
fn what_was_sent_when_the_gateway_died_is_unknown_and_not_sent_again() {
    let origin = shop(Duration::from_secs(3));
    let mut gateway = Gateway::start(&with(origin.address, "sqlite", ""));
    let mut first = asked(&gateway, "k", "{}");
    eventually("it is under way", PATIENCE, || !origin.seen().is_empty());
    gateway.kill_and_start();
    assert!(first.answer().is_none());
    for _ in 0..3 {
        let again = order(&gateway, "k", "{}");
        assert_eq!((again.status, code(&again).as_str()), (409, "outcome-unknown"), "{again:?}");
    }
    let other = order(&gateway, "k", "{\"qty\":2}");
    assert_eq!(other.status, 422);
    assert_eq!(origin.seen().len(), 1);
}

#[test]
fn every_answer_that_was_seen_is_given_again_after_a_crash() {
    let origin = shop(Duration::ZERO);
    let mut gateway = Gateway::start(&with(origin.address, "sqlite", ""));
    let rounds = kill_rounds(3);
    for round in 0..rounds {
        // One connection and one answer at a time: the gateway dies right behind the last answer that a client saw.
        let answers: Vec<Answer> =
            (0..10).map(|number| order(&gateway, &format!("k-{round}-{number}"), "{}")).collect();
        gateway.kill_and_start();
        for (number, before) in answers.iter().enumerate() {
            let after = order(&gateway, &format!("k-{round}-{number}"), "{}");
            assert_eq!((before.status, after.status), (201, 201), "{after:?}");
            assert_eq!(before.body, after.body);
            assert_eq!(after.header("idempotent-replayed"), Some("true"));
        }
    }
    assert_eq!(origin.seen().len(), 10 * rounds);
}

#[test]
fn nothing_of_an_answer_is_readable_in_the_file() {
    let origin = Origin::with(|_, stream| {
        let body = "{\"card_key\":\"SECRET-4711-KEY\"}";
        let head = format!("HTTP/1.1 200 OK\r\nX-Secret: HEADER-4711\r\nContent-Length: {}\r\n\r\n", body.len());
        stream.write_all(format!("{head}{body}").as_bytes()).is_ok()
    });
    let gateway = Gateway::start(&with(origin.address, "sqlite", ""));
    assert!(order(&gateway, "the-key-itself", "{}").text().contains("SECRET-4711"));
    let mut searched = 0;
    for entry in std::fs::read_dir(gateway.folder()).expect("the folder") {
        let path = entry.expect("an entry").path();
        if !path.to_string_lossy().contains(".records.") {
            continue;
        }
        searched += 1;
        let bytes = std::fs::read(&path).expect("its bytes");
        for secret in ["SECRET-4711", "HEADER-4711", "the-key-itself"] {
            assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()), "{secret} in {path:?}");
        }
    }
    assert!(searched >= 2, "a key and a file");
}
