//! `identity`: sources that prove what they say, and keys that fit their algorithms.

use http::HeaderName;
use jsonwebtoken::DecodingKey;
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, JwkSet};

use super::check::Checker;
use super::file::{JwtFile, SourceFile};
use super::placed::{At, Named};
use super::suggest;
use super::tree::Id;
use super::types::{IdentitySource, JwtAlgorithm, JwtKey, JwtSource};

/// Names that the gateway itself gives meaning to.
pub(super) const BUILT_IN: [&str; 3] = ["client", "route", "global"];
/// Shortest HS256 secret: as long as its hash (RFC 7518, 3.2).
const SHORTEST_SECRET: usize = 32;
const ALGORITHMS: [(&str, JwtAlgorithm); 3] =
    [("HS256", JwtAlgorithm::Hs256), ("RS256", JwtAlgorithm::Rs256), ("EdDSA", JwtAlgorithm::EdDsa)];
/// Headers that say how a message is framed or where it goes, and so cannot say who sent it.
const NOT_IDENTITY: [&str; 8] =
    ["host", "connection", "content-length", "transfer-encoding", "upgrade", "te", "trailer", "authorization"];

impl Checker<'_, '_> {
    pub(super) fn identity(&mut self, file: &Named<Vec<At<SourceFile>>>) -> Vec<(String, Vec<IdentitySource>)> {
        let mut identities = Vec::new();
        for (name, sources) in &file.0 {
            self.name(sources.at, name, "an identity");
            if BUILT_IN.contains(&name.as_str()) {
                self.wrong_key(sources.at, format!("the identity `{name}` is built in and cannot be defined"), None);
            }
            if sources.value.is_empty() && !self.decoder.is_tainted(sources.at) {
                self.wrong(sources.at, "an identity needs at least one source");
            }
            let made = sources.value.iter().filter_map(|source| self.source(source)).collect();
            identities.push((name.clone(), made));
        }
        identities
    }

    fn source(&mut self, source: &At<SourceFile>) -> Option<IdentitySource> {
        let SourceFile { jwt, trusted_header, from, header } = &source.value;
        let tainted = self.decoder.is_tainted(source.at);
        let given = usize::from(jwt.is_some()) + usize::from(trusted_header.is_some()) + usize::from(header.is_some());
        if given != 1 && !tainted {
            self.wrong(source.at, "a source is one of `jwt`, `trusted_header` (with `from`) and `header`");
            return None;
        }
        if let (Some(from), None) = (from, trusted_header) {
            self.wrong_key(from.at, "`from` belongs to `trusted_header`", None);
        }
        if let Some(jwt) = jwt {
            return self.jwt(jwt).map(|jwt| IdentitySource::Jwt(Box::new(jwt)));
        }
        if let Some(header) = header {
            return self.header_name(header).map(IdentitySource::Header);
        }
        let name = trusted_header.as_ref()?;
        let Some(from) = from else {
            if !tainted {
                let help = Some("add `from: [\"10.0.0.0/8\"]` with the networks of your own proxies".to_owned());
                self.wrong_with_help(name.at, "`trusted_header` needs `from`: who is believed", help);
            }
            return None;
        };
        if from.value.is_empty() && !self.decoder.is_tainted(from.at) {
            self.wrong(from.at, "nobody is believed; name at least one network");
        }
        let from = from.value.iter().map(|net| net.value.0).collect();
        self.header_name(name).map(|header| IdentitySource::TrustedHeader { header, from })
    }

    /// A header's name in lower case.
    pub(super) fn header_name(&self, name: &At<String>) -> Option<String> {
        let Ok(parsed) = name.value.parse::<HeaderName>() else {
            self.wrong(name.at, "not a header's name");
            return None;
        };
        if NOT_IDENTITY.contains(&parsed.as_str()) {
            self.wrong(name.at, format!("the header `{parsed}` says nothing about who sent the request"));
            return None;
        }
        Some(parsed.as_str().to_owned())
    }

    fn jwt(&mut self, jwt: &At<JwtFile>) -> Option<JwtSource> {
        let file = &jwt.value;
        let algorithms = self.algorithms(jwt);
        let key = self.jwt_key(jwt, algorithms.as_deref());
        if file.claim.value.is_empty() {
            self.wrong(file.claim.or(jwt.at), "an empty name of a claim");
        }
        if let Some(cookie) = &file.cookie {
            // A cookie's name is a token, and so is a header's (RFC 6265, 4.1.1).
            if cookie.value.parse::<HeaderName>().is_err() {
                self.wrong(cookie.at, "not a cookie's name");
            }
        }
        let leeway = self.span(&file.leeway, jwt.at, std::time::Duration::ZERO, std::time::Duration::from_secs(600));
        Some(JwtSource {
            key: key?,
            algorithms: algorithms?,
            claim: file.claim.value.clone(),
            issuer: file.issuer.clone(),
            audience: file.audience.clone(),
            cookie: file.cookie.as_ref().map(|cookie| cookie.value.clone()),
            leeway,
        })
    }

