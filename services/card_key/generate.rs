//! Generating keys: how many a seller wants, in chunks, so that buyers are served in between.
//!
//! Numbers are drawn from a counter in the file before keys are made of them: a crash loses some numbers and never
//! uses one twice. A batch knows how many keys it got, so the same call sent again, after a crash for instance, makes
//! the ones that are missing and no more.

use std::sync::Arc;
use std::time::Instant;

use rusqlite::{Connection, OptionalExtension, params};
use serde::Serialize;
use tidegate_durable::{StoreError, WriteError};
use tokio::sync::mpsc;

use super::catalogue::{self, Dedupe, Incoming, Inserted, Shelf};
use super::import::BUSY_PAUSE;
use super::pace::Pace;
use super::permutation::Format;
use super::refusal::Refusal;
use super::shop::Shop;
use crate::support::unix_ms;

/// How far it has come; one line of the answer.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Made {
    /// Keys in the batch that were made, durably.
    pub(super) made: u64,
    /// Keys there are to be.
    pub(super) count: u64,
    /// This is the last report.
    pub(super) done: bool,
    /// Why it ended early; absent when it did not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) aborted: Option<&'static str>,
}

/// Finds how many keys the batch of a shelf has got, and makes it when there is none.
///
/// # Errors
/// [`Refusal::BatchMismatch`] when it has got more than `count`.
pub(super) fn begin(connection: &Connection, shelf: &Shelf, count: u64, now_ms: i64) -> Result<u64, Refusal> {
    let batch = catalogue::batch(connection, shelf, now_ms)?;
    let made: i64 = connection.query_row("SELECT made FROM batches WHERE id = ?1", [batch], |row| row.get(0))?;
    let made = made.cast_unsigned();
    if made > count { Err(Refusal::BatchMismatch) } else { Ok(made) }
}

/// Draws `n` numbers nobody else gets; answers the first.
fn draw(connection: &Connection, space: &str, n: u64) -> Result<u64, Refusal> {
    let first: Option<i64> = connection
        .prepare_cached("SELECT next FROM generators WHERE space = ?1")?
        .query_row([space], |row| row.get(0))
        .optional()?;
    let first = first.unwrap_or(0).cast_unsigned();
    connection
        .prepare_cached("INSERT INTO generators VALUES (?1, ?2) ON CONFLICT (space) DO UPDATE SET next = ?2")?
        .execute(params![space, (first + n).cast_signed()])?;
    Ok(first)
}

/// Makes keys until the batch has got `count`, of which there are `made`.
pub(super) async fn run(
    shop: Arc<Shop>,
    shelf: Shelf,
    format: Format,
    mut progress: Made,
    reports: mpsc::Sender<Made>,
) {
    let shelf = Arc::new(shelf);
    let secret = shop.keyring.generator_key(&format.space());
    let maker = Arc::new((format, secret));
    let mut pace = Pace::default();
    while progress.made < progress.count && progress.aborted.is_none() {
        let wanted = (progress.count - progress.made).min(pace.size() as u64);
        match chunk(&shop, &shelf, &maker, wanted, &mut pace).await {
            Ok(made) => progress.made += made,
            Err(code) => progress.aborted = Some(code),
        }
        // A slow reader misses some reports, but not the last one.
        let _ = reports.try_send(progress.clone());
    }
    progress.done = true;
    let _ = reports.send(progress).await;
}

/// Makes one chunk of `n` keys; answers how many keys that were. A key that was imported before counts for nothing.
async fn chunk(
    shop: &Arc<Shop>,
    shelf: &Arc<Shelf>,
    maker: &Arc<(Format, [u8; 32])>,
    n: u64,
    pace: &mut Pace,
) -> Result<u64, &'static str> {
    let space = maker.0.space();
    let first = write(shop, move || {
        let space = space.clone();
        move |connection: &Connection| draw(connection, &space, n)
    })
    .await?;
    maker.0.check_room(first + n).map_err(|_| "FORMAT_USED_UP")?;
    let (sealer, target, making) = (Arc::clone(shop), Arc::clone(shelf), Arc::clone(maker));
    let seal = move |number: u64| {
        let (format, secret) = &*making;
        let key = sealer.keyring.seal(&target.sku, &format.key(secret, number))?;
        Some(Incoming { line: number, key, preview: None })
    };
    let keys = tokio::task::spawn_blocking(move || (first..first + n).map(seal).collect::<Option<Vec<_>>>());
    let keys = Arc::new(keys.await.ok().flatten().ok_or("INTERNAL")?);
    let started = Instant::now();
    let inserted: Inserted = write(shop, || {
        let (keys, shelf) = (Arc::clone(&keys), Arc::clone(shelf));
        move |connection: &Connection| catalogue::insert_keys(connection, &shelf, Dedupe::Skip, &keys, unix_ms())
    })
    .await?;
    let pause = pace.learn(started.elapsed(), shop.counters.by_buyers());
    shop.stock.of(&shelf.sku).add(&inserted.ids);
    shop.counters.imported.add(inserted.ids.len() as u64);
    tokio::time::sleep(pause).await;
    Ok(inserted.ids.len() as u64)
}

/// Writes, and waits while buyers fill the queue.
async fn write<T, F>(shop: &Shop, make: impl Fn() -> F) -> Result<T, &'static str>
where
    T: Send + 'static,
    F: FnOnce(&Connection) -> Result<T, Refusal> + Send + 'static,
{
    loop {
        match shop.store.write(make()).await {
            Ok(value) => return Ok(value),
            Err(WriteError::Store(StoreError::Full)) => tokio::time::sleep(BUSY_PAUSE).await,
            Err(error) => {
                tracing::error!(%error, "a chunk of generated keys was not written");
                return Err("STORE_UNAVAILABLE");
            }
        }
    }
}
