//! What an origin is told, and by whom it may be told.

use std::net::SocketAddr;

use crate::support::{Gateway, Origin, Seen, get, one_route};

const SECRET: &str = "a-secret-of-at-least-thirty-two-bytes";

fn token(sub: &str, secret: &str) -> String {
    let header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::HS256);
    let claims = serde_json::json!({"sub": sub, "exp": 4_102_444_800_u64});
    jsonwebtoken::encode(&header, &claims, &jsonwebtoken::EncodingKey::from_secret(secret.as_bytes())).expect("a token")
}

fn with_users(origin: SocketAddr, trusted: &str) -> String {
    let identity = format!(
        "identity:
  user:
    - jwt: {{secret: \"${{NO_SUCH_VARIABLE:-{SECRET}}}\", algorithms: [HS256], claim: sub}}
    - trusted_header: x-user-id
      from: [\"{trusted}\"]
filters:
  per-user:
    rate_limit:
      missing_key: skip
      policies:
        - {{name: user, key: user, rate: 2/h}}"
    );
    one_route(origin, "", "    filters: [per-user]", &identity)
}

fn one(origin: &Origin) -> Seen {
    let mut seen = origin.seen();
    origin.forget();
    assert_eq!(seen.len(), 1, "{seen:?}");
    seen.remove(0)
}

#[test]
fn what_a_client_says_about_itself_goes_no_further() {
    let origin = Origin::ok();
    let gateway = Gateway::start(&with_users(origin.address, "10.0.0.0/8"));
    let lies = "X-User-Id: root\r\nX-Tidegate-User: root\r\nX-Tidegate-Priority: critical\r\nx-tidegate-anything: 1\r\n\
                Tidegate-Outcome: final\r\nX-Forwarded-For: 1.2.3.4\r\nX-Real-IP: 1.2.3.4\r\nForwarded: for=1.2.3.4\r\n\
                X-Forwarded-Proto: https\r\nX-Forwarded-Host: evil.test\r\nX-Request-Id: mine\r\n";
    assert_eq!(get(gateway.public(), "/", lies).status, 200);
    let seen = one(&origin);
    for gone in ["x-user-id", "x-tidegate-user", "x-tidegate-anything", "tidegate-outcome", "x-real-ip", "forwarded"] {
        assert_eq!(seen.header(gone), None, "{gone}: {seen:?}");
    }
    assert_eq!(seen.header("x-tidegate-priority"), Some("normal"));
    assert_eq!(seen.header("x-forwarded-proto"), Some("http"));
    assert_eq!(seen.header("x-forwarded-host"), Some("shop.test"));
    assert_eq!(seen.count("x-forwarded-for"), 1);
    assert!(seen.header("x-forwarded-for").is_some_and(|chain| chain.ends_with("127.0.0.1")), "{seen:?}");
    assert_eq!(seen.count("x-request-id"), 1);
    assert_ne!(seen.header("x-request-id"), Some("mine"));
}

#[test]
fn a_forged_user_has_no_bucket_and_a_proven_one_does() {
    let origin = Origin::ok();
    let gateway = Gateway::start(&with_users(origin.address, "10.0.0.0/8"));
    // Neither a header from an untrusted peer nor a token with another signature is a user.
    for forged in [
        "X-User-Id: alice\r\n".to_owned(),
        format!("Authorization: Bearer {}\r\n", token("alice", "another secret of more than thirty bytes")),
    ] {
        for _ in 0..5 {
            assert_eq!(get(gateway.public(), "/", &forged).status, 200);
        }
    }
    assert!(origin.seen().iter().all(|seen| seen.header("x-tidegate-user").is_none()));
    origin.forget();
    let proven = format!("Authorization: Bearer {}\r\n", token("alice", SECRET));
    let statuses: Vec<u16> = (0..3).map(|_| get(gateway.public(), "/", &proven).status).collect();
    assert_eq!(statuses, [200, 200, 429], "what was forged has cost alice nothing, and her own quota holds");
    assert_eq!(origin.seen()[0].header("x-tidegate-user"), Some("alice"));
    let bob = format!("Authorization: Bearer {}\r\n", token("bob", SECRET));
    assert_eq!(get(gateway.public(), "/", &bob).status, 200, "others go on");
}

#[test]
fn a_trusted_peer_may_name_the_user() {
    let origin = Origin::ok();
    let gateway = Gateway::start(&with_users(origin.address, "127.0.0.0/8"));
    let statuses: Vec<u16> = (0..3).map(|_| get(gateway.public(), "/", "X-User-Id: alice\r\n").status).collect();
    assert_eq!(statuses, [200, 200, 429]);
    assert_eq!(origin.seen()[0].header("x-tidegate-user"), Some("alice"));
    assert_eq!(
        origin.seen()[0].header("x-user-id"),
        None,
        "upstreams read one header, whichever way the user was proven"
    );
}

#[test]
fn hop_by_hop_headers_end_here() {
    let origin = Origin::with(|_, stream| {
        let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: x-hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nX-End: 2\r\n\r\nok";
        std::io::Write::write_all(stream, answer.as_bytes()).is_ok()
    });
    let gateway = Gateway::start(&one_route(origin.address, "", "", ""));
    let sent = "Connection: x-hop, keep-alive\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTE: trailers\r\nX-End: 2\r\n";
    let answer = get(gateway.public(), "/", sent);
    let seen = one(&origin);
    for gone in ["x-hop", "keep-alive", "proxy-connection"] {
        assert_eq!(seen.header(gone), None, "{gone} went up: {seen:?}");
    }
    assert_eq!(seen.header("x-end"), Some("2"));
    assert_eq!(answer.header("x-hop"), None, "{answer:?}");
    assert_eq!(answer.header("x-end"), Some("2"));
}

#[test]
fn the_log_says_what_happened() {
    let origin = Origin::ok();
    let gateway = Gateway::start(&with_users(origin.address, "10.0.0.0/8"));
    let alice = format!("Authorization: Bearer {}\r\n", token("alice", SECRET));
    for _ in 0..3 {
        get(gateway.public(), "/pay?card=4111111111111111", &alice);
    }
    let log = gateway.access_log(3);
    let find = |status: u16| log.iter().find(|line| line["status"] == status).expect("a line");
    let (first, last) = (find(200), find(429));
    assert_eq!((&first["decision"], &first["status"]), (&"proxied".into(), &200.into()), "{first}");
    assert_eq!(
        (&first["route"], &first["channel"], &first["outcome"]),
        (&"all".into(), &"origin".into(), &"final".into())
    );
    assert_eq!((&last["decision"], &last["status"]), (&"refused".into(), &429.into()), "{last}");
    assert!(last.to_string().contains("per-user"), "who decided: {last}");
    assert_eq!(last["user"], "alice");
    assert_eq!(last["generation"], 1);
    assert!(!last.to_string().contains("4111111111111111"), "card numbers are masked: {last}");
}
