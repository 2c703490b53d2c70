//! The format, as serde and editors see it. One struct for each mapping of the file; every key is here and nowhere else.
//!
//! Doc comments become descriptions in the JSON Schema.

use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::Deserialize;
use tidegate_filters::engine::{ByteSize, Mode, TimeSpan};

use super::placed::{At, Named, Raw};

fn seconds(count: u64) -> At<TimeSpan> {
    TimeSpan(Duration::from_secs(count)).into()
}

/// A tidegate configuration.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "tidegate configuration")]
pub(super) struct ConfigFile {
    /// Version of the format: 1.
    #[schemars(schema_with = "version_one")]
    pub(super) version: At<u64>,
    /// Listeners, threads, limits of connections.
    pub(super) server: At<ServerFile>,
    /// The admin listener.
    #[serde(default)]
    pub(super) admin: At<AdminFile>,
    /// Stores by name. `memory` is the only type of this version.
    #[serde(default)]
    pub(super) stores: Named<StoreFile>,
    /// Identities by name: each a list of sources tried in order. Built in: `client` (address, IPv6 by /64), `route`,
    /// `global`.
    #[serde(default)]
    pub(super) identity: Named<Vec<At<SourceFile>>>,
    /// Upstreams by name.
    #[serde(default)]
    pub(super) upstreams: Named<UpstreamFile>,
    /// Filters by name. One name is one state, shared by all routes that list it.
    #[serde(default)]
    pub(super) filters: Named<Raw<FilterFile>>,
    /// What every route begins with.
    #[serde(default)]
    pub(super) defaults: DefaultsFile,
    /// Routes; the most specific match wins.
    #[serde(default)]
    pub(super) routes: Vec<At<RouteFile>>,
}

fn version_one(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "const": 1 })
}

/// Stands for a filter where only its place is kept; described with the kinds of the running gateway.
pub(super) struct FilterFile;

/// `defaults:`
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct DefaultsFile {
    /// Filters that every route begins with.
    pub(super) filters: Vec<Raw<FilterUse>>,
}

/// Stands for an entry of a chain: a filter's name, or a filter written inline.
pub(super) struct FilterUse;

/// `server:`
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ServerFile {
    /// Where clients connect; at least one. A change needs a restart.
    pub(super) listeners: Vec<At<ListenerFile>>,
    /// Worker threads: a number from 1 to 1024, or `auto` (default): one per core. A change needs a restart.
    #[serde(default)]
    pub(super) threads: At<ThreadsFile>,
    /// Where embedded stores live (default `data`, from the working directory). A change needs a restart.
    #[serde(default = "data_dir")]
    pub(super) data_dir: At<PathBuf>,
    /// Networks whose `X-Forwarded-For` is believed (default: none).
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub(super) trusted_proxies: Vec<At<NetFile>>,
    /// Bounds on connections, heads and times.
    #[serde(default)]
    pub(super) limits: At<LimitsFile>,
    /// How the gateway stops.
    #[serde(default)]
    pub(super) shutdown: ShutdownFile,
    /// Whether routes match paths with regard to case: `sensitive` (default) or `insensitive`.
    #[serde(default)]
    pub(super) path_case: PathCaseFile,
}

fn data_dir() -> At<PathBuf> {
    PathBuf::from("data").into()
}

/// A number of worker threads, or `auto`.
#[derive(Clone, Copy, Default)]
pub(super) enum ThreadsFile {
    /// One per core.
    #[default]
    Auto,
    /// That many.
    Count(u64),
}

/// A network, as in `10.0.0.0/8`; a single address is its own network.
#[derive(Clone, Copy)]
pub(super) struct NetFile(pub(super) IpNet);

/// How paths are compared.
#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum PathCaseFile {
    /// Letter by letter.
    #[default]
    Sensitive,
    /// ASCII letters without regard to case.
    Insensitive,
}

/// One listener.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ListenerFile {
    /// Name that routes refer to.
    pub(super) name: At<String>,
    /// `host:port`; port 0 takes a free one.
    pub(super) address: At<String>,
    /// What is spoken without TLS: `h1`, `h2c` (HTTP/2 by prior knowledge) or both; default `[h1]`. With `tls` both are
    /// offered by ALPN and this key is left out.
    #[serde(default)]
    pub(super) protocols: Option<At<Vec<ProtocolFile>>>,
    /// Certificate and key; default: no TLS.
    #[serde(default)]
    pub(super) tls: Option<TlsFile>,
}

/// A protocol of a listener.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum ProtocolFile {
    /// HTTP/1.1.
    H1,
    /// HTTP/2 without TLS, by prior knowledge.
    H2c,
}

