//! The keys that tokens are verified with, each tied to the one algorithm it may be used for.
//!
//! A token's header says which algorithm it wants; it never says which key. A key takes part only in its own algorithm, so
//! a token "signed" with HMAC under the text of an RSA public key finds no key, and `none` is not an algorithm at all.

use jsonwebtoken::crypto::rust_crypto::DEFAULT_PROVIDER;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind};

use crate::config::{JwtAlgorithm, JwtKey, JwtSource};

/// RSA keys below 2048 bits are within reach of a patient attacker (RFC 7518, section 3.3).
const SMALLEST_RSA_MODULUS: usize = 256;
/// An Ed25519 public key.
const ED25519_LENGTH: usize = 32;

/// Key material of one source.
pub(super) struct Keys {
    keys: Vec<Key>,
    /// From a key set: a token names its key, and the only one may go unnamed.
    named: bool,
}

struct Key {
    name: Option<String>,
    algorithm: JwtAlgorithm,
    key: DecodingKey,
}

impl Keys {
    /// The usable keys of `source`.
    pub(super) fn new(source: &JwtSource) -> Result<Self, String> {
        let single = |(algorithm, key)| vec![Key { name: None, algorithm, key }];
        let mut keys = match &source.key {
            JwtKey::Secret(secret) if secret.expose().is_empty() => return Err("the secret is empty".into()),
            JwtKey::Secret(secret) => single((JwtAlgorithm::Hs256, DecodingKey::from_secret(secret.expose()))),
            JwtKey::PublicKeyPem(pem) => single(from_pem(pem)?),
            JwtKey::Jwks(text) => from_set(text)?,
        };
        keys.retain(|key| source.algorithms.contains(&key.algorithm));
        if keys.is_empty() {
            return Err("no key fits the algorithms that are accepted".into());
        }
        Ok(Self { keys, named: matches!(source.key, JwtKey::Jwks(_)) })
    }

    /// Whether `signature` (base64url) is good for `message` under a key of that algorithm and, from a set, that name.
    pub(super) fn verify(&self, algorithm: JwtAlgorithm, name: Option<&str>, message: &[u8], signature: &str) -> bool {
        let good = |key: &Key| {
            // Every verifier behind this compares in constant time: HMACs by their library, signatures by arithmetic.
            jsonwebtoken::crypto::verify(signature, message, &key.key, library(algorithm)).unwrap_or(false)
        };
        let mut keys = self.keys.iter().filter(|key| key.algorithm == algorithm);
        match name {
            Some(name) if self.named => keys.filter(|key| key.name.as_deref() == Some(name)).any(good),
            // Without a name only one key can be meant; trying all would let a token choose.
            _ => keys.next().is_some_and(|key| keys.next().is_none() && good(key)),
        }
    }
}

fn library(algorithm: JwtAlgorithm) -> Algorithm {
    match algorithm {
        JwtAlgorithm::Hs256 => Algorithm::HS256,
        JwtAlgorithm::Rs256 => Algorithm::RS256,
        JwtAlgorithm::EdDsa => Algorithm::EdDSA,
    }
}

fn from_pem(pem: &[u8]) -> Result<(JwtAlgorithm, DecodingKey), String> {
    if String::from_utf8_lossy(pem).contains("PRIVATE KEY") {
        return Err("the file has a private key; only the public one belongs here".into());
    }
    if let Ok(key) = DecodingKey::from_ed_pem(pem) {
        return Ok((JwtAlgorithm::EdDsa, ed25519(key)?));
    }
    let key = DecodingKey::from_rsa_pem(pem).map_err(|_| "the file is not an RSA or Ed25519 public key in PEM form")?;
    Ok((JwtAlgorithm::Rs256, rsa(&key)?))
}

fn from_set(text: &str) -> Result<Vec<Key>, String> {
    let set: JwkSet = serde_json::from_str(text).map_err(|error| format!("the key set cannot be read: {error}"))?;
    // Keys for other purposes or algorithms may stand in a set; a broken one of ours may not.
    set.keys.iter().filter_map(from_jwk).collect()
}

fn from_jwk(jwk: &Jwk) -> Option<Result<Key, String>> {
    let (algorithm, own_name) = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => (JwtAlgorithm::Rs256, KeyAlgorithm::RS256),
        AlgorithmParameters::OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519 => {
            (JwtAlgorithm::EdDsa, KeyAlgorithm::EdDSA)
        }
        AlgorithmParameters::OctetKey(_) => (JwtAlgorithm::Hs256, KeyAlgorithm::HS256),
        _ => return None,
    };
    let signs = jwk.common.public_key_use.as_ref().is_none_or(|purpose| *purpose == PublicKeyUse::Signature);
    if !signs || jwk.common.key_algorithm.is_some_and(|named| named != own_name) {
        return None;
    }
    let name = jwk.common.key_id.clone();
    let key = DecodingKey::from_jwk(jwk).map_err(|error| error.to_string()).and_then(|key| match algorithm {
        JwtAlgorithm::Hs256 if key.try_get_as_bytes().is_ok_and(<[u8]>::is_empty) => Err("it is empty".into()),
        JwtAlgorithm::Hs256 => Ok(key),
        JwtAlgorithm::Rs256 => rsa(&key),
        JwtAlgorithm::EdDsa => ed25519(key),
    });
    let label = name.clone().unwrap_or_default();
    Some(key.map(|key| Key { name, algorithm, key }).map_err(|why| format!("key `{label}` of the set: {why}")))
}

/// The key as modulus and exponent, if it is one that can be relied on.
fn rsa(key: &DecodingKey) -> Result<DecodingKey, String> {
    let parts = match key.kind() {
        DecodingKeyKind::RsaModulusExponent { n, e } => (n.clone(), e.clone()),
        DecodingKeyKind::SecretOrDer(der) => (DEFAULT_PROVIDER.key_utils.rsa_pub_components_from_public_key)(der)
            .map_err(|_| "the RSA key cannot be read")?,
    };
    let modulus = parts.0.iter().skip_while(|&&byte| byte == 0).count();
    if modulus < SMALLEST_RSA_MODULUS {
        return Err(format!("the RSA key has {} bits; at least 2048 are needed", modulus * 8));
    }
    let key = DecodingKey::from_rsa_raw_components(&parts.0, &parts.1);
    usable(key, Algorithm::RS256)
}

fn ed25519(key: DecodingKey) -> Result<DecodingKey, String> {
    if key.try_get_as_bytes().map_or(0, <[u8]>::len) != ED25519_LENGTH {
        return Err("the Ed25519 key does not have 32 bytes".into());
    }
    usable(key, Algorithm::EdDSA)
}

/// Finds out now what would otherwise show as a refusal of every token.
fn usable(key: DecodingKey, algorithm: Algorithm) -> Result<DecodingKey, String> {
    match (DEFAULT_PROVIDER.verifier_factory)(&algorithm, &key) {
        Ok(_) => Ok(key),
        Err(error) => Err(format!("the key cannot be used: {error}")),
    }
}
