//! Twelve ways to claim another address, and what comes of them.

use std::net::IpAddr;

use ipnet::IpNet;
use tidegate_filters::engine::RequestHead;

use super::{canonical, client};

fn networks(texts: &[&str]) -> Box<[IpNet]> {
    canonical(&texts.iter().map(|text| text.parse().expect("a network")).collect::<Vec<_>>())
}

/// The client's address for a peer behind which `10.0.0.0/8` and `fd00::/8` are trusted.
fn behind(peer: &str, lines: &[&str]) -> String {
    let mut headers: Vec<(&[u8], &[u8])> = vec![(b"Host", b"shop.test")];
    headers.extend(lines.iter().map(|line| (&b"X-Forwarded-For"[..], line.as_bytes())));
    let head = RequestHead { method: "GET", target: "/", path: "/", host: "", secure: false, headers: &headers };
    let peer: IpAddr = peer.parse().expect("an address");
    client(&networks(&["10.0.0.0/8", "fd00::/8"]), peer, &head).to_string()
}

#[test]
fn a_client_that_connects_itself_is_its_socket_whatever_it_sends() {
    assert_eq!(behind("203.0.113.7", &[]), "203.0.113.7");
    assert_eq!(behind("203.0.113.7", &["198.51.100.1"]), "203.0.113.7", "1: a header without a proxy");
    assert_eq!(behind("203.0.113.7", &["10.0.0.1"]), "203.0.113.7", "2: a trusted address in it");
    assert_eq!(behind("11.0.0.1", &["127.0.0.1"]), "11.0.0.1", "3: a neighbour of the trusted network");
}

#[test]
fn what_the_client_wrote_before_its_proxy_is_worth_nothing() {
    assert_eq!(behind("10.0.0.1", &["198.51.100.1, 203.0.113.7"]), "203.0.113.7", "4: an address in front");
    assert_eq!(behind("10.0.0.1", &["127.0.0.1,10.0.0.9,203.0.113.7"]), "203.0.113.7", "5: trusted ones in front");
    assert_eq!(behind("10.0.0.1", &["198.51.100.1", "203.0.113.7"]), "203.0.113.7", "6: a line of its own in front");
    assert_eq!(behind("10.0.0.1", &["198.51.100.1,", "203.0.113.7, 10.0.0.2"]), "203.0.113.7", "7: two proxies");
}

#[test]
fn a_word_that_is_no_address_ends_the_list_at_the_last_good_one() {
    assert_eq!(behind("10.0.0.1", &["198.51.100.1, unknown, 10.0.0.2"]), "10.0.0.2", "8: an unknown hop");
    assert_eq!(behind("10.0.0.1", &["198.51.100.1, "]), "10.0.0.1", "9: an empty hop");
    assert_eq!(behind("10.0.0.1", &["198.51.100.1 10.0.0.3"]), "10.0.0.1", "10: blanks instead of commas");
    assert_eq!(behind("10.0.0.1", &["010.0.0.2, 999.1.1.1"]), "10.0.0.1", "11: numbers out of range");
    assert_eq!(behind("10.0.0.1", &["198.51.100.1\u{e9}"]), "10.0.0.1", "12: bytes that are no text");
}

#[test]
fn honest_proxies_are_believed_in_every_form_they_write() {
    for (line, address) in [
        ("203.0.113.7", "203.0.113.7"),
        ("\t203.0.113.7 ", "203.0.113.7"),
        ("203.0.113.7:5512", "203.0.113.7"),
        ("2001:db8::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("203.0.113.7, fd00::1, 10.1.2.3", "203.0.113.7"),
        ("10.9.9.9, 10.0.0.2", "10.9.9.9"),
    ] {
        assert_eq!(behind("10.0.0.1", &[line]), address, "{line}");
        assert_eq!(behind("::ffff:10.0.0.1", &[line]), address, "{line} by a socket of both families");
    }
}

#[test]
fn networks_of_ipv4_written_as_ipv6_are_the_same_networks() {
    assert_eq!(networks(&["::ffff:10.0.0.0/104"]), networks(&["10.0.0.0/8"]));
    assert_eq!(networks(&["::/0", "2001:db8::/112"]).len(), 2);
}
