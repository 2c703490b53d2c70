//! The header's forms, whose key it is, what a request was, and settings that make no sense.

use super::super::key::{Given, fingerprint, given, principal_id, record_id};
use super::super::key::{Principal, principal};
use super::*;
use crate::engine::HeaderPair;

fn read(lines: &[&str]) -> Given {
    let headers: Vec<HeaderPair<'_>> =
        lines.iter().map(|line| (b"Idempotency-Key".as_slice(), line.as_bytes())).collect();
    given(&RequestHead { method: "POST", target: "/", path: "/", host: "", secure: false, headers: &headers })
}

fn key(text: &str) -> Given {
    Given::Key(text.as_bytes().to_vec())
}

#[test]
fn quoted_and_bare_are_the_same_key() {
    assert_eq!(read(&[]), Given::Nothing);
    for (line, expected) in [("abc", "abc"), ("\"abc\"", "abc"), (" \"abc\" ", "abc"), ("\"a\\\"b\\\\c\"", "a\"b\\c")] {
        assert_eq!(read(&[line]), key(expected), "{line}");
    }
    assert_eq!(read(&["k".repeat(255).as_str()]), key(&"k".repeat(255)));
}

#[test]
fn what_is_no_key_is_refused() {
    let long = "k".repeat(256);
    for line in ["", "\"\"", "a b", "\"a b\"", "\"open", "\"a\"b", "\"a\\n\"", "ä", "a\u{7f}", long.as_str()] {
        assert_eq!(read(&[line]), Given::Malformed, "{line:?}");
    }
    assert_eq!(read(&["a", "a"]), Given::Malformed);
}

fn print(method: &str, target: &str, content_type: &[u8], body: &[u8]) -> crate::store::Fingerprint {
    let path = target.split('?').next().unwrap_or_default();
    let headers: &[HeaderPair<'_>] = &[(b"content-type", content_type), (b"x-noise", b"1")];
    let head = RequestHead { method, target, path, host: "a", secure: false, headers };
    fingerprint(&head, Some(body))
}

#[test]
fn a_request_is_method_path_query_type_and_body() {
    let one = print("POST", "/a?x=1&y=2", b"application/json", b"{}");
    assert_eq!(one, print("POST", "/a?y=2&x=1", b"Application/JSON ", b"{}"));
    for other in [
        print("PATCH", "/a?x=1&y=2", b"application/json", b"{}"),
        print("POST", "/b?x=1&y=2", b"application/json", b"{}"),
        print("POST", "/a?x=1", b"application/json", b"{}"),
        print("POST", "/a?x=1&y=2", b"text/plain", b"{}"),
        print("POST", "/a?x=1&y=2", b"application/json", b"{ }"),
    ] {
        assert_ne!(one, other);
    }
    // Parts do not flow into each other.
    assert_ne!(print("POST", "/a", b"b", b"c"), print("POST", "/a", b"", b"bc"));
}

#[test]
fn records_are_told_apart_by_principal_route_method_and_key() {
    let user = principal_id("user", &Principal::Identity("alice"));
    let one = record_id(&user, "pay", "POST", b"k");
    for other in [
        record_id(&principal_id("user", &Principal::Identity("bob")), "pay", "POST", b"k"),
        record_id(&principal_id("merchant", &Principal::Identity("alice")), "pay", "POST", b"k"),
        record_id(&user, "order", "POST", b"k"),
        record_id(&user, "pay", "PATCH", b"k"),
        record_id(&user, "pay", "POST", b"K"),
    ] {
        assert_ne!(one, other);
    }
}

#[test]
fn addresses_of_one_household_are_one_principal() {
    let of = |address: &str| {
        let cx = RequestContext::new(Nanos(0), address.parse().expect("an address"));
        principal(IdentityId::CLIENT, &cx).map(|principal| principal_id("client", &principal)).expect("always known")
    };
    assert_eq!(of("2001:db8::1"), of("2001:db8::ffff"));
    assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
    assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
    assert_ne!(of("10.0.0.1"), of("10.0.0.2"));
}

#[test]
fn nonsense_is_refused_with_its_place() {
    let problems = |json: &str| {
        let (mut problems, identities) = (Problems::default(), ["client".to_owned(), "global".to_owned()]);
        let stores = ["local".to_owned()];
        settings(json)
            .check(&CheckContext { identities: &identities, stores: &stores, durable: &stores }, &mut problems);
        problems.0.into_iter().map(|problem| problem.path).collect::<Vec<_>>()
    };
    assert_eq!(problems("{}"), [""]);
    assert_eq!(problems(r#"{"store": "nowhere"}"#), ["store"]);
    for (more, path) in [
        (r#""scope": "user""#, "scope"),
        (r#""scope": "global""#, "scope"),
        (r#""keep": "60d""#, "keep"),
        (r#""lease": "0s""#, "lease"),
        (r#""coalesce": "2m""#, "coalesce"),
        (r#""store_timeout": "0s""#, "store_timeout"),
        (r#""max_body": "1MiB""#, "max_body"),
        (r#""max_answer": "1GiB""#, "max_answer"),
        (r#""max_in_flight": 0"#, "max_in_flight"),
        (r#""methods": []"#, "methods"),
        (r#""methods": ["POST", "post"]"#, "methods[1]"),
        (r#""location": "orders""#, "location"),
    ] {
        assert_eq!(problems(&format!("{{\"store\": \"local\", {more}}}")), [path], "{more}");
    }
    assert!(problems(r#"{"store": "local"}"#).is_empty());
}
