//! Asks the shop how much is left, for rooms whose file says where (`admission_cap: {probe: …}`).
//!
//! A shop says what is left in its answers to visitors. Once it is sold out nobody is let in, so nobody may ever ask it
//! again: it could not reopen the room by itself. A probe is a plain `GET` on a connection of its own, on the admin side's
//! thread, to one endpoint that is in.
//!
//! **Fails.** No answer in time, or one that says nothing of the stock, changes nothing.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::config::StockProbe;
use crate::gateway::Gateway;
use crate::health;
use crate::snapshot::Upstream;
use crate::upstream_tls::Tls;

/// How often the snapshot is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// The shortest time that an answer is waited for; otherwise the interval, so that at most two are.
const PATIENCE: Duration = Duration::from_secs(1);
const LONGEST_HEAD: usize = 16 << 10;

/// Asks for all rooms. Runs until dropped.
pub(crate) async fn run(gateway: Arc<Gateway>) {
    let mut asked: HashMap<Arc<str>, Instant> = HashMap::new();
    loop {
        let snapshot = gateway.snapshot();
        asked.retain(|name, _| snapshot.config.rooms.iter().any(|spec| spec.name == *name && spec.probe.is_some()));
        for (spec, room) in snapshot.config.rooms.iter().zip(&snapshot.rooms) {
            let Some(probe) = &spec.probe else { continue };
            if asked.get(&spec.name).is_some_and(|at| at.elapsed() < probe.interval) {
                continue;
            }
            asked.insert(spec.name.clone(), Instant::now());
            let Some(upstream) = snapshot.upstreams.iter().find(|upstream| *upstream.name == *probe.upstream) else {
                continue;
            };
            let (room, upstream, probe) = (room.room.clone(), upstream.clone(), probe.clone());
            tokio::spawn(async move {
                let answer = ask(&upstream, &probe);
                if let Ok(Some(headers)) = tokio::time::timeout(probe.interval.max(PATIENCE), answer).await {
                    room.hear_stock(&headers);
                }
            });
        }
        drop(snapshot);
        tokio::time::sleep(LOOK).await;
    }
}

async fn ask(upstream: &Upstream, probe: &StockProbe) -> Option<HeaderMap> {
    let (address, tls, host) = endpoint(upstream)?;
    let answer = health::ask(address, tls, (&host, &probe.path), b"\r\n\r\n", LONGEST_HEAD).await;
    headers(
        &answer
            .inspect_err(|why| tracing::debug!(target: "tidegate::waiting_room", why, "no word of the stock"))
            .ok()?,
    )
}

/// One endpoint that is in; the first of all where none is.
fn endpoint(upstream: &Upstream) -> Option<(SocketAddr, Option<Tls>, Arc<str>)> {
    let channels = upstream.channels.iter().zip(&upstream.facts.channels);
    let all = channels.flat_map(|(channel, facts)| {
        let tls = channel.tls.iter().cloned().map(Some).chain(std::iter::repeat(None));
        channel.peers.iter().zip(&facts.endpoints).zip(tls)
    });
    let mut all = all.peekable();
    let first = all.peek().cloned();
    let ((peer, endpoint), tls) = all.find(|((_, endpoint), _)| endpoint.is_in()).or(first)?;
    Some((health::address(peer)?, tls, endpoint.address.clone()))
}

/// The headers of a whole head with a good status.
fn headers(head: &[u8]) -> Option<HeaderMap> {
    let head = std::str::from_utf8(head).ok()?.split_once("\r\n\r\n")?.0;
    let mut lines = head.split("\r\n");
    let good = lines.next()?.split(' ').nth(1)?.starts_with('2');
    let fields = lines.filter_map(|line| line.split_once(':')).filter_map(|(name, value)| {
        Some((HeaderName::from_bytes(name.as_bytes()).ok()?, HeaderValue::from_str(value.trim()).ok()?))
    });
    good.then(|| fields.collect())
}

#[cfg(test)]
mod tests {
    use super::headers;

    #[test]
    fn only_a_whole_head_with_a_good_status_says_something() {
        let said = |head: &str| headers(head.as_bytes())?.get("x-tidegate-waiting-room").cloned();
        let good = "HTTP/1.1 200 OK\r\nA: b\r\nX-Tidegate-Waiting-Room: available=3\r\n\r\nbody";
        assert_eq!(said(good).unwrap(), "available=3");
        assert_eq!(said(&good.replace("200 OK", "500 No")), None, "what fails knows nothing");
        assert_eq!(said("HTTP/1.1 200 OK\r\nX-Tidegate-Waiting-Room: sold_out\r\n"), None, "cut off");
        for nonsense in ["", "\r\n\r\n", "HTTP/1.1\r\n\r\n", "HTTP/1.1 200\r\n: x\r\nX\r\n\r\n"] {
            assert_eq!(said(nonsense), None, "{nonsense:?}");
        }
    }
}
