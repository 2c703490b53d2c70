//! The file, as written: plain values that were checked, nothing compiled yet.
//!
//! Doc comments here are the reference: the JSON Schema that `tidegate schema` prints is made from them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use ipnet::IpNet;
use tidegate_filters::engine::{ByteSize, FilterSpec, Mode, Priority};
use tidegate_filters::store::Most;
use tidegate_filters::waiting_room::Aimd;
use tidegate_filters::waiting_room::keys::KeySpec;
use tidegate_filters::waiting_room::rules::Rules;
use tidegate_filters::waiting_room::settings::{CommandKind, Events, LongPolls, SameSite, Secure};

use super::secret::Secret;
use super::types_payments::CallbackSpec;
pub use super::types_upstream::{Channel, Class, Health, StatusRange, TlsIdentity, Upstream, UpstreamTls};
use crate::waiting_room::page::{Language, Template};

/// A whole configuration file.
#[derive(Debug)]
pub struct Config {
    /// Listeners, threads, limits of connections.
    pub server: Server,
    /// The admin listener.
    pub admin: Admin,
    /// Stores by name.
    pub stores: BTreeMap<String, StoreSpec>,
    /// Identities by name, each a list of sources tried in order.
    pub identity: Vec<(String, Vec<IdentitySource>)>,
    /// Upstreams by name.
    pub upstreams: BTreeMap<String, Upstream>,
    /// Waiting rooms, in file order.
    pub rooms: Vec<RoomSpec>,
    /// Where the public side of the rooms is, without a slash at the end.
    pub room_path: Box<str>,
    /// Keys that waiting rooms sign with.
    pub room_keys: Vec<KeySpec>,
    /// Named filters, those written inline in routes included (named `<route>/<kind>`, or `<route>/<kind>-2` for a second
    /// one of a kind), in file order.
    pub filters: Vec<FilterEntry>,
    /// Routes in file order; `defaults.filters` are already in front of each route's own.
    pub routes: Vec<Route>,
}

/// `server:`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Where clients connect. Restart-only.
    pub listeners: Vec<Listener>,
    /// Worker threads; `None` for `auto`: one per core. Restart-only.
    pub threads: Option<usize>,
    /// Where embedded stores live. Restart-only.
    pub data_dir: PathBuf,
    /// Peers whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Bounds on connections, heads and times.
    pub limits: Limits,
    /// How long a stopping gateway waits for running requests (`shutdown.drain_timeout`).
    pub drain_timeout: Duration,
    /// Whether routes match paths without regard to case (`path_case: sensitive | insensitive`, default sensitive).
    pub path_case_insensitive: bool,
}

/// One listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Name that routes refer to.
    pub name: String,
    /// `host:port`; port 0 takes a free one.
    pub address: String,
    /// HTTP/1.1 is spoken.
    pub h1: bool,
    /// HTTP/2 without TLS, by prior knowledge.
    pub h2c: bool,
    /// Certificate and key (PEM files); then HTTP/1.1 and HTTP/2 by ALPN.
    pub tls: Option<(PathBuf, PathBuf)>,
}

/// `server.limits:`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Client connections in all (20000).
    pub max_connections: usize,
    /// Client connections per address, IPv6 by /64 (default: a quarter of all, at least 64... see reference.yaml).
    pub max_connections_per_client: usize,
    /// A request's head (32KiB).
    pub max_header_size: ByteSize,
    /// Header lines of a request (100).
    pub max_headers: usize,
    /// A request's body (default 1GiB; 0 for none allowed).
    pub max_body_size: ByteSize,
    /// From the first byte of a head to its last (10s).
    pub header_timeout: Duration,
    /// Longest silence while a body is read or an answer is written (30s).
    pub body_timeout: Duration,
    /// Longest a whole request may take, over HTTP/1 and HTTP/2 streams (`request_timeout`, 5m); WebSockets are exempt.
    pub request_timeout: Duration,
    /// Silence between requests (60s).
    pub idle_timeout: Duration,
}

/// `admin:`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// `host:port`; default 127.0.0.1:9901.
    pub address: String,
    /// Bearer token; required on any address that is not loopback.
    pub token: Option<Secret>,
}

/// One store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreSpec {
    /// In this process.
    Memory(Most),
    /// In files in `data_dir`.
    Sqlite(Most),
    /// In a database that other gateways use, too.
    Postgres(DatabaseSpec, Most),
}

/// A database and what is needed to use it.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseSpec {
    /// Address, without a password.
    pub url: String,
    /// Absent where the database asks for none.
    pub password: Option<String>,
    /// What answers are sealed with.
    pub key: [u8; 32],
}

impl std::fmt::Debug for DatabaseSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DatabaseSpec").field("url", &self.url).finish_non_exhaustive()
    }
}

/// One way to learn an identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdentitySource {
    /// A verified JSON Web Token from `Authorization: Bearer`, or from the header / cookie named.
    Jwt(Box<JwtSource>),
    /// A header, believed only from these peers; stripped from everybody else's requests and from all on the way up.
    TrustedHeader {
        /// Lower-case name.
        header: String,
        /// Who is believed.
        from: Vec<IpNet>,
    },
    /// A header taken as it is: a convenience for grouping, not a proof.
    Header(String),
}

