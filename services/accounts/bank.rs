//! What is held while the accounts are served: the files, and the way to the right one.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use rand::Rng;
use rusqlite::Connection;
use tidegate_durable::{Options, Store, WriteError};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::model::{Account, Entry, Refusal, Transfer};
use super::{Settings, coordinator, lost, notices, rows, schema, tcc};
use crate::outbox::{self, Failure, Message, Publish};
use crate::support::{Counter, Files, Problem, Shard, StartError, Stop, open_sharded, unix_ms};

/// What the names of the files begin with.
pub(super) const SERVICE: &str = "accounts";

/// Numbers are random in part; this many in a row are not all taken.
const NUMBERS: u32 = 8;

/// Units to wait between two rounds of recovery for the same transfer; the last one for ever.
const BACKOFF: [u32; 7] = [1, 2, 4, 8, 15, 30, 60];

/// What happened since the start.
#[derive(Debug, Default)]
pub(super) struct Counters {
    /// Times that recovery failed for the tenth time or more.
    pub(super) stuck: Counter,
}

/// All accounts.
pub struct Bank {
    pub(super) files: Files,
    pub(super) stores: Vec<Store>,
    pub(super) settings: Settings,
    pub(super) counters: Counters,
    /// Rung whenever there may be an event to deliver.
    bell: watch::Sender<()>,
}

impl Bank {
    /// Opens the files, making what is not there; what a crash left behind is due at once.
    ///
    /// # Errors
    /// When a file cannot be opened, or when the folder holds files of another number of shards.
    pub async fn open(folder: &Path, settings: Settings) -> Result<Arc<Self>, StartError> {
        let files = settings.shards;
        let options = Options::default();
        let stores = open_sharded(folder, SERVICE, files, schema::MIGRATIONS, &options, recover).await?;
        Ok(Arc::new(Self { files, stores, settings, counters: Counters::default(), bell: watch::Sender::new(()) }))
    }

    /// Opens the files of a folder only to look at them: nothing is recovered, and nothing works on them. Absent when there
    /// are none.
    ///
    /// # Errors
    /// When a file cannot be opened.
    pub fn look(folder: &Path) -> Result<Option<Self>, StartError> {
        let Some(files) = Files::found(folder, SERVICE) else { return Ok(None) };
        let open = |name: String| Store::open(&folder.join(name), schema::MIGRATIONS, Options::default());
        let stores = files.names(SERVICE).map(open).collect::<Result<_, _>>()?;
        let (settings, counters) = (Settings::new(files), Counters::default());
        Ok(Some(Self { files, stores, settings, counters, bell: watch::Sender::new(()) }))
    }

    /// Starts recovery and the delivery of events; both end after `stop` was requested.
    pub fn work(self: &Arc<Self>, stop: &Stop) -> Vec<JoinHandle<()>> {
        let mut tasks = Vec::new();
        for (file, store) in self.stores.iter().enumerate() {
            tasks.push(tokio::spawn(coordinator::recover(Arc::clone(self), file, stop.clone())));
            let target: Arc<dyn Publish> = Arc::new(Notifier(Arc::clone(self)));
            let Settings { retry_unit, sweep_every, .. } = self.settings;
            let bell = self.bell.subscribe();
            tasks.push(tokio::spawn(outbox::relay(store.clone(), target, retry_unit, sweep_every, bell, stop.clone())));
        }
        tasks
    }

    /// The file of a shard.
    pub(super) fn store(&self, shard: Shard) -> &Store {
        &self.stores[self.files.of(shard)]
    }

    /// The file in which a transfer is kept: its payer's.
    pub(super) fn home(&self, transfer: &Transfer) -> &Store {
        // Rows with another payer than a number cannot be made; the first file would answer that there is no such one.
        Shard::of_number(&transfer.payer).map_or(&self.stores[0], |shard| self.store(shard))
    }

    pub(super) fn ring(&self) {
        self.bell.send_replace(());
    }

