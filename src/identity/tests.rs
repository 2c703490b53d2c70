//! Who is believed, and that nobody gets a bucket by forging anything.
//!
//! The RSA and Ed25519 tokens in `testdata` were signed once with keys that were then thrown away; they expire in 2033 by
//! the clock that tests pass in.

use std::net::IpAddr;
use std::time::Duration;

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use tidegate_filters::engine::{Identity, IdentityId, KeyHasher, Nanos, RequestContext, RequestHead};

use super::{HEADER_INVALID, Identities, JWT_INVALID};
use crate::config::Secret;
use crate::config::{IdentitySource, JwtAlgorithm, JwtKey, JwtSource};

mod forged;

const USER: IdentityId = IdentityId(IdentityId::FIRST_NAMED);
const EVERYTHING: u64 = u64::MAX;
const SECRET: &[u8] = b"an example secret of more than 32 bytes";
const NOW: u64 = 1_800_000_000;
const RSA_KEY: &str = include_str!("testdata/rsa.pub.pem");
const RS256: &str = include_str!("testdata/rs256.jwt");
const EDDSA: &str = include_str!("testdata/eddsa.jwt");

type Headers<'a> = &'a [(&'a str, &'a str)];

fn source(key: JwtKey, algorithms: &[JwtAlgorithm]) -> JwtSource {
    JwtSource {
        key,
        algorithms: algorithms.to_vec(),
        claim: "sub".into(),
        issuer: None,
        audience: None,
        cookie: None,
        leeway: Duration::from_mins(1),
    }
}

fn hs256() -> JwtSource {
    source(JwtKey::Secret(Secret::new(SECRET)), &[JwtAlgorithm::Hs256])
}

fn rs256() -> JwtSource {
    source(JwtKey::PublicKeyPem(RSA_KEY.into()), &[JwtAlgorithm::Rs256])
}

fn key_set() -> JwtSource {
    let set = include_str!("testdata/keys.json").to_owned();
    source(JwtKey::Jwks(set), &[JwtAlgorithm::Rs256, JwtAlgorithm::EdDsa])
}

fn trusted() -> IdentitySource {
    IdentitySource::TrustedHeader { header: "x-user-id".into(), from: vec!["10.0.0.0/8".parse().expect("a network")] }
}

fn user(sources: Vec<IdentitySource>) -> Identities {
    Identities::new(&[("user".into(), sources)], &[], &KeyHasher::fixed()).expect("usable sources")
}

fn by_token(jwt: JwtSource) -> Identities {
    user(vec![IdentitySource::Jwt(Box::new(jwt))])
}

fn sign(claims: &Value) -> String {
    encode(&Header::new(Algorithm::HS256), claims, &EncodingKey::from_secret(SECRET)).expect("signs")
}

fn resolve(identities: &Identities, peer: &str, headers: Headers<'_>, needs: u64, second: u64) -> RequestContext {
    let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
    let head = RequestHead { method: "GET", target: "/", path: "/", host: "", secure: false, headers: &headers };
    let peer: IpAddr = peer.parse().expect("an address");
    let mut cx = RequestContext::new(Nanos(0), identities.client_address(peer, &head));
    identities.resolve(needs, peer, &head, Duration::from_secs(second), &mut cx);
    cx
}

/// The user of a request by `peer`, and its notes' names.
fn user_of(
    identities: &Identities,
    peer: &str,
    headers: Headers<'_>,
    second: u64,
) -> (Option<String>, Vec<&'static str>) {
    let cx = resolve(identities, peer, headers, EVERYTHING, second);
    let name = cx.identity(USER).map(|identity| identity.text.as_deref().expect("has a text").to_owned());
    (name, cx.notes().iter().map(|(name, _)| *name).collect())
}

/// The user of a request with that token, asked for twice: when it is new and when it is known.
fn bearer(identities: &Identities, token: &str, second: u64) -> Option<String> {
    let line = format!("Bearer {token}");
    let ask = || user_of(identities, "203.0.113.7", &[("Authorization", &line)], second);
    let (first, again) = (ask(), ask());
    assert_eq!(first, again, "a remembered token is judged like a new one");
    assert_eq!(first.0.is_none(), first.1 == [JWT_INVALID], "a refused token is noted");
    first.0
}

