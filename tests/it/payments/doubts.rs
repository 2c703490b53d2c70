//! What becomes of payments that nobody knows about: only the channel that has one is asked, and only its word counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use super::desk::{
    BODY, Desk, IDEMPOTENT, NOT_FOUND, PLAIN, answer, becomes, charges, good, pay, payment, request, stands, with,
};
use crate::support::{Gateway, Origin, eventually, exchange, get};

/// Charges, and says nothing for longer than anybody waits.
fn charges_then_hangs(asked: (u16, &'static str)) -> Origin {
    let hang = |_: &_, _: &mut std::net::TcpStream| {
        std::thread::sleep(Duration::from_secs(10));
        false
    };
    with(hang, asked)
}

fn told(origin: &Origin, method: &str, ending: &str) -> usize {
    origin.seen().iter().filter(|seen| seen.method == method && seen.target.ends_with(ending)).count()
}

#[test]
fn a_charge_that_hangs_is_never_made_a_second_time() {
    let (a, b) = (charges_then_hangs((200, r#"{"status":"SUCCESS","amount":100}"#)), good());
    let gateway = Desk::default().open(&[("a", a.address, PLAIN), ("b", b.address, PLAIN)]);
    let got = pay(&gateway, "p1");
    assert_eq!((got.status, got.header("tidegate-outcome")), (202, Some("unknown")), "{got:?}");
    becomes(&gateway, "p1", "SUCCEEDED a:SUCCEEDED");
    let status = get(gateway.public(), got.header("location").expect("a location"), "");
    assert_eq!((status.status, status.json()["status"].as_str()), (200, Some("SUCCEEDED")), "{status:?}");
    // The same number again: nothing is sent, the record is read.
    let again = pay(&gateway, "p1");
    assert_eq!((again.status, again.json()["status"].as_str()), (200, Some("SUCCEEDED")), "{again:?}");
    assert_eq!(again.header("tidegate-outcome"), Some("final"));
    assert_eq!((charges(&a), charges(&b)), (1, 0));
}

#[test]
fn a_client_is_not_kept_longer_than_its_deadline() {
    let (a, b) = (charges_then_hangs((200, r#"{"status":"SUCCESS"}"#)), good());
    let desk = Desk { payment: "      deadline: 200ms\n", upstream: "    write_timeout: 5s\n", ..Desk::default() };
    let gateway = desk.open(&[("a", a.address, PLAIN), ("b", b.address, PLAIN)]);
    let begun = std::time::Instant::now();
    let got = pay(&gateway, "p1");
    assert!(begun.elapsed() < Duration::from_millis(650), "{:?}", begun.elapsed());
    let seen = (got.status, got.header("tidegate-outcome"), got.header("tidegate-channel"));
    assert_eq!(seen, (202, Some("unknown"), Some("a")), "{got:?}");
    stands(&gateway, "p1", "PROCESSING a:DISPATCHING");
    becomes(&gateway, "p1", "SUCCEEDED a:SUCCEEDED");
    assert_eq!((charges(&a), charges(&b)), (1, 0));
}

#[test]
fn not_found_closes_the_payment_at_its_channel_before_another_may_have_it() {
    let (a, b) = (charges_then_hangs((404, NOT_FOUND)), good());
    let gateway = Desk::default().open(&[("a", a.address, PLAIN), ("b", b.address, PLAIN)]);
    assert_eq!(pay(&gateway, "p1").status, 202);
    assert_eq!(told(&a, "POST", "/close"), 0);
    becomes(&gateway, "p1", "FAILED a:CLOSED");
    assert!(told(&a, "GET", "/p1") >= 2, "{:?}", a.seen());
    assert_eq!((told(&a, "POST", "/close"), charges(&b)), (1, 0));
    // Closed, and acknowledged: now the same number may go to a channel that was not used.
    for _ in 0..2 {
        assert_eq!(pay(&gateway, "p1").status, 200);
        stands(&gateway, "p1", "SUCCEEDED a:CLOSED b:SUCCEEDED");
    }
    assert_eq!((charges(&a), charges(&b)), (1, 1));
}

#[test]
fn a_channel_that_tells_nothing_leaves_the_payment_to_a_person() {
    let (a, b) = (charges_then_hangs((500, "{}")), good());
    let desk = Desk { payment: "", ..Desk::default() };
    let yaml = desk.yaml(&[("a", a.address, PLAIN), ("b", b.address, PLAIN)]);
    let gateway = Gateway::start(&yaml.replace("unit: 100ms,", "unit: 50ms, deadline: 1500ms,"));
    assert_eq!(pay(&gateway, "p1").status, 202);
    becomes(&gateway, "p1", "MANUAL a:MANUAL");
    assert!(told(&a, "GET", "/p1") >= 2 && told(&a, "POST", "/close") == 0);
    // For the client it is still under way: it must not pay again.
    let again = pay(&gateway, "p1");
    assert_eq!((again.status, again.json()["status"].as_str()), (202, Some("PROCESSING")), "{again:?}");
    assert_eq!((charges(&a), charges(&b)), (1, 0));
    eventually("the metric", Duration::from_secs(5), || gateway.metric("tidegate_payments_manual") > 0.5);
    assert!(gateway.stderr().contains("MANUAL: somebody must look at this"), "{}", gateway.stderr());
    let listed = gateway.admin("GET", "/-/payments?state=manual").json();
    assert_eq!(listed["payments"][0]["payment_id"], "p1");
    assert_eq!(payment(&gateway, "p1")["events"][0]["kind"], "MANUAL");
}

#[test]
fn a_success_of_a_closed_try_beside_another_is_a_double_charge_and_somebody_hears_of_it() {
    let late = Arc::new(AtomicUsize::new(0));
    let paid_late = late.clone();
    let a = Origin::with(move |seen, stream| match seen.target.as_str() {
        "/pay/v1/payments" => {
            std::thread::sleep(Duration::from_secs(5));
            false
        }
        target if target.ends_with("/close") => answer(stream, 200, r#"{"status":"CLOSED"}"#),
        _ if paid_late.load(SeqCst) > 0 => answer(stream, 200, r#"{"status":"SUCCESS"}"#),
        _ => answer(stream, 404, NOT_FOUND),
    });
    let b = good();
    let gateway = Desk::default().open(&[("a", a.address, PLAIN), ("b", b.address, PLAIN)]);
    assert_eq!(pay(&gateway, "p1").status, 202);
    becomes(&gateway, "p1", "FAILED a:CLOSED");
    assert_eq!(pay(&gateway, "p1").status, 200);
    late.store(1, SeqCst);
    assert_eq!(gateway.admin("POST", "/-/payments/p1/query").status, 200);
    stands(&gateway, "p1", "SUCCEEDED a:CHARGED_LATE b:SUCCEEDED");
    let events = payment(&gateway, "p1")["events"].clone();
    assert_eq!((&events[0]["kind"], &events[1]["kind"]), (&"LATE_SUCCESS".into(), &"DUPLICATE_CHARGE".into()));
    assert!(gateway.metric("tidegate_payment_alerts_total") > 0.5);
    assert!(gateway.stderr().contains("DUPLICATE_CHARGE"));
}

#[test]
fn the_same_number_again_goes_only_to_the_channel_that_has_it() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let a = with(
        move |_, stream| {
            if counted.fetch_add(1, SeqCst) == 0 {
                std::thread::sleep(Duration::from_secs(5));
                return false;
            }
            answer(stream, 200, r#"{"status":"SUCCESS","trade_no":"t1"}"#)
        },
        (500, "{}"),
    );
    let b = good();
    // One try in all: the sending again is the client's, not the gateway's.
    let desk = |terms| {
        let yaml = Desk::default().yaml(&[("a", a.address, terms), ("b", b.address, PLAIN)]);
        yaml.replace("retry: {attempts: 3,", "retry: {attempts: 1,")
    };
    let gateway = Gateway::start(&desk(PLAIN));
    assert_eq!(pay(&gateway, "p1").status, 202);
    let again = pay(&gateway, "p1");
    assert_eq!((again.status, again.header("tidegate-channel")), (202, Some("a")), "{again:?}");
    assert_eq!((charges(&a), charges(&b)), (1, 0), "the channel does not know numbers again");
    gateway.reload(&desk(IDEMPOTENT));
    let again = pay(&gateway, "p1");
    assert_eq!((again.status, again.header("tidegate-channel")), (200, Some("a")), "{again:?}");
    assert_eq!(again.json()["trade_no"], "t1");
    stands(&gateway, "p1", "SUCCEEDED a:SUCCEEDED");
    assert_eq!((charges(&a), charges(&b)), (2, 0));
}

#[test]
fn another_amount_with_the_same_number_is_refused_and_sent_nowhere() {
    let a = good();
    let gateway = Desk::default().open(&[("a", a.address, PLAIN)]);
    assert_eq!(pay(&gateway, "p1").status, 200);
    for body in [BODY.replace("100", "200"), BODY.replace("CNY", "USD")] {
        let got = exchange(gateway.public(), &request("p1", &body));
        assert_eq!((got.status, got.json()["code"].as_str()), (422, Some("payment-id-reused")), "{got:?}");
    }
    assert_eq!(charges(&a), 1);
}

/// What a channel tells of p1; nobody takes its word for it.
const DECLINED: &str = r#"{"no":"p1","status":"DECLINED"}"#;

fn callback(body: &str) -> String {
    format!("POST /notify HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// A gateway whose channels call the backend back; it asks them by itself after a minute only.
fn called_back(desk: &Desk<'_>, a: &Origin, b: &Origin, backend: &Origin) -> Gateway {
    let route = "routes:
  - {name: notify, match: {path: /notify}, upstream: back, payments: {upstream: pay, id: {json: /no}}}
";
    let back = format!(
        "upstreams:\n  back: {{class: callback, channels: [{{name: back, endpoints: [\"{}\"]}}]}}\n",
        backend.address
    );
    let yaml = desk.yaml(&[("a", a.address, PLAIN), ("b", b.address, PLAIN)]).replace("unit: 100ms", "unit: 60s");
    Gateway::start(&yaml.replace("upstreams:\n", &back).replace("routes:\n", route))
}

#[test]
fn a_callback_that_the_backend_acknowledged_has_the_channel_asked_at_once() {
    let (a, b) = (charges_then_hangs((200, r#"{"status":"SUCCESS","amount":100}"#)), good());
    let verdict = Arc::new(AtomicUsize::new(401));
    let theirs = verdict.clone();
    let backend = Origin::with(move |_, stream| {
        let status = u16::try_from(theirs.load(SeqCst)).expect("a status");
        answer(stream, status, "{}")
    });
    let gateway = called_back(&Desk::default(), &a, &b, &backend);
    assert_eq!(pay(&gateway, "p1").status, 202);
    let callback = callback(DECLINED);
    assert_eq!(exchange(gateway.public(), &callback).status, 401);
    stands(&gateway, "p1", "PROCESSING a:UNKNOWN");
    assert_eq!(told(&a, "GET", "/p1"), 0, "a callback that was refused is nobody's news");
    verdict.store(200, SeqCst);
    assert_eq!(exchange(gateway.public(), &callback).status, 200);
    // What it says is not believed; what the channel says when it is asked is.
    becomes(&gateway, "p1", "SUCCEEDED a:SUCCEEDED");
    assert_eq!(backend.seen().last().map(|seen| seen.body.clone()), Some(DECLINED.as_bytes().to_vec()));
    assert_eq!((told(&a, "GET", "/p1"), charges(&b)), (1, 0));
}

#[test]
fn a_callback_overtakes_the_answer_that_it_is_about() {
    // It charges at once and says so, but its answer to the payment itself does not come.
    let (a, b) = (charges_then_hangs((200, r#"{"status":"SUCCESS","amount":100}"#)), good());
    let backend = Origin::with(|_, stream| answer(stream, 200, "{}"));
    let desk = Desk { payment: "      deadline: 100ms\n", read_timeout: "20s", ..Desk::default() };
    let gateway = called_back(&desk, &a, &b, &backend);
    assert_eq!(pay(&gateway, "p1").status, 202);
    stands(&gateway, "p1", "PROCESSING a:DISPATCHING");
    assert_eq!(exchange(gateway.public(), &callback(r#"{"no":"p1"}"#)).status, 200);
    becomes(&gateway, "p1", "SUCCEEDED a:SUCCEEDED");
    assert_eq!(pay(&gateway, "p1").json()["status"], "SUCCEEDED");
    assert_eq!((charges(&a), charges(&b)), (1, 0));
}

#[test]
fn whoever_stands_in_front_of_a_channel_and_knows_nothing_closes_no_payment() {
    // A balancer: the channel is known by its name only, and anybody else gets a page.
    let a = Origin::with(|seen, stream| match (seen.target.as_str(), seen.header("host")) {
        ("/pay/v1/payments", _) => {
            std::thread::sleep(Duration::from_secs(5));
            false
        }
        (_, Some(host)) if host.starts_with("localhost:") => answer(stream, 200, r#"{"status":"SUCCESS"}"#),
        _ => answer(stream, 404, "<html>no such site</html>"),
    });
    let b = good();
    let named = |name: &str| {
        let yaml = Desk::default().yaml(&[("a", a.address, PLAIN), ("b", b.address, PLAIN)]);
        let close = "close: {path: \"/pay/v1/payments/{id}/close\", acknowledged_by: [404]}";
        let yaml = yaml.replacen("close: {path: \"/pay/v1/payments/{id}/close\"}", close, 1);
        Gateway::start(&yaml.replace(&a.address.to_string(), &format!("{name}:{}", a.address.port())))
    };
    let gateway = named("127.0.0.1");
    assert_eq!(pay(&gateway, "p1").status, 202);
    eventually("questions", Duration::from_secs(10), || told(&a, "GET", "/p1") >= 4);
    stands(&gateway, "p1", "PROCESSING a:UNKNOWN");
    assert_eq!((told(&a, "POST", "/close"), charges(&b)), (0, 0));
    let gateway = named("localhost");
    assert_eq!(pay(&gateway, "p1").status, 202);
    becomes(&gateway, "p1", "SUCCEEDED a:SUCCEEDED");
    assert_eq!(charges(&b), 0);
}

#[test]
fn a_person_who_closes_too_early_is_told_so() {
    let a = charges_then_hangs((404, NOT_FOUND));
    let yaml = Desk::default().yaml(&[("a", a.address, PLAIN)]);
    let gateway = Gateway::start(&yaml.replace("not_found_min_age: 300ms", "not_found_min_age: 1h"));
    assert_eq!(pay(&gateway, "p1").status, 202);
    let early = gateway.admin("POST", "/-/payments/p1/close");
    assert_eq!((early.status, early.json()["code"].as_str()), (409, Some("too-early")), "{early:?}");
    assert_eq!(gateway.admin("POST", "/-/payments/p1/close?force=true").status, 200);
    stands(&gateway, "p1", "FAILED a:CLOSED");
}

#[test]
fn what_was_unknown_counts_for_its_channel_once_it_is_known() {
    let a = charges_then_hangs((200, r#"{"status":"SUCCESS","amount":100}"#));
    let yaml = Desk::default().yaml(&[("a", a.address, PLAIN)]);
    let gateway = Gateway::start(&yaml.replace("unit: 100ms", "unit: 2s"));
    let rate = || {
        let channels = gateway.admin("GET", "/-/channels").json().to_string();
        channels.split("\"success_rate\":").nth(1).and_then(|rest| rest.split([',', '}']).next()?.parse::<f64>().ok())
    };
    assert_eq!(pay(&gateway, "p1").status, 202);
    eventually("half a success", Duration::from_secs(5), || rate() == Some(0.5));
    becomes(&gateway, "p1", "SUCCEEDED a:SUCCEEDED");
    eventually("a whole one", Duration::from_secs(5), || rate() == Some(1.0));
}
