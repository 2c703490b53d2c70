//! Decides payments whose processing is over. The file is the list, so that a crash delays a decision and loses none.

use std::sync::Arc;
use std::time::Duration;

use super::channel::Channel;
use super::rows;
use crate::support::{Stop, unix_ms};

/// Decisions read at a time.
const BATCH: u32 = 256;

/// The list is looked into at least this often, and after a failure this much later.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// Works until the service stops.
pub(super) async fn run(channel: Arc<Channel>, stop: Stop) {
    loop {
        let wait = work(&channel).await.unwrap_or(LONGEST_SLEEP);
        tokio::select! {
            () = stop.requested() => return,
            () = channel.processing.notified() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Decides what is due; answers how long to sleep, or nothing when something failed.
async fn work(channel: &Channel) -> Option<Duration> {
    let now_ms = unix_ms();
    let (due, next) = channel.store.read(move |connection| rows::due(connection, now_ms, BATCH)).await.ok()?;
    let more = !due.is_empty();
    for payment in due {
        channel.settle(payment.wanted.payment_no).await.ok()?;
    }
    let wait = next.map_or(LONGEST_SLEEP, |at| Duration::from_millis((at - now_ms).unsigned_abs()));
    Some(if more { Duration::ZERO } else { wait.min(LONGEST_SLEEP) })
}
