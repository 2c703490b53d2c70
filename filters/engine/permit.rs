//! Something held for one request and given back on every way out.

use std::sync::Arc;

/// Held on behalf of one request, given back when dropped, whatever path the request dies on.
///
/// Three words and no allocation: `token` means something to the owner only (a weight, a breaker's generation).
pub struct Permit {
    owner: Arc<dyn Release>,
    token: u64,
}

/// Whoever hands out permits.
pub trait Release: Send + Sync {
    /// Takes a permit back. Called exactly once for each, from any thread.
    fn release(&self, token: u64);
}

impl Permit {
    /// A permit of `owner`; `token` comes back with it.
    #[must_use]
    pub fn new(owner: Arc<dyn Release>, token: u64) -> Self {
        Self { owner, token }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.owner.release(self.token);
    }
}
