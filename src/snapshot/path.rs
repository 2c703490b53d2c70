//! One spelling for every path: what routes are matched on, and what the upstream gets to see.
//!
//! A route's filters guard a path only as long as nobody can write that path in a way the gateway reads differently from
//! the upstream behind it. So a target is brought into one normal form before anything looks at it, the upstream receives
//! that same form ([`upstream_target`]), and whatever has no safe reading is refused with 400:
//!
//! | Written | Becomes | Because |
//! |---|---|---|
//! | `%61`, `%2D`, `%7E`, `%3A`, `%40` … | the character | it means the same with and without the escape |
//! | `%e4`, `%20`, `%25`, `%3f`, `%2b`, `%3b` … | itself, in upper case | the bare character is not allowed or means something else |
//! | `{`, `\|`, `"`, non-ASCII | its escape | not allowed bare; one spelling only |
//! | `//`, `/./`, `/x/../` | resolved | upstreams resolve them, before or after decoding |
//! | `%2f`, `%5c`, `\` | refused | a slash to some servers and a letter to others: no reading is right for both |
//! | `%00`-`%1f`, `%7f` | refused | cuts texts short, splits header lines; no honest path has them |
//! | `%zz`, a lone `%` | refused | decoders differ on what it means |
//! | `/../x` | refused | leaves the root; servers differ between ignoring and obeying it |
//! | `/..;/`, `/.;a=b/` | refused | a name to some servers; a dot segment to those that drop parameters first |
//!
//! Parameters (`;a=b`) otherwise stay: they belong to the name here. An upstream that drops them (servlet containers do)
//! sees `/orders` for `/orders;a`, so it must not be left a looser route above the guarded one.

use std::borrow::Cow;

use memchr::memchr;

#[cfg(test)]
mod tests;

/// Why a target has no path. Always the client's fault: 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPath {
    /// Neither `/…` nor `*`.
    #[error("the target is not a path")]
    NotAPath,
    /// A character that cannot be in a path, bare or escaped.
    #[error("the path has a character that no path may have")]
    Character,
    /// `%` without two hexadecimal digits.
    #[error("the path has an incomplete escape")]
    Escape,
    /// `..` that leaves the root.
    #[error("the path leaves the root")]
    AboveRoot,
    /// `..;` or `.;`: a dot segment for some, a name for others.
    #[error("the path has a dot segment with parameters")]
    DotParameters,
}

/// The path of `target`, a request target in origin form with or without a query, in its normal form. `*` stays `*`.
///
/// The answer has no query, begins with `/`, has no dot segments and no doubled slashes, is pure ASCII, and is its own
/// normal form. A target that is written normally is borrowed and costs one pass over its bytes.
///
/// # Errors
/// [`BadPath`] when there is no reading that every server would agree with.
pub fn normalise(target: &str) -> Result<Cow<'_, str>, BadPath> {
    let bytes = target.as_bytes();
    if bytes.first() != Some(&b'/') {
        return if target == "*" { Ok(Cow::Borrowed(target)) } else { Err(BadPath::NotAPath) };
    }
    match normal_length(bytes) {
        Some(length) => Ok(Cow::Borrowed(&target[..length])),
        None => rewrite(path_of(target)).map(Cow::Owned),
    }
}

/// The target to send upstream when it differs from the one received: the path that was matched, with the query as sent.
/// `None`: send the target as it is.
#[must_use]
pub fn upstream_target(target: &str, normalised: &str) -> Option<String> {
    let path = path_of(target);
    (path != normalised).then(|| [normalised, &target[path.len()..]].concat())
}

/// The form in which paths are compared when case does not matter. Letters outside ASCII keep theirs: they are escapes
/// here, and how a server folds them depends on its idea of an alphabet.
#[must_use]
pub fn fold_case(path: &str) -> Cow<'_, str> {
    if path.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(path.to_ascii_lowercase())
    } else {
        Cow::Borrowed(path)
    }
}

fn path_of(target: &str) -> &str {
    memchr(b'?', target.as_bytes()).map_or(target, |end| &target[..end])
}

/// What a byte of a path is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    /// Stands for itself.
    Plain,
    /// Ends a segment.
    Slash,
    /// Begins an escape.
    Percent,
    /// Ends the path.
    Query,
    /// Must be escaped.
    Unsafe,
    /// Must not occur, not even escaped.
    Refused,
}

const CLASSES: [Class; 256] = {
    let mut classes = [Class::Unsafe; 256];
    let mut byte = 0;
    while byte < 128 {
        classes[byte] = class_of_ascii(byte as u8);
        byte += 1;
    }
    classes
};

const fn class_of_ascii(byte: u8) -> Class {
    match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => Class::Plain,
        b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' | b':' | b'@' => Class::Plain,
        b'/' => Class::Slash,
        b'%' => Class::Percent,
        b'?' => Class::Query,
        0..=0x1f | 0x7f | b'\\' => Class::Refused,
        _ => Class::Unsafe,
    }
}

fn class(byte: u8) -> Class {
    CLASSES[usize::from(byte)]
}

