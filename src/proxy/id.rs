//! Names for requests: 128 bits in hex, the first 48 the time, so that ids sort as they happened (the layout of UUIDv7).

use std::time::Duration;

use rand::Rng;

/// A request's id: 32 hex digits, usable as a W3C trace id.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct RequestId([u8; 32]);

const HEX: &[u8; 16] = b"0123456789abcdef";

fn hex<const N: usize>(mut value: u128) -> [u8; N] {
    let mut text = [b'0'; N];
    for digit in text.iter_mut().rev() {
        *digit = HEX[(value & 15) as usize];
        value >>= 4;
    }
    text
}

impl RequestId {
    /// A fresh id at that wall time.
    #[must_use]
    pub(crate) fn new(unix: Duration) -> Self {
        let random: u128 = rand::rng().random();
        Self(hex((unix.as_millis() << 80) | (random >> 48)))
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
        text[36..52].copy_from_slice(&hex::<16>(u128::from(span)));
        text
    }
}
