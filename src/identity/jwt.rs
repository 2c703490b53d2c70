//! JSON Web Tokens: where they stand in a request, and what they must satisfy before they name anybody.
//!
//! Nothing of a token is looked at before its signature is good, except the two fields of its header that choose the key:
//! `alg`, which has to be in the configured list, and `kid`. A header that names its own key (`jwk`, `jku`, `x5u`) is not
//! heard; one that demands something to be understood (`crit`) is refused, since nothing is.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::{Map, Value};
use tidegate_filters::engine::RequestHead;

use super::keys::Keys;
use super::text;
use crate::config::{JwtAlgorithm, JwtSource};

/// Longest token, in bytes: what fits a header line that servers commonly accept.
const LONGEST_TOKEN: usize = 8 * 1024;

/// What a request says where a token is expected.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Presented<'a> {
    /// No token.
    Nothing,
    /// One token.
    Token(&'a [u8]),
    /// Something that cannot be taken for one token: two of them, an empty one, one beyond any length.
    Nonsense,
}

/// What a good signature vouches for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Claims {
    /// The configured claim, as text.
    pub(super) name: String,
    /// First second of the token's life, leeway included.
    pub(super) not_before: u64,
    /// First second after its life, leeway included; the end of time when the token has no `exp`.
    pub(super) expires: u64,
}

/// One way to verify tokens.
pub(super) struct Verifier {
    keys: Keys,
    algorithms: Vec<JwtAlgorithm>,
    claim: String,
    issuer: Option<String>,
    audience: Option<String>,
    cookie: Option<String>,
    leeway: Duration,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    #[serde(default)]
    crit: Option<Value>,
}

impl Verifier {
    pub(super) fn new(source: &JwtSource) -> Result<Self, String> {
        Ok(Self {
            keys: Keys::new(source)?,
            algorithms: source.algorithms.clone(),
            claim: source.claim.clone(),
            issuer: source.issuer.clone(),
            audience: source.audience.clone(),
            cookie: source.cookie.clone(),
            leeway: source.leeway,
        })
    }

    /// The token of a request, not verified yet.
    pub(super) fn find<'a>(&self, head: &RequestHead<'a>) -> Presented<'a> {
        match &self.cookie {
            None => bearer(head),
            Some(name) => cookie(head, name.as_bytes()),
        }
    }

    /// What `token` vouches for; `None` unless everything but its time is in order. The time is the caller's to check, so
    /// that it can be checked again.
    pub(super) fn verify(&self, token: &[u8]) -> Option<Claims> {
        let token = std::str::from_utf8(token).ok()?;
        let (message, signature) = token.rsplit_once('.')?;
        let (header, payload) = message.split_once('.')?;
        if payload.contains('.') {
            return None;
        }
        let header: Header = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()?;
        let algorithm = self.algorithm(&header.alg)?;
        if header.crit.is_some() || !self.keys.verify(algorithm, header.kid.as_deref(), message.as_bytes(), signature) {
            return None;
        }
        self.read(&serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()?)
    }

    fn algorithm(&self, name: &str) -> Option<JwtAlgorithm> {
        let algorithm = match name {
            "HS256" => JwtAlgorithm::Hs256,
            "RS256" => JwtAlgorithm::Rs256,
            "EdDSA" => JwtAlgorithm::EdDsa,
            _ => return None,
        };
        self.algorithms.contains(&algorithm).then_some(algorithm)
    }

    fn read(&self, claims: &Map<String, Value>) -> Option<Claims> {
        let issued = |wanted: &String| claims.get("iss").and_then(Value::as_str) == Some(wanted);
        let meant = |wanted: &String| match claims.get("aud") {
            Some(Value::String(one)) => one == wanted,
            Some(Value::Array(many)) => many.iter().any(|one| one.as_str() == Some(wanted)),
            _ => false,
        };
        if !self.issuer.as_ref().is_none_or(issued) || !self.audience.as_ref().is_none_or(meant) {
            return None;
        }
        let leeway = self.leeway.as_secs();
        let expires =
            claims.get("exp").map_or(Some(u64::MAX), |exp| Some(seconds(exp, f64::floor)?.saturating_add(leeway)));
        let not_before = claims.get("nbf").map_or(Some(0), |nbf| Some(seconds(nbf, f64::ceil)?.saturating_sub(leeway)));
        let name = match claims.get(&self.claim)? {
            Value::String(name) => name.clone(),
            Value::Number(number) if number.is_i64() || number.is_u64() => number.to_string(),
            _ => return None,
        };
        text(name.as_bytes())?;
        Some(Claims { name, not_before: not_before?, expires: expires? })
    }
}

/// A `NumericDate`: a number, perhaps with a fraction, which is rounded so that the token lives shorter.
fn seconds(date: &Value, round: fn(f64) -> f64) -> Option<u64> {
    // From a float `as` saturates: before 1970 becomes 0, the far future the end of time.
    date.as_u64().or_else(|| date.as_f64().map(|date| round(date) as u64))
}

impl<'a> Presented<'a> {
    fn one(token: &'a [u8]) -> Self {
        if token.is_empty() || token.len() > LONGEST_TOKEN { Presented::Nonsense } else { Presented::Token(token) }
    }
}

/// The token of `Authorization: Bearer`. Two such headers are nonsense even if one has another scheme or both are equal:
/// whoever reads the request next may take the other one.
fn bearer<'a>(head: &RequestHead<'a>) -> Presented<'a> {
    let mut values = head.headers_named("authorization");
    let Some(value) = values.next() else { return Presented::Nothing };
    if values.next().is_some() {
        return Presented::Nonsense;
    }
    let scheme = value.iter().position(|&byte| byte == b' ').unwrap_or(value.len());
    if value[..scheme].eq_ignore_ascii_case(b"bearer") {
        Presented::one(value[scheme..].trim_ascii())
    } else {
        Presented::Nothing
    }
}

/// The token of a cookie, which may be there once.
fn cookie<'a>(head: &RequestHead<'a>, name: &[u8]) -> Presented<'a> {
    let pairs = head.headers_named("cookie").flat_map(|line| line.split(|&byte| byte == b';'));
    let mut tokens = pairs.filter_map(|pair| pair.trim_ascii().strip_prefix(name)?.strip_prefix(b"="));
    match (tokens.next(), tokens.next()) {
        (None, _) => Presented::Nothing,
        (Some(token), None) => Presented::one(token),
        _ => Presented::Nonsense,
    }
}
