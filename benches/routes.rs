//! What a request pays before its first filter: its path's normal form, its route, and who it belongs to.
//!
//! Routes are looked up among 1, 100 and 10,000; the figures should hardly differ.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use criterion::Criterion;
use http::Method;
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::json;
use tidegate::config::{
    IdentitySource, JwtAlgorithm, JwtKey, JwtSource, Listener, PathMatch, Route, RouteMatch, Secret,
};
use tidegate::identity::Identities;
use tidegate::snapshot::path::normalise;
use tidegate::snapshot::routes::RouteTable;
use tidegate_filters::engine::{IdentityId, KeyHasher, Nanos, Priority, RequestContext, RequestHead};

const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7));
const NOW: Duration = Duration::from_secs(1_800_000_000);

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    paths(&mut criterion);
    routes(&mut criterion);
    identities(&mut criterion);
    criterion.final_summary();
}

fn paths(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("path");
    for (name, target) in [
        ("normal", "/api/orders/20261121000001?expand=items"),
        ("with an escape", "/api/orders/%E4%BD%A0%E5%A5%BD"),
        ("rewritten", "//api/./%6Frders/20261121000001?expand=items"),
    ] {
        group.bench_function(name, |bench| bench.iter(|| normalise(black_box(target)).map(|path| path.len())));
    }
}

fn routes(criterion: &mut Criterion) {
    for count in [1, 100, 10_000] {
        let table = table(count);
        let mut group = criterion.benchmark_group(format!("{count} routes"));
        let last = count - 1;
        for (name, host, path) in [
            ("exact", "", format!("/api/v{last}/orders")),
            ("prefix, two segments down", "", format!("/pay/v{last}/channels/alipay")),
            ("exact by a host", "shop.test", "/checkout".to_owned()),
            ("none", "", format!("/nothing/v{last}/here")),
        ] {
            let head = head("POST", host, &path, &[]);
            group.bench_function(name, |bench| bench.iter(|| table.find(0, black_box(&head))));
        }
    }
}

/// Pairs of an exact route and a prefix, and one route with a host.
fn table(count: usize) -> RouteTable {
    let mut routes = vec![route(Some("shop.test"), PathMatch::Exact("/checkout".into()))];
    for number in 0..count {
        routes.push(route(None, PathMatch::Exact(format!("/api/v{number}/orders"))));
        routes.push(route(None, PathMatch::Prefix(format!("/pay/v{number}"))));
    }
    let public = Listener { name: "public".into(), address: String::new(), h1: true, h2c: false, tls: None };
    RouteTable::new(&routes, &[public], false)
}

fn route(host: Option<&str>, path: PathMatch) -> Route {
    let methods = vec![Method::POST, Method::GET];
    Route {
        name: Arc::from("r"),
        listener: "public".into(),
        matches: RouteMatch { host: host.map(Into::into), path, methods, headers: Vec::new() },
        priority: Priority::Normal,
        filters: Vec::new(),
        upstream: String::new(),
        payments: None,
        websocket: true,
        max_body_size: None,
        timeout: None,
    }
}

fn identities(criterion: &mut Criterion) {
    let secret = b"a secret that is only ever used in this benchmark";
    let by_secret = identities_by(JwtKey::Secret(Secret::new(&secret[..])), JwtAlgorithm::Hs256);
    let rsa_key = include_bytes!("../src/identity/testdata/rsa.pub.pem").to_vec();
    let by_rsa = identities_by(JwtKey::PublicKeyPem(rsa_key), JwtAlgorithm::Rs256);
    let claims =
        json!({"sub": "user-20261121", "exp": 2_000_000_000, "iss": "https://shop.test", "scope": "orders pay"});
    let token = encode(&Header::default(), &claims, &EncodingKey::from_secret(secret)).expect("signs");
    let rsa_token = include_str!("../src/identity/testdata/rs256.jwt");
    let spoilt = |token: &str| format!("{}AAAA{}", &token[..token.len() - 8], &token[token.len() - 4..]);
    let (forged, forged_rsa) = (spoilt(&token), spoilt(rsa_token));

    let mut group = criterion.benchmark_group("identity");
    let user = 1 << IdentityId::FIRST_NAMED;
    let built_in = 1 << IdentityId::CLIENT.0 | 1 << IdentityId::GLOBAL.0;
    for (name, identities, needs, token) in [
        ("none needed (the context alone)", &by_secret, 0, &*token),
        ("client and global", &by_secret, built_in, &token),
        ("client, global and user by a token seen before", &by_secret, built_in | user, &token),
        ("user by a long token seen before", &by_rsa, user, rsa_token),
        ("user by a forged HS256 token", &by_secret, user, &forged),
        ("user by a forged RS256 token", &by_rsa, user, &forged_rsa),
    ] {
        let bearer = format!("Bearer {token}");
        let headers: [(&[u8], &[u8]); 5] = [
            (b"host", b"shop.test"),
            (b"user-agent", b"bench"),
            (b"accept", b"*/*"),
            (b"authorization", bearer.as_bytes()),
            (b"idempotency-key", b"1"),
        ];
        let head = head("POST", "shop.test", "/api/orders", &headers);
        group.bench_function(name, |bench| {
            bench.iter(|| {
                let mut cx = RequestContext::new(Nanos(0), identities.client_address(PEER, &head));
                identities.resolve(black_box(needs), PEER, black_box(&head), NOW, &mut cx);
                cx
            });
        });
    }
}

fn identities_by(key: JwtKey, algorithm: JwtAlgorithm) -> Identities {
    let jwt = JwtSource {
        key,
        algorithms: vec![algorithm],
        claim: "sub".into(),
        issuer: None,
        audience: None,
        cookie: None,
        leeway: Duration::from_mins(1),
    };
    let file = [("user".to_owned(), vec![IdentitySource::Jwt(Box::new(jwt))])];
    Identities::new(&file, &[], &KeyHasher::fixed()).expect("a usable key")
}

fn head<'a>(method: &'a str, host: &'a str, path: &'a str, headers: &'a [(&'a [u8], &'a [u8])]) -> RequestHead<'a> {
    RequestHead { method, target: path, path, host, secure: false, headers }
}
