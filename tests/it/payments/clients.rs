//! Clients that leave, that come twice, that come two hundred times at once.

use std::sync::Arc;
use std::time::Duration;

use super::desk::{BODY, Desk, IDEMPOTENT, PLAIN, answer, becomes, charges, good, request, with};
use crate::support::{Origin, Raw, eventually, exchange};

/// Charges after a while.
fn slow() -> Origin {
    let slow = |_: &_, stream: &mut std::net::TcpStream| {
        std::thread::sleep(Duration::from_millis(300));
        answer(stream, 200, r#"{"status":"SUCCESS"}"#)
    };
    with(slow, (500, "{}"))
}

#[test]
fn a_client_that_leaves_cancels_nothing() {
    let (a, b) = (slow(), good());
    let gateway = Desk::default().open(&[("a", a.address, PLAIN), ("b", b.address, PLAIN)]);
    let mut raw = Raw::connect(gateway.public());
    raw.send(request("p1", BODY));
    eventually("the channel has it", Duration::from_secs(5), || charges(&a) == 1);
    drop(raw);
    // The channel cannot be asked (500): what is recorded is the answer that nobody waited for.
    becomes(&gateway, "p1", "SUCCEEDED a:SUCCEEDED");
    assert_eq!((charges(&a), charges(&b)), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_http2_that_leaves_cancels_nothing() {
    let (a, b) = (slow(), good());
    let gateway = Desk::default().open(&[("a", a.address, PLAIN), ("b", b.address, PLAIN)]);
    let url = format!("http://{}/pay/v1/payments", gateway.public());
    let client = reqwest::Client::builder().http2_prior_knowledge().build().expect("a client");
    let sending = client.post(&url).header("idempotency-key", "p1").body(BODY).send();
    // Dropping the future resets the stream.
    let waited = tokio::time::timeout(Duration::from_millis(150), sending).await;
    assert!(waited.is_err(), "{waited:?}");
    drop(client);
    tokio::task::block_in_place(|| becomes(&gateway, "p1", "SUCCEEDED a:SUCCEEDED"));
    assert_eq!((charges(&a), charges(&b)), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn over_http2_payments_are_the_same() {
    let a = good();
    let gateway = Desk::default().open(&[("a", a.address, PLAIN)]);
    let url = format!("http://{}/pay/v1/payments", gateway.public());
    let client = reqwest::Client::builder().http2_prior_knowledge().build().expect("a client");
    let answer = client.post(&url).header("idempotency-key", "p1").body(BODY).send().await.expect("an answer");
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["tidegate-channel"]),
        (200, &"a".parse().expect("a value"))
    );
    assert_eq!(answer.headers()["tidegate-outcome"], "final");
    assert!(answer.text().await.expect("a body").contains("SUCCESS"));
    let seen = a.seen();
    assert_eq!((seen[0].header("idempotency-key"), seen[0].body.as_slice()), (Some("p1"), BODY.as_bytes()));
    assert!(seen[0].header("host").is_some() && seen[0].header("x-request-id").is_some(), "{seen:?}");
    let status = client.get(format!("http://{}/.tidegate/payments/p1", gateway.public())).send().await;
    let status = status.expect("an answer").text().await.expect("a body");
    assert!(status.contains(r#""status":"SUCCEEDED""#), "{status}");
}

#[test]
fn two_hundred_times_the_same_number_at_once_is_one_payment() {
    for (terms, most) in [(PLAIN, 1), (IDEMPOTENT, 200)] {
        let (a, b) = (slow(), slow());
        let gateway = Arc::new(Desk::default().open(&[("a", a.address, terms), ("b", b.address, terms)]));
        let all: Vec<_> = (0..200)
            .map(|_| {
                let gateway = gateway.clone();
                std::thread::spawn(move || exchange(gateway.public(), &request("p1", BODY)))
            })
            .collect();
        let answers: Vec<_> = all.into_iter().map(|one| one.join().expect("joined")).collect();
        assert!(answers.iter().all(|answer| matches!(answer.status, 200 | 202)), "{answers:?}");
        assert!(answers.iter().any(|answer| answer.status == 200));
        let (state, tries) = super::desk::states(&gateway, "p1");
        assert_eq!((state.as_str(), tries.len()), ("SUCCEEDED", 1));
        let (at_a, at_b) = (charges(&a), charges(&b));
        assert!((at_a == 0 || at_b == 0) && (1..=most).contains(&(at_a + at_b)), "{at_a} and {at_b}");
    }
}
