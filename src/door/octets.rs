//! What the bytes of a head may be: classes of characters, and the small values that are read from them.
//!
//! Every byte of every request passes here, so the loops are written for their length: short parts (methods, names, hosts)
//! end where their class ends, in one pass; long ones (values, among them tokens of a thousand bytes) are looked at
//! sixteen bytes at a time.

use super::head::{HeadError, refuse};

/// Which bytes belong.
pub(crate) type Class = [bool; 256];

/// Digits of a length; 10^15 bytes is beyond any real body, and no sum of such numbers overflows.
const LONGEST_LENGTH: usize = 15;
/// Digits of a port, leading zeros included.
const LONGEST_PORT: usize = 10;
/// Longest name and port of a host.
const LONGEST_HOST: usize = 255 + 6;

const fn class(extra: &[u8]) -> Class {
    let mut class = [false; 256];
    let mut i = 0;
    while i < 256 {
        #[expect(clippy::cast_possible_truncation, reason = "i is below 256")]
        let byte = i as u8;
        class[i] = byte.is_ascii_alphanumeric();
        i += 1;
    }
    let mut i = 0;
    while i < extra.len() {
        class[extra[i] as usize] = true;
        i += 1;
    }
    class
}

/// `tchar` of RFC 9110 §5.6.2: methods, and the names of headers in answers.
pub(crate) const TOKEN: Class = class(b"!#$%&'*+-.^_`|~");
/// Names of headers in requests: without the underscore, the twin of a hyphen to some backends.
pub(crate) const NAME: Class = class(b"!#$%&'*+-.^`|~");
/// What a target may consist of: RFC 3986 without the fragment and nothing that some parser might cut at; and what
/// browsers leave as it is in a query all the same (`?family=A|B`).
pub(crate) const TARGET: Class = class(b"!$%&'()*+,-./:;=?@[]_~^`{|}");
/// What the name of a host may consist of.
const HOST: Class = class(b".-_~%");

/// What a value may consist of: no control byte but the tab.
const VALUE: Class = {
    let mut class = [true; 256];
    let mut byte = 0;
    while byte < 32 {
        class[byte] = byte == 9;
        byte += 1;
    }
    class[127] = false;
    class
};

/// How many bytes at the front of `bytes` are of that class.
pub(crate) fn run(bytes: &[u8], class: &Class) -> usize {
    bytes.iter().position(|byte| !class[usize::from(*byte)]).unwrap_or(bytes.len())
}

/// Whether `byte` may stand in a method or a header name.
pub(crate) fn is_token_byte(byte: u8) -> bool {
    TOKEN[usize::from(byte)]
}

/// Whether `name` is the name of a header in a request.
pub(crate) fn is_name(name: &[u8]) -> bool {
    !name.is_empty() && run(name, &NAME) == name.len()
}

/// Whether `target` has only characters that a target may have.
pub(crate) fn is_target(target: &[u8]) -> bool {
    run(target, &TARGET) == target.len()
}

/// Whether there is no control byte but the tab.
pub(crate) fn is_text(value: &[u8]) -> bool {
    let odd = |byte: &u8| u8::from((*byte < b' ' && *byte != b'\t') || *byte == 0x7f);
    // Looks at every byte instead of stopping early: nearly all are fine, and a loop without a way out does many at once.
    let (blocks, rest) = value.as_chunks::<16>();
    let blocks = blocks.iter().fold(0, |all, block| all | block.iter().fold(0, |all, byte| all | odd(byte)));
    blocks == 0 && rest.iter().fold(true, |all, byte| all & VALUE[usize::from(*byte)])
}

/// `value` without the blanks and tabs around it. Nothing else is a blank here (RFC 9110 §5.6.3): a form feed that one
/// parser takes off and another keeps makes two lengths of one.
fn without_blanks(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = value {
        value = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// Name and value of a header line, without its end and the blanks around the value.
pub(crate) fn split_header<'a>(line: &'a [u8], names: &Class) -> Result<(&'a [u8], &'a [u8]), &'static str> {
    // A leading blank is a folded line, one before the colon the oldest smuggling trick; neither belongs to a name.
    let (name, value) = line.split_at(run(line, names));
    let value = match value {
        [b':', value @ ..] if !name.is_empty() => without_blanks(value),
        [] => return Err("header line without a colon"),
        _ => return Err("malformed header name"),
    };
    if is_text(value) { Ok((name, value)) } else { Err("control byte in a header") }
}

/// A number of at most `longest` digits and nothing else.
fn number(digits: &[u8], longest: usize) -> Option<u64> {
    let add = |number: u64, digit: &u8| digit.is_ascii_digit().then(|| number * 10 + u64::from(digit - b'0'));
    if digits.is_empty() || digits.len() > longest { None } else { digits.iter().try_fold(0, add) }
}

/// A length, if it is one and nothing else.
pub(crate) fn content_length(value: &[u8]) -> Result<u64, HeadError> {
    number(value, LONGEST_LENGTH).ok_or(refuse(400, "malformed length"))
}

/// Whether `value` is a host with an optional port.
pub(crate) fn check_host(value: &[u8]) -> Result<(), HeadError> {
    let bad = refuse(400, "malformed host");
    let end = match value {
        [b'[', inside @ ..] => {
            let close = inside.iter().position(|byte| *byte == b']').ok_or(bad)?;
            let address = std::str::from_utf8(&inside[..close]).ok();
            address.and_then(|text| text.parse::<std::net::Ipv6Addr>().ok()).ok_or(bad)?;
            close + 2
        }
        _ => run(value, &HOST),
    };
    let port_is_fine = match &value[end..] {
        [] => true,
        [b':', digits @ ..] => number(digits, LONGEST_PORT).is_some_and(|port| port <= u64::from(u16::MAX)),
        _ => false,
    };
    if end == 0 || value.len() > LONGEST_HOST || !port_is_fine { Err(bad) } else { Ok(()) }
}