fn alice() -> Option<String> {
    Some("alice".into())
}

#[test]
fn a_good_token_names_its_user() {
    assert_eq!(bearer(&by_token(hs256()), &sign(&json!({"sub": "alice", "exp": NOW + 1})), NOW), alice());
    assert_eq!(bearer(&by_token(rs256()), RS256, NOW), alice());
    let pem = include_bytes!("testdata/ed.pub.pem").to_vec();
    assert_eq!(bearer(&by_token(source(JwtKey::PublicKeyPem(pem), &[JwtAlgorithm::EdDsa])), EDDSA, NOW), alice());
}

#[test]
fn a_key_set_finds_the_key_by_name_and_kind() {
    let identities = by_token(key_set());
    assert_eq!(bearer(&identities, RS256, NOW), alice());
    assert_eq!(bearer(&identities, EDDSA, NOW), alice());
    let mut only_ed = key_set();
    only_ed.algorithms = vec![JwtAlgorithm::EdDsa];
    assert_eq!(bearer(&by_token(only_ed), RS256, NOW), None);
}

#[test]
fn the_key_is_that_of_the_name_whatever_proved_it() {
    let identities = by_token(hs256());
    let token = format!("Bearer {}", sign(&json!({"sub": "alice"})));
    let cx = resolve(&identities, "203.0.113.7", &[("authorization", &token)], EVERYTHING, NOW);
    assert_eq!(cx.identity(USER), Some(&Identity::new(&KeyHasher::fixed(), USER, "alice")));
    assert_eq!(identities.key_of(USER, "alice"), cx.identity(USER).map(|identity| identity.key));
}

#[test]
fn times_are_checked_to_the_second_with_leeway_on_both_sides() {
    let identities = by_token(hs256());
    let token = sign(&json!({"sub": "alice", "nbf": 1000, "exp": 2000}));
    for (second, good) in
        [(939, false), (940, true), (1500, true), (2059, true), (2060, false), (5000, false), (1500, true)]
    {
        assert_eq!(bearer(&identities, &token, second).is_some(), good, "{second}");
    }
    let fractions = sign(&json!({"sub": "alice", "nbf": 1000.5, "exp": 2000.9}));
    for (second, good) in [(940, false), (941, true), (2059, true), (2060, false)] {
        assert_eq!(bearer(&identities, &fractions, second).is_some(), good, "{second}");
    }
    assert_eq!(bearer(&identities, &sign(&json!({"sub": "alice"})), NOW), alice(), "no exp, no end");
}

#[test]
fn issuer_and_audience_are_required_once_they_are_configured() {
    let mut strict = hs256();
    strict.issuer = Some("https://login.test".into());
    strict.audience = Some("shop".into());
    let identities = by_token(strict);
    for (issuer, audience, good) in [
        (json!("https://login.test"), json!("shop"), true),
        (json!("https://login.test"), json!(["other", "shop"]), true),
        (json!("https://login.test"), json!("sho"), false),
        (json!("https://login.test"), json!([]), false),
        (json!("https://login.test"), Value::Null, false),
        (json!("https://login.test.evil"), json!("shop"), false),
        (json!(["https://login.test"]), json!("shop"), false),
        (Value::Null, json!("shop"), false),
    ] {
        let token = sign(&json!({"sub": "alice", "iss": issuer, "aud": audience}));
        assert_eq!(bearer(&identities, &token, NOW).is_some(), good, "{issuer} {audience}");
    }
    assert_eq!(bearer(&identities, &sign(&json!({"sub": "alice"})), NOW), None);
}

#[test]
fn the_claim_is_a_short_text_or_a_whole_number() {
    let identities = by_token(hs256());
    for (claim, name) in [
        (json!("alice"), Some("alice")),
        (json!("张三"), Some("张三")),
        (json!(42), Some("42")),
        (json!(-7), Some("-7")),
        (json!(1.5), None),
        (json!(""), None),
        (json!(" alice"), None),
        (json!("al\nice"), None),
        (json!("a".repeat(257)), None),
        (json!(["alice"]), None),
        (json!({"a": 1}), None),
        (json!(true), None),
        (Value::Null, None),
    ] {
        assert_eq!(bearer(&identities, &sign(&json!({"sub": claim})), NOW).as_deref(), name, "{claim}");
    }
    assert_eq!(bearer(&identities, &sign(&json!({"sub": "a".repeat(256)})), NOW), Some("a".repeat(256)));
    assert_eq!(bearer(&identities, &sign(&json!({"name": "alice"})), NOW), None);
}

