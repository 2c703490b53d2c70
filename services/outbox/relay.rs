//! The relay: carries events from one file to whoever wants them.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tidegate_durable::{Store, StoreError, WriteError};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::rows::{self, Message};
use crate::support::{Stop, unix_ms};

/// Events under way at once.
const AT_ONCE: usize = 32;

/// How long a claim holds, in milliseconds. A consumer that needs longer sees the event twice.
const LEASE_MS: i64 = 60_000;

/// How often what was seen long ago is forgotten, how long ago that is in milliseconds, and how much of it at once.
const FORGET_EVERY: Duration = Duration::from_secs(600);
const SEEN_FOR_MS: i64 = 30 * 86_400_000;
const FORGOTTEN_AT_ONCE: u32 = 5_000;

/// Why an event could not be delivered; said in the log.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Where events go.
pub trait Publish: Send + Sync + 'static {
    /// Delivers one event. When it resolves without an error, the effect is durable at its consumers; it may be called
    /// again with the same event.
    fn publish(&self, message: Message) -> BoxFuture<'_, Result<(), Failure>>;
}

/// Works off the outbox of `store` until a stop is asked for. `bell` wakes it when there may be something; without it
/// the relay looks every `sweep_every`. `unit` is the second of the waiting times.
pub async fn relay(
    store: Store,
    target: Arc<dyn Publish>,
    unit: Duration,
    sweep_every: Duration,
    mut bell: watch::Receiver<()>,
    stop: Stop,
) {
    let mut under_way = JoinSet::new();
    let mut forgets_at = Instant::now();
    loop {
        while under_way.try_join_next().is_some() {}
        if Instant::now() >= forgets_at {
            forgets_at = Instant::now() + FORGET_EVERY;
            let before_ms = unix_ms() - SEEN_FOR_MS;
            // What is left over has another chance.
            store.post(move |connection| rows::forget_seen(connection, before_ms, FORGOTTEN_AT_ONCE).map(drop));
        }
        let room = AT_ONCE - under_way.len();
        let now_ms = unix_ms();
        let limit = u32::try_from(room).unwrap_or(u32::MAX);
        let claimed = if room == 0 || !is_due(&store, now_ms).await {
            Vec::new()
        } else {
            let taken = store.write(move |connection| rows::claim(connection, now_ms, now_ms + LEASE_MS, limit)).await;
            taken.unwrap_or_else(|error| {
                tracing::warn!(%error, "the outbox could not be read, trying again");
                Vec::new()
            })
        };
        let full = claimed.len() == room;
        for message in claimed {
            under_way.spawn(deliver(store.clone(), Arc::clone(&target), unit, message));
        }
        tokio::select! {
            // Deliveries are dropped where they stand, as in a crash: their leases end.
            () = stop.requested() => return,
            _ = under_way.join_next(), if full && !under_way.is_empty() => {}
            rung = bell.changed(), if !full => if rung.is_err() { return },
            () = tokio::time::sleep(sweep_every) => {}
        }
    }
}

/// Looking is free, claiming costs a commit.
async fn is_due(store: &Store, now_ms: i64) -> bool {
    let sql = "SELECT EXISTS (SELECT 1 FROM outbox WHERE state <> 'PARKED' AND next_ms <= ?1)";
    let due: Result<bool, StoreError> =
        store.read(move |connection| connection.prepare_cached(sql)?.query_row([now_ms], |row| row.get(0))).await;
    due.unwrap_or(true)
}

async fn deliver(store: Store, target: Arc<dyn Publish>, unit: Duration, message: Message) {
    let id = message.id.clone();
    let written: Result<bool, WriteError<rusqlite::Error>> = match target.publish(message.clone()).await {
        Ok(()) => store.write(move |connection| rows::published(connection, &message.id).map(|()| false)).await,
        Err(error) => {
            tracing::warn!(%error, id, tries = message.tries, "an event was not delivered");
            let now_ms = unix_ms();
            store.write(move |connection| rows::failed(connection, &message, unit, now_ms)).await
        }
    };
    match written {
        Ok(false) => {}
        Ok(true) => tracing::error!(id, "an event is parked: nobody could be told; a person has to look at it"),
        Err(error) => tracing::warn!(%error, id, "what became of an event could not be written down; it comes again"),
    }
}
