//! A secret that does not show itself.

use std::fmt;

/// A secret shared with somebody. It is not shown in logs.
#[derive(Clone)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// The secret made of these bytes.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// The bytes, for signing.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}
