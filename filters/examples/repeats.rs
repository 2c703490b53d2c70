//! What `idempotency` costs a request, how fast repeats are answered, and how fast a `queue` holds and lets go.
//!
//! `cargo run --release -p tidegate-filters --example repeats [seconds]`: everything but the sockets. A request is the
//! filter's decision, the claim, the answer that is kept before its end goes out, and the end.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use http::{HeaderMap, StatusCode};
use tidegate_filters::engine::{
    Attempt, BuildContext, Captured, ChainLink, ChannelId, ChannelSet, Decision, FilterChain, FilterSpec, Identity,
    IdentityId, KeyHasher, Known, LinkCounters, Mode, Nanos, Outcome, RequestContext, RequestHead, StateRegistry,
    Verdict,
};
use tidegate_filters::idempotency::Idempotency;
use tidegate_filters::queue::Queue;
use tidegate_filters::store::{StoreKind, Stores};

const BODY: &str = r#"{"sku":"flash-100","qty":1,"query_password":"a password"}"#;
const ANSWER: &str = r#"{"order_no":"2026083100000001","status":"PENDING_PAYMENT","amount":9900,"currency":"CNY"}"#;
/// Requests that a line holds at once.
const HELD: usize = 100_000;

/// A route with one filter, or none.
struct Route {
    chain: FilterChain,
    hasher: KeyHasher,
    _states: StateRegistry,
}

impl Route {
    fn new(folder: &Path, kind: StoreKind, spec: Option<&dyn FilterSpec>) -> Self {
        let stores = Stores::new(folder, Duration::from_secs(1_700_000_000));
        stores.declare([("records".to_owned(), kind)]).unwrap();
        let (states, hasher) = (StateRegistry::with_stores(stores), KeyHasher::random());
        let identities = BTreeMap::from([("client".to_owned(), IdentityId::CLIENT)]);
        let mut cx = BuildContext {
            name: "filter".into(),
            mode: Mode::Enforce,
            states: &states,
            hasher: &hasher,
            identities: &identities,
            upstreams: &[],
            acquired: Vec::new(),
        };
        let filter = spec.map(|spec| spec.build(&mut cx).unwrap());
        let link = |filter| {
            let name: Arc<str> = "filter".into();
            ChainLink { filter, counters: Arc::new(LinkCounters::new(name.clone())), name, mode: Mode::Enforce }
        };
        Self { chain: FilterChain::new(filter.map(link).into_iter().collect()), hasher, _states: states }
    }

    fn once(folder: &Path, kind: StoreKind) -> Self {
        let settings = serde_json::json!({ "store": "records", "max_in_flight": 1_000_000 });
        let spec: Idempotency = serde_json::from_value(settings).unwrap();
        Self::new(folder, kind, Some(&spec))
    }

    fn context(&self, now: Nanos) -> RequestContext {
        let mut cx = RequestContext::new(now, IpAddr::V4(Ipv4Addr::LOCALHOST));
        cx.set_identity(IdentityId::ROUTE, Identity::new(&self.hasher, IdentityId::ROUTE, "orders"));
        cx.body = Some(BODY.into());
        cx
    }

    /// From the head to the end of the answer; true when it was an earlier answer.
    async fn carry_out(&self, key: &str, now: Nanos) -> bool {
        let headers: [(&[u8], &[u8]); 2] =
            [(b"content-type", b"application/json"), (b"idempotency-key", key.as_bytes())];
        let mut cx = self.context(now);
        let verdict = match self.chain.on_request(&head(&headers), &mut cx) {
            Decision::Continue => Verdict::Continue,
            Decision::Respond(reply) => Verdict::Respond(reply),
            Decision::Wait(wait) => wait.until.await.verdict,
            Decision::NeedBody { .. } => panic!("it is there"),
        };
        if let Verdict::Respond(reply) = verdict {
            assert_eq!(reply.status, StatusCode::CREATED);
            return true;
        }
        let candidates = ChannelSet::only(ChannelId(0));
        let mut attempt = Attempt { number: 1, pinned: false, safe: false, candidates, chosen: None };
        assert!(matches!(self.chain.on_attempt(&mut attempt, &mut cx), Verdict::Continue));
        let answer = Captured { status: StatusCode::CREATED, headers: HeaderMap::new(), body: Some(ANSWER.into()) };
        if let Some(held_back) = self.chain.on_captured(&answer, &mut cx) {
            held_back.await;
        }
        let (status, known) = (Some(StatusCode::CREATED), Some(Known::Final));
        let outcome = Outcome { status, client_gone: false, took: Duration::from_millis(1), known };
        self.chain.on_finish(&outcome, &mut cx);
        false
    }
}

