//! What people see of the gateway: metrics, the access log, the log on standard error.

mod access_log;
mod connections;
pub(crate) mod escape;
mod histogram;
mod metrics;
mod process;
mod render;
mod route_metrics;
#[cfg(test)]
mod tests;

use std::io;

pub use access_log::{AccessLog, AccessLogTarget, AccessRecord, Place, route_words};
pub use connections::OpenConnection;
pub use metrics::Metrics;
pub use route_metrics::{ChannelMetrics, RouteMetrics};

use tracing_subscriber::EnvFilter;

/// Environment variable with the log's filter directives.
const FILTER: &str = "TIDEGATE_LOG";
/// pingora reports every broken client connection as an error; the access log and the metrics have those already.
const USUAL_FILTER: &str = "info,pingora_core=off,pingora_proxy=off,pingora=warn,h2=off";

/// Metrics and access log of one process.
pub struct Telemetry {
    access: AccessLog,
    metrics: Metrics,
}

impl Telemetry {
    /// Opens the access log.
    ///
    /// # Errors
    /// When its file cannot be opened or its thread not be started.
    pub fn new(access_log: AccessLogTarget) -> io::Result<Self> {
        Ok(Self { access: AccessLog::open(access_log)?, metrics: Metrics::default() })
    }

    /// The access log.
    #[must_use]
    pub fn access(&self) -> &AccessLog {
        &self.access
    }

    /// The metrics.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }
}

/// Form of the log on standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// Sends log events to standard error, filtered by `TIDEGATE_LOG`. Only the first call does anything.
pub fn init_tracing(format: LogFormat) {
    let filter = EnvFilter::try_from_env(FILTER).unwrap_or_else(|_| EnvFilter::new(USUAL_FILTER));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    let _ = match format {
        LogFormat::Json => log.json().flatten_event(true).try_init(),
        LogFormat::Text => log.try_init(),
    };
}