    /// The algorithms; `None` when they are wrong.
    fn algorithms(&self, jwt: &At<JwtFile>) -> Option<Vec<JwtAlgorithm>> {
        let shared = jwt.value.secret.is_some() || jwt.value.secret_file.is_some();
        let Some(listed) = &jwt.value.algorithms else {
            if shared {
                return Some(vec![JwtAlgorithm::Hs256]);
            }
            if !self.decoder.is_tainted(jwt.at) {
                let help = Some("write `algorithms: [RS256]` or `[EdDSA]`, as the key is".to_owned());
                self.wrong_with_help(jwt.at, "`algorithms` is needed with a public key", help);
            }
            return None;
        };
        let mut algorithms = Vec::new();
        for name in &listed.value {
            match ALGORITHMS.iter().find(|(known, _)| *known == name.value) {
                Some((_, algorithm)) if !algorithms.contains(algorithm) => algorithms.push(*algorithm),
                Some(_) => self.wrong(name.at, format!("`{}` stands here twice", name.value)),
                None if name.value.eq_ignore_ascii_case("none") => {
                    self.wrong(name.at, "`none` is no signature: such a token proves nothing");
                }
                None => {
                    let help = suggest::nearest_or_list(&name.value, ALGORITHMS.iter().map(|(known, _)| *known));
                    self.wrong_with_help(name.at, "unknown algorithm", help);
                }
            }
        }
        let hs = algorithms.contains(&JwtAlgorithm::Hs256);
        if listed.value.is_empty() && !self.decoder.is_tainted(listed.at) {
            self.wrong(listed.at, "at least one algorithm is needed");
        } else if hs && algorithms.len() > 1 {
            let message = "`HS256` does not mix with the others: a public key would pass as the shared secret";
            self.wrong(listed.at, message);
        } else if hs != shared && !algorithms.is_empty() {
            let message =
                if hs { "`HS256` needs `secret` or `secret_file`" } else { "a secret goes with `HS256` only" };
            self.wrong(listed.at, message);
        }
        (!algorithms.is_empty()).then_some(algorithms)
    }

    fn jwt_key(&mut self, jwt: &At<JwtFile>, algorithms: Option<&[JwtAlgorithm]>) -> Option<JwtKey> {
        let JwtFile { secret, secret_file, public_key_file, jwks_file, .. } = &jwt.value;
        let files = [secret_file, public_key_file, jwks_file];
        let given = usize::from(secret.is_some()) + files.iter().filter(|file| file.is_some()).count();
        if given != 1 && !self.decoder.is_tainted(jwt.at) {
            let message = "exactly one of `secret`, `secret_file`, `public_key_file` and `jwks_file` is needed";
            self.wrong(jwt.at, message);
        }
        if let Some(at) = secret.as_ref().map(|text| text.at).or(secret_file.as_ref().map(|file| file.at)) {
            let secret = match (secret, secret_file) {
                (Some(text), _) => self.secret(text),
                (None, file) => file.as_ref().and_then(|file| self.secret_file(file)),
            }?;
            if secret.expose().len() < SHORTEST_SECRET {
                let help = Some("make one with `openssl rand -base64 32`".to_owned());
                self.wrong_with_help(at, format!("an HS256 secret has at least {SHORTEST_SECRET} bytes"), help);
            }
            return Some(JwtKey::Secret(secret));
        }
        if let Some(path) = public_key_file {
            let pem = self.file(path, false)?;
            self.public_key(path.at, &pem, algorithms.unwrap_or_default());
            return Some(JwtKey::PublicKeyPem(pem));
        }
        let path = jwks_file.as_ref()?;
        let contents = self.file(path, false)?;
        self.key_set(path.at, &contents, algorithms.unwrap_or_default());
        Some(JwtKey::Jwks(String::from_utf8(contents).ok()?))
    }

    fn public_key(&self, at: Id, pem: &[u8], algorithms: &[JwtAlgorithm]) {
        let rsa = DecodingKey::from_rsa_pem(pem).is_ok();
        let ed = DecodingKey::from_ed_pem(pem).is_ok();
        if pem.windows(11).any(|word| word == b"PRIVATE KEY") {
            self.wrong(at, "the file holds a private key; a verifier needs the public one only");
        } else if !rsa && !ed {
            self.wrong(at, "not a PEM file with an RSA or Ed25519 public key");
        }
        for algorithm in algorithms {
            let (fits, name) = match algorithm {
                JwtAlgorithm::Rs256 => (rsa, "RS256"),
                JwtAlgorithm::EdDsa => (ed, "EdDSA"),
                JwtAlgorithm::Hs256 => continue,
            };
            if (rsa || ed) && !fits {
                self.wrong(at, format!("the key does not fit the algorithm `{name}`"));
            }
        }
    }

    fn key_set(&self, at: Id, contents: &[u8], algorithms: &[JwtAlgorithm]) {
        let Ok(set) = serde_json::from_slice::<JwkSet>(contents) else {
            return self.wrong(at, "not a JSON Web Key Set");
        };
        if set.keys.is_empty() {
            self.wrong(at, "the key set is empty");
        }
        for key in &set.keys {
            if matches!(key.algorithm, AlgorithmParameters::OctetKey(_)) {
                self.wrong(at, "the key set holds a shared secret; use `secret_file` for one");
            } else if DecodingKey::from_jwk(key).is_err() {
                self.wrong(at, "a key of the set cannot be used");
            }
        }
        for algorithm in algorithms {
            let fits = |key: &Jwk| match algorithm {
                JwtAlgorithm::Rs256 => matches!(key.algorithm, AlgorithmParameters::RSA(_)),
                JwtAlgorithm::EdDsa => matches!(key.algorithm, AlgorithmParameters::OctetKeyPair(_)),
                JwtAlgorithm::Hs256 => true,
            };
            if !set.keys.is_empty() && !set.keys.iter().any(fits) {
                let name = ALGORITHMS.iter().find(|(_, known)| known == algorithm).map_or("", |(name, _)| *name);
                self.wrong(at, format!("no key of the set fits the algorithm `{name}`"));
            }
        }
    }
}
