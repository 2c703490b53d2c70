//! `server`, `admin` and `stores` as they stand in the file.

use std::path::PathBuf;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::Deserialize;
use tidegate_filters::engine::{ByteSize, TimeSpan};

use super::file::seconds;
use super::placed::At;

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
    /// `memory`: in this process, gone with it. `sqlite`: in files in `data_dir`, durable. `postgres`: in a database that
    /// gateways on several machines share; for records of `idempotency` only.
    #[serde(rename = "type")]
    #[schemars(schema_with = "store_types")]
    pub(super) kind: At<String>,
    /// Most records: of requests with keys those under way and those that are over, of deferred requests those that are
    /// over. One more is refused with 503, since one that is forgotten early could be carried out twice (default 5000000;
    /// `memory`: 500000).
    #[serde(default)]
    pub(super) max_records: Option<At<u64>>,
    /// Most bytes of answers. Beyond it the oldest answers are dropped; their requests stay known (default 8GiB; `memory`:
    /// 256MiB).
    #[serde(default)]
    pub(super) max_bytes: Option<At<ByteSize>>,
    /// For `postgres`: where it is, as `postgres://user@host/database`. Parameters of libpq follow a `?`
    /// (`sslmode=verify-full`).
    #[serde(default)]
    pub(super) url: Option<At<String>>,
    /// For `postgres`: the user's password as `${NAME}`; none by default.
    #[serde(default)]
    pub(super) password: Option<At<String>>,
    /// For `postgres`: file that holds the password; mode 0640 at most.
    #[serde(default)]
    pub(super) password_file: Option<At<PathBuf>>,
    /// For `postgres`: what answers are sealed with, 64 hexadecimal digits, the same for all gateways, as `${NAME}`.
    #[serde(default)]
    pub(super) secret: Option<At<String>>,
    /// For `postgres`: file that holds it; mode 0640 at most.
    #[serde(default)]
    pub(super) secret_file: Option<At<PathBuf>>,
}

fn store_types(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "enum": ["memory", "sqlite", "postgres"] })
}
