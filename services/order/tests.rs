//! Proofs of the pieces that need no network.
