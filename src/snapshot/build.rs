//! From the file as written to the file as compiled. Acquires state, starts nothing, changes nothing that is shared.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use tidegate_filters::channels::{ChannelState, UpstreamFacts};
use tidegate_filters::engine::{
    BuildContext, ChainLink, Filter, FilterChain, Identity, IdentityId, LinkCounters, Mode, StateKey, UpstreamId,
};
use tidegate_filters::store::StoreKind;

use super::upstream::{Rotation, Upstream};
use super::{BuiltFilter, Route, RouteTable, Snapshot};
use crate::config::{self, Class, Config, FilterEntry, Loaded, StoreSpec};
use crate::deferred::status::AsyncPaths;
use crate::gateway::Shared;
use crate::identity::Identities;
use crate::payments::JOURNAL;
use crate::payments::journal::Place;
use crate::payments::status::StatusPaths;
use crate::proxy::h1::Pool;
use crate::telemetry::{ChannelMetrics, RouteMetrics, route_words};
use crate::waiting_room::{self, paths::RoomPaths};

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
    payments(&config, shared)?;
    let mut stores = Vec::with_capacity(config.stores.len());
    for (name, spec) in &config.stores {
        stores.push((name.clone(), store_kind(spec)?));
    }
    for (name, spec) in &config.stores {
        let (StoreSpec::Memory(most) | StoreSpec::Sqlite(most) | StoreSpec::Postgres(_, most)) = spec;
        shared.states.stores().bound(name, *most);
    }
    shared.states.stores().declare(stores).map_err(|error| SnapshotError(error.to_string()))?;
    let rooms = waiting_room::rooms(&config, identities.ids(), shared).map_err(SnapshotError)?;
    let mut built = Vec::with_capacity(config.filters.len());
    let mut links = HashMap::with_capacity(config.filters.len());
    for entry in &config.filters {
        let known = upstreams_of(&entry.name, &config, &upstreams);
        let (filter, link) = one_filter(entry, identities.ids(), &known, shared)?;
        let mut asked = entry.spec.identities();
        if entry.kind == "waiting_room" {
            asked.extend(waiting_room::identities(&config));
        }
        links.insert(entry.name.clone(), (link, asked));
        built.push(filter);
    }
    let routes: Result<Box<[_]>, _> =
        config.routes.iter().map(|route| one_route(route, &config, &upstreams, &links, &identities, shared)).collect();
    let routes = routes?;
    let payment_status = StatusPaths::new(&config, &routes);
    let deferred = AsyncPaths::new(&config, &built, shared);
    let room_paths = RoomPaths::new(&config, &rooms, |name| identities.ids().get(name).copied());
    let table = RouteTable::new(&config.routes, &server.listeners, server.path_case_insensitive);
    Ok(Snapshot {
        generation,
        hash: loaded.hash.clone(),
        redacted: loaded.redacted.as_str().into(),
        identities,
        table,
        payment_status,
        deferred,
        routes,
        filters: built.into(),
        upstreams: upstreams.into_values().collect(),
        room_paths,
        rooms: rooms.into(),
        config,
    })
}

fn upstreams(config: &Config, shared: &Shared) -> Result<BTreeMap<String, Arc<Upstream>>, SnapshotError> {
    let one = |(id, (name, spec)): (UpstreamId, (&String, &config::Upstream))| {
        let key = |kind, name: String| StateKey { kind, name: name.into(), shape: 0 };
        let (rotation, _) = shared.states.acquire(&key("rotation", name.clone()), Rotation::default);
        let kept = |channel: &str| {
            let key = |kind| key(kind, format!("{name}/{channel}"));
            let (metrics, _) = shared.states.acquire(&key("channel_metrics"), ChannelMetrics::new);
            let (state, _) = shared.states.acquire(&key("channel"), ChannelState::new);
            (metrics, state)
        };
        let listeners = config.server.listeners.len();
        let pool = |address: SocketAddr| {
            shared.states.acquire(&key("upstream_connections", address.to_string()), || Pool::new(address, listeners)).0
        };
        Ok((name.clone(), Arc::new(Upstream::new(id, (name, spec), rotation, kept, pool)?)))
    };
    (0u16..).map(UpstreamId).zip(&config.upstreams).map(one).collect()
}

