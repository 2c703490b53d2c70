//! A file with one upstream of several channels, and origins that can be told how to behave.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use super::Origin;

/// A file whose one route goes to the upstream `pay`. `channels`: one line of YAML each, without the dash; `upstream`,
/// `filters`: their other keys, one line each; `chain`: the route's filters.
pub(crate) fn channels_file(channels: &[String], upstream: &[&str], filters: &[&str], chain: &str) -> String {
    let lines = |indent: &str, lines: &[&str]| lines.iter().map(|line| format!("{indent}{line}\n")).collect::<String>();
    let channels: String = channels.iter().map(|channel| format!("      - {{{channel}}}\n")).collect();
    format!(
        "version: 1
server:
  data_dir: DATA_DIR
  listeners:
    - {{name: public, address: \"127.0.0.1:0\", protocols: [h1, h2c]}}
admin:
  address: \"127.0.0.1:0\"
upstreams:
  pay:
    read_timeout: 5s
    channels:
{channels}{}filters:
{}routes:
  - {{name: pay, match: {{path: \"/**\"}}, filters: [{chain}], upstream: pay}}
",
        lines("    ", upstream),
        lines("  ", filters),
    )
}

/// One channel for [`channels_file`].
pub(crate) fn channel(name: &str, address: SocketAddr, more: &str) -> String {
    let more = if more.is_empty() { String::new() } else { format!(", {more}") };
    format!("name: {name}, endpoints: [\"{address}\"]{more}")
}

/// An origin that answers with the status and after the time it was told.
pub(crate) struct Moody {
    /// The origin.
    pub(crate) origin: Origin,
    status: Arc<AtomicU16>,
    pause: Arc<AtomicU64>,
}

impl Moody {
    /// One that answers 200 at once.
    pub(crate) fn well() -> Self {
        let (status, pause) = (Arc::new(AtomicU16::new(200)), Arc::new(AtomicU64::new(0)));
        let (now, wait) = (status.clone(), pause.clone());
        let origin = Origin::with(move |_, stream| {
            std::thread::sleep(Duration::from_millis(wait.load(SeqCst)));
            let head = format!("HTTP/1.1 {} Said\r\nContent-Length: 0\r\n\r\n", now.load(SeqCst));
            stream.write_all(head.as_bytes()).is_ok()
        });
        Self { origin, status, pause }
    }

    /// From now on it answers so.
    pub(crate) fn says(&self, status: u16) {
        self.status.store(status, SeqCst);
    }

    /// From now on it takes so long.
    pub(crate) fn takes(&self, pause: Duration) {
        self.pause.store(u64::try_from(pause.as_millis()).expect("a short time"), SeqCst);
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.origin.address
    }

    /// Requests it has received on this path.
    pub(crate) fn asked(&self, path: &str) -> usize {
        self.origin.seen().iter().filter(|seen| seen.target == path).count()
    }
}
