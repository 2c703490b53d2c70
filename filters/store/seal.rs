//! Seals answers at rest: they hold what the client was sold, card keys for instance.
//!
//! AES-256-GCM with a random nonce of 96 bits, good for about 2^32 answers under one key. The record's name is authenticated
//! with it, so an answer copied into another record does not open. The key is a file beside the data, readable by its owner
//! only: it guards copies of the data file (backups, an attached disk), not a machine that was taken over.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, KeyInit};
use rand::RngCore;

use super::RecordId;

const KEY: usize = 32;
const NONCE: usize = 12;

/// Seals and opens.
pub(crate) struct Seal(Aes256Gcm);

impl Seal {
    /// With the key of that file, which is made when there is none.
    pub(crate) fn from_file(path: &Path) -> io::Result<Self> {
        let key = match fs::read(path) {
            Ok(key) => key,
            Err(error) if error.kind() == io::ErrorKind::NotFound => make(path)?,
            Err(error) => return Err(error),
        };
        let wrong = |_| io::Error::new(io::ErrorKind::InvalidData, "the key file does not hold 32 bytes");
        let key: [u8; KEY] = key.try_into().map_err(wrong)?;
        Ok(Self(Aes256Gcm::new(&key.into())))
    }

    /// With a key that others have, too.
    #[cfg(feature = "postgres")]
    pub(crate) fn new(key: &[u8; KEY]) -> Self {
        Self(Aes256Gcm::new(key.into()))
    }

    /// Nonce, ciphertext and tag. `None` only for more than GCM takes (64 GiB).
    pub(crate) fn close(&self, id: RecordId, plain: &[u8]) -> Option<Vec<u8>> {
        let mut nonce = [0; NONCE];
        rand::rng().fill_bytes(&mut nonce);
        let sealed = self.0.encrypt(&nonce.into(), Payload { msg: plain, aad: &id.0 }).ok()?;
        Some([nonce.as_slice(), &sealed].concat())
    }

    /// `None` with another key, of another record, or damaged.
    pub(crate) fn open(&self, id: RecordId, sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE>()?;
        self.0.decrypt(nonce.into(), Payload { msg: sealed, aad: &id.0 }).ok()
    }
}

/// Durable before it is used: answers under a lost key are lost.
fn make(path: &Path) -> io::Result<Vec<u8>> {
    let mut key = vec![0; KEY];
    rand::rng().fill_bytes(&mut key);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    // Whole or not there at all, whatever happens in between.
    let draft = path.with_extension("key.new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    file.write_all(&key)?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    if let Some(folder) = path.parent() {
        fs::File::open(folder)?.sync_all()?;
    }
    Ok(key)
}
