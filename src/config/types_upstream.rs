//! Upstreams, as written.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use tidegate_filters::channels::{Cost, Hours};
use tidegate_filters::engine::Rate;

use super::secret::Secret;
use super::types_payments::{ChannelPayment, PaymentSpec};

/// An upstream.
#[derive(Clone, Debug, PartialEq)]
pub struct Upstream {
    /// Its channels in file order; 1 to 64.
    pub channels: Vec<Channel>,
    /// Connecting takes at most this (5s).
    pub connect_timeout: Duration,
    /// Longest silence of the upstream (10s).
    pub read_timeout: Duration,
    /// Longest time a write may be stuck (10s).
    pub write_timeout: Duration,
    /// How long an idle connection is kept (50s: below what servers commonly keep).
    pub idle_timeout: Duration,
    /// HTTP/2 to the upstream (`protocol: h1 | h2 | h2c`, default h1).
    pub h2: bool,
    /// TLS to the upstream; `None`: none.
    pub tls: Option<UpstreamTls>,
    /// What its requests are.
    pub class: Class,
    /// The store that keeps its payments; `None`: payments are tried once.
    pub journal: Option<String>,
    /// How payments are recognised and tried; only with class payment.
    pub payment: Option<PaymentSpec>,
    /// Probes of its endpoints; `None`: none.
    pub health: Option<Health>,
}

/// TLS to an upstream. Certificates are DER.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamTls {
    /// Whose certificate is accepted, and the name that is asked for (SNI); `None`: each endpoint's host.
    pub server_name: Option<String>,
    /// Whose word counts for that; `None`: the system's authorities.
    pub roots: Option<Vec<Vec<u8>>>,
    /// What the gateway shows of itself when it is asked; `None`: nothing.
    pub identity: Option<TlsIdentity>,
}

/// A certificate of the gateway's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsIdentity {
    /// The certificate, then those that vouch for it.
    pub chain: Vec<Vec<u8>>,
    /// Its private key.
    pub key: Secret,
}

/// What the requests of an upstream are; decides what may be tried again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Queries. Tried again after a refused connection, and on a kept connection that died idle if the method is safe.
    Read,
    /// Anything. As `read`: another try only when it is known that nothing happened, or when the method is safe.
    #[default]
    Write,
    /// Payments: another channel only by the rules for payments.
    Payment,
    /// Callbacks: never tried again; whoever calls back comes back.
    Callback,
}

/// How endpoints are probed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// What is asked for.
    pub path: String,
    /// Time between two probes of an endpoint.
    pub interval: Duration,
    /// Time for an answer.
    pub timeout: Duration,
    /// Bad answers in a row until it is out.
    pub unhealthy_after: u32,
    /// Good answers in a row until it is in.
    pub healthy_after: u32,
    /// Statuses that are good.
    pub expect: Vec<StatusRange>,
}

/// Statuses, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusRange {
    /// The first.
    pub from: u16,
    /// The last.
    pub to: u16,
}

/// One channel.
#[derive(Clone, Debug, PartialEq)]
pub struct Channel {
    /// Its name.
    pub name: String,
    /// `host:port`, interchangeable; names are resolved when the file is loaded.
    pub endpoints: Vec<String>,
    /// Its share, 0 to 1000.
    pub weight: u16,
    /// Whether it is used only when no other can be.
    pub backup: bool,
    /// Whether it takes new requests.
    pub enabled: bool,
    /// Types of payments it serves; empty: all.
    pub types: Vec<String>,
    /// Least and greatest amount in minor units; `None`: all.
    pub amount: Option<(i64, i64)>,
    /// When it serves; `None`: always.
    pub hours: Option<Hours>,
    /// How fast it may be asked; `None`: no bound.
    pub rate: Option<Rate>,
    /// How often in each span; `None`: no bound.
    pub quota: Option<Rate>,
    /// What a payment costs on it.
    pub cost: Cost,
    /// What it says of payments.
    pub payment: ChannelPayment,
}
