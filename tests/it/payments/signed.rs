//! Answers that must be the channel's own.

use std::net::TcpStream;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey};

use super::desk::{Desk, NOT_FOUND, PLAIN, becomes, charges, good, pay, stands};
use crate::support::{Gateway, Origin, get};

/// What a file says about a channel that signs; the variable is not set, so the default holds.
const SIGNED: &str =
    "        signature: {hmac: {header: x-signature, secret: \"${NOT_SET_IN_TESTS:-the channel's}\"}}\n";
const SUCCESS: &str = r#"{"status":"SUCCESS","amount":100}"#;

/// The header of an answer that is signed with this, `ago` seconds ago.
fn signature(secret: &str, ago: u64, body: &str) -> String {
    let time = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs() - ago;
    let key = EncodingKey::from_secret(secret.as_bytes());
    let tag = jsonwebtoken::crypto::sign(format!("{time}.{body}").as_bytes(), &key, Algorithm::HS256).expect("a tag");
    let tag = URL_SAFE_NO_PAD.decode(tag).expect("base64");
    let hex: String = tag.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("X-Signature: t={time},v1={hex}\r\n")
}

fn say(stream: &mut TcpStream, status: u16, header: &str, body: &str) -> bool {
    use std::io::Write as _;
    let length = body.len();
    let text = format!("HTTP/1.1 {status} X\r\n{header}Content-Length: {length}\r\n\r\n{body}");
    stream.write_all(text.as_bytes()).is_ok()
}

type Signs = fn(&str) -> String;

const WELL: Signs = |body| signature("the channel's", 0, body);
const FORGED: Signs = |body| signature("somebody else's", 0, body);
const OLD: Signs = |body| signature("the channel's", 3_600, body);
const NOT: Signs = |_| String::new();

/// A channel that answers payments with `pays` and questions with `knows`, each signed in its way.
fn channel(pays: (u16, &'static str, Signs), knows: (u16, &'static str, Signs)) -> Origin {
    Origin::with(move |seen, stream| {
        let (status, body, signs) = if seen.target == "/pay/v1/payments" { pays } else { knows };
        say(stream, status, &signs(body), body)
    })
}

/// Pays through such a channel, with another one ready; how often the other was asked.
fn through(a: &Origin) -> (Gateway, u16, usize) {
    let b = good();
    let gateway = Desk::default().open(&[("a", a.address, SIGNED), ("b", b.address, PLAIN)]);
    let status = pay(&gateway, "p1").status;
    (gateway, status, charges(&b))
}

#[test]
fn an_answer_of_the_channel_s_own_counts() {
    let a = channel((200, SUCCESS, WELL), (200, SUCCESS, WELL));
    let (gateway, status, others) = through(&a);
    assert_eq!((status, others), (200, 0));
    stands(&gateway, "p1", "SUCCEEDED a:SUCCEEDED");
}

#[test]
fn row_10_an_answer_that_anybody_could_have_written_is_unknown() {
    for signs in [FORGED, OLD, NOT] {
        // The channel's own word is what resolves it.
        let a = channel((200, SUCCESS, signs), (200, SUCCESS, WELL));
        let (gateway, status, others) = through(&a);
        assert_eq!((status, others), (202, 0));
        becomes(&gateway, "p1", "SUCCEEDED a:SUCCEEDED");
        assert_eq!(charges(&a), 1);
        assert!(gateway.metric("tidegate_payment_alerts_total{kind=\"ANSWER\"}") >= 1.0);
    }
    // A decline would free the buyer to pay again, and a refusal another channel.
    let soft = r#"{"status":"DECLINED","code":"INSUFFICIENT_FUNDS"}"#;
    for (status, body) in [(200, soft), (429, "{}"), (400, r#"{"code":"INVALID"}"#)] {
        let (gateway, got, others) = through(&channel((status, body, FORGED), (200, SUCCESS, FORGED)));
        assert_eq!((got, others), (202, 0), "{status} {body}");
        stands(&gateway, "p1", "PROCESSING a:UNKNOWN");
    }
}

#[test]
fn taking_a_signature_away_is_no_better_than_forging_one() {
    // What stands before a channel does not sign, and may say so after the channel has charged.
    for (status, body) in [(429, "slow down"), (403, "blocked"), (404, "{}"), (503, "{}")] {
        let (gateway, got, others) = through(&channel((status, body, NOT), (200, SUCCESS, NOT)));
        assert_eq!((got, others), (202, 0), "{status}");
        stands(&gateway, "p1", "PROCESSING a:UNKNOWN");
    }
    // Its own refusal frees the payment, and its own rejection ends it.
    let (gateway, status, others) = through(&channel((429, "{}", WELL), (404, NOT_FOUND, WELL)));
    assert_eq!((status, others), (200, 1));
    stands(&gateway, "p1", "SUCCEEDED a:NOT_PROCESSED b:SUCCEEDED");
    let (gateway, status, others) = through(&channel((422, "{}", WELL), (404, NOT_FOUND, WELL)));
    assert_eq!((status, others), (422, 0));
    stands(&gateway, "p1", "FAILED a:REJECTED");
    assert!(gateway.metric("tidegate_payment_alerts_total{kind=\"ANSWER\"}") >= 1.0, "our request is wrong");
}

#[test]
fn an_answer_about_another_payment_or_too_long_to_verify_is_unknown() {
    let other: &str = r#"{"payment_no":"p2","status":"SUCCESS","amount":100}"#;
    let long: &str = Box::leak(format!("{}{}", SUCCESS, " ".repeat(70_000)).into_boxed_str());
    for body in [other, long] {
        let (gateway, got, others) = through(&channel((200, body, WELL), (200, body, WELL)));
        assert_eq!((got, others), (202, 0));
        stands(&gateway, "p1", "PROCESSING a:UNKNOWN");
    }
}

#[test]
fn a_question_is_answered_by_the_channel_or_by_nobody() {
    // Nobody believes that it is unknown there, or paid, for want of a signature.
    for knows in [(404, NOT_FOUND, NOT), (404, NOT_FOUND, FORGED), (200, SUCCESS, NOT), (200, SUCCESS, FORGED)] {
        let a = channel((500, "{}", NOT), knows);
        let (gateway, status, _) = through(&a);
        assert_eq!(status, 202);
        let asked = || a.seen().iter().filter(|seen| seen.method == "GET").count();
        crate::support::eventually("three questions", std::time::Duration::from_secs(10), || asked() >= 3);
        stands(&gateway, "p1", "PROCESSING a:UNKNOWN");
        assert_eq!(get(gateway.public(), "/.tidegate/payments/p1", "").json()["status"], "PROCESSING");
    }
}
