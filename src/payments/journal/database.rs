//! The journal in a Postgres database: for gateways on several machines, of which any may get a payment's repeat.
//!
//! An operation is a transaction that begins with a lock on the payment's number, so that of two gateways one sees what the
//! other has done. A gateway says every second that it is alive; what one has left that was silent for [`SILENT`] seconds is
//! unknown from then on, and whoever looks next asks the channel. A gateway that was only slow finds its tries moved and
//! believes the rows. Clocks of gateways must agree to within seconds; who is alive is told by the database's clock.
//!
//! Everything runs on a thread of its own with some connections. When one breaks during a commit, nobody knows whether that
//! was made: the caller hears an error and sends nothing, and the row tells later.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use tidegate_filters::store::Shared;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::Result;
use super::draft::Draft;
use super::model::{Attempt, Event, Payment, PaymentState, Refusal, View};
use super::{changes, statements as sql};

/// Connections of one gateway.
const CONNECTIONS: u32 = 16;
/// Jobs that may wait for the thread.
const QUEUE: usize = 1_024;
/// Longest an operation may take.
const LONGEST: Duration = Duration::from_secs(5);
/// A gateway that was silent for so many seconds has ended.
const SILENT: f64 = 15.0;

type Job = Box<dyn FnOnce(PgPool) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

impl From<sqlx::Error> for Refusal {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(format!("the database: {error}"))
    }
}

/// The database. Clones share its connections.
#[derive(Clone, Debug)]
pub(super) struct Database {
    jobs: mpsc::Sender<Job>,
    /// Who we are, until the process ends.
    gateway: Arc<str>,
}

impl Database {
    /// Connects, and makes the tables if there are none. Blocks.
    pub(super) fn open(shared: &Shared, now_ms: i64) -> Result<Self> {
        let options = shared.url.parse::<PgConnectOptions>();
        let options = options.map_err(|_| Refusal::Store("the address of the database is not one".to_owned()))?;
        let options = match &shared.password {
            Some(password) => options.password(password),
            None => options,
        };
        // Whatever the database's default is: what we say is done must be on the disk.
        let options = options.options([("synchronous_commit", "on")]);
        let gateway: Arc<str> = format!("{:032x}", rand::random::<u128>()).into();
        let (jobs, waiting) = mpsc::channel(QUEUE);
        let (ready, opened) = std::sync::mpsc::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Refusal::Store(error.to_string()))?;
        let me = gateway.clone();
        let run = async move {
            let pool = PgPoolOptions::new().max_connections(CONNECTIONS).acquire_timeout(LONGEST);
            let pool = pool.connect_lazy_with(options);
            let prepared = timeout(LONGEST, sql::prepare(&pool, &me, SILENT, now_ms)).await;
            let prepared = prepared.map_err(|_| silent()).and_then(|done| Ok(done?));
            let usable = prepared.is_ok();
            // Nobody waits any more when whoever opened the journal is gone.
            let _ = ready.send(prepared);
            if usable {
                work(pool, waiting).await;
            }
        };
        let thread = std::thread::Builder::new().name("payments-rows".into());
        thread.spawn(move || runtime.block_on(run)).map_err(|error| Refusal::Store(error.to_string()))?;
        opened.recv().unwrap_or_else(|_| Err(ended()))?;
        Ok(Self { jobs, gateway })
    }

    /// One operation on one payment.
    pub(super) async fn change<T: Send + 'static>(
        &self,
        id: &str,
        op: impl FnOnce(&mut Draft) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (id, gateway) = (id.to_owned(), self.gateway.clone());
        self.run(move |pool| async move { change(&pool, &gateway, &id, op).await }).await
    }

    pub(super) async fn view(&self, id: &str) -> Result<Option<View>> {
        let id = id.to_owned();
        self.run(move |pool| async move { Ok(sql::view(&mut *pool.acquire().await?, &id).await?) }).await
    }

    pub(super) async fn is_due(&self, now_ms: i64, but: &[String]) -> Result<bool> {
        let but = but.to_vec();
        self.run(move |pool| async move { Ok(sql::is_due(&pool, now_ms, but).await?) }).await
    }

    pub(super) async fn claim(&self, now_ms: i64, lease_ms: i64, limit: i64, but: &[String]) -> Result<Vec<Attempt>> {
        let but = but.to_vec();
        self.run(move |pool| async move { Ok(sql::claim(&pool, now_ms, lease_ms, limit, but).await?) }).await
    }

    /// Says that we are alive, and takes over what others have left.
    pub(super) async fn beat(&self, now_ms: i64) -> Result<()> {
        let gateway = self.gateway.clone();
        let beat = move |pool: PgPool| async move {
            sql::beat(&pool, &gateway).await?;
            let lost = sql::lose(&pool, SILENT, now_ms).await?;
            if lost > 0 {
                tracing::warn!(target: "tidegate::payments", lost, "payments were under way when a gateway ended");
            }
            // Between two rounds no try is live; the process that would have made the next one is gone.
            for id in sql::left(&pool, SILENT).await? {
                change(&pool, &gateway, &id, move |draft| changes::conclude(draft, now_ms)).await?;
            }
            Ok(())
        };
        self.run(beat).await
    }

    pub(super) async fn list(&self, state: Option<PaymentState>, limit: i64) -> Result<Vec<Payment>> {
        self.run(move |pool| async move { Ok(sql::list(&pool, state, limit).await?) }).await
    }

    pub(super) async fn events(&self, id: &str) -> Result<Vec<Event>> {
        let id = id.to_owned();
        self.run(move |pool| async move { Ok(sql::events(&pool, &id).await?) }).await
    }

    pub(super) async fn figures(&self) -> Result<(u64, u64)> {
        self.run(move |pool| async move { Ok(sql::figures(&pool).await?) }).await
    }

    async fn run<T: Send + 'static, F: Future<Output = Result<T>> + Send>(
        &self,
        work: impl FnOnce(PgPool) -> F + Send + 'static,
    ) -> Result<T> {
        let (tell, told) = oneshot::channel();
        let job: Job = Box::new(move |pool| {
            Box::pin(async move {
                let done = timeout(LONGEST, work(pool)).await.unwrap_or_else(|_| Err(silent()));
                // Who asked may have left; what was done is done.
                let _ = tell.send(done);
            })
        });
        let full = || Refusal::Store("too much waits for the database".to_owned());
        self.jobs.try_send(job).map_err(|_| full())?;
        told.await.unwrap_or_else(|_| Err(ended()))
    }
}

async fn work(pool: PgPool, mut jobs: mpsc::Receiver<Job>) {
    while let Some(job) = jobs.recv().await {
        tokio::spawn(job(pool.clone()));
    }
}

async fn change<T>(pool: &PgPool, gateway: &str, id: &str, op: impl FnOnce(&mut Draft) -> Result<T>) -> Result<T> {
    let mut all = pool.begin().await?;
    let view = sql::locked(&mut all, id).await?;
    let mut draft = Draft::of(id, view);
    let done = op(&mut draft)?;
    sql::save(&mut all, gateway, &draft).await?;
    all.commit().await?;
    Ok(done)
}

fn silent() -> Refusal {
    Refusal::Store("the database does not answer".to_owned())
}

fn ended() -> Refusal {
    Refusal::Store("the thread of the database has ended".to_owned())
}
