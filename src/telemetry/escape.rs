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

/// Whether a JSON string cannot have `text` as it is.
fn is_odd(text: &str) -> bool {
    let odd = |byte: &u8| u8::from(*byte < 0x20 || matches!(*byte, b'"' | b'\\' | 0x7f));
    // Looks at every byte instead of stopping early: nearly none is odd, and so many are looked at at once.
    let (blocks, rest) = text.as_bytes().as_chunks::<16>();
    let blocks = blocks.iter().fold(0, |all, block| all | block.iter().fold(0, |all, byte| all | odd(byte)));
    blocks != 0 || rest.iter().fold(false, |all, byte| all | ODD[usize::from(*byte)])
}

/// Appends `text` as a JSON string.
pub(crate) fn json_text(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    if !is_odd(text) {
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

/// Every number of an IPv4 address with the dot behind it, and how long that is.
const OCTETS: [([u8; 4], usize); 256] = {
    let mut octets = [([b'.'; 4], 0); 256];
    let mut n = 0;
    while n < 256 {
        #[expect(clippy::cast_possible_truncation, reason = "digits are below 10")]
        let [hundreds, tens, ones] = [b'0' + (n / 100) as u8, b'0' + (n / 10 % 10) as u8, b'0' + (n % 10) as u8];
        octets[n] = match n {
            0..10 => ([ones, b'.', 0, 0], 2),
            10..100 => ([tens, ones, b'.', 0], 3),
            _ => ([hundreds, tens, ones, b'.'], 4),
        };
        n += 1;
    }
    octets
};

/// Appends an address, an IPv4 address in the usual case of one without the machinery of formatting.
pub(crate) fn address(out: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(v4) => {
            let (mut text, mut len) = ([0; 16], 0);
            for octet in v4.octets() {
                let (digits, count) = OCTETS[usize::from(octet)];
                // What is beyond its digits is written over by what follows.
                text[len..len + 4].copy_from_slice(&digits);
                len += count;
            }
            // Without the dot behind the last.
            out.extend_from_slice(&text[..len - 1]);
        }
        // Writing into memory cannot fail.
        IpAddr::V6(v6) => _ = write!(out, "{v6}"),
    }
}

/// Appends a request target as a JSON string, cut at `longest` bytes, with card numbers masked.
pub(super) fn masked_target(out: &mut Vec<u8>, target: &str, longest: usize) {
    let cut = &target[..target.floor_char_boundary(longest)];
    let mark = if cut.len() < target.len() { "…" } else { "" };
    match mask_cards(cut) {
        None if mark.is_empty() => json_text(out, cut),
        masked => json_text(out, &format!("{}{mark}", masked.as_deref().unwrap_or(cut))),
    }
}

/// `text` with every run of digits that is a card number masked; `None` when there is none.
fn mask_cards(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let too_short = bytes.len() < *CARD_DIGITS.start();
    if too_short || bytes.iter().filter(|byte| byte.is_ascii_digit()).count() < *CARD_DIGITS.start() {
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
