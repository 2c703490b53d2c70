//! Deferred payments: the journal's rules hold, whenever it is their turn.

use super::*;
use crate::payments::desk::{BODY, Desk, PLAIN, answer, answering, becomes, charges, good, payment, request, with};
use crate::support::{eventually, free_port};

fn open(channels: &[(&str, SocketAddr, &str)]) -> Gateway {
    Gateway::start(&yaml(channels))
}

fn yaml(channels: &[(&str, SocketAddr, &str)]) -> String {
    let desk = Desk { route: "    filters: [later]\n", ..Desk::default() };
    let settings =
        "store: disk, when: always, status_rate: 100000/s, retry: {initial: 100ms}, dead_letter: {every: 300ms}";
    format!("{}filters:\n  later: {{respond_async: {{{settings}}}}}\n", desk.yaml(channels))
}

fn defer(gateway: &Gateway, id: &str) -> String {
    place(&exchange(gateway.public(), &request(id, BODY)))
}

#[test]
fn a_deferred_payment_is_written_into_the_journal_and_answered_by_its_channel() {
    let a = good();
    let gateway = open(&[("a", a.address, PLAIN)]);
    let place = defer(&gateway, "p1");
    let told = result(&gateway, &place);
    assert_eq!((told.status, told.json()["status"].as_str()), (200, Some("SUCCESS")), "{told:?}");
    assert_eq!((payment(&gateway, "p1")["state"].as_str(), charges(&a)), (Some("SUCCEEDED"), 1));
    let wrong = exchange(gateway.public(), &request("p2", r#"{"amount":-1,"currency":"CNY"}"#));
    assert_eq!((wrong.status, wrong.json()["code"].as_str()), (400, Some("payment-malformed")), "at once, not later");
}

#[test]
fn another_channel_is_tried_when_the_first_surely_did_nothing() {
    let nobody = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let b = good();
    let gateway = open(&[("a", nobody, PLAIN), ("b", b.address, PLAIN)]);
    assert_eq!(result(&gateway, &defer(&gateway, "p1")).status, 200);
    assert_eq!(charges(&b), 1);
}

#[test]
fn a_payment_in_doubt_is_found_out_and_never_made_twice() {
    // It charges and says nothing; when it is asked, it tells.
    let silent = |_: &_, _: &mut std::net::TcpStream| {
        std::thread::sleep(Duration::from_secs(3));
        false
    };
    let a = with(silent, (200, r#"{"status":"SUCCESS","amount":100}"#));
    let b = good();
    let gateway = open(&[("a", a.address, PLAIN), ("b", b.address, PLAIN)]);
    let place = defer(&gateway, "p1");
    let told = result(&gateway, &place);
    assert_eq!((told.status, told.json()["status"].as_str()), (200, Some("SUCCEEDED")), "{told:?}");
    assert_eq!((charges(&a), charges(&b)), (1, 0));
}

#[test]
fn a_payment_that_was_being_made_when_the_gateway_died_is_found_out_by_the_next() {
    let silent = |_: &_, _: &mut std::net::TcpStream| {
        std::thread::sleep(Duration::from_secs(20));
        false
    };
    let a = with(silent, (200, r#"{"status":"SUCCESS","amount":100}"#));
    let yaml = yaml(&[("a", a.address, PLAIN)]).replace("read_timeout: 700ms", "read_timeout: 15s");
    let mut gateway = Gateway::start(&yaml);
    let place = defer(&gateway, "p1");
    eventually("the channel has it", PATIENCE, || charges(&a) == 1);
    gateway.crash_and_restart();
    becomes(&gateway, "p1", "SUCCEEDED a:SUCCEEDED");
    let told = result(&gateway, &place);
    assert_eq!((told.status, told.json()["status"].as_str()), (200, Some("SUCCEEDED")), "{told:?}");
    assert_eq!(charges(&a), 1);
}

#[test]
fn a_payment_that_no_channel_acts_on_is_tried_again_until_one_does() {
    let asked = std::sync::atomic::AtomicUsize::new(0);
    let busy = move |_: &_, stream: &mut std::net::TcpStream| {
        let (status, body) =
            if asked.fetch_add(1, SeqCst) < 4 { (429, "{}") } else { (200, r#"{"status":"SUCCESS","amount":100}"#) };
        answer(stream, status, body)
    };
    let a = with(busy, (404, r#"{"status":"NOT_FOUND"}"#));
    let gateway = open(&[("a", a.address, PLAIN)]);
    assert_eq!(result(&gateway, &defer(&gateway, "p1")).status, 200);
    assert_eq!(charges(&a), 5);
}

#[test]
fn a_payment_that_names_its_channel_goes_there_or_nowhere() {
    let (a, b) = (good(), good());
    let yaml = yaml(&[("a", a.address, PLAIN), ("b", b.address, PLAIN)]);
    let paths = "    payment:\n      paths: [/pay/v1/payments]\n";
    let gateway = Gateway::start(&yaml.replacen("    payment:\n", paths, 1));
    let named =
        |id: &str, more: &str| request(id, BODY).replace("Host:", &format!("Tidegate-Channel: b\r\n{more}Host:"));
    let place = place(&exchange(gateway.public(), &named("p1", "")));
    assert_eq!(result(&gateway, &place).status, 200);
    assert_eq!((charges(&a), charges(&b)), (0, 1));
    // A close or a refund is no payment: it does not wait for a turn of payments.
    let close = named("p1", "").replace("POST /pay/v1/payments ", "POST /pay/v1/payments/p1/close ");
    assert_eq!(exchange(gateway.public(), &close).status, 200);
}

#[test]
fn a_decline_is_an_answer() {
    let a = answering(200, r#"{"status":"DECLINED","code":"NO_FUNDS"}"#);
    let gateway = open(&[("a", a.address, PLAIN)]);
    let told = result(&gateway, &defer(&gateway, "p1"));
    assert_eq!((told.status, told.json()["status"].as_str()), (200, Some("DECLINED")));
    assert_eq!(charges(&a), 1);
}
