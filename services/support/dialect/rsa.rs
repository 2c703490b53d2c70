//! RSA keys for signatures with SHA-256 (PKCS #1 v1.5), read from PEM once and used many times.

use std::fmt;

use aes_gcm::aead::OsRng;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair, RsaPublicKeyComponents};
use rsa::pkcs8::{DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey, LineEnding};
use rsa::traits::PublicKeyParts;
use sha2::{Digest, Sha256};

use super::Forged;
use crate::support::hex;

/// Length of keys that are made here, in bits: what the real channels use.
const BITS: usize = 2_048;

/// Why a key cannot be used. Nothing of the key is in it.
#[derive(Debug, Clone, thiserror::Error)]
#[error("not a usable RSA key of at least 2048 bits in PEM: {0}")]
pub struct BadKey(String);

fn bad(error: impl fmt::Display) -> BadKey {
    BadKey(error.to_string())
}

/// A private key that signs. It does not show itself.
pub struct SigningKey {
    pair: RsaKeyPair,
    random: SystemRandom,
    public: VerifyingKey,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(..)")
    }
}

impl SigningKey {
    /// Reads PEM (`BEGIN PRIVATE KEY`, PKCS #8).
    ///
    /// # Errors
    /// When it is none, or too short.
    pub fn from_pem(pem: &str) -> Result<Self, BadKey> {
        let key = rsa::RsaPrivateKey::from_pkcs8_pem(pem.trim()).map_err(bad)?;
        let der = key.to_pkcs8_der().map_err(bad)?;
        let pair = RsaKeyPair::from_pkcs8(der.as_bytes()).map_err(bad)?;
        let public = VerifyingKey::new(&key.to_public_key())?;
        Ok(Self { pair, random: SystemRandom::new(), public })
    }

    /// A new private key as PEM. Takes a second or so.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub fn generate() -> Result<String, BadKey> {
        let key = rsa::RsaPrivateKey::new(&mut OsRng, BITS).map_err(bad)?;
        Ok(key.to_pkcs8_pem(LineEnding::LF).map_err(bad)?.to_string())
    }

    /// The public half.
    pub fn public(&self) -> &VerifyingKey {
        &self.public
    }

    /// The signature of `message` in base64.
    pub fn sign(&self, message: &[u8]) -> String {
        let mut signature = vec![0; self.pair.public().modulus_len()];
        let signed = self.pair.sign(&RSA_PKCS1_SHA256, &self.random, message, &mut signature);
        signed.expect("invariant: the buffer is as long as the modulus");
        STANDARD.encode(signature)
    }
}

/// A public key that checks.
#[derive(Debug, Clone)]
pub struct VerifyingKey {
    modulus: Vec<u8>,
    exponent: Vec<u8>,
    pem: String,
}

impl VerifyingKey {
    /// Reads PEM (`BEGIN PUBLIC KEY`).
    ///
    /// # Errors
    /// When it is none, or too short.
    pub fn from_pem(pem: &str) -> Result<Self, BadKey> {
        Self::new(&rsa::RsaPublicKey::from_public_key_pem(pem.trim()).map_err(bad)?)
    }

    fn new(key: &rsa::RsaPublicKey) -> Result<Self, BadKey> {
        if key.size() * 8 < BITS {
            return Err(bad("it is too short"));
        }
        let pem = key.to_public_key_pem(LineEnding::LF).map_err(bad)?;
        Ok(Self { modulus: key.n().to_bytes_be(), exponent: key.e().to_bytes_be(), pem })
    }

    /// The key as PEM.
    pub fn to_pem(&self) -> &str {
        &self.pem
    }

    /// Twenty bytes of the key's own hash in capital hexadecimal digits: a serial number for it.
    pub fn serial(&self) -> String {
        let mut hash: [u8; 32] = Sha256::digest(self.pem.as_bytes()).into();
        // A serial number in a certificate is positive and not shortened.
        hash[0] = hash[0] & 0x7f | 0x40;
        hex(&hash[..20]).to_ascii_uppercase()
    }

    /// Checks a signature in base64.
    ///
    /// # Errors
    /// [`Forged::Malformed`] when it is no base64, else [`Forged::Mismatch`].
    pub fn verify(&self, message: &[u8], signature: &str) -> Result<(), Forged> {
        let signature = STANDARD.decode(signature).map_err(|_| Forged::Malformed)?;
        let key = RsaPublicKeyComponents { n: &self.modulus, e: &self.exponent };
        key.verify(&RSA_PKCS1_2048_8192_SHA256, message, &signature).map_err(|_| Forged::Mismatch)
    }
}
