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
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use sqlx::Connection as _;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use tidegate_filters::store::Shared;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};

use super::draft::Draft;
use super::model::{Attempt, Event, Payment, PaymentState, Refusal, View};
use super::statements::{self as sql, Reach};
use super::{Due, LONGEST_CALL, Result, changes, millis};

/// Connections of one gateway.
const CONNECTIONS: u32 = 16;
/// Jobs that may wait for the thread.
const QUEUE: usize = 1_024;
/// Longest an operation may take; its connection is given up then.
const LONGEST: Duration = Duration::from_secs(5);
/// How often a gateway says that it is alive.
const BEAT: Duration = Duration::from_secs(1);
/// A gateway that was silent for so many seconds has ended.
const SILENT: f64 = 15.0;
/// What the server does for us: be durable, and let go of what a dead gateway held.
const SESSION: [(&str, &str); 8] = [
    ("synchronous_commit", "on"),
    ("default_transaction_isolation", "read committed"),
    ("lock_timeout", "3s"),
    ("statement_timeout", "4s"),
    ("idle_in_transaction_session_timeout", "10s"),
    ("tcp_keepalives_idle", "5"),
    ("tcp_keepalives_interval", "5"),
    ("tcp_keepalives_count", "3"),
];

type Working<'c, T> = Pin<Box<dyn Future<Output = T> + Send + 'c>>;
type Job = Box<dyn FnOnce(PgPool) -> Working<'static, ()> + Send>;

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
    /// When the database last heard that we are alive.
    heard: Arc<Mutex<Instant>>,
}

fn options(shared: &Shared) -> Result<PgConnectOptions> {
    let options = shared.url.parse::<PgConnectOptions>();
    let options = options.map_err(|_| Refusal::Store("the address of the database is not one".to_owned()))?;
    let options = match &shared.password {
        Some(password) => options.password(password),
        None => options,
    };
    Ok(options.options(SESSION))
}

impl Database {
    /// Connects, and makes the tables if there are none. Blocks.
    pub(super) fn open(shared: &Shared, now_ms: i64) -> Result<Self> {
        let options = options(shared)?;
        let gateway: Arc<str> = format!("{:032x}", rand::random::<u128>()).into();
        let (jobs, waiting) = mpsc::channel(QUEUE);
        let (ready, opened) = std::sync::mpsc::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Refusal::Store(error.to_string()))?;
        let (me, heard) = (gateway.clone(), Arc::new(Mutex::new(Instant::now())));
        let heart = heard.clone();
        let run = async move {
            let pool = PgPoolOptions::new().max_connections(CONNECTIONS).acquire_timeout(LONGEST);
            let pool = pool.connect_lazy_with(options);
            let name = me.clone();
            let prepared = within(&pool, move |connection| {
                Box::pin(async move { Ok(sql::prepare(connection, &name, SILENT, now_ms).await?) })
            });
            let prepared = prepared.await;
            let usable = prepared.is_ok();
            // Nobody waits any more when whoever opened the journal is gone.
            let _ = ready.send(prepared);
            if usable {
                tokio::spawn(beat(pool.clone(), me, heart));
                work(pool, waiting).await;
            }
        };
        let thread = std::thread::Builder::new().name("payments-rows".into());
        thread.spawn(move || runtime.block_on(run)).map_err(|error| Refusal::Store(error.to_string()))?;
        opened.recv().unwrap_or_else(|_| Err(ended()))?;
        Ok(Self { jobs, gateway, heard })
    }

    /// Connects as this says from now on; another password, most likely.
    pub(super) fn adopt(&self, shared: &Shared) -> Result<()> {
        let options = options(shared)?;
        let job: Job = Box::new(move |pool| Box::pin(async move { pool.set_connect_options(options) }));
        self.jobs.try_send(job).map_err(|_| full())
    }

    /// One operation on one payment.
    pub(super) async fn change<T: Send + 'static>(
        &self,
        id: &str,
        op: impl FnOnce(&mut Draft) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (id, gateway) = (id.to_owned(), self.gateway.clone());
        self.run(move |connection| Box::pin(async move { change(connection, &gateway, &id, op).await })).await
    }

    pub(super) async fn view(&self, id: &str) -> Result<Option<View>> {
        let id = id.to_owned();
        self.run(move |connection| Box::pin(async move { Ok(sql::view(connection, &id).await?) })).await
    }

    pub(super) async fn is_due(&self, due: &Due) -> Result<bool> {
        let reach = reach(due);
        self.run(move |connection| Box::pin(async move { Ok(sql::is_due(connection, &reach).await?) })).await
    }

    pub(super) async fn claim(&self, due: &Due, lease_ms: i64, limit: i64) -> Result<Vec<Attempt>> {
        let reach = reach(due);
        self.run(move |connection| Box::pin(async move { Ok(sql::claim(connection, &reach, lease_ms, limit).await?) }))
            .await
    }

    /// Takes over what gateways have left that are silent. Who is not heard itself knows nothing about others.
    pub(super) async fn take_over(&self, now_ms: i64) -> Result<()> {
        if self.heard.lock().elapsed().as_secs_f64() > SILENT / 2.0 {
            return Err(Refusal::Store("the database does not hear that this gateway is alive".to_owned()));
        }
        let gateway = self.gateway.clone();
        self.run(move |connection| Box::pin(async move { take_over(connection, &gateway, now_ms).await })).await
    }

    pub(super) async fn list(&self, state: Option<PaymentState>, limit: i64) -> Result<Vec<Payment>> {
        self.run(move |connection| Box::pin(async move { Ok(sql::list(connection, state, limit).await?) })).await
    }

    pub(super) async fn events(&self, id: &str) -> Result<Vec<Event>> {
        let id = id.to_owned();
        self.run(move |connection| Box::pin(async move { Ok(sql::events(connection, &id).await?) })).await
    }

    pub(super) async fn figures(&self) -> Result<(u64, u64)> {
        self.run(move |connection| Box::pin(async move { Ok(sql::figures(connection).await?) })).await
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl for<'c> FnOnce(&'c mut PgConnection) -> Working<'c, Result<T>> + Send + 'static,
    ) -> Result<T> {
        let (tell, told) = oneshot::channel();
        let job: Job = Box::new(move |pool| {
            Box::pin(async move {
                // Who asked may have left; what was done is done.
                let _ = tell.send(within(&pool, work).await);
            })
        });
        self.jobs.try_send(job).map_err(|_| full())?;
        told.await.unwrap_or_else(|_| Err(ended()))
    }
}

