//! Sealed keys, passwords, tokens, and the lines of an import.

use super::super::import::Lines;
use super::super::keyring::{Keyring, Unreadable};
use super::super::password::{self, Throttle};
use super::super::token;
use super::{SKU, keyring};

#[test]
fn a_sealed_key_opens_only_in_its_own_row_with_its_own_master_key() {
    let keyring = keyring();
    let sealed = keyring.seal(SKU, "SECRET").expect("short enough");
    let again = keyring.seal(SKU, "SECRET").expect("short enough");
    assert_eq!(sealed.fp, again.fp);
    assert_ne!(sealed.sealed, again.sealed);
    assert_eq!(keyring.open(SKU, &sealed.fp, &sealed.sealed).as_deref(), Ok("SECRET"));
    assert_eq!(keyring.open("other", &sealed.fp, &sealed.sealed), Err(Unreadable));
    assert_eq!(keyring.open(SKU, &[0; 32], &sealed.sealed), Err(Unreadable));
    assert_eq!(keyring.open(SKU, &sealed.fp, &sealed.sealed[..5]), Err(Unreadable));
    assert_eq!(Keyring::new(&[8; 32]).open(SKU, &sealed.fp, &sealed.sealed), Err(Unreadable));
}

#[test]
fn only_the_right_password_matches_and_none_matches_nothing() {
    let keyring = keyring();
    let stored = password::hash(&keyring, "open sesame");
    assert_ne!(stored, password::hash(&keyring, "open sesame"));
    assert!(password::matches(&keyring, "open sesame", Some(&stored)));
    assert!(!password::matches(&keyring, "open sesam", Some(&stored)));
    assert!(!password::matches(&keyring, "", None));
    assert!(!password::matches(&Keyring::new(&[8; 32]), "open sesame", Some(&stored)));
}

#[test]
fn ten_wrong_passwords_close_an_order_for_a_minute() {
    let throttle = Throttle::default();
    assert!((0..10).all(|now| throttle.begin("a", now).is_ok()));
    assert_eq!(throttle.begin("a", 9), Err(60));
    assert_eq!(throttle.begin("a", 60_008), Err(1));
    assert_eq!(throttle.begin("b", 9), Ok(()));
    assert_eq!(throttle.begin("a", 60_009), Ok(()));
}

#[test]
fn a_clock_that_is_set_back_locks_nobody_out() {
    let throttle = Throttle::default();
    assert!((0..10).all(|_| throttle.begin("a", 3_600_000).is_ok()));
    assert_eq!(throttle.begin("a", 3_600_000), Err(60));
    assert_eq!(throttle.begin("a", 0), Ok(()));
}

#[test]
fn a_right_password_forgives_the_wrong_ones() {
    let throttle = Throttle::default();
    assert!((0..9).all(|_| throttle.begin("a", 0).is_ok()));
    throttle.succeeded("a");
    assert!((0..10).all(|_| throttle.begin("a", 0).is_ok()));
}

#[test]
fn lines_are_the_same_however_the_network_cuts_them() {
    let long = "x".repeat(1_025);
    let text = format!("one\r\n\n  two \n{long}\nbad\u{7}\nlast");
    let read = |size: usize| {
        let (mut lines, mut found) = (Lines::default(), Vec::new());
        for chunk in text.as_bytes().chunks(size) {
            for piece in chunk.split_inclusive(|byte| *byte == b'\n') {
                if lines.push(piece) {
                    found.push((lines.number, lines.take()));
                }
            }
        }
        if lines.finish() {
            found.push((lines.number, lines.take()));
        }
        found
    };
    let whole = read(text.len());
    let words = whole.iter().map(|(_, line)| line.as_ref().map_or_else(|code| *code, |(key, _)| key.as_str()));
    assert!(words.eq(["one", "", "two", "TOO_LONG", "NOT_TEXT", "last"]));
    assert_eq!(whole.last().map(|(number, _)| *number), Some(6));
    assert!((1..20).all(|size| read(size) == whole));
}

#[test]
fn a_tab_separates_a_key_from_its_preview() {
    let read = |line: &str| {
        let mut lines = Lines::default();
        lines.push(line.as_bytes());
        lines.finish();
        lines.take()
    };
    assert_eq!(read("KEY-1\tends with 1"), Ok(("KEY-1".to_owned(), Some("ends with 1".to_owned()))));
    assert_eq!(read(" KEY-1 \t lucky \r"), Ok(("KEY-1".to_owned(), Some("lucky".to_owned()))));
    assert_eq!(read("KEY-1\t"), Ok(("KEY-1".to_owned(), None)));
    assert_eq!(read("KEY-1\ta\tb"), Err("NOT_TEXT"));
    assert_eq!(read(&format!("KEY-1\t{}", "x".repeat(201))), Err("TOO_LONG"));
}

#[test]
fn a_token_opens_one_order_for_ten_minutes() {
    let keyring = keyring();
    let token = token::issue(&keyring, "a", 1_000_000);
    assert!(token::is_good(&keyring, "a", &token, 1_599_999));
    assert!(!token::is_good(&keyring, "a", &token, 1_600_000));
    assert!(!token::is_good(&keyring, "b", &token, 1_000_000));
    assert!(!token::is_good(&Keyring::new(&[8; 32]), "a", &token, 1_000_000));
    let later = token.replacen("1600", "9600", 1);
    assert_ne!(later, token);
    for forged in [later.as_str(), "", ".", "1600.", "1600.zz", "x.00"] {
        assert!(!token::is_good(&keyring, "a", forged, 1_000_000), "{forged}");
    }
}

#[test]
fn a_look_up_needs_contact_and_password_and_forgives_capitals() {
    let keyring = keyring();
    let stored = password::lookup(&keyring, "me@shop.test", "secret");
    assert_eq!(password::lookup(&keyring, " Me@Shop.Test ", "secret"), stored);
    assert_ne!(password::lookup(&keyring, "me@shop.test", "Secret"), stored);
    assert_ne!(password::lookup(&keyring, "you@shop.test", "secret"), stored);
    assert_ne!(password::lookup(&Keyring::new(&[8; 32]), "me@shop.test", "secret"), stored);
}
