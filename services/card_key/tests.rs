//! Proofs of the pieces that need neither disk nor network.
