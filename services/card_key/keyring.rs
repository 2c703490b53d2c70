//! Secrets of the shop: sealing card keys, recognising duplicates without reading them, finding the master key.
//!
//! * **At rest** a card key is AES-256-GCM with a random 96-bit nonce; SKU and fingerprint are authenticated with it,
//!   so a sealed key copied into another row does not open.
//! * **Duplicates** are recognised by HMAC-SHA256 under a key of its own: equal keys have equal fingerprints, and
//!   without the master key a stolen file does not even allow guessing.
//! * **Passwords** of orders are hashed under a third key (see `password`).
//! * **Tokens** for downloads are signed, and generated keys made, under keys of their own (see `token`, `generate`).
//!
//! All are derived from one master key of 32 bytes. Random nonces are good for about 2^32 keys per master key.

use std::fmt;
use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{Aead, Payload};
use hmac::{Hmac, Mac};
use rand::RngCore;
use sha2::Sha256;

use crate::support::StartError;

/// Name of the key file made in the data folder when no key is given.
const OWN_KEY_FILE: &str = "card-key.key";

const NONCE: usize = 12;

/// Where the master key comes from.
#[derive(Clone)]
pub enum KeySource {
    /// The key itself: 64 hexadecimal digits.
    Hex(String),
    /// A file that holds 64 hexadecimal digits.
    File(PathBuf),
    /// `card-key.key` in the data folder, made (readable by its owner only) together with the data.
    DataDir,
}

impl fmt::Debug for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hex(_) => f.write_str("Hex(..)"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::DataDir => f.write_str("DataDir"),
        }
    }
}

/// A card key as it is stored.
#[derive(Debug)]
pub(super) struct Sealed {
    /// Equal for equal keys, 32 bytes.
    pub(super) fp: [u8; 32],
    /// Nonce, ciphertext and tag.
    pub(super) sealed: Vec<u8>,
}

/// The sealed key cannot be opened: other master key, other row, or damage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a stored key cannot be opened")]
pub(super) struct Unreadable;

/// The keys derived from the master key.
pub(super) struct Keyring {
    cipher: Aes256Gcm,
    fingerprint: [u8; 32],
    password: [u8; 32],
    token: [u8; 32],
    generate: [u8; 32],
    check: [u8; 32],
}

impl Keyring {
    pub(super) fn new(master: &[u8; 32]) -> Self {
        let seal = hmac_sha256(master, &[b"tidegate card key: seal"]);
        Self {
            cipher: <Aes256Gcm as aes_gcm::KeyInit>::new(&seal.into()),
            fingerprint: hmac_sha256(master, &[b"tidegate card key: fingerprint"]),
            password: hmac_sha256(master, &[b"tidegate card key: password"]),
            token: hmac_sha256(master, &[b"tidegate card key: token"]),
            generate: hmac_sha256(master, &[b"tidegate card key: generate"]),
            check: hmac_sha256(master, &[b"tidegate card key: check"]),
        }
    }

    /// Stored with the data to notice at start that they belong to another master key; tells nothing about it.
    pub(super) fn check(&self) -> &[u8; 32] {
        &self.check
    }

    /// The key under which passwords are hashed.
    pub(super) fn password_key(&self) -> &[u8; 32] {
        &self.password
    }

    /// The key that signs download tokens.
    pub(super) fn token_key(&self) -> &[u8; 32] {
        &self.token
    }

    /// The key of a permutation of its own for each space of generated keys.
    pub(super) fn generator_key(&self, space: &str) -> [u8; 32] {
        hmac_sha256(&self.generate, &[space.as_bytes()])
    }

    /// Seals one card key for a row of `sku`. `None` only for secrets beyond 64 GiB.
    pub(super) fn seal(&self, sku: &str, secret: &str) -> Option<Sealed> {
        let fp = hmac_sha256(&self.fingerprint, &[secret.as_bytes()]);
        let mut nonce = [0_u8; NONCE];
        rand::rng().fill_bytes(&mut nonce);
        let aad = bound_to(sku, &fp);
        let payload = Payload { msg: secret.as_bytes(), aad: &aad };
        let text = self.cipher.encrypt(&nonce.into(), payload).ok()?;
        Some(Sealed { fp, sealed: [nonce.as_slice(), &text].concat() })
    }

    /// Opens a stored card key.
    ///
    /// # Errors
    /// [`Unreadable`] when it was sealed for another row or by another master key, or was changed since.
    pub(super) fn open(&self, sku: &str, fp: &[u8], sealed: &[u8]) -> Result<String, Unreadable> {
        let (nonce, text) = sealed.split_first_chunk::<NONCE>().ok_or(Unreadable)?;
        let aad = bound_to(sku, fp);
        let payload = Payload { msg: text, aad: &aad };
        let secret = self.cipher.decrypt(&(*nonce).into(), payload).map_err(|_| Unreadable)?;
        String::from_utf8(secret).map_err(|_| Unreadable)
    }
}

/// What a sealed key is bound to. A SKU holds no zero byte, so the pair has one reading only.
fn bound_to(sku: &str, fp: &[u8]) -> Vec<u8> {
    [sku.as_bytes(), &[0], fp].concat()
}

/// HMAC-SHA256 of the parts, one after the other.
pub(super) fn hmac_sha256(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac =
        <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(key).expect("invariant: HMAC takes keys of any length");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// Finds the master key. `fresh` says that there are no data yet: only then may a new key be made, since a new key for
/// old data would make every stored card key unreadable.
///
/// # Errors
/// [`StartError::Setup`] when the key is missing, unreadable or not 64 hexadecimal digits.
pub(super) fn master(source: &KeySource, data_dir: &Path, fresh: bool) -> Result<[u8; 32], StartError> {
    let (text, origin) = match source {
        KeySource::Hex(text) => (text.clone(), "the given key".to_owned()),
        KeySource::File(path) => (read(path)?, path.display().to_string()),
        KeySource::DataDir => {
            let path = data_dir.join(OWN_KEY_FILE);
            if !path.exists() {
                return make(&path, fresh);
            }
            (read(&path)?, path.display().to_string())
        }
    };
    from_hex(text.trim())
        .ok_or_else(|| StartError::Setup(format!("{origin} is not a key: 64 hexadecimal digits are expected")))
}

fn read(path: &Path) -> Result<String, StartError> {
    fs::read_to_string(path)
        .map_err(|error| StartError::Setup(format!("cannot read the key file {}: {error}", path.display())))
}

fn make(path: &Path, fresh: bool) -> Result<[u8; 32], StartError> {
    if !fresh {
        let path = path.display();
        return Err(StartError::Setup(format!(
            "there are card keys but no key to open them: put {path} back or name the key file"
        )));
    }
    let mut master = [0_u8; 32];
    rand::rng().fill_bytes(&mut master);
    let text: String = master.iter().map(|byte| format!("{byte:02x}")).collect();
    let write = || -> std::io::Result<()> {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        writeln!(file, "{text}")?;
        // The key must reach the disk before anything is sealed with it.
        file.sync_all()
    };
    write().map_err(|error| StartError::Setup(format!("cannot write {}: {error}", path.display())))?;
    tracing::warn!(path = %path.display(), "made a new master key; without this file the card keys are lost");
    Ok(master)
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let mut key = [0_u8; 32];
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (index, byte) in key.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[index * 2..index * 2 + 2], 16).ok()?;
    }
    Some(key)
}