fn head<'a>(headers: &'a [(&'a [u8], &'a [u8])]) -> RequestHead<'a> {
    let path = "/api/orders";
    RequestHead { method: "POST", target: path, path, host: "shop.test", secure: false, headers }
}

/// Requests a second with so many clients; `repeats`: all with the key of the first.
async fn rate(route: &Arc<Route>, clients: usize, repeats: bool, time: Duration) -> f64 {
    let (count, began) = (Arc::new(AtomicU64::new(0)), Instant::now());
    let client = |client: usize| {
        let (route, count) = (route.clone(), count.clone());
        tokio::spawn(async move {
            let mut number = 0_u64;
            while began.elapsed() < time {
                let key = if repeats { "first".to_owned() } else { format!("{clients}-{client}-{number}") };
                let again = route.carry_out(&key, Nanos(number)).await;
                assert_eq!(again, repeats, "new ones are new");
                number += 1;
                if number.is_multiple_of(64) {
                    tokio::task::yield_now().await;
                }
            }
            count.fetch_add(number, SeqCst);
        })
    };
    for task in (0..clients).map(client).collect::<Vec<_>>() {
        task.await.unwrap();
    }
    count.load(SeqCst) as f64 / began.elapsed().as_secs_f64()
}

/// Holds a crowd, then lets it go one by one; how many a second of each.
async fn line() -> (f64, f64) {
    let folder = tempfile::tempdir().unwrap();
    let settings = serde_json::json!({ "max_concurrent": 1, "max_length": 1_000_000, "max_wait": "10m" });
    let spec: Queue = serde_json::from_value(settings).unwrap();
    let route = Route::new(folder.path(), StoreKind::Memory, Some(&spec));
    let mut inside = route.context(Nanos(0));
    assert!(matches!(route.chain.on_request(&head(&[]), &mut inside), Decision::Continue));
    let began = Instant::now();
    let enter = |number: usize| {
        let mut cx = route.context(Nanos(number as u64));
        match route.chain.on_request(&head(&[]), &mut cx) {
            Decision::Wait(wait) => wait.until,
            _ => panic!("it waits"),
        }
    };
    let waiting: Vec<_> = (0..HELD).map(enter).collect();
    let held = HELD as f64 / began.elapsed().as_secs_f64();
    // Each has its turn, is let through and makes room for the next.
    let tasks: Vec<_> = waiting.into_iter().map(|turn| tokio::spawn(async { drop(turn.await.permit) })).collect();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let began = Instant::now();
    drop(inside);
    for task in tasks {
        task.await.unwrap();
    }
    (held, HELD as f64 / began.elapsed().as_secs_f64())
}

#[tokio::main]
async fn main() {
    let seconds = std::env::args().nth(1).map_or(1, |text| text.parse().unwrap());
    let time = Duration::from_secs(seconds);
    for (name, kind) in
        [("without idempotency", None), ("in memory", Some(StoreKind::Memory)), ("on disk", Some(StoreKind::Sqlite))]
    {
        for clients in [1, 64, 1_000] {
            // A store of its own: one in memory has a bound.
            let folder = tempfile::tempdir().unwrap();
            let route = match kind {
                None => Route::new(folder.path(), StoreKind::Memory, None),
                Some(ref kind) => Route::once(folder.path(), kind.clone()),
            };
            let route = Arc::new(route);
            let new = rate(&route, clients, false, time).await;
            println!("{name}, {clients:>4} clients: {new:>9.0} requests a second, {:>8.2} us each", 1e6 / new);
            if kind.is_some() && clients < 1_000 {
                route.carry_out("first", Nanos(0)).await;
                let again = rate(&route, clients, true, time).await;
                println!("{name}, {clients:>4} clients: {again:>9.0} repeats answered a second");
            }
        }
    }
    let (held, resumed) = line().await;
    println!("a line of {HELD}: {held:.0} held a second, {resumed:.0} let through a second");
}