/// How a token is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwtSource {
    /// Keys, from `secret`, `secret_file`, `public_key_file` (PEM) or `jwks_file`.
    pub key: JwtKey,
    /// Accepted algorithms: HS256, RS256, EdDSA. Never empty, never mixing HS with others.
    pub algorithms: Vec<JwtAlgorithm>,
    /// Claim that names the identity (`sub`).
    pub claim: String,
    /// Required issuer, if given.
    pub issuer: Option<String>,
    /// Required audience, if given.
    pub audience: Option<String>,
    /// Where the token is; `None`: `Authorization: Bearer`.
    pub cookie: Option<String>,
    /// Allowed clock difference for `exp` and `nbf` (60s).
    pub leeway: Duration,
}

/// Key material.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JwtKey {
    /// HS256.
    Secret(Secret),
    /// RS256 or EdDSA: contents of a PEM file.
    PublicKeyPem(Vec<u8>),
    /// Contents of a JWKS file.
    Jwks(String),
}

/// The algorithms that are accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JwtAlgorithm {
    /// HMAC with SHA-256.
    Hs256,
    /// RSA PKCS#1 v1.5 with SHA-256.
    Rs256,
    /// Ed25519.
    EdDsa,
}

/// A filter with its name.
#[derive(Clone, Debug)]
pub struct FilterEntry {
    /// Its identity over reloads.
    pub name: Arc<str>,
    /// Its kind.
    pub kind: String,
    /// Enforced, shadowed or off.
    pub mode: Mode,
    /// Its settings.
    pub spec: Arc<dyn FilterSpec>,
    /// Hash of the settings as written (order and blanks aside): equal when nothing was changed.
    pub fingerprint: u64,
    /// Line in the file, from 1.
    pub line: usize,
}

/// One route.
#[derive(Clone, Debug)]
pub struct Route {
    /// Its name; unique.
    pub name: Arc<str>,
    /// The listener's name; the first listener when the file names none.
    pub listener: String,
    /// What it matches.
    pub matches: RouteMatch,
    /// Importance.
    pub priority: Priority,
    /// Names of filters (into [`Config::filters`]) in order.
    pub filters: Vec<Arc<str>>,
    /// Where it goes; `None` when every request is answered by a filter.
    pub upstream: String,
    /// Whose payments its callbacks tell of; `None`: it carries no callbacks.
    pub payments: Option<CallbackSpec>,
    /// Whether WebSocket upgrades may pass (true).
    pub websocket: bool,
    /// Body bound of this route; `None`: the server's.
    pub max_body_size: Option<ByteSize>,
    /// Whole-request bound of this route; `None`: the server's.
    pub timeout: Option<Duration>,
}

/// `match:`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteMatch {
    /// Host without port, lower case, or `*.example.com`; `None`: any.
    pub host: Option<String>,
    /// Exact path, or a prefix written with `/**`.
    pub path: PathMatch,
    /// Methods; empty: any.
    pub methods: Vec<Method>,
    /// Headers that must be there: name and, if given, exact value. Sorted by name.
    pub headers: Vec<(String, Option<String>)>,
}

/// A path pattern, normalised like request paths.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PathMatch {
    /// This path only.
    Exact(String),
    /// This path and everything below; stored without the trailing slash, so `/` is the empty text.
    Prefix(String),
}

impl Default for PathMatch {
    fn default() -> Self {
        Self::Prefix(String::new())
    }
}

/// A waiting room.
#[derive(Clone, Debug)]
pub struct RoomSpec {
    /// Its name; unique.
    pub name: Arc<str>,
    /// What its line does.
    pub rules: Rules,
    /// Status of the answer to those who wait; `None`: 200 for pages, 503 for programs.
    pub status: Option<u16>,
    /// Last part of the cookie's name.
    pub cookie: String,
    /// When the cookie is `Secure`.
    pub secure: Secure,
    /// Its `SameSite`.
    pub same_site: SameSite,
    /// Names of identities: the first that a request has says who it is.
    pub identity: Vec<String>,
    /// Requests that are never held up: what operators know the rule by, and its condition.
    pub bypass: Vec<(String, String)>,
    /// Condition of who may have a place; `None`: everybody.
    pub eligible: Option<String>,
    /// What the backend may say about a visit.
    pub commands: Vec<CommandKind>,
    /// Whether Cloudflare's clients are understood.
    pub cloudflare: bool,
    /// Whether a program is told where it stands.
    pub json: bool,
    /// How admissions follow the upstreams; `None`: not at all.
    pub admission: Option<Aimd>,
    /// Where the gateway asks how much is left; `None`: nowhere.
    pub probe: Option<StockProbe>,
    /// What people see.
    pub page: PageSpec,
}

/// A question about the stock that the gateway asks by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StockProbe {
    /// Who is asked.
    pub upstream: String,
    /// What for.
    pub path: String,
    /// How often.
    pub interval: Duration,
}

/// What a waiting room shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageSpec {
    /// Its own page; `None`: the gateway's.
    pub template: Option<Template>,
    /// Language of those whose browser prefers none of the page's.
    pub language: Language,
    /// To whom events are pushed; `None`: to nobody.
    pub events: Option<Events>,
    /// Who may wait for news; `None`: nobody.
    pub long_polls: Option<LongPolls>,
}
