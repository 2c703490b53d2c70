//! The format, as serde and editors see it. One struct for each mapping of the file; every key is here and nowhere else.
//!
//! Doc comments become descriptions in the JSON Schema.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use tidegate_filters::engine::{ByteSize, Mode, TimeSpan};

use super::file_channel::{ChannelFile, HealthFile, UpstreamProtocolFile, UpstreamTlsFile};
use super::file_page::room_path;
use super::file_payments::{CallbackFile, PaymentFile};
use super::file_rooms::{RoomFile, RoomKeyFile};
use super::file_server::{AdminFile, NetFile, ServerFile, StoreFile};
use super::placed::{At, Named, Raw};
use super::types::Class;

pub(super) fn seconds(count: u64) -> At<TimeSpan> {
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
    /// Stores by name: where filters keep what must outlast a request.
    #[serde(default)]
    pub(super) stores: Named<StoreFile>,
    /// Identities by name: each a list of sources tried in order. Built in: `client` (address, IPv6 by /64), `route`,
    /// `global`.
    #[serde(default)]
    pub(super) identity: Named<Vec<At<SourceFile>>>,
    /// Upstreams by name.
    #[serde(default)]
    pub(super) upstreams: Named<UpstreamFile>,
    /// Waiting rooms; routes use them as `{waiting_room: <name>}`.
    #[serde(default)]
    pub(super) waiting_rooms: Vec<At<RoomFile>>,
    /// Keys that waiting rooms sign with: the newest that has begun signs, all that have not ended verify.
    #[serde(default)]
    pub(super) waiting_room_keys: Vec<At<RoomKeyFile>>,
    /// Where the public side of all rooms is: `<path>/<room>/status` and so on (default `/.tidegate/wr`).
    #[serde(default = "room_path")]
    pub(super) waiting_room_path: At<String>,
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
    /// What is spoken to it: `h1` (default), `h2` (with `tls`) or `h2c` (without).
    #[serde(default)]
    pub(super) protocol: At<UpstreamProtocolFile>,
    /// TLS to its endpoints; default: none.
    #[serde(default)]
    pub(super) tls: Option<At<UpstreamTlsFile>>,
    /// What its requests are, which decides what may be tried again: `read`, `write` (default), `payment` or `callback`.
    #[serde(default)]
    pub(super) class: Class,
    /// Probes of its endpoints; default: none.
    #[serde(default)]
    pub(super) health: Option<At<HealthFile>>,
    /// Class `payment`: name of the store that keeps the journal; of type `sqlite`, or `postgres` where several gateways get
    /// the same payments. Without it a payment is tried on one channel, once.
    #[serde(default)]
    pub(super) journal: Option<At<String>>,
    /// Class `payment`: how payments are recognised and tried.
    #[serde(default)]
    pub(super) payment: Option<At<PaymentFile>>,
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
    /// To an upstream of class `callback`: whose payments the callbacks tell of. Once the upstream has acknowledged one,
    /// its payment's channel is asked; what a callback says is not taken for true.
    #[serde(default)]
    pub(super) payments: Option<At<CallbackFile>>,
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
