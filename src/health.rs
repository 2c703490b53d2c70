//! Asks endpoints whether they are well, so that a request need not find out.
//!
//! One task for each upstream with `health`, on the admin side's thread: probes must not wait behind traffic, nor traffic
//! behind probes. A task reads the current snapshot before each round, so a reload changes what it asks and how often
//! without beginning anew, and it ends when its upstream is gone or no longer wants it. What is known about an endpoint
//! is in the registry. A probe is a plain `GET` over HTTP/1.1 on a connection of its own: what it finds is what a new
//! connection of a client would find.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pingora::upstreams::peer::{HttpPeer, Peer};
use tidegate_filters::channels::EndpointHealth;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, JoinSet};

use crate::config::Health;
use crate::gateway::Gateway;
use crate::snapshot::{Snapshot, Upstream};
use crate::upstream_tls::Tls;

/// How often the snapshot is looked at; a change of settings takes effect within it.
const LOOK: Duration = Duration::from_millis(200);
/// A status line is found within so many bytes or there is none.
const LONGEST_LINE: usize = 256;

/// Keeps a task for each upstream that wants one. Runs until dropped.
pub async fn run(gateway: Arc<Gateway>) {
    let mut tasks: HashMap<Arc<str>, JoinHandle<()>> = HashMap::new();
    loop {
        tasks.retain(|_, task| !task.is_finished());
        for upstream in gateway.snapshot().upstreams.iter().filter(|upstream| upstream.health.is_some()) {
            let watch = || tokio::spawn(watch(gateway.clone(), upstream.name.clone()));
            tasks.entry(upstream.name.clone()).or_insert_with(watch);
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn wanted(snapshot: &Snapshot, name: &str) -> Option<(Arc<Upstream>, Arc<Health>)> {
    let upstream = snapshot.upstreams.iter().find(|upstream| &*upstream.name == name)?;
    Some((upstream.clone(), upstream.health.clone()?))
}

/// Probes one upstream in rounds until it is gone.
async fn watch(gateway: Arc<Gateway>, name: Arc<str>) {
    while let Some((upstream, health)) = wanted(&gateway.snapshot(), &name) {
        let began = Instant::now();
        round(&upstream, &health).await;
        drop((upstream, health));
        // A tenth earlier or later, so that gateways that were started together do not ask together.
        let luck = 0.9 + 0.2 * rand::random::<f64>();
        while let Some((_, health)) = wanted(&gateway.snapshot(), &name) {
            let left = health.interval.mul_f64(luck).saturating_sub(began.elapsed());
            if left.is_zero() {
                break;
            }
            tokio::time::sleep(left.min(LOOK)).await;
        }
    }
}

/// Asks every endpoint once, all at the same time.
async fn round(upstream: &Arc<Upstream>, health: &Arc<Health>) {
    let mut probes = JoinSet::new();
    for (channel, facts) in upstream.channels.iter().zip(&upstream.facts.channels) {
        let tls = channel.tls.iter().cloned().map(Some).chain(std::iter::repeat(None));
        for ((peer, endpoint), tls) in channel.peers.iter().zip(&facts.endpoints).zip(tls) {
            let Some(address) = address(peer) else { continue };
            let (upstream, health, endpoint) = (upstream.clone(), health.clone(), endpoint.clone());
            probes.spawn(async move {
                let result = tokio::time::timeout(health.timeout, probe(address, tls, &endpoint, &health)).await;
                judge(&upstream, &endpoint, result.unwrap_or_else(|_| Err("no answer in time".to_owned())));
            });
        }
    }
    while probes.join_next().await.is_some() {}
}

pub(crate) fn address(peer: &HttpPeer) -> Option<SocketAddr> {
    peer.address().as_inet().copied()
}

fn judge(upstream: &Upstream, endpoint: &EndpointHealth, result: Result<(), String>) {
    let Some(streaks) = upstream.streaks() else { return };
    if endpoint.probed(result.is_ok(), streaks) {
        say(upstream, &endpoint.address, result.is_ok(), result.as_ref().err().map_or("it answers", String::as_str));
    }
}

/// One question to one endpoint. The error says what was wrong with the answer.
async fn probe(
    address: SocketAddr,
    tls: Option<Tls>,
    endpoint: &EndpointHealth,
    health: &Health,
) -> Result<(), String> {
    let line = ask(address, tls, (&endpoint.address, &health.path), b"\n", LONGEST_LINE).await?;
    let status = status(&line).ok_or("no HTTP/1 status line")?;
    let good = health.expect.iter().any(|range| (range.from..=range.to).contains(&status));
    if good { Ok(()) } else { Err(format!("status {status}")) }
}

/// The beginning of the answer to a plain `GET` of the path, up to where `end` has been read, or so many bytes.
pub(crate) async fn ask(
    address: SocketAddr,
    tls: Option<Tls>,
    (host, path): (&str, &str),
    end: &[u8],
    most: usize,
) -> Result<Vec<u8>, String> {
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: tidegate-health\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    );
    let stream = TcpStream::connect(address).await.map_err(|error| error.kind().to_string())?;
    match tls {
        None => exchange(stream, &head, end, most).await,
        Some(tls) => exchange(tls.over_h1().connect(stream).await?, &head, end, most).await,
    }
}

async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    head: &str,
    end: &[u8],
    most: usize,
) -> Result<Vec<u8>, String> {
    stream.write_all(head.as_bytes()).await.map_err(|error| error.kind().to_string())?;
    let mut said = Vec::with_capacity(LONGEST_LINE);
    while said.len() < most && !said.windows(end.len()).any(|some| some == end) {
        let read = stream.read_buf(&mut said).await.map_err(|error| error.kind().to_string())?;
        if read == 0 {
            break;
        }
    }
    Ok(said)
}

/// The status of a status line: `HTTP/1.1 200 OK`.
fn status(line: &[u8]) -> Option<u16> {
    let rest = line.strip_prefix(b"HTTP/1.1 ").or_else(|| line.strip_prefix(b"HTTP/1.0 "))?;
    let (digits, behind) = rest.split_at_checked(3)?;
    let ends = behind.first().is_some_and(|byte| matches!(byte, b' ' | b'\r' | b'\n'));
    std::str::from_utf8(digits).ok()?.parse().ok().filter(|_| ends)
}

/// Says in the log that an endpoint's state changed.
pub(crate) fn say(upstream: &Upstream, endpoint: &str, well: bool, why: &str) {
    let what = if well { "an endpoint is in again" } else { "an endpoint is out" };
    tracing::warn!(target: "tidegate::health", upstream = &*upstream.name, endpoint, why, "{what}");
    if upstream.facts.panics() {
        let upstream = &*upstream.name;
        tracing::warn!(target: "tidegate::health", upstream, "no endpoint is in: probes are ignored until one is");
    }
}

#[cfg(test)]
mod tests {
    use super::status;

    #[test]
    fn only_a_status_line_has_a_status() {
        for (line, expected) in [("HTTP/1.1 200 OK\r\n", 200), ("HTTP/1.0 503\r\n", 503), ("HTTP/1.1 204 \r\n", 204)] {
            assert_eq!(status(line.as_bytes()), Some(expected), "{line}");
        }
        for line in ["", "HTTP/1.1 ", "HTTP/1.1 20", "HTTP/1.1 2000", "HTTP/2 200 OK", "SSH-2.0-OpenSSH_9.6\r\n"] {
            assert_eq!(status(line.as_bytes()), None, "{line}");
        }
    }
}
