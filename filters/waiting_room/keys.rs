//! The keys that tokens are signed with: one for each kind, derived from a secret that a file names.
//!
//! `HKDF-SHA256(ikm = secret, salt = "tidegate-wr-v1", info = kind ‖ kid, 32 bytes)` (RFC 5869). A token is verified with
//! any key that has not ended, and signed with the newest that has begun; so a key is replaced without turning anybody
//! away: add the new one, wait until the last token of the old one has ended, take the old one out.

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::token::Kind;

/// Bytes of a secret.
pub const SECRET_LENGTH: usize = 32;
const SALT: &[u8] = b"tidegate-wr-v1";
const MAC_LENGTH: usize = 16;

/// A secret as configured.
#[derive(Clone)]
pub struct KeySpec {
    /// Its number, in every token that it signs.
    pub kid: u8,
    /// The secret itself.
    pub secret: [u8; SECRET_LENGTH],
    /// It signs from this second since 1970 on.
    pub not_before: u64,
    /// It verifies until this second since 1970; `u64::MAX`: as long as it is configured.
    pub not_after: u64,
}

impl std::fmt::Debug for KeySpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { kid, not_before, not_after, .. } = self;
        write!(f, "KeySpec {{ kid: {kid}, secret: ***, not_before: {not_before}, not_after: {not_after} }}")
    }
}

/// HMAC-SHA-256 of one kind of token, cut to 16 bytes. The key's two blocks are hashed once, when it is made.
#[derive(Clone)]
pub(super) struct Signer(Hmac<Sha256>);

impl Signer {
    pub(super) fn tag(&self, bytes: &[u8]) -> [u8; MAC_LENGTH] {
        let whole = self.0.clone().chain_update(bytes).finalize().into_bytes();
        let mut tag = [0; MAC_LENGTH];
        tag.copy_from_slice(&whole[..MAC_LENGTH]);
        tag
    }

    /// Compares in a time that does not depend on where the difference is.
    pub(super) fn fits(&self, bytes: &[u8], tag: &[u8]) -> bool {
        tag.len() == MAC_LENGTH && self.0.clone().chain_update(bytes).verify_truncated_left(tag).is_ok()
    }
}

struct Key {
    kid: u8,
    not_before: u64,
    not_after: u64,
    signers: [Signer; Kind::ALL.len()],
}

/// All keys of a configuration.
pub struct Keyring {
    /// The newest first.
    keys: Box<[Key]>,
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keyring {:?}", self.keys.iter().map(|key| key.kid).collect::<Vec<_>>())
    }
}

impl Keyring {
    /// A ring of these keys. Where two begin at the same second, the one named later is the newer.
    #[must_use]
    pub fn new(specs: &[KeySpec]) -> Self {
        let mut keys: Vec<Key> = specs.iter().rev().map(Key::new).collect();
        keys.sort_by_key(|key| std::cmp::Reverse(key.not_before));
        Self { keys: keys.into() }
    }

    /// Whether there is a key to sign with at `now` (seconds since 1970).
    #[must_use]
    pub fn can_sign(&self, now: u64) -> bool {
        self.signer(Kind::Pre, now).is_some()
    }

    pub(super) fn signer(&self, kind: Kind, now: u64) -> Option<(u8, &Signer)> {
        let key = self.keys.iter().find(|key| key.not_before <= now && now < key.not_after)?;
        Some((key.kid, &key.signers[kind.index()]))
    }

    pub(super) fn verifier(&self, kind: Kind, kid: u8, now: u64) -> Option<&Signer> {
        let key = self.keys.iter().find(|key| key.kid == kid && now < key.not_after)?;
        Some(&key.signers[kind.index()])
    }
}

impl Key {
    fn new(spec: &KeySpec) -> Self {
        let hkdf = Hkdf::<Sha256>::new(Some(SALT), &spec.secret);
        let signers = Kind::ALL.map(|kind| {
            let mut key = [0; 32];
            hkdf.expand(&[kind as u8, spec.kid], &mut key).expect("invariant: 32 bytes are within HKDF's reach");
            Signer(Hmac::new_from_slice(&key).expect("invariant: HMAC takes a key of any length"))
        });
        Self { kid: spec.kid, not_before: spec.not_before, not_after: spec.not_after, signers }
    }
}