/// `tls:` of a listener. Paths are relative to the configuration file.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TlsFile {
    /// PEM file with the certificate chain.
    pub(super) certificate: At<PathBuf>,
    /// PEM file with the private key; readable by owner and group at most.
    pub(super) key: At<PathBuf>,
}

/// `server.limits:`
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct LimitsFile {
    /// Client connections in all (default 20000).
    pub(super) max_connections: At<u64>,
    /// Client connections per address, IPv6 by /64. Default: a quarter of `max_connections`, but at least 64, and never
    /// more than `max_connections`.
    pub(super) max_connections_per_client: Option<At<u64>>,
    /// A request's head (default 32KiB; 1KiB to 1MiB).
    pub(super) max_header_size: At<ByteSize>,
    /// Header lines of a request (default 100; 8 to 1000).
    pub(super) max_headers: At<u64>,
    /// A request's body (default 1GiB; 0 for none allowed).
    pub(super) max_body_size: ByteSize,
    /// From the first byte of a head to its last (default 10s).
    pub(super) header_timeout: At<TimeSpan>,
    /// Longest silence while a body is read or an answer is written (default 30s).
    pub(super) body_timeout: At<TimeSpan>,
    /// Longest a whole request may take; WebSockets are exempt (default 5m).
    pub(super) request_timeout: At<TimeSpan>,
    /// Silence between requests before a connection is closed (default 60s).
    pub(super) idle_timeout: At<TimeSpan>,
}

impl Default for LimitsFile {
    fn default() -> Self {
        Self {
            max_connections: 20_000.into(),
            max_connections_per_client: None,
            max_header_size: ByteSize(32 << 10).into(),
            max_headers: 100.into(),
            max_body_size: ByteSize(1 << 30),
            header_timeout: seconds(10),
            body_timeout: seconds(30),
            request_timeout: seconds(300),
            idle_timeout: seconds(60),
        }
    }
}

/// `server.shutdown:`
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ShutdownFile {
    /// How long a stopping gateway waits for running requests (default 30s; 0s to 1d).
    pub(super) drain_timeout: At<TimeSpan>,
}

impl Default for ShutdownFile {
    fn default() -> Self {
        Self { drain_timeout: seconds(30) }
    }
}

/// `admin:`
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct AdminFile {
    /// `host:port` (default `127.0.0.1:9901`). A change needs a restart.
    pub(super) address: At<String>,
    /// Bearer token as `${NAME}`; required on any address that is not loopback. Empty is like absent.
    pub(super) token: Option<At<String>>,
    /// File that holds the bearer token, relative to the configuration file; mode 0640 at most.
    pub(super) token_file: Option<At<PathBuf>>,
}

impl Default for AdminFile {
    fn default() -> Self {
        Self { address: "127.0.0.1:9901".to_owned().into(), token: None, token_file: None }
    }
}

/// One store.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct StoreFile {
    /// `memory`: in this process.
    #[serde(rename = "type")]
    #[schemars(schema_with = "memory_only")]
    pub(super) kind: At<String>,
}

fn memory_only(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "enum": ["memory"] })
}

/// One way to learn an identity: `jwt`, or `trusted_header` with `from`, or `header`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SourceFile {
    /// A verified JSON Web Token.
    #[serde(default)]
    pub(super) jwt: Option<At<JwtFile>>,
    /// A header believed only from the peers in `from`; stripped from everybody else's requests.
    #[serde(default)]
    pub(super) trusted_header: Option<At<String>>,
    /// Networks whose `trusted_header` is believed.
    #[serde(default)]
    #[schemars(with = "Option<Vec<String>>")]
    pub(super) from: Option<At<Vec<At<NetFile>>>>,
    /// A header taken as it is: a convenience for grouping, not a proof.
    #[serde(default)]
    pub(super) header: Option<At<String>>,
}

