//! What `rate_limit` promises, on made-up times.

mod charging;
mod keys;
mod memory;
mod settings;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use serde_json::json;

use super::*;
use crate::engine::{
    BuildContext, ChainLink, CheckContext, FilterChain, FilterSpec, HeaderPair, LinkCounters, Mode, Nanos, Problems,
    Reply, State, StateRegistry,
};

const SECOND: u64 = 1_000_000_000;
const USER: IdentityId = IdentityId(3);

/// A gateway's memory, which reloads share.
struct World {
    states: StateRegistry,
    hasher: KeyHasher,
    identities: BTreeMap<String, IdentityId>,
}

impl World {
    fn new() -> Self {
        let names = [("client", 0), ("route", 1), ("global", 2), ("user", 3), ("merchant", 4)];
        let identities = names.into_iter().map(|(name, id)| (name.to_owned(), IdentityId(id))).collect();
        Self { states: StateRegistry::new(), hasher: KeyHasher::fixed(), identities }
    }

    fn load(&self, mode: Mode, settings: serde_json::Value) -> FilterChain {
        let spec: RateLimit = serde_json::from_value(settings).unwrap();
        let (name, states, hasher, identities): (Arc<str>, _, _, _) =
            ("limits".into(), &self.states, &self.hasher, &self.identities);
        let mut cx =
            BuildContext { name: name.clone(), mode, states, hasher, identities, upstreams: &[], acquired: Vec::new() };
        let filter = spec.build(&mut cx).unwrap();
        filter.activate();
        let counters = Arc::new(LinkCounters::new(name.clone()));
        FilterChain::new(vec![ChainLink { filter, name, mode, counters }])
    }

    fn chain(&self, settings: serde_json::Value) -> FilterChain {
        self.load(Mode::Enforce, settings)
    }

    fn context(&self, user: Option<&str>, now: u64) -> RequestContext {
        let mut cx = RequestContext::new(Nanos(now), IpAddr::V4(Ipv4Addr::LOCALHOST));
        let mut set = |id, text: &str| cx.set_identity(id, Identity::new(&self.hasher, id, text));
        set(IdentityId::CLIENT, "127.0.0.1");
        set(IdentityId::ROUTE, "pay");
        set(IdentityId::GLOBAL, "");
        user.into_iter().for_each(|user| set(USER, user));
        cx
    }

    fn buckets(&self, policy: &str) -> Arc<Buckets> {
        let all = self.states.all::<Buckets>();
        all.into_iter().find(|(_, buckets)| buckets.policy() == policy).unwrap().1
    }

    fn problems(&self, settings: serde_json::Value) -> Vec<(String, String)> {
        let spec: RateLimit = serde_json::from_value(settings).unwrap();
        let identities: Vec<String> = self.identities.keys().cloned().collect();
        let mut problems = Problems::default();
        spec.check(&CheckContext { identities: &identities, stores: &[], durable: &[] }, &mut problems);
        problems.0.into_iter().map(|problem| (problem.path, problem.message)).collect()
    }
}

fn head<'a>(path: &'a str, headers: &'a [HeaderPair<'a>]) -> RequestHead<'a> {
    RequestHead { method: "POST", target: path, path, host: "shop", secure: false, headers }
}

fn ask(chain: &FilterChain, cx: &mut RequestContext) -> Option<Box<Reply>> {
    ask_with(chain, &head("/", &[]), cx)
}

fn ask_with(chain: &FilterChain, head: &RequestHead<'_>, cx: &mut RequestContext) -> Option<Box<Reply>> {
    match chain.on_request(head, cx) {
        Decision::Continue => None,
        Decision::Respond(reply) => Some(reply),
        Decision::Wait(_) | Decision::NeedBody { .. } => panic!("a limit neither waits nor reads"),
    }
}

fn one(key: &str, rate: &str) -> serde_json::Value {
    json!({ "policies": [{ "name": key, "key": key, "rate": rate }] })
}

fn edits(cx: &RequestContext) -> Vec<String> {
    let text = |edit: &HeaderEdit| match edit {
        HeaderEdit::Set(name, value) => format!("{name}: {}", value.to_str().unwrap()),
        other => panic!("limits only set headers, not {other:?}"),
    };
    cx.to_client.iter().map(text).collect()
}

fn three_tiers() -> serde_json::Value {
    json!({ "policies": [
        { "name": "user", "key": "user", "rate": "5/m" },
        { "name": "api", "key": "route", "rate": "100/s" },
        { "name": "system", "key": "global", "rate": "8/m" },
    ]})
}