fn store_kind(spec: &StoreSpec) -> Result<StoreKind, SnapshotError> {
    match spec {
        StoreSpec::Memory(_) => Ok(StoreKind::Memory),
        StoreSpec::Sqlite(_) => Ok(StoreKind::Sqlite),
        #[cfg(feature = "postgres")]
        StoreSpec::Postgres(database, _) => Ok(StoreKind::Postgres(shared_store(database))),
        #[cfg(not(feature = "postgres"))]
        StoreSpec::Postgres(..) => Err(SnapshotError("this gateway was built without Postgres".to_owned())),
    }
}

#[cfg(feature = "postgres")]
fn shared_store(database: &crate::config::DatabaseSpec) -> tidegate_filters::store::Shared {
    let crate::config::DatabaseSpec { url, password, key } = database;
    tidegate_filters::store::Shared { url: url.clone(), password: password.clone(), key: *key }
}

/// The upstreams of the routes that list a filter.
fn upstreams_of(
    filter: &Arc<str>,
    config: &Config,
    upstreams: &BTreeMap<String, Arc<Upstream>>,
) -> Vec<Arc<UpstreamFacts>> {
    let mut names: Vec<&String> =
        config.routes.iter().filter(|route| route.filters.contains(filter)).map(|route| &route.upstream).collect();
    names.sort_unstable();
    names.dedup();
    names.into_iter().filter_map(|name| upstreams.get(name)).map(|upstream| upstream.facts.clone()).collect()
}

/// Opens what payments need, once for the process: a file that cannot be written must be known before it is relied on.
fn payments(config: &Config, shared: &Shared) -> Result<(), SnapshotError> {
    let mut payments = config.upstreams.values().filter(|spec| spec.class == Class::Payment).peekable();
    if payments.peek().is_none() {
        return Ok(());
    }
    let failed = |why: String| SnapshotError(format!("the journal of payments: {why}"));
    let mut place = None;
    for store in payments.filter_map(|spec| config.stores.get(spec.journal.as_ref()?)) {
        let wanted = match store {
            StoreSpec::Sqlite(_) => Place::File(config.server.data_dir.join(JOURNAL)),
            #[cfg(feature = "postgres")]
            StoreSpec::Postgres(database, _) => Place::Database(shared_store(database)),
            _ => continue,
        };
        // A payment's number is known in one place.
        if place.replace(wanted.clone()).is_some_and(|other| other != wanted) {
            return Err(failed("all upstreams keep it in the same store".to_owned()));
        }
    }
    if !matches!(place, None | Some(Place::File(_))) && holds_payments(&config.server.data_dir.join(JOURNAL)) {
        let why = format!(
            "{JOURNAL} in the data directory holds payments that the database does not know, and would send \
             their numbers again; set it aside once none of them can come again"
        );
        return Err(failed(why));
    }
    shared.payments.start(&shared.states, place).map_err(failed)
}

/// Whether there is a journal in this file, with payments.
fn holds_payments(path: &Path) -> bool {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let any = "SELECT EXISTS (SELECT 1 FROM payments)";
    path.exists()
        && rusqlite::Connection::open_with_flags(path, flags)
            .and_then(|file| file.query_row(any, [], |row| row.get(0)))
            .unwrap_or(true)
}

fn one_filter(
    entry: &FilterEntry,
    identities: &BTreeMap<String, IdentityId>,
    upstreams: &[Arc<UpstreamFacts>],
    shared: &Shared,
) -> Result<(BuiltFilter, ChainLink), SnapshotError> {
    let mut cx = BuildContext {
        name: entry.name.clone(),
        mode: entry.mode,
        states: &shared.states,
        hasher: &shared.hasher,
        identities,
        upstreams,
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
        callback: route.payments.clone(),
        websocket: route.websocket,
        log_words: route_words(&route.listener, &route.name),
    }))
}
