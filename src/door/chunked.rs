//! Finds the end of a chunked body, and refuses what two parsers could read in two ways.
//!
//! It decides which bytes belong to this body, so that those behind it can stay in the hands of whoever reads, and decodes
//! them where pingora does not. It is stricter than RFC 9112 §7.1 asks: no blanks around sizes, extensions
//! only of visible characters, no control bytes, CR LF only. A line behind the last chunk is a field with a name: whoever
//! takes no trailers must not be able to read a request there.

use super::octets::is_token_byte;

/// Digits of a chunk's size; 2^60 bytes is beyond any real chunk.
const LONGEST_SIZE: u8 = 15;
/// Extension and trailer bytes of a whole body; real ones have none, floods have many.
const MOST_OVERHEAD: u32 = 16 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Size,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    TrailerStart,
    TrailerName,
    Trailer,
    TrailerLf,
    LastLf,
    Done,
}

/// Position in a chunked body.
#[derive(Clone, Debug)]
pub(crate) struct Scanner {
    at: At,
    size: u64,
    digits: u8,
    overhead: u32,
}

/// The body cannot be read in one way only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

impl Scanner {
    pub(crate) fn new() -> Self {
        Self { at: At::Size, size: 0, digits: 0, overhead: 0 }
    }

    /// Whether the last byte of the body was seen.
    pub(crate) fn done(&self) -> bool {
        self.at == At::Done
    }

    /// How many of `bytes` belong to the body; all of them unless it ends within.
    pub(crate) fn scan(&mut self, bytes: &[u8]) -> Result<usize, Malformed> {
        self.decode(bytes, |_| ())
    }

    /// As [`Scanner::scan`]; hands what the chunks carry to `data`.
    pub(crate) fn decode<'b>(&mut self, bytes: &'b [u8], mut data: impl FnMut(&'b [u8])) -> Result<usize, Malformed> {
        let mut i = 0;
        while i < bytes.len() && self.at != At::Done {
            if self.at == At::Data {
                let take = usize::try_from(self.size).unwrap_or(usize::MAX).min(bytes.len() - i);
                self.size -= take as u64;
                data(&bytes[i..i + take]);
                i += take;
                if self.size == 0 {
                    self.at = At::DataCr;
                }
                continue;
            }
            self.at = self.step(bytes[i])?;
            i += 1;
        }
        Ok(i)
    }

    fn step(&mut self, byte: u8) -> Result<At, Malformed> {
        match (self.at, byte) {
            (At::Size, digit) if digit.is_ascii_hexdigit() => {
                self.digits += 1;
                let value = (digit as char).to_digit(16).unwrap_or(0);
                self.size = self.size << 4 | u64::from(value);
                if self.digits > LONGEST_SIZE { Err(Malformed) } else { Ok(At::Size) }
            }
            (At::Size, b'\r') if self.digits > 0 => Ok(At::SizeLf),
            (At::Size, b';') if self.digits > 0 => self.over(At::Extension),
            (At::Extension, b'\r') => Ok(At::SizeLf),
            (At::Extension, 0x21..=0x7e | b' ' | b'\t') => self.over(At::Extension),
            (At::SizeLf, b'\n') => {
                self.digits = 0;
                Ok(if self.size == 0 { At::TrailerStart } else { At::Data })
            }
            (At::DataCr, b'\r') => Ok(At::DataLf),
            (At::DataLf, b'\n') => Ok(At::Size),
            (At::TrailerStart, b'\r') => Ok(At::LastLf),
            (At::TrailerName, b':') => self.over(At::Trailer),
            (At::TrailerStart | At::TrailerName, byte) if is_token_byte(byte) => self.over(At::TrailerName),
            (At::Trailer, 0x20..=0x7e | b'\t' | 0x80..) => self.over(At::Trailer),
            (At::Trailer, b'\r') => Ok(At::TrailerLf),
            (At::TrailerLf, b'\n') => Ok(At::TrailerStart),
            (At::LastLf, b'\n') => Ok(At::Done),
            _ => Err(Malformed),
        }
    }

    fn over(&mut self, next: At) -> Result<At, Malformed> {
        self.overhead += 1;
        if self.overhead > MOST_OVERHEAD { Err(Malformed) } else { Ok(next) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn length_of(bytes: &[u8]) -> Result<(usize, bool), Malformed> {
        let mut scanner = Scanner::new();
        scanner.scan(bytes).map(|n| (n, scanner.done()))
    }

    #[test]
    fn bytes_behind_the_body_are_left_alone() {
        assert_eq!(length_of(b"3\r\nabc\r\n0\r\n\r\nGET / HTTP/1.1"), Ok((13, true)));
        assert_eq!(length_of(b"3;a=b\r\nabc\r\n0\r\nX: y\r\n\r\n"), Ok((23, true)));
        assert_eq!(length_of(b"3\r\nab"), Ok((5, false)));
    }

    #[test]
    fn what_chunks_carry_is_put_together() {
        let mut data = Vec::new();
        let mut scanner = Scanner::new();
        for piece in [&b"3;a=b\r\nab"[..], b"c\r", b"\n2\r\nde\r\n0\r\nX: y\r\n\r\n"] {
            assert_eq!(scanner.decode(piece, |bytes| data.extend_from_slice(bytes)), Ok(piece.len()));
        }
        assert_eq!((data.as_slice(), scanner.done()), (&b"abcde"[..], true));
    }

    #[test]
    fn ambiguous_bodies_are_refused() {
        for body in [
            &b"3\nabc"[..],
            b"3 \r\nabc",
            b" 3\r\n",
            b"0x3\r\n",
            b"-1\r\n",
            b"3\r\nabcd",
            b"\r\n",
            b"3\r\nabc\n0\r\n",
            b"fffffffffffffffff\r\n",
            b"3;\n\r\n",
            b"3;\0\r\n",
            b"0\r\n\n",
            b"0\r\n X: y\r\n\r\n",
            b"0\r\nGET / HTTP/1.1\r\nX: y\r\n\r\n",
            b"0\r\nX : y\r\n\r\n",
            b"0\r\n: y\r\n\r\n",
            b"0\r\nX\r\n\r\n",
        ] {
            assert_eq!(length_of(body), Err(Malformed), "{}", body.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn how_the_bytes_arrive_makes_no_difference(body in proptest::collection::vec(proptest::sample::select(b"019a;\r\nxG ".to_vec()), 0..60), cut in 0usize..60) {
            let whole = length_of(&body);
            let cut = cut.min(body.len());
            let mut scanner = Scanner::new();
            let parts = scanner.scan(&body[..cut]).and_then(|first| {
                if first < cut { return Ok((first, true)); }
                scanner.scan(&body[cut..]).map(|second| (first + second, scanner.done()))
            });
            prop_assert_eq!(whole, parts);
        }
    }
}