/// The length of the path at the front of `target` if it is in normal form already.
fn normal_length(target: &[u8]) -> Option<usize> {
    let mut at = 0;
    while let Some(&byte) = target.get(at) {
        // Nearly all are.
        if class(byte) == Class::Plain {
            at += 1;
            continue;
        }
        at += match class(byte) {
            Class::Plain => 1,
            Class::Slash if may_change(&target[at + 1..]) => return None,
            Class::Slash => 1,
            Class::Percent if is_kept(&target[at..]) => 3,
            Class::Query => return Some(at),
            Class::Percent | Class::Unsafe | Class::Refused => return None,
        };
    }
    Some(at)
}

/// Whether the segment that begins here may be one that is resolved or refused.
fn may_change(segment: &[u8]) -> bool {
    match segment {
        [b'/', ..] => true,
        [b'.', rest @ ..] => {
            let rest = rest.strip_prefix(b".").unwrap_or(rest);
            matches!(rest.first(), None | Some(b'/' | b'?' | b';' | b'%'))
        }
        _ => false,
    }
}

/// Whether an escape stands here that stays as it is.
fn is_kept(escape: &[u8]) -> bool {
    let upper = |digit: &u8| digit.is_ascii_digit() || matches!(digit, b'A'..=b'F');
    escape.get(1..3).is_some_and(|digits| digits.iter().all(upper))
        && matches!(decode(escape), Ok(byte) if meaning(byte) == Ok(Meaning::Kept))
}

/// What becomes of an escape.
#[derive(PartialEq, Eq)]
enum Meaning {
    /// The bare character means the same.
    Bare,
    /// It has to stay an escape.
    Kept,
}

fn meaning(byte: u8) -> Result<Meaning, BadPath> {
    match (class(byte), byte) {
        // Bare, `+` is a blank to servers that decode paths like forms, and `;` begins a parameter.
        (Class::Plain, b'+' | b';') => Ok(Meaning::Kept),
        (Class::Plain, _) => Ok(Meaning::Bare),
        (Class::Slash | Class::Refused, _) => Err(BadPath::Character),
        (Class::Percent | Class::Query | Class::Unsafe, _) => Ok(Meaning::Kept),
    }
}

/// The byte that the escape at the front of `text` stands for.
fn decode(text: &[u8]) -> Result<u8, BadPath> {
    let digit = |at: usize| text.get(at).and_then(|&digit| char::from(digit).to_digit(16)).ok_or(BadPath::Escape);
    let byte = digit(1)? * 16 + digit(2)?;
    Ok(u8::try_from(byte).expect("invariant: two hexadecimal digits fit a byte"))
}

/// The slow way: writes the normal form segment by segment.
fn rewrite(path: &str) -> Result<String, BadPath> {
    let mut out = String::with_capacity(path.len() + 16);
    // A path that ends in a slash or in a dot segment names a directory and keeps its slash.
    let mut ends_in_slash = false;
    for segment in path.split('/') {
        ends_in_slash = segment.is_empty();
        if segment.is_empty() {
            continue;
        }
        let start = out.len();
        out.push('/');
        push_segment(&mut out, segment.as_bytes())?;
        match &out[start + 1..] {
            "." => out.truncate(start),
            ".." if start == 0 => return Err(BadPath::AboveRoot),
            ".." => {
                out.truncate(start);
                out.truncate(out.rfind('/').expect("invariant: every kept segment begins with a slash"));
            }
            name if is_dot_with_parameters(name) => return Err(BadPath::DotParameters),
            _ => continue,
        }
        ends_in_slash = true;
    }
    if ends_in_slash || out.is_empty() {
        out.push('/');
    }
    Ok(out)
}

fn push_segment(out: &mut String, segment: &[u8]) -> Result<(), BadPath> {
    let mut at = 0;
    while let Some(&bare) = segment.get(at) {
        match class(bare) {
            Class::Plain => out.push(char::from(bare)),
            Class::Percent => {
                let byte = decode(&segment[at..])?;
                match meaning(byte)? {
                    Meaning::Bare => out.push(char::from(byte)),
                    Meaning::Kept => push_escape(out, byte),
                }
                at += 2;
            }
            // A blank or a fragment cannot be in a target at all: the head was cut in another place than meant.
            Class::Unsafe if matches!(bare, b' ' | b'#') => return Err(BadPath::Character),
            Class::Unsafe => push_escape(out, bare),
            Class::Slash | Class::Query | Class::Refused => return Err(BadPath::Character),
        }
        at += 1;
    }
    Ok(())
}

fn push_escape(out: &mut String, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    out.push('%');
    out.push(char::from(DIGITS[usize::from(byte >> 4)]));
    out.push(char::from(DIGITS[usize::from(byte & 15)]));
}

/// `.;…` or `..;…`, the semicolon escaped or not: some servers decode before they drop parameters.
fn is_dot_with_parameters(segment: &str) -> bool {
    let Some(rest) = segment.strip_prefix('.') else { return false };
    let rest = rest.strip_prefix('.').unwrap_or(rest);
    rest.starts_with(';') || rest.starts_with("%3B")
}
