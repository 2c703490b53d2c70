//! Names for requests: 128 bits in hex, the first 48 the time, so that ids sort as they happened (the layout of UUIDv7).

use std::time::Duration;

use rand::Rng;

/// A request's id: 32 hex digits, usable as a W3C trace id.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct RequestId([u8; 32]);

/// Every byte in hex.
const HEX: [[u8; 2]; 256] = {
    let digits = b"0123456789abcdef";
    let mut pairs = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        pairs[byte] = [digits[byte >> 4], digits[byte & 15]];
        byte += 1;
    }
    pairs
};

/// Writes `bytes` as twice as many digits.
fn hex(bytes: &[u8], text: &mut [u8]) {
    for (byte, pair) in bytes.iter().zip(text.as_chunks_mut::<2>().0) {
        *pair = HEX[usize::from(*byte)];
    }
}

impl RequestId {
    /// A fresh id at that wall time.
    #[must_use]
    pub(crate) fn new(unix: Duration) -> Self {
        let random: u128 = rand::rng().random();
        let mut text = [b'0'; 32];
        hex(&((unix.as_millis() << 80) | (random >> 48)).to_be_bytes(), &mut text);
        Self(text)
    }

    /// A peer's id, if it is one of ours in form; `None` otherwise.
    #[must_use]
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        let text: [u8; 32] = text.try_into().ok()?;
        text.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')).then_some(Self(text))
    }

    /// As text.
    #[must_use]
    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("invariant: hex digits")
    }

    /// The id of these digits, which are one's.
    #[must_use]
    pub(crate) fn of(digits: [u8; 32]) -> Self {
        Self(digits)
    }

    /// As digits.
    #[must_use]
    pub(crate) fn digits(&self) -> [u8; 32] {
        self.0
    }

    /// As bytes.
    #[must_use]
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// A `traceparent` (W3C Trace Context) whose trace is this request and whose span is new.
    #[must_use]
    pub(crate) fn traceparent(&self) -> [u8; 55] {
        let span: u64 = rand::rng().random();
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-01";
        text[3..35].copy_from_slice(&self.0);
        hex(&span.to_be_bytes(), &mut text[36..52]);
        text
    }
}