    pub(super) fn try_within_ms(&self) -> i64 {
        millis(self.settings.try_within)
    }

    /// How long recovery waits after the `tries`-th failure.
    pub(super) fn backoff_ms(&self, tries: u32) -> i64 {
        let step = BACKOFF[(tries.saturating_sub(1) as usize).min(BACKOFF.len() - 1)];
        millis(self.settings.retry_unit * step)
    }

    /// Opens an account, or finds it; `true` when it was opened now.
    pub(super) async fn open_account(&self, user: &str, currency: &str) -> Result<(bool, Account), Problem> {
        let shard = Shard::of_user(user);
        for _ in 0..NUMBERS {
            let now_ms = unix_ms();
            let id = shard.number(now_ms, rand::rng().random());
            let (user, currency) = (user.to_owned(), currency.to_owned());
            let opened =
                self.store(shard).write(move |connection| rows::open(connection, &id, &user, &currency, now_ms)).await;
            match opened {
                Err(WriteError::Op(Refusal::NumberTaken)) => {}
                other => return other.map_err(lost),
            }
        }
        Err(Problem::internal())
    }

    pub(super) async fn close_account(&self, id: &str) -> Result<Account, Problem> {
        let (shard, id) = (shard_of(id)?, id.to_owned());
        self.store(shard).write(move |connection| rows::close(connection, &id)).await.map_err(lost)
    }

    pub(super) async fn account(&self, id: &str) -> Result<Account, Problem> {
        let (shard, id) = (shard_of(id)?, id.to_owned());
        self.read(shard, move |connection| rows::get(connection, &id)).await
    }

    /// Puts money in; answers whether that was now, the number of the deposit, and the account.
    pub(super) async fn deposit(
        &self,
        account: &str,
        idem_key: String,
        amount: i64,
    ) -> Result<(bool, String, Account), Problem> {
        let (shard, account, now_ms) = (shard_of(account)?, account.to_owned(), unix_ms());
        let number = shard.number(now_ms, rand::rng().random());
        let done = self.store(shard).write(move |connection| {
            let (now, number) = rows::deposit(connection, &account, &idem_key, &number, amount, now_ms)?;
            Ok((now, number, rows::get(connection, &account)?))
        });
        done.await.map_err(lost)
    }

    pub(super) async fn transfer(&self, gid: &str) -> Result<Transfer, Problem> {
        let (shard, gid) = (Shard::of_number(gid).ok_or(Refusal::UnknownTransfer)?, gid.to_owned());
        self.read(shard, move |connection| tcc::get(connection, &gid)).await
    }

    pub(super) async fn entries(&self, account: &str, cursor: i64, limit: u32) -> Result<Vec<Entry>, Problem> {
        let (shard, id) = (shard_of(account)?, account.to_owned());
        self.read(shard, move |connection| {
            rows::get(connection, &id)?;
            Ok(rows::entries(connection, &id, cursor, limit)?)
        })
        .await
    }

    pub(super) async fn read<T: Send + 'static>(
        &self,
        shard: Shard,
        op: impl FnOnce(&Connection) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Problem> {
        // The pool knows SQLite's errors only; ours travel inside.
        Ok(self.store(shard).read(move |connection| Ok(op(connection))).await??)
    }
}

/// Delivers events to the account they are about.
struct Notifier(Arc<Bank>);

impl Publish for Notifier {
    fn publish(&self, message: Message) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async move {
            let shard = Shard::of_number(&message.key).ok_or("the event is about no account")?;
            let now_ms = unix_ms();
            let told = self.0.store(shard).write(move |connection| notices::take_in(connection, &message, now_ms));
            Ok(told.await?)
        })
    }
}

fn shard_of(account: &str) -> Result<Shard, Problem> {
    Ok(Shard::of_number(account).ok_or(Refusal::UnknownAccount)?)
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn recover(connection: &Connection, now_ms: i64) -> rusqlite::Result<()> {
    tcc::due_now(connection, now_ms)?;
    outbox::due_now(connection, now_ms)
}
