//! From the file as written to the file as compiled. Acquires state, starts nothing, changes nothing that is shared.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use tidegate_filters::engine::{
    BuildContext, ChainLink, Filter, FilterChain, Identity, IdentityId, LinkCounters, Mode, StateKey,
};

use super::upstream::{Rotation, Upstream};
use super::{BuiltFilter, Route, RouteTable, Snapshot};
use crate::config::{self, Config, FilterEntry, Loaded};
use crate::gateway::Shared;
use crate::identity::Identities;
use crate::telemetry::{ChannelMetrics, RouteMetrics};
use crate::waiting_room;

/// Why a checked file could not be compiled; the running configuration stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotError(pub String);

impl fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SnapshotError {}

/// Compiles a loaded file into snapshot number `generation`.
///
/// # Errors
/// When an endpoint does not resolve or a filter cannot be built. Nothing that runs is touched.
pub fn build(loaded: &Loaded, generation: u64, shared: &Shared) -> Result<Snapshot, SnapshotError> {
    let config = loaded.config.clone();
    let server = &config.server;
    let identities =
        Identities::new(&config.identity, &server.trusted_proxies, &shared.hasher).map_err(SnapshotError)?;
    let upstreams = upstreams(&config, shared)?;
    let rooms = waiting_room::rooms(&config, identities.ids(), shared).map_err(SnapshotError)?;
    let mut built = Vec::with_capacity(config.filters.len());
    let mut links = HashMap::with_capacity(config.filters.len());
    for entry in &config.filters {
        let (filter, link) = one_filter(entry, identities.ids(), shared)?;
        let mut asked = entry.spec.identities();
        if entry.kind == "waiting_room" {
            asked.extend(waiting_room::identities(&config));
        }
        links.insert(entry.name.clone(), (link, asked));
        built.push(filter);
    }
    let routes: Result<Box<[_]>, _> =
        config.routes.iter().map(|route| one_route(route, &config, &upstreams, &links, &identities, shared)).collect();
    let table = RouteTable::new(&config.routes, &server.listeners, server.path_case_insensitive);
    Ok(Snapshot {
        generation,
        hash: loaded.hash.clone(),
        redacted: loaded.redacted.as_str().into(),
        identities,
        table,
        routes: routes?,
        filters: built.into(),
        rooms: rooms.into(),
        config,
    })
}

fn upstreams(config: &Config, shared: &Shared) -> Result<BTreeMap<String, Arc<Upstream>>, SnapshotError> {
    let one = |(name, spec): (&String, &config::Upstream)| {
        let key = |kind, name: String| StateKey { kind, name: name.into(), shape: 0 };
        let (rotation, _) = shared.states.acquire(&key("rotation", name.clone()), Rotation::default);
        let metrics = |channel: &str| {
            let make = || ChannelMetrics::new(name.as_str().into(), channel.into());
            shared.states.acquire(&key("channel_metrics", format!("{name}/{channel}")), make).0
        };
        Ok((name.clone(), Arc::new(Upstream::new(name, spec, rotation, metrics)?)))
    };
    config.upstreams.iter().map(one).collect()
}

fn one_filter(
    entry: &FilterEntry,
    identities: &BTreeMap<String, IdentityId>,
    shared: &Shared,
) -> Result<(BuiltFilter, ChainLink), SnapshotError> {
    let mut cx = BuildContext {
        name: entry.name.clone(),
        mode: entry.mode,
        states: &shared.states,
        hasher: &shared.hasher,
        identities,
        acquired: Vec::new(),
    };
    let filter: Arc<dyn Filter> = match entry.mode {
        // Built all the same: a filter that is switched off keeps its state, so switching it on again is no amnesty.
        Mode::Enforce | Mode::Shadow | Mode::Off => entry.spec.build(&mut cx),
    }
    .map_err(|error| SnapshotError(format!("line {}: filter `{}`: {error}", entry.line, entry.name)))?;
    let key = StateKey { kind: "decisions", name: entry.name.clone(), shape: 0 };
    let (counters, _) = shared.states.acquire(&key, || LinkCounters::new(entry.name.clone()));
    let link = ChainLink { filter: filter.clone(), name: entry.name.clone(), mode: entry.mode, counters };
    let built = BuiltFilter {
        name: entry.name.clone(),
        kind: entry.kind.clone(),
        fingerprint: entry.fingerprint,
        acquired: cx.acquired,
        filter,
    };
    Ok((built, link))
}

type Links = HashMap<Arc<str>, (ChainLink, Vec<String>)>;

fn one_route(
    route: &config::Route,
    config: &Config,
    upstreams: &BTreeMap<String, Arc<Upstream>>,
    links: &Links,
    identities: &Identities,
    shared: &Shared,
) -> Result<Arc<Route>, SnapshotError> {
    let missing =
        |what: &str, name: &str| SnapshotError(format!("route `{}`: no {what} is named `{name}`", route.name));
    let mut chain = Vec::with_capacity(route.filters.len());
    // The user is told to the upstream, so it is always learned where the file says how.
    let mut needs = identities.user_id().map_or(0, |id| 1 << id.0);
    for name in &route.filters {
        let (link, asked) = links.get(name).ok_or_else(|| missing("filter", name))?;
        chain.push(link.clone());
        for identity in asked {
            needs |= identities.ids().get(identity).map_or(0, |id| 1u64 << id.0);
        }
    }
    let upstream = upstreams.get(&route.upstream).cloned().ok_or_else(|| missing("upstream", &route.upstream))?;
    let key = StateKey { kind: "route_metrics", name: route.name.clone(), shape: 0 };
    let (metrics, _) = shared.states.acquire(&key, || RouteMetrics::new(route.name.clone()));
    let limits = &config.server.limits;
    Ok(Arc::new(Route {
        name: route.name.clone(),
        chain: FilterChain::new(chain),
        upstream,
        priority: route.priority,
        identity: Identity::new(&shared.hasher, IdentityId::ROUTE, &route.name),
        needs,
        metrics,
        max_body: route.max_body_size.unwrap_or(limits.max_body_size).0,
        timeout: route.timeout.unwrap_or(limits.request_timeout),
        websocket: route.websocket,
    }))
}
