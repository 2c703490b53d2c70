//! Asks endpoints whether they are well, so that a request need not find out.

use crate::snapshot::Upstream;

/// Says in the log that an endpoint's state changed.
pub(crate) fn say(upstream: &Upstream, endpoint: &str, well: bool, why: &str) {
    let what = if well { "an endpoint is in again" } else { "an endpoint is out" };
    tracing::warn!(target: "tidegate::health", upstream = &*upstream.name, endpoint, why, "{what}");
    if upstream.facts.panics() {
        let upstream = &*upstream.name;
        tracing::warn!(target: "tidegate::health", upstream, "no endpoint is in: probes are ignored until one is");
    }
}