/// One job on a connection of its own. One that is too slow is not given back: whoever waits for the server's answer would
/// keep a place of the few.
async fn within<T>(
    pool: &PgPool,
    work: impl for<'c> FnOnce(&'c mut PgConnection) -> Working<'c, Result<T>>,
) -> Result<T> {
    let acquired = timeout(LONGEST, pool.acquire()).await.map_err(|_| silent())?;
    let mut connection = acquired?;
    if let Ok(done) = timeout(LONGEST, work(&mut connection)).await {
        return done;
    }
    drop(connection.detach());
    Err(silent())
}

async fn work(pool: PgPool, mut jobs: mpsc::Receiver<Job>) {
    while let Some(job) = jobs.recv().await {
        tokio::spawn(job(pool.clone()));
    }
}

/// Says that the gateway is alive, on a connection that nothing else waits for.
async fn beat(pool: PgPool, gateway: Arc<str>, heard: Arc<Mutex<Instant>>) {
    let mut connection = None;
    loop {
        let beat = async {
            let mut mine = match connection.take() {
                Some(mine) => mine,
                None => PgConnection::connect_with(&pool.connect_options()).await?,
            };
            sql::beat(&mut mine, &gateway).await?;
            Ok::<_, sqlx::Error>(mine)
        };
        match timeout(LONGEST, beat).await {
            Ok(Ok(mine)) => {
                *heard.lock() = Instant::now();
                connection = Some(mine);
            }
            Ok(Err(error)) => tracing::warn!(target: "tidegate::payments", %error, "the database does not hear us"),
            Err(_) => tracing::warn!(target: "tidegate::payments", "the database does not answer"),
        }
        sleep(BEAT).await;
    }
}

async fn change<T>(
    connection: &mut PgConnection,
    gateway: &str,
    id: &str,
    op: impl FnOnce(&mut Draft) -> Result<T>,
) -> Result<T> {
    let mut all = connection.begin().await?;
    let view = sql::locked(&mut all, id).await?;
    let mut draft = Draft::of(id, view);
    let done = op(&mut draft)?;
    sql::save(&mut all, gateway, &draft).await?;
    all.commit().await?;
    Ok(done)
}

async fn take_over(connection: &mut PgConnection, gateway: &str, now_ms: i64) -> Result<()> {
    let lost = sql::lose(connection, SILENT, now_ms).await?;
    if lost > 0 {
        tracing::warn!(target: "tidegate::payments", lost, "payments were under way when a gateway ended");
    }
    // Between two rounds no try is live; the process that would have made the next one is gone.
    for id in sql::left(connection, SILENT).await? {
        let mut all = connection.begin().await?;
        // Its own connection may still be at it, in the server's eyes.
        if !sql::try_lock(&mut all, &id).await? {
            continue;
        }
        let mut draft = Draft::of(&id, sql::locked(&mut all, &id).await?);
        changes::conclude(&mut draft, now_ms)?;
        sql::save(&mut all, gateway, &draft).await?;
        all.commit().await?;
    }
    Ok(())
}

fn reach(due: &Due) -> Reach {
    let Due { now_ms, but, upstreams } = due.clone();
    Reach { now_ms, but, upstreams, long_ago_ms: now_ms - millis(LONGEST_CALL) }
}

fn silent() -> Refusal {
    Refusal::Store("the database does not answer".to_owned())
}

fn ended() -> Refusal {
    Refusal::Store("the thread of the database has ended".to_owned())
}

fn full() -> Refusal {
    Refusal::Store("too much waits for the database".to_owned())
}
