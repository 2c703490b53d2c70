//! The file, as compiled: immutable, one per reload, pinned by every request that began under it.

mod build;
pub mod path;
pub mod routes;
mod upstream;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tidegate_filters::engine::{Acquired, Filter, FilterChain, Identity, Priority};

use crate::config::{CallbackSpec, Config};
use crate::deferred::status::AsyncPaths;
use crate::identity::Identities;
use crate::payments::status::StatusPaths;
use crate::telemetry::RouteMetrics;
use crate::waiting_room::ConfiguredRoom;
use crate::waiting_room::paths::RoomPaths;

pub use build::{SnapshotError, build};
pub use routes::RouteTable;
pub use upstream::{Channel, Upstream};

/// One compiled configuration.
pub struct Snapshot {
    /// Counts up with every swap, from 1.
    pub generation: u64,
    /// SHA-256 of the file and what it refers to, in hex.
    pub hash: String,
    /// As written.
    pub config: Arc<Config>,
    /// The file's text without secrets.
    pub redacted: Arc<str>,
    /// Where users, merchants and client addresses come from.
    pub identities: Identities,
    /// Finds a request's route.
    pub table: RouteTable,
    /// Where clients find the state of payments.
    pub(crate) payment_status: StatusPaths,
    /// Where clients find deferred requests.
    pub(crate) deferred: AsyncPaths,
    /// The routes, in file order; the table's answers are indices.
    pub routes: Box<[Arc<Route>]>,
    /// The filters, in file order, with what they acquired.
    pub filters: Box<[BuiltFilter]>,
    /// The upstreams, by name.
    pub upstreams: Box<[Arc<Upstream>]>,
    /// Where visitors find them.
    pub(crate) room_paths: RoomPaths,
    /// The waiting rooms, in file order.
    pub rooms: Box<[ConfiguredRoom]>,
}

/// One compiled route.
pub struct Route {
    /// Its name.
    pub name: Arc<str>,
    /// Its filters.
    pub chain: FilterChain,
    /// Where it goes.
    pub upstream: Arc<Upstream>,
    /// Importance.
    pub priority: Priority,
    /// Its own identity, for limits by route.
    pub identity: Identity,
    /// Identities its chain asks for, as bits by their number.
    pub needs: u64,
    /// Counters and histogram.
    pub metrics: Arc<RouteMetrics>,
    /// Largest request body in bytes.
    pub max_body: u64,
    /// Longest the whole request may take.
    pub timeout: Duration,
    /// Whose payments its callbacks tell of, and where their numbers stand.
    pub(crate) callback: Option<CallbackSpec>,
    /// Whether WebSocket upgrades may pass.
    pub websocket: bool,
    /// What each line of the access log says of it.
    pub(crate) log_words: Box<str>,
}

/// One built filter, for reports and activation.
pub struct BuiltFilter {
    /// Its name.
    pub name: Arc<str>,
    /// Its kind.
    pub kind: String,
    /// Hash of its settings as written.
    pub fingerprint: u64,
    /// The states it uses.
    pub acquired: Vec<Acquired>,
    filter: Arc<dyn Filter>,
}

impl Snapshot {
    /// Lets every filter apply its settings to shared state. Called once, after the swap.
    pub fn activate(&self) {
        for room in &self.rooms {
            room.activate();
        }
        for built in &self.filters {
            built.filter.activate();
        }
        self.deferred.activate();
        for upstream in self.upstreams.iter().filter(|upstream| upstream.health.is_none()) {
            let channels = upstream.facts.channels.iter();
            channels.flat_map(|channel| &channel.endpoints).for_each(|endpoint| endpoint.forgive());
        }
    }
}

/// The address limits and logs know a client by: IPv4 whole, IPv6 by /64, since one household has all of a /64.
#[must_use]
pub fn client_prefix(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & (u128::MAX << 64)).into()),
    }
}
