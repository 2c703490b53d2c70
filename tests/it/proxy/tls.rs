//! TLS towards upstreams: who is trusted, and that nobody else gets a request.

use std::io::Write;
use std::time::Duration;

use crate::payments::desk::{Desk, PLAIN, charges, good, pay, stands};
use crate::support::{Authority, Gateway, Origin, Raw, TlsFront, eventually, get, one_route};

/// A file whose only upstream speaks TLS; `tls`: further keys of that.
fn file(front: &TlsFront, tls: &str, more: &str) -> String {
    let keys = format!("    read_timeout: 2s\n    tls: {{{tls}}}\n{more}");
    one_route(front.address, "", "", "").replace("    read_timeout: 2s\n", &keys)
}

fn trusts(authority: &Authority) -> String {
    format!("ca: \"{}\", server_name: pay.test", authority.file().display())
}

#[test]
fn an_upstream_is_asked_over_tls_in_either_protocol_and_its_connection_is_kept() {
    let (origin, authority) = (Origin::ok(), Authority::new());
    let shows = authority.certify("pay.test");
    let front = TlsFront::start(origin.address, &shows, None, &["http/1.1"]);
    let gateway = Gateway::start(&file(&front, &trusts(&authority), ""));
    for _ in 0..5 {
        assert_eq!(get(gateway.public(), "/", "").status, 200);
    }
    assert_eq!(origin.seen().len(), 5);
    // A client can be back before its connection is.
    assert!(front.handshakes() < 5, "{} handshakes for 5 requests", front.handshakes());
    // Over HTTP/2 the front's origin is a gateway, too.
    let behind = one_route(origin.address, "", "", "");
    let behind = Gateway::start(&behind);
    let front = TlsFront::start(behind.public(), &shows, None, &["h2"]);
    let gateway = Gateway::start(&file(&front, &trusts(&authority), "    protocol: h2\n"));
    assert_eq!(get(gateway.public(), "/h2", "").status, 200);
    assert_eq!(behind.access_log(1)[0]["protocol"], "h2", "{:?}", behind.access_log(1));
}

#[test]
fn who_is_not_trusted_or_has_another_name_gets_nothing() {
    let (origin, authority, stranger) = (Origin::ok(), Authority::new(), Authority::new());
    let shows = authority.certify("pay.test");
    let front = TlsFront::start(origin.address, &shows, None, &[]);
    let other = trusts(&authority).replace("pay.test", "bank.test");
    let bare = format!("ca: \"{}\"", authority.file().display());
    for tls in [trusts(&stranger), other, bare] {
        let gateway = Gateway::start(&file(&front, &tls, ""));
        let got = get(gateway.public(), "/", "");
        assert_eq!((got.status, got.header("tidegate-outcome")), (503, Some("not-sent")), "{tls}: {got:?}");
    }
    assert_eq!(origin.seen().len(), 0);
    // Plain HTTP behind `tls` is no handshake either.
    let gateway = Gateway::start(
        &file(&front, &trusts(&authority), "").replace(&front.address.to_string(), &origin.address.to_string()),
    );
    assert_eq!(get(gateway.public(), "/", "").header("tidegate-outcome"), Some("not-sent"));
}

#[test]
fn the_gateway_shows_its_own_certificate_when_it_is_asked() {
    let (origin, authority) = (Origin::ok(), Authority::new());
    let shows = authority.certify("pay.test");
    let front = TlsFront::start(origin.address, &shows, Some(&authority.file()), &[]);
    let (certificate, key) = authority.certify("gateway.test");
    let own = format!("{}, certificate: \"{}\", key: \"{}\"", trusts(&authority), certificate.display(), key.display());
    let gateway = Gateway::start(&file(&front, &own, ""));
    assert_eq!(get(gateway.public(), "/", "").status, 200);
    assert_eq!(origin.seen().len(), 1);
}

#[test]
fn row_3_a_payment_goes_to_another_channel_when_hands_cannot_be_shaken() {
    let (a, b, authority, stranger) = (good(), good(), Authority::new(), Authority::new());
    let shows = authority.certify("pay.test");
    let (strange, known) = (
        TlsFront::start(a.address, &stranger.certify("pay.test"), None, &[]),
        TlsFront::start(b.address, &shows, None, &[]),
    );
    let tls = format!("    tls: {{{}}}\n", trusts(&authority));
    let desk = Desk { upstream: &tls, ..Desk::default() };
    let gateway = desk.open(&[("a", strange.address, PLAIN), ("b", known.address, PLAIN)]);
    for id in ["p1", "p2", "p3"] {
        assert_eq!(pay(&gateway, id).status, 200);
    }
    stands(&gateway, "p1", "SUCCEEDED a:NOT_SENT b:SUCCEEDED");
    assert_eq!((charges(&a), charges(&b), known.handshakes()), (0, 3, 1));
}

#[test]
fn probes_speak_tls_where_requests_do() {
    let (origin, authority, stranger) = (Origin::ok(), Authority::new(), Authority::new());
    let shows = authority.certify("pay.test");
    let front = TlsFront::start(origin.address, &shows, None, &[]);
    let health = "    health: {path: /healthz, interval: 100ms, timeout: 100ms}\n";
    let gateway = Gateway::start(&file(&front, &trusts(&authority), health));
    eventually("a probe", Duration::from_secs(10), || origin.seen().iter().any(|seen| seen.target == "/healthz"));
    let healthy = || gateway.metric("tidegate_channel_healthy{") > 0.5;
    assert!(healthy());
    gateway.reload(&file(&front, &trusts(&stranger), health));
    eventually("it is out", Duration::from_secs(10), || !healthy());
}

#[test]
fn who_does_not_read_what_comes_over_tls_is_let_go_in_time() {
    let big = Origin::with(|_, stream| {
        let piece = vec![b'x'; 64 << 10];
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 67108864\r\n\r\n");
        (0..1024).all(|_| stream.write_all(&piece).is_ok())
    });
    let authority = Authority::new();
    let front = TlsFront::start(big.address, &authority.certify("pay.test"), None, &["http/1.1"]);
    let keys = format!("    read_timeout: 20s\n    tls: {{{}}}\n", trusts(&authority));
    let yaml = one_route(front.address, "  limits: {body_timeout: 1s}", "", "");
    let gateway = Gateway::start(&yaml.replace("    read_timeout: 2s\n", &keys));
    let mut raw = Raw::connect(gateway.public());
    raw.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually("the answer begins", Duration::from_secs(5), || gateway.metric("tidegate_connections{") >= 1.0);
    eventually("nobody waits for the reader", Duration::from_secs(10), || {
        gateway.metric("tidegate_connections{") < 1.0
    });
    assert_eq!(gateway.access_log(1)[0]["decision"], "cut");
}
