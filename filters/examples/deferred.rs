//! Durable promises a second, and how fast a million are read again.
//!
//! `cargo run --release -p tidegate-filters --example deferred [seconds] [records]`: everything but the sockets, that is the
//! filter's decision, the sealing, the append with its share of an fsync, and the place in line.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use http::{HeaderMap, Method};
use tidegate_filters::engine::{
    BuildContext, Decision, Filter, FilterSpec, IdentityId, KeyHasher, Mode, Nanos, RequestContext, RequestHead,
    StateRegistry,
};
use tidegate_filters::respond_async::{Afterwards, Deferred, Letter, RespondAsync, Submitted};
use tidegate_filters::store::{StoreKind, Stores};

const BODY: &str = r#"{"sku":"flash-100","qty":1,"query_password":"a password"}"#;

/// The filter on an empty folder, and the registry that has its book.
fn filter(folder: &Path) -> (Arc<dyn Filter>, StateRegistry) {
    let stores = Stores::new(folder, Duration::from_secs(1_700_000_000));
    stores.declare([("disk".to_owned(), StoreKind::Sqlite)]).unwrap();
    let states = StateRegistry::with_stores(stores);
    let settings = serde_json::json!({
        "store": "disk", "when": "always", "max_records": 5_000_000, "max_per_identity": 5_000_000,
        "max_bytes": "64GiB", "rate": "1/1d",
    });
    let spec: RespondAsync = serde_json::from_value(settings).unwrap();
    let identities = BTreeMap::from([("client".to_owned(), IdentityId::CLIENT)]);
    let hasher = KeyHasher::random();
    let mut cx = BuildContext {
        name: "later".into(),
        mode: Mode::Enforce,
        states: &states,
        hasher: &hasher,
        identities: &identities,
        upstreams: &[],
        acquired: Vec::new(),
    };
    let filter = spec.build(&mut cx).unwrap();
    filter.activate();
    (filter, states)
}

fn book(states: &StateRegistry) -> Arc<Deferred> {
    states.all::<Deferred>().pop().unwrap().1
}

async fn promise(filter: &dyn Filter, key: &str, now: Nanos) {
    let headers: [(&[u8], &[u8]); 2] = [(b"content-type", b"application/json"), (b"idempotency-key", key.as_bytes())];
    let head = RequestHead {
        method: "POST",
        target: "/api/orders",
        path: "/api/orders",
        host: "shop.test",
        secure: false,
        headers: &headers,
    };
    let mut cx = RequestContext::new(now, IpAddr::V4(Ipv4Addr::LOCALHOST));
    cx.body = Some(BODY.into());
    assert!(matches!(filter.on_request(&head, &mut cx), Decision::Continue), "deferred, not refused");
    let deferral = cx.deferral.take().unwrap();
    let letter = Letter {
        route: "create-order".to_owned(),
        method: Method::POST,
        target: "/api/orders".to_owned(),
        headers: HeaderMap::new(),
        body: BODY.into(),
        channel: None,
        kind: None,
        amount: None,
        afterwards: Afterwards::default(),
    };
    let submitted = deferral.submit(letter, "orders", Duration::from_secs(1_700_000_000)).await.unwrap();
    assert!(matches!(submitted, Submitted::New(_)), "{submitted:?}");
}

/// Promises a second, and fsyncs a second, with so many clients.
async fn accepts(clients: usize, time: Duration) -> (f64, f64) {
    let folder = tempfile::tempdir().unwrap();
    let (filter, states) = filter(folder.path());
    let (count, began) = (Arc::new(AtomicU64::new(0)), Instant::now());
    let tasks: Vec<_> = (0..clients)
        .map(|client| {
            let (filter, count) = (filter.clone(), count.clone());
            tokio::spawn(async move {
                for number in 0_u64.. {
                    if began.elapsed() >= time {
                        return;
                    }
                    promise(&*filter, &format!("{client}-{number}"), Nanos(number)).await;
                    count.fetch_add(1, SeqCst);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let (took, commits) = (began.elapsed().as_secs_f64(), book(&states).disk().unwrap().commits);
    (count.load(SeqCst) as f64 / took, commits as f64 / took)
}

/// Bytes that this process holds.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 4_096
}

/// Time to read so many again, and the memory they take.
async fn recovery(records: u64) -> (Duration, u64) {
    let folder = tempfile::tempdir().unwrap();
    {
        let (filter, _states) = filter(folder.path());
        promise(&*filter, "first", Nanos(0)).await;
    }
    let file = folder.path().join("disk.deferred.sqlite");
    while folder.path().join("disk.deferred.sqlite-wal").exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let connection = rusqlite::Connection::open(file).unwrap();
    let sql = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < ?1)
               INSERT INTO request (id, filter, twin, fingerprint, owner, party, route, upstream, class, state, size,
                                    created_ms, expires_ms)
               SELECT randomblob(16), filter, randomblob(32), fingerprint, owner, x % 1000, route, upstream, x % 3, 0,
                      size, created_ms, expires_ms FROM n, request WHERE seq = 1";
    connection.execute(sql, [i64::try_from(records).unwrap()]).unwrap();
    drop(connection);
    let before = resident();
    let began = Instant::now();
    let (_filter, states) = filter(folder.path());
    let took = began.elapsed();
    assert_eq!(book(&states).figures(Duration::ZERO).records as u64, records + 1);
    (took, resident().saturating_sub(before))
}

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse::<u64>().unwrap());
    let (seconds, records) = (arguments.next().unwrap_or(3), arguments.next().unwrap_or(1_000_000));
    for clients in [1, 64, 1_000] {
        let (promises, commits) = accepts(clients, Duration::from_secs(seconds)).await;
        println!("{clients:>5} clients: {promises:>8.0} durable promises a second, {commits:>6.0} fsyncs a second");
    }
    let (took, bytes) = recovery(records).await;
    println!("{records} records read again in {took:.2?}, {} bytes of memory each", bytes / records);
}
