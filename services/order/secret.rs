//! A key of this service alone, for what it writes down about passwords.
//!
//! The buyer's query password belongs to the card-key service. Here it is needed in two places: sealed (AES-256-GCM)
//! in the row of an order until the reservation has it, so that a crash in between loses nothing; and as part of the
//! fingerprint by which a repeated request is recognised, which is keyed, so that a stolen file does not allow
//! guessing. The key lies in the data folder and not in the secret of the tokens: that one is rotated.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{Aead, KeyInit as _, Payload};
use hmac::{Hmac, Mac};
use rand::RngCore;
use sha2::Sha256;

use crate::support::{StartError, hex, unhex};

/// Name of the key file inside the data folder.
const FILE: &str = "order.key";

const NONCE: usize = 12;

/// The key.
pub(super) struct Secret([u8; 32]);

impl Secret {
    /// Reads the key from the data folder; makes it, readable by its owner only, when there is none.
    ///
    /// # Errors
    /// [`StartError::Setup`] when the file cannot be read or made, or does not hold 64 hexadecimal digits.
    pub(super) fn open(data_dir: &Path) -> Result<Self, StartError> {
        let path = data_dir.join(FILE);
        let failed = |why: &dyn std::fmt::Display| StartError::Setup(format!("{}: {why}", path.display()));
        match fs::read_to_string(&path) {
            Ok(text) => {
                let key = unhex(text.trim()).and_then(|key| key.try_into().ok());
                key.map(Self).ok_or_else(|| failed(&"not 64 hexadecimal digits"))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let secret = Self::random();
                write_new(&path, &secret).map_err(|error| failed(&error))?;
                Ok(secret)
            }
            Err(error) => Err(failed(&error)),
        }
    }

    /// A key nobody else has.
    pub(super) fn random() -> Self {
        let mut key = [0_u8; 32];
        rand::rng().fill_bytes(&mut key);
        Self(key)
    }

    /// Seals a password for the row of one order: nonce, ciphertext and tag.
    pub(super) fn seal(&self, order_no: &str, password: &str) -> Option<Vec<u8>> {
        let mut sealed = vec![0_u8; NONCE];
        rand::rng().fill_bytes(&mut sealed);
        let nonce = <[u8; NONCE]>::try_from(sealed.as_slice()).ok()?;
        let payload = Payload { msg: password.as_bytes(), aad: order_no.as_bytes() };
        sealed.extend(Aes256Gcm::new(&self.0.into()).encrypt(&nonce.into(), payload).ok()?);
        Some(sealed)
    }

    /// The password again; absent when the key or the order is another one.
    pub(super) fn open_sealed(&self, order_no: &str, sealed: &[u8]) -> Option<String> {
        let (nonce, ciphertext) = sealed.split_at_checked(NONCE)?;
        let nonce = <[u8; NONCE]>::try_from(nonce).ok()?;
        let payload = Payload { msg: ciphertext, aad: order_no.as_bytes() };
        String::from_utf8(Aes256Gcm::new(&self.0.into()).decrypt(&nonce.into(), payload).ok()?).ok()
    }

    /// Equal for equal requests only. Each part goes in with its length, so that no two lists of parts look alike.
    pub(super) fn fingerprint(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut mac =
            <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(&self.0).expect("invariant: HMAC takes keys of any length");
        for part in parts {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }
}

/// Writes the key beside its place and renames it there: a crash leaves either no key or a whole one.
fn write_new(path: &Path, secret: &Secret) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let draft = path.with_extension("key.new");
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    writeln!(file, "{}", hex(&secret.0))?;
    file.sync_all()?;
    fs::rename(&draft, path)
}
