//! Logging: one JSON object a line on stderr, so that stdout carries nothing but the addresses.

use tracing_subscriber::EnvFilter;

/// Sends all tracing events to stderr as JSON lines. `RUST_LOG` chooses what is kept, default `info`.
/// A second call in the same process changes nothing.
pub fn log_to_stderr() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    // An error means that logging is set up already, which is what was wanted.
    let _ = tracing_subscriber::fmt().json().with_env_filter(filter).with_writer(std::io::stderr).try_init();
}