/// How a token is verified. Exactly one of `secret`, `secret_file`, `public_key_file` and `jwks_file` is given.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct JwtFile {
    /// HS256 secret as `${NAME}`; at least 32 bytes.
    #[serde(default)]
    pub(super) secret: Option<At<String>>,
    /// File that holds the HS256 secret, relative to the configuration file; mode 0640 at most.
    #[serde(default)]
    pub(super) secret_file: Option<At<PathBuf>>,
    /// PEM file with the public key for RS256 or EdDSA.
    #[serde(default)]
    pub(super) public_key_file: Option<At<PathBuf>>,
    /// File with a JSON Web Key Set.
    #[serde(default)]
    pub(super) jwks_file: Option<At<PathBuf>>,
    /// Accepted algorithms: `[HS256]` with a secret (the default there), else `RS256`, `EdDSA` or both.
    #[serde(default)]
    #[schemars(schema_with = "algorithms")]
    pub(super) algorithms: Option<At<Vec<At<String>>>>,
    /// Claim that names the identity (default `sub`).
    #[serde(default = "subject")]
    pub(super) claim: At<String>,
    /// Required issuer; default: any.
    #[serde(default)]
    pub(super) issuer: Option<String>,
    /// Required audience; default: any.
    #[serde(default)]
    pub(super) audience: Option<String>,
    /// Cookie that holds the token; default: `Authorization: Bearer`.
    #[serde(default)]
    pub(super) cookie: Option<At<String>>,
    /// Allowed clock difference for `exp` and `nbf` (default 60s; 0s to 10m).
    #[serde(default = "leeway")]
    pub(super) leeway: At<TimeSpan>,
}

fn subject() -> At<String> {
    "sub".to_owned().into()
}

fn leeway() -> At<TimeSpan> {
    seconds(60)
}

fn algorithms(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "array",
        "items": { "enum": ["HS256", "RS256", "EdDSA"] },
        "minItems": 1
    })
}

/// An upstream.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct UpstreamFile {
    /// Its channels: 1 to 64.
    pub(super) channels: At<Vec<At<ChannelFile>>>,
    /// Connecting takes at most this (default 5s).
    #[serde(default = "five_seconds")]
    pub(super) connect_timeout: At<TimeSpan>,
    /// Longest silence of the upstream (default 10s).
    #[serde(default = "ten_seconds")]
    pub(super) read_timeout: At<TimeSpan>,
    /// Longest time a write may be stuck (default 10s).
    #[serde(default = "ten_seconds")]
    pub(super) write_timeout: At<TimeSpan>,
    /// How long an idle connection is kept (default 50s: below what servers commonly keep).
    #[serde(default = "fifty_seconds")]
    pub(super) idle_timeout: At<TimeSpan>,
    /// What is spoken to it: `h1` (default) or `h2c`.
    #[serde(default = "h1")]
    pub(super) protocol: ProtocolFile,
}

fn five_seconds() -> At<TimeSpan> {
    seconds(5)
}

fn ten_seconds() -> At<TimeSpan> {
    seconds(10)
}

fn fifty_seconds() -> At<TimeSpan> {
    seconds(50)
}

fn h1() -> ProtocolFile {
    ProtocolFile::H1
}

/// One channel.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ChannelFile {
    /// Its name; unique in its upstream.
    pub(super) name: At<String>,
    /// `host:port`, interchangeable; at least one.
    pub(super) endpoints: At<Vec<At<String>>>,
}

/// One route.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RouteFile {
    /// Its name; unique.
    pub(super) name: At<String>,
    /// What it matches; default: everything.
    #[serde(default, rename = "match")]
    pub(super) matches: At<MatchFile>,
    /// The listener's name; default: the first.
    #[serde(default)]
    pub(super) listener: Option<At<String>>,
    /// Importance when not everybody can be served (default `normal`).
    #[serde(default)]
    pub(super) priority: PriorityFile,
    /// Its chain in order, behind `defaults.filters`: names, or filters written inline.
    #[serde(default)]
    pub(super) filters: At<Vec<Raw<FilterUse>>>,
    /// Where it goes.
    pub(super) upstream: At<String>,
    /// Whether WebSocket upgrades may pass (default true).
    #[serde(default = "yes")]
    pub(super) websocket: bool,
    /// Largest body; default: the server's.
    #[serde(default)]
    pub(super) max_body_size: Option<ByteSize>,
    /// Longest a whole request may take; default: the server's `request_timeout`.
    #[serde(default)]
    pub(super) timeout: Option<At<TimeSpan>>,
}

fn yes() -> bool {
    true
}

/// `match:`; what is left out matches anything.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct MatchFile {
    /// Host without port, or `*.example.com` for all names below.
    pub(super) host: Option<At<String>>,
    /// Exact path, or a prefix written with `/**`.
    pub(super) path: Option<At<String>>,
    /// Methods; empty: any.
    pub(super) methods: Vec<At<String>>,
    /// Headers that must be there, with their exact value or, without a value, any.
    pub(super) headers: Named<Option<String>>,
}

/// Importance of a route.
#[derive(Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum PriorityFile {
    /// Payment callbacks, captures.
    Critical,
    /// Creating orders and payments.
    High,
    /// Queries.
    #[default]
    Normal,
    /// Exports, crawlers.
    Bulk,
}

/// `mode:` beside a filter's kind.
pub(super) type ModeFile = At<Mode>;