#[test]
fn a_token_may_stand_in_a_cookie_and_then_stands_nowhere_else() {
    let mut jwt = hs256();
    jwt.cookie = Some("session".into());
    let identities = by_token(jwt);
    let token = sign(&json!({"sub": "alice"}));
    let ask = |headers: Headers<'_>| user_of(&identities, "203.0.113.7", headers, NOW);
    let cookie = format!("a=b; session={token}; xsession=1");
    assert_eq!(ask(&[("Cookie", &cookie)]), (alice(), vec![]));
    assert_eq!(ask(&[("cookie", "a=b"), ("cookie", &format!("session={token}"))]), (alice(), vec![]));
    assert_eq!(ask(&[("cookie", &cookie), ("cookie", "session=x")]), (None, vec![JWT_INVALID]));
    assert_eq!(ask(&[("cookie", "session=")]), (None, vec![JWT_INVALID]));
    assert_eq!(ask(&[("cookie", "xsession=1; Session=1")]), (None, vec![]));
    assert_eq!(ask(&[("authorization", &format!("Bearer {token}"))]), (None, vec![]));
}

#[test]
fn a_trusted_header_is_believed_from_its_peers_only() {
    let identities = user(vec![trusted()]);
    let ask = |peer: &str, headers: Headers<'_>| user_of(&identities, peer, headers, NOW);
    assert_eq!(ask("10.1.2.3", &[("X-User-Id", "alice")]), (alice(), vec![]));
    assert_eq!(ask("::ffff:10.1.2.3", &[("X-User-Id", "alice")]), (alice(), vec![]));
    assert_eq!(ask("203.0.113.7", &[("X-User-Id", "alice")]), (None, vec![]));
    assert_eq!(ask("203.0.113.7", &[("X-User-Id", "alice"), ("x-forwarded-for", "10.1.2.3")]), (None, vec![]));
    assert_eq!(ask("10.1.2.3", &[("X_User_Id", "alice")]), (None, vec![]));
    assert_eq!(ask("10.1.2.3", &[("x-user-id", "bob"), ("X-User-Id", "alice")]), (None, vec![HEADER_INVALID]));
    for value in ["", "a\u{1}", &"a".repeat(257)] {
        assert_eq!(ask("10.1.2.3", &[("x-user-id", value)]), (None, vec![HEADER_INVALID]), "{value}");
    }
}

#[test]
fn the_first_source_that_has_anything_to_say_decides() {
    let header = IdentitySource::Header("x-name".into());
    let identities = user(vec![IdentitySource::Jwt(Box::new(hs256())), trusted(), header]);
    let good = format!("Bearer {}", sign(&json!({"sub": "alice"})));
    let ask = |peer: &str, headers: Headers<'_>| user_of(&identities, peer, headers, NOW);
    let others = [("x-user-id", "bob"), ("x-name", "carol")];
    assert_eq!(ask("10.0.0.1", &[("authorization", &good), others[0], others[1]]).0, alice());
    assert_eq!(ask("10.0.0.1", &others).0.as_deref(), Some("bob"));
    assert_eq!(ask("203.0.113.7", &others).0.as_deref(), Some("carol"));
    assert_eq!(ask("10.0.0.1", &[("authorization", "Basic YTpi"), others[0]]).0.as_deref(), Some("bob"));
    for spoilt in [format!("{good}x"), "Bearer".into(), "bearer x".into(), "BEARER a.b.c".into()] {
        let asked = ask("10.0.0.1", &[("authorization", &spoilt), others[0], others[1]]);
        assert_eq!(asked, (None, vec![JWT_INVALID]), "{spoilt}");
    }
}

