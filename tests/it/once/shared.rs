//! Two gateways, one database: it does not matter which of them gets the repeat.

use std::sync::atomic::Ordering::SeqCst;

use super::{order, script, with};
use crate::support::{Gateway, Postgres};

const ANSWERS: &[&str] = &["HTTP/1.1 201 Created\r\nX-Shop: yes\r\nContent-Length: 5\r\n\r\nfirst"];

#[test]
fn a_repeat_at_another_gateway_gets_the_first_ones_answer_byte_for_byte() {
    let server = Postgres::start();
    let (origin, calls) = script(ANSWERS);
    let store = format!("postgres, url: \"{}\", secret: \"${{NOT_SET:-{}}}\"", server.url(), "0f".repeat(32));
    let gateways = [(); 2].map(|()| Gateway::start(&with(origin.address, &store, "")));
    let first = order(&gateways[0], "k-1", "{}");
    assert_eq!((first.status, first.text().as_str()), (201, "first"));
    for gateway in gateways.iter().rev() {
        let again = order(gateway, "k-1", "{}");
        assert_eq!((again.status, again.text()), (first.status, first.text()));
        assert_eq!((again.header("x-shop"), again.header("idempotent-replayed")), (Some("yes"), Some("true")));
        assert_eq!(order(gateway, "k-1", "{\"other\": 1}").status, 422, "another request under the same key");
    }
    assert_eq!(calls.load(SeqCst), 1, "carried out once");
}
