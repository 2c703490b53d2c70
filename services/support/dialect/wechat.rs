//! WeChat Pay, version 3: RSA with SHA-256 over lines of the message, AES-256-GCM for what a notification holds.

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::Forged;
use super::rsa::{SigningKey, VerifyingKey};

/// Scheme of the header `Authorization`.
pub const SCHEME: &str = "WECHATPAY2-SHA256-RSA2048";

/// A signed time may be so many seconds away, either way.
pub const WINDOW_SECONDS: u64 = 300;

/// A signature that begins with this is a probe: the receiver must refuse it like any other wrong one.
pub const SIGNTEST: &str = "WECHATPAY/SIGNTEST/";

/// Bytes of the key for AES-256.
pub const API_V3_KEY_BYTES: usize = 32;

/// Bytes of the nonce of a resource.
pub const NONCE_BYTES: usize = 12;

/// The text of a call that is signed. `target` is path and query as they are sent.
pub fn call_text(method: &str, target: &str, timestamp: u64, nonce: &str, body: &str) -> String {
    format!("{method}\n{target}\n{timestamp}\n{nonce}\n{body}\n")
}

/// The text of an answer or a notification that is signed.
pub fn answer_text(timestamp: &str, nonce: &str, body: &str) -> String {
    format!("{timestamp}\n{nonce}\n{body}\n")
}

/// What the header `Authorization` of a call says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Authorization {
    /// Number of the merchant.
    pub mchid: String,
    /// Serial number of the merchant's certificate.
    pub serial_no: String,
    /// Random text.
    pub nonce_str: String,
    /// Unix seconds.
    pub timestamp: u64,
    /// Base64.
    pub signature: String,
}

impl Authorization {
    /// Signs a call at `timestamp`.
    pub fn sign(mut self, method: &str, target: &str, body: &str, key: &SigningKey) -> Self {
        let text = call_text(method, target, self.timestamp, &self.nonce_str, body);
        self.signature = key.sign(text.as_bytes());
        self
    }

    /// Writes the header's value.
    pub fn to_header(&self) -> String {
        let Self { mchid, serial_no, nonce_str, timestamp, signature } = self;
        format!(
            "{SCHEME} mchid=\"{mchid}\",nonce_str=\"{nonce_str}\",signature=\"{signature}\",timestamp=\"{timestamp}\",\
serial_no=\"{serial_no}\""
        )
    }

    /// Reads the header's value.
    ///
    /// # Errors
    /// [`Forged::Malformed`] when it is of another scheme, or a member is missing, unknown or comes twice.
    pub fn parse(header: &str) -> Result<Self, Forged> {
        let members = header.strip_prefix(SCHEME).and_then(|rest| rest.strip_prefix(' ')).ok_or(Forged::Malformed)?;
        let mut read = std::collections::BTreeMap::new();
        for member in members.split(',') {
            let (name, value) = member.trim().split_once('=').ok_or(Forged::Malformed)?;
            let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).ok_or(Forged::Malformed)?;
            if read.insert(name, value).is_some() {
                return Err(Forged::Malformed);
            }
        }
        let mut take = |name: &str| read.remove(name).map(str::to_owned).ok_or(Forged::Malformed);
        let this = Self {
            mchid: take("mchid")?,
            serial_no: take("serial_no")?,
            nonce_str: take("nonce_str")?,
            timestamp: take("timestamp")?.parse().map_err(|_| Forged::Malformed)?,
            signature: take("signature")?,
        };
        if read.is_empty() { Ok(this) } else { Err(Forged::Malformed) }
    }

    /// Checks the call that came with it.
    ///
    /// # Errors
    /// [`Forged::Mismatch`] when it is not signed with this key, [`Forged::OutsideWindow`] when that was too long ago.
    pub fn verify(
        &self,
        method: &str,
        target: &str,
        body: &str,
        key: &VerifyingKey,
        now_unix_seconds: u64,
    ) -> Result<(), Forged> {
        let text = call_text(method, target, self.timestamp, &self.nonce_str, body);
        key.verify(text.as_bytes(), &self.signature)?;
        in_window(self.timestamp, now_unix_seconds)
    }
}

/// Checks an answer or a notification by its headers `Wechatpay-Timestamp`, `-Nonce` and `-Signature`. That the serial
/// number is that of `key` is the caller's to see.
///
/// # Errors
/// See [`Forged`]. A probe is a mismatch like any other.
pub fn verify_answer(
    timestamp: &str,
    nonce: &str,
    signature: &str,
    body: &str,
    key: &VerifyingKey,
    now_unix_seconds: u64,
) -> Result<(), Forged> {
    key.verify(answer_text(timestamp, nonce, body).as_bytes(), signature).map_err(|_| Forged::Mismatch)?;
    in_window(timestamp.parse().map_err(|_| Forged::Malformed)?, now_unix_seconds)
}

fn in_window(timestamp: u64, now_unix_seconds: u64) -> Result<(), Forged> {
    if timestamp.abs_diff(now_unix_seconds) > WINDOW_SECONDS { Err(Forged::OutsideWindow) } else { Ok(()) }
}

/// Encrypts a resource; the answer is base64 of the ciphertext with its tag.
pub fn seal(key: &[u8; API_V3_KEY_BYTES], nonce: &[u8; NONCE_BYTES], associated: &str, plain: &str) -> String {
    let payload = Payload { msg: plain.as_bytes(), aad: associated.as_bytes() };
    let sealed = Aes256Gcm::new(key.into()).encrypt(&Nonce::from(*nonce), payload);
    STANDARD.encode(sealed.expect("invariant: a resource is far shorter than what one nonce can encrypt"))
}

/// Decrypts a resource.
///
/// # Errors
/// [`Forged::Malformed`] when it is no base64, no text, or the nonce has another length; [`Forged::Mismatch`] when it
/// was not made with this key, or was changed.
pub fn open(key: &[u8; API_V3_KEY_BYTES], nonce: &str, associated: &str, ciphertext: &str) -> Result<String, Forged> {
    let sealed = STANDARD.decode(ciphertext).map_err(|_| Forged::Malformed)?;
    let nonce: [u8; NONCE_BYTES] = nonce.as_bytes().try_into().map_err(|_| Forged::Malformed)?;
    let payload = Payload { msg: &sealed, aad: associated.as_bytes() };
    let plain = Aes256Gcm::new(key.into()).decrypt(&Nonce::from(nonce), payload);
    String::from_utf8(plain.map_err(|_| Forged::Mismatch)?).map_err(|_| Forged::Malformed)
}