#[test]
fn only_what_is_needed_is_resolved() {
    let identities = user(vec![IdentitySource::Header("x-name".into())]);
    for needs in 0..16_u64 {
        let cx = resolve(&identities, "203.0.113.7", &[("x-name", "alice")], needs, NOW);
        for id in [IdentityId::CLIENT, IdentityId::GLOBAL, USER] {
            assert_eq!(cx.identity(id).is_some(), needs >> id.0 & 1 == 1, "{needs:b} {id:?}");
        }
        assert_eq!(cx.identity(IdentityId::ROUTE), None, "the route's is set by who found it");
    }
}

#[test]
fn addresses_of_one_household_share_a_key() {
    let identities = user(Vec::new());
    let key = |text: &str| identities.key_of(IdentityId::CLIENT, text).expect("an address");
    assert_eq!(key("2001:db8:1:2::1"), key("2001:db8:1:2:ffff:ffff:ffff:ffff"));
    assert_ne!(key("2001:db8:1:2::1"), key("2001:db8:1:3::1"));
    assert_ne!(key("203.0.113.7"), key("203.0.113.8"));
    assert_eq!(key("203.0.113.7"), key("::ffff:203.0.113.7"));
    assert_eq!(identities.key_of(IdentityId::CLIENT, "nobody"), None);
    let cx = resolve(&identities, "2001:db8:1:2:3::9", &[], EVERYTHING, NOW);
    assert_eq!(cx.identity(IdentityId::CLIENT).map(|identity| identity.key), Some(key("2001:db8:1:2::")));
}

#[test]
fn identities_are_numbered_in_file_order_after_the_built_in_ones() {
    let named = |names: &[&str]| {
        let file: Vec<_> = names.iter().map(|name| ((*name).to_owned(), Vec::new())).collect();
        Identities::new(&file, &[], &KeyHasher::fixed())
    };
    let identities = named(&["user", "merchant"]).expect("two good names");
    let numbers: Vec<_> = identities.ids().iter().map(|(name, id)| (name.as_str(), id.0)).collect();
    assert_eq!(numbers, [("client", 0), ("global", 2), ("merchant", 4), ("route", 1), ("user", 3)]);
    assert!(named(&["client"]).is_err());
    assert!(named(&["user", "user"]).is_err());
    let many: Vec<String> = (0..62).map(|number| format!("i{number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert!(named(&many).is_err() && named(&many[..61]).is_ok());
}

#[test]
fn key_material_that_cannot_work_is_refused_at_load() {
    use JwtAlgorithm::{EdDsa, Hs256, Rs256};
    let pem = |text: &str| JwtKey::PublicKeyPem(text.into());
    let set = |keys: &str| JwtKey::Jwks(format!(r#"{{"keys":[{keys}]}}"#));
    for (key, algorithms) in [
        (JwtKey::Secret(Secret::new("")), vec![Hs256]),
        (JwtKey::Secret(Secret::new("x")), vec![Rs256]),
        (pem(RSA_KEY), vec![Hs256]),
        (pem(RSA_KEY), vec![EdDsa]),
        (pem("nonsense"), vec![Rs256]),
        (pem("-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n"), vec![Rs256]),
        (pem(include_str!("testdata/small.pub.pem")), vec![Rs256]),
        (pem(include_str!("testdata/ec.pub.pem")), vec![Rs256, EdDsa]),
        (JwtKey::Jwks("{".into()), vec![Rs256]),
        (set(""), vec![Rs256]),
        (set(r#"{"kty":"OKP","crv":"Ed25519","kid":"a","x":"AAAA"}"#), vec![EdDsa]),
        (set(r#"{"kty":"RSA","kid":"a","n":"AQAB","e":"AQAB"}"#), vec![Rs256]),
        (set(r#"{"kty":"oct","kid":"a","k":""}"#), vec![Hs256]),
    ] {
        let file = [("user".to_owned(), vec![IdentitySource::Jwt(Box::new(source(key.clone(), &algorithms)))])];
        let refused = Identities::new(&file, &[], &KeyHasher::fixed()).err();
        assert!(refused.is_some_and(|why| why.starts_with("identity `user`: ")), "{key:?} {algorithms:?}");
    }
}
