//! Forged tokens reach no user's bucket.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

use super::{
    EDDSA, JWT_INVALID, NOW, RS256, RSA_KEY, SECRET, alice, bearer, by_token, hs256, key_set, rs256, sign, user_of,
};

fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

/// A token with that header and a signature that is good for it as HMAC under `secret`.
fn hmac(header: &Value, secret: &[u8]) -> String {
    let message = format!("{}.{}", part(header), part(&json!({"sub": "alice"})));
    let key = EncodingKey::from_secret(secret);
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).expect("signs");
    format!("{message}.{signature}")
}

#[test]
fn a_spoilt_signature_is_no_signature() {
    let identities = by_token(hs256());
    let good = sign(&json!({"sub": "alice"}));
    assert_eq!(bearer(&identities, &good, NOW), alice());
    let (message, signature) = good.rsplit_once('.').expect("has a signature");
    let other =
        encode(&Header::default(), &json!({"sub": "alice"}), &EncodingKey::from_secret(b"other")).expect("signs");
    let foreign = format!("{}.{signature}", sign(&json!({"sub": "bob"})).rsplit_once('.').expect("has a signature").0);
    for token in [
        format!("{message}."),
        message.to_owned(),
        format!("{message}.{}", "A".repeat(43)),
        format!("{message}.{}", &signature[..42]),
        format!("{message}.{signature}="),
        format!("{message}.{signature}A"),
        format!("{good}.{signature}"),
        format!(".{good}"),
        format!("{good}, Bearer {good}"),
        other,
        foreign,
        "..".into(),
        "\u{e9}".into(),
    ] {
        assert_eq!(bearer(&identities, &token, NOW), None, "{token}");
    }
}

#[test]
fn a_token_may_not_choose_to_go_unsigned() {
    for name in ["none", "None", "NONE", "", "HS256 ", "hs256", "HS384", "HS512"] {
        let header = json!({"alg": name, "typ": "JWT"});
        let unsigned = format!("{}.{}.", part(&header), part(&json!({"sub": "alice"})));
        assert_eq!(bearer(&by_token(hs256()), &unsigned, NOW), None, "{name}");
        assert_eq!(bearer(&by_token(rs256()), &unsigned, NOW), None, "{name}");
        assert_eq!(bearer(&by_token(hs256()), &hmac(&header, SECRET), NOW), None, "{name}");
    }
    for header in [json!({}), json!({"alg": null}), json!({"alg": ["HS256"]}), json!([]), json!("HS256")] {
        assert_eq!(bearer(&by_token(hs256()), &hmac(&header, SECRET), NOW), None, "{header}");
    }
    assert_eq!(bearer(&by_token(hs256()), &hmac(&json!({"alg": "HS256"}), SECRET), NOW), alice());
}

#[test]
fn a_public_key_is_not_a_secret() {
    let der: String = RSA_KEY.lines().filter(|line| !line.starts_with('-')).collect();
    let der = base64::engine::general_purpose::STANDARD.decode(der).expect("base64");
    for secret in [RSA_KEY.as_bytes(), RSA_KEY.trim_end().as_bytes(), &der] {
        for name in ["HS256", "RS256"] {
            for header in [json!({"alg": name}), json!({"alg": name, "kid": "r1"})] {
                assert_eq!(bearer(&by_token(rs256()), &hmac(&header, secret), NOW), None, "{header}");
                assert_eq!(bearer(&by_token(key_set()), &hmac(&header, secret), NOW), None, "{header}");
            }
        }
    }
}

#[test]
fn a_key_serves_its_own_algorithm_and_name_only() {
    let identities = by_token(key_set());
    assert_eq!(bearer(&identities, include_str!("../testdata/eddsa_as_rs256.jwt"), NOW), None);
    let (_, rest) = RS256.split_once('.').expect("has a payload");
    for header in
        [json!({"alg": "RS256", "kid": "other"}), json!({"alg": "EdDSA", "kid": "r1"}), json!({"alg": "RS256"})]
    {
        assert_eq!(bearer(&identities, &format!("{}.{rest}", part(&header)), NOW), None, "{header}");
    }
    assert_eq!(bearer(&by_token(rs256()), EDDSA, NOW), None);
    assert_eq!(bearer(&by_token(hs256()), RS256, NOW), None);
}

#[test]
fn a_header_that_brings_its_own_key_is_not_heard() {
    let secret = b"the forger's own";
    let jwk = json!({"kty": "oct", "k": URL_SAFE_NO_PAD.encode(secret), "kid": "r1"});
    for header in [
        json!({"alg": "HS256", "jwk": jwk}),
        json!({"alg": "HS256", "jku": "https://evil.test/keys"}),
        json!({"alg": "HS256", "kid": "../../dev/null"}),
    ] {
        assert_eq!(bearer(&by_token(hs256()), &hmac(&header, secret), NOW), None, "{header}");
    }
    let demanding = hmac(&json!({"alg": "HS256", "crit": ["b64"], "b64": false}), SECRET);
    assert_eq!(bearer(&by_token(hs256()), &demanding, NOW), None);
}

#[test]
fn times_that_are_no_times_are_refused() {
    for claims in [
        json!({"sub": "alice", "exp": "2000000000"}),
        json!({"sub": "alice", "exp": null}),
        json!({"sub": "alice", "exp": -1}),
        json!({"sub": "alice", "exp": NOW - 60}),
        json!({"sub": "alice", "nbf": NOW + 61}),
        json!({"sub": "alice", "nbf": "0"}),
        json!({"sub": "alice", "nbf": 1e300}),
    ] {
        assert_eq!(bearer(&by_token(hs256()), &sign(&claims), NOW), None, "{claims}");
    }
}

#[test]
fn a_huge_token_is_refused_unread() {
    let sized = |length: usize| sign(&json!({"sub": "alice", "x": "x".repeat(length)}));
    let fits = sized(6000);
    assert!(fits.len() < 8192);
    assert_eq!(bearer(&by_token(hs256()), &fits, NOW), alice());
    assert_eq!(bearer(&by_token(hs256()), &sized(6200), NOW), None);
    assert_eq!(bearer(&by_token(hs256()), &"a".repeat(1 << 20), NOW), None);
}

#[test]
fn two_authorization_headers_are_nobody() {
    let identities = by_token(hs256());
    let good = format!("Bearer {}", sign(&json!({"sub": "alice"})));
    for (first, second) in [(&*good, "Bearer x"), (&*good, &*good), ("Basic YTpi", &*good), (&*good, "")] {
        for pair in [[first, second], [second, first]] {
            let headers = [("Authorization", pair[0]), ("x-other", "1"), ("authorization", pair[1])];
            assert_eq!(user_of(&identities, "10.0.0.1", &headers, NOW), (None, vec![JWT_INVALID]), "{pair:?}");
        }
    }
}
