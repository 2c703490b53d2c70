//! Kills one process after the other, and counts what the channels did meanwhile: their counters die with them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use reqwest::Client;
use serde_json::Value;
use tokio::time::sleep;

use crate::Failure;
use crate::processes::{CHANNELS, PROCESSES, Processes};

/// What has happened to the processes and in the channels.
#[derive(Default)]
pub(crate) struct Havoc {
    pub(crate) kills: u64,
    /// Calls that met a fault.
    pub(crate) faults: u64,
    /// Callbacks sent a second time at the same moment, and callbacks with a forged signature.
    pub(crate) copies: u64,
    pub(crate) probes: u64,
    /// Forged ones that were acknowledged.
    pub(crate) believed: u64,
}

impl Havoc {
    /// Adds what a channel has counted since it was started.
    async fn add(&mut self, client: &Client, channel: &str) {
        let asked = async { client.get(format!("{channel}/sim/stats")).send().await?.json::<Value>().await };
        let Ok(stats) = asked.await else { return };
        let kinds = stats["faults"].as_object().into_iter().flatten();
        self.faults += kinds.filter_map(|(_, count)| count.as_u64()).sum::<u64>();
        self.copies += stats["since_start"]["callback_copies"].as_u64().unwrap_or(0);
        self.probes += stats["since_start"]["probes"].as_u64().unwrap_or(0);
        self.believed += stats["since_start"]["probes_accepted"].as_u64().unwrap_or(0);
    }
}

/// Kills each process once in `every`, until it is over; then all are back.
///
/// # Errors
/// When one does not come back.
pub(crate) async fn kill(
    processes: Arc<Processes>,
    client: Client,
    every: Duration,
    over: Arc<AtomicBool>,
) -> Result<Havoc, Failure> {
    let mut havoc = Havoc::default();
    for name in PROCESSES.iter().rev().cycle() {
        sleep(every / PROCESSES.len() as u32).await;
        if over.load(SeqCst) {
            break;
        }
        if CHANNELS.contains(name) {
            havoc.add(&client, &processes.url(name)).await;
        }
        let here = Arc::clone(&processes);
        let restarted = tokio::task::spawn_blocking(move || {
            here.kill(name);
            here.restart(name).map_err(|error| error.to_string())
        });
        restarted.await??;
        havoc.kills += 1;
    }
    for channel in CHANNELS {
        havoc.add(&client, &processes.url(channel)).await;
    }
    Ok(havoc)
}
