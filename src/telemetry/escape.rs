//! Hostile text in log lines: escaped, cut, and without card numbers.

use std::io::Write;
use std::net::IpAddr;

/// Shortest and longest card number (ISO/IEC 7812).
const CARD_DIGITS: std::ops::RangeInclusive<usize> = 13..=19;
/// Digits of a card number that may stay: PCI DSS 4.0.1, 3.4.1.
const KEPT_FRONT: usize = 6;
const KEPT_BACK: usize = 4;

const fn odd() -> [bool; 256] {
    let mut table = [false; 256];
    let mut i = 0;
    while i < 0x20 {
        table[i] = true;
        i += 1;
    }
    table[b'"' as usize] = true;
    table[b'\\' as usize] = true;
    table[0x7f] = true;
    table
}

/// Bytes of a text that a JSON string cannot have as they are.
const ODD: [bool; 256] = odd();

/// Appends `text` as a JSON string.
pub(crate) fn json_text(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    // Looks at every byte instead of stopping early: nearly none is odd.
    let odd = text.bytes().fold(false, |odd, byte| odd | ODD[usize::from(byte)]);
    if !odd {
        out.extend_from_slice(text.as_bytes());
    } else {
        for c in text.chars() {
            match c {
                '"' | '\\' => out.extend_from_slice(&[b'\\', c as u8]),
                c if c.is_control() => {
                    // Writing into memory cannot fail.
                    let _ = write!(out, "\\u{:04x}", c as u32);
                }
                c => {
                    let _ = write!(out, "{c}");
                }
            }
        }
    }
    out.push(b'"');
}

/// Appends an address, an IPv4 address in the usual case of one without the machinery of formatting.
pub(crate) fn address(out: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(v4) => {
            let (mut text, mut len) = ([0; 15], 0);
            for (place, octet) in v4.octets().into_iter().enumerate() {
                let dot = (place > 0).then_some(b'.');
                let digits = [octet / 100, octet / 10 % 10, octet % 10].map(|digit| b'0' + digit);
                let leading = if octet >= 100 {
                    0
                } else if octet >= 10 {
                    1
                } else {
                    2
                };
                for byte in dot.into_iter().chain(digits.into_iter().skip(leading)) {
                    text[len] = byte;
                    len += 1;
                }
            }
            out.extend_from_slice(&text[..len]);
        }
        // Writing into memory cannot fail.
        IpAddr::V6(v6) => _ = write!(out, "{v6}"),
    }
}

/// Appends a request target as a JSON string, cut at `longest` bytes, with card numbers masked.
pub(super) fn masked_target(out: &mut Vec<u8>, target: &str, longest: usize) {
    let end = (0..=longest.min(target.len())).rev().find(|at| target.is_char_boundary(*at)).unwrap_or(0);
    let cut = &target[..end];
    let mark = if end < target.len() { "…" } else { "" };
    match mask_cards(cut) {
        None if mark.is_empty() => json_text(out, cut),
        masked => json_text(out, &format!("{}{mark}", masked.as_deref().unwrap_or(cut))),
    }
}

/// `text` with every run of digits that is a card number masked; `None` when there is none.
fn mask_cards(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    if bytes.iter().filter(|byte| byte.is_ascii_digit()).count() < *CARD_DIGITS.start() {
        return None;
    }
    let mut masked: Option<Vec<u8>> = None;
    let mut at = 0;
    while at < bytes.len() {
        let run = bytes[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        if CARD_DIGITS.contains(&run) && luhn(&bytes[at..at + run]) {
            let copy = masked.get_or_insert_with(|| bytes.to_vec());
            copy[at + KEPT_FRONT..at + run - KEPT_BACK].fill(b'*');
        }
        at += run.max(1);
    }
    masked.and_then(|masked| String::from_utf8(masked).ok())
}

/// The check digit of ISO/IEC 7812.
fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| {
            let digit = u32::from(digit - b'0');
            if place % 2 == 0 {
                digit
            } else if digit > 4 {
                digit * 2 - 9
            } else {
                digit * 2
            }
        })
        .sum();
    sum.is_multiple_of(10)
}
