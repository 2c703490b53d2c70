//! Records in a Postgres database: for gateways on several machines, of which any may get the repeat of a request.
//!
//! A claim and its end are a transaction each, committed before anybody goes on. Whoever loses a race for a number waits for
//! the winner's commit and then reads its row (`INSERT … ON CONFLICT DO NOTHING`, then `SELECT … FOR UPDATE`). Nobody can
//! tell from here whether another gateway is dead, so what one left running is unknown when its lease is over, and not
//! before. Leases are measured by the gateways' clocks, which must agree to well within a lease.
//!
//! A few connections with a queue each; a record always takes the same one, so what is asked about it is done in that
//! order. A connection that broke is opened again for the next job. When it broke during a commit, nobody knows whether
//! that was made: the caller hears an error, and the record tells later.
//!
//! How much is kept is counted every ten minutes and at the beginning; in between each gateway knows what it has added
//! itself. So several of them may go beyond the bounds by what they write in that time.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use sqlx::postgres::{PgArguments, PgConnectOptions, PgConnection, PgRow, Postgres};
use sqlx::query::Query;
use sqlx::{Connection, Row as _, Transaction};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::error::Elapsed;
use tokio::time::timeout;

use super::postgres_room::{Room, SCHEMA, count, drop_answers, forget};
use super::seal::Seal;
use super::verdict::{DONE, Found, RUNNING, Row, Sealed, SealedEnd, UNKNOWN, Verdict, ms};
use super::{Answer, Bounds, Claim, Claimed, Kept, RecordId, RecordStore, Settle, Shared, StoreError};

/// Connections of one gateway.
const CONNECTIONS: usize = 8;
/// Jobs that may wait for a connection.
const QUEUE: usize = 1_024;
/// Longest a job may take before its connection is given up.
const LONGEST: Duration = Duration::from_secs(5);
/// Longest that counting everything may take.
const LONGEST_COUNT: Duration = Duration::from_secs(120);
/// How often in a row what is old is forgotten.
const MOST_PURGES: u32 = 10;
/// A row can go between two statements; then the claim begins anew.
const ROUNDS: u32 = 5;
/// How long a count of everything is good.
const COUNTED_EVERY: Duration = Duration::from_secs(600);
/// Any number that nobody else uses: held while the table is made.
const MAKING: i64 = 0x7469_6465;

type Outcome<T> = Result<T, sqlx::Error>;
type Ready = std::sync::mpsc::Sender<Result<(), String>>;
type Told<T> = oneshot::Sender<Result<T, StoreError>>;

enum Job {
    /// `None`: there is no room for a new one.
    Claim(Claim, Told<Option<Found>>),
    Settle(Sealed, Option<Told<()>>),
    Purge(Duration),
}

/// Records in a database.
pub struct PostgresRecords {
    /// One for each connection.
    queues: Vec<mpsc::Sender<Job>>,
    seal: Arc<Seal>,
    room: Arc<Room>,
}

impl PostgresRecords {
    /// Connects to the database and makes the table of the store `name` if there is none. Blocks.
    ///
    /// # Errors
    /// When the database cannot be reached or does not let us in.
    pub(crate) fn open(shared: &Shared, name: &str, bounds: Arc<Bounds>) -> Result<Self, StoreError> {
        let failed = |why: String| StoreError::Failed(format!("store `{name}`: its database: {why}"));
        let options: PgConnectOptions = shared.url.parse().map_err(|_| failed("the address is not one".to_owned()))?;
        let options = match &shared.password {
            Some(password) => options.password(password),
            None => options,
        };
        let room = Arc::new(Room { kept: Kept::default(), bounds });
        let (queues, waiting): (Vec<_>, Vec<_>) = (0..CONNECTIONS).map(|_| mpsc::channel(QUEUE)).unzip();
        let line = Line { options, store: name.into(), room: room.clone(), connection: None, counted: None };
        let (ready, opened) = std::sync::mpsc::channel();
        let run = move || {
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return drop(ready.send(Err(error.to_string()))),
            };
            runtime.block_on(work(line, waiting, &ready));
        };
        thread::Builder::new().name(format!("store-{name}")).spawn(run).map_err(|error| failed(error.to_string()))?;
        opened.recv().unwrap_or_else(|_| Err("its thread has ended".to_owned())).map_err(failed)?;
        Ok(Self { queues, seal: Arc::new(Seal::new(&shared.key)), room })
    }

    fn queue(&self, id: RecordId) -> &mpsc::Sender<Job> {
        &self.queues[usize::from(id.0[0]) % CONNECTIONS]
    }
}

impl RecordStore for PostgresRecords {
    fn claim(&self, claim: Claim) -> Answer<Claimed> {
        let (id, seal, (tell, told)) = (claim.id, self.seal.clone(), oneshot::channel());
        let sent = self.queue(id).try_send(Job::Claim(claim, tell));
        Answer::Later(Box::pin(async move {
            let found = heard(sent.is_ok(), told).await?.ok_or(StoreError::Full)?;
            Ok(found.open(id, &seal))
        }))
    }

    fn settle(&self, settle: Settle) -> Answer<()> {
        let (id, (tell, told)) = (settle.id, oneshot::channel());
        let sent = self.queue(id).try_send(Job::Settle(Sealed::of(settle, &self.seal), Some(tell)));
        Answer::Later(Box::pin(heard(sent.is_ok(), told)))
    }

    fn post(&self, settle: Settle) {
        // A full queue leaves the claim running until its lease is over: the careful side.
        let _ = self.queue(settle.id).try_send(Job::Settle(Sealed::of(settle, &self.seal), None));
    }

    fn purge(&self, now: Duration) {
        let _ = self.queues[0].try_send(Job::Purge(now));
    }

    fn len(&self) -> usize {
        self.room.kept.records()
    }
}

async fn heard<T>(sent: bool, told: oneshot::Receiver<Result<T, StoreError>>) -> Result<T, StoreError> {
    if !sent {
        return Err(StoreError::Failed("too much waits for the database".to_owned()));
    }
    told.await.unwrap_or_else(|_| Err(StoreError::Failed("the database's connection has ended".to_owned())))
}

/// One connection, and what it is for.
struct Line {
    options: PgConnectOptions,
    store: Arc<str>,
    room: Arc<Room>,
    connection: Option<PgConnection>,
    /// When everything was counted last.
    counted: Option<Instant>,
}

/// Prepares the database, says so, and works until the store is dropped.
async fn work(mut first: Line, queues: Vec<mpsc::Receiver<Job>>, ready: &Ready) {
    let prepared = timeout(LONGEST_COUNT, first.prepare()).await;
    let prepared = prepared.map_err(|_| "no answer".to_owned()).and_then(|done| done.map_err(|why| why.to_string()));
    let usable = prepared.is_ok();
    // Nobody waits any more when whoever opened the store is gone.
    let _ = ready.send(prepared);
    if !usable {
        return;
    }
    let mut lines = JoinSet::new();
    for queue in queues {
        let (options, store, room) = (first.options.clone(), first.store.clone(), first.room.clone());
        lines.spawn(Line { options, store, room, connection: None, counted: Some(Instant::now()) }.serve(queue));
    }
    while lines.join_next().await.is_some() {}
}

impl Line {
    /// Makes the table, one gateway at a time, and counts.
    async fn prepare(&mut self) -> Outcome<()> {
        let store = self.store.clone();
        let mut all = self.begin().await?;
        sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(MAKING).execute(&mut *all).await?;
        for statement in SCHEMA {
            sqlx::query(statement).execute(&mut *all).await?;
        }
        let (records, bytes) = count(&mut all, &store).await?;
        all.commit().await?;
        self.room.kept.set(records, bytes);
        Ok(())
    }

    async fn serve(mut self, mut queue: mpsc::Receiver<Job>) {
        while let Some(job) = queue.recv().await {
            match job {
                Job::Claim(claim, tell) => {
                    let done = timeout(LONGEST, self.claim(&claim)).await;
                    let _ = tell.send(self.judged(done));
                }
                Job::Settle(sealed, tell) => {
                    let done = timeout(LONGEST, self.settle(&sealed)).await;
                    let done = self.judged(done);
                    if let Some(tell) = tell {
                        let _ = tell.send(done);
                    }
                }
                Job::Purge(now) => self.sweep(now).await,
            }
        }
    }

    /// After anything but success the connection is not trusted any more.
    fn judged<T>(&mut self, done: Result<Outcome<T>, Elapsed>) -> Result<T, StoreError> {
        let done =
            done.map_err(|_| "no answer in time".to_owned()).and_then(|done| done.map_err(|why| why.to_string()));
        done.map_err(|why| {
            self.connection = None;
            tracing::warn!(store = &*self.store, why, "the database did not do what it was asked for");
            StoreError::Failed(format!("store `{}`: {why}", self.store))
        })
    }

    /// A transaction. The connection may have broken since the last one; nothing was asked of it then, so another is tried.
    async fn begin(&mut self) -> Outcome<Transaction<'_, Postgres>> {
        if let Some(connection) = &mut self.connection
            && connection.ping().await.is_err()
        {
            self.connection = None;
        }
        if self.connection.is_none() {
            let mut connection = PgConnection::connect_with(&self.options).await?;
            // Whatever the database's default is: what we say is done must be on the disk.
            sqlx::query("SET synchronous_commit TO on").execute(&mut connection).await?;
            self.connection = Some(connection);
        }
        match &mut self.connection {
            Some(connection) => connection.begin().await,
            None => Err(sqlx::Error::PoolClosed),
        }
    }

    async fn claim(&mut self, claim: &Claim) -> Outcome<Option<Found>> {
        let (store, room) = (self.store.clone(), self.room.clone());
        let full = room.kept.records() >= room.bounds.records();
        let mut all = self.begin().await?;
        for _ in 0..ROUNDS {
            if !full && let Some(fence) = insert(&mut all, &store, claim).await? {
                all.commit().await?;
                room.kept.more(1, 0);
                return Ok(Some(Found::Plain(Claimed::New { fence })));
            }
            let Some(row) = find(&mut all, &store, claim.id).await? else {
                if full {
                    return Ok(None);
                }
                continue;
            };
            let found = match row.judge(claim) {
                Verdict::Found(found) => found,
                Verdict::Lost(found) => {
                    give_up(&mut all, &store, claim.id).await?;
                    found
                }
                Verdict::Replaced => Found::Plain(Claimed::New { fence: replace(&mut all, &store, claim).await? }),
            };
            all.commit().await?;
            return Ok(Some(found));
        }
        Err(sqlx::Error::RowNotFound)
    }

    async fn settle(&mut self, sealed: &Sealed) -> Outcome<()> {
        let (store, room) = (self.store.clone(), self.room.clone());
        let mut all = self.begin().await?;
        let mut added = 0;
        let (id, token, until) = (sealed.id.0.as_slice(), sealed.token.to_le_bytes(), ms(sealed.until));
        let gone = match &sealed.end {
            // What was given up as unknown may have been done: it does not become free again.
            SealedEnd::Released => {
                let sql = "DELETE FROM tidegate_record WHERE store = $1 AND id = $2 AND token = $3 AND state = $4";
                let done = sqlx::query(sql).bind(&*store).bind(id).bind(token.as_slice()).bind(RUNNING);
                done.execute(&mut *all).await?.rows_affected()
            }
            SealedEnd::Unknown => {
                let sql = "UPDATE tidegate_record SET state = $4, until_ms = $5
                    WHERE store = $1 AND id = $2 AND token = $3 AND state <> $6";
                let done = sqlx::query(sql).bind(&*store).bind(id).bind(token.as_slice());
                done.bind(UNKNOWN).bind(until).bind(DONE).execute(&mut *all).await?;
                0
            }
            SealedEnd::Done(status, answer) => {
                let sql = "UPDATE tidegate_record SET state = $4, until_ms = $5, status = $6, answer = $7
                    WHERE store = $1 AND id = $2 AND token = $3 AND state <> $4";
                let done = sqlx::query(sql).bind(&*store).bind(id).bind(token.as_slice()).bind(DONE).bind(until);
                let done = done.bind(i32::from(*status)).bind(answer.as_deref()).execute(&mut *all).await?;
                added = if done.rows_affected() > 0 { answer.as_ref().map_or(0, Vec::len) } else { 0 };
                0
            }
        };
        all.commit().await?;
        room.kept.more(0, added);
        room.kept.less(usize::try_from(gone).unwrap_or(usize::MAX), 0);
        Ok(())
    }

    /// Forgets as much as is old, up to a bound: the requests of this queue wait. Counts now and then what others have done;
    /// that takes long where there is much, and must not take the forgetting with it.
    async fn sweep(&mut self, now: Duration) {
        for _ in 0..MOST_PURGES {
            let done = timeout(LONGEST, self.purge(now)).await;
            if !matches!(self.judged(done), Ok(true)) {
                break;
            }
        }
        if self.counted.is_none_or(|counted| counted.elapsed() >= COUNTED_EVERY) {
            self.counted = Some(Instant::now());
            let done = timeout(LONGEST_COUNT, self.count()).await;
            let _ = self.judged(done);
        }
    }

    async fn count(&mut self) -> Outcome<()> {
        let (store, room) = (self.store.clone(), self.room.clone());
        let mut all = self.begin().await?;
        let (records, bytes) = count(&mut all, &store).await?;
        all.commit().await?;
        room.kept.set(records, bytes);
        Ok(())
    }

    /// `true` when there may be more to forget.
    async fn purge(&mut self, now: Duration) -> Outcome<bool> {
        let (store, room) = (self.store.clone(), self.room.clone());
        let (mut records, mut bytes, mut more) = (0, 0, false);
        let mut all = self.begin().await?;
        for state in ["state <> 0", "state = 0"] {
            let sql = format!(
                "DELETE FROM tidegate_record WHERE store = $1 AND id IN (SELECT id FROM tidegate_record
                    WHERE store = $1 AND {state} AND until_ms <= $2 LIMIT $3 FOR UPDATE SKIP LOCKED)
                    RETURNING coalesce(octet_length(answer), 0)"
            );
            let gone = forget(&mut all, sqlx::query(sqlx::AssertSqlSafe(sql)).bind(&*store).bind(ms(now))).await?;
            (records, bytes, more) = (records + gone.records, bytes + gone.bytes, more || gone.more);
        }
        let excess = room.kept.bytes().saturating_sub(bytes).saturating_sub(room.bounds.bytes());
        if excess > 0 {
            bytes += drop_answers(&mut all, &store, excess).await?;
        }
        all.commit().await?;
        room.kept.less(records, bytes);
        Ok(more)
    }
}

/// The claim's number; `None` when there is a row.
async fn insert(all: &mut PgConnection, store: &str, claim: &Claim) -> Outcome<Option<u64>> {
    let sql = "INSERT INTO tidegate_record (store, id, fingerprint, token, state, lease_ms, until_ms)
        VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (store, id) DO NOTHING RETURNING fence";
    let row = bound(sql, store, claim).fetch_optional(all).await?;
    row.as_ref().map(fence).transpose()
}

/// Puts the claim into the place of the row, under a number of its own.
async fn replace(all: &mut PgConnection, store: &str, claim: &Claim) -> Outcome<u64> {
    let sql = "UPDATE tidegate_record SET fence = DEFAULT, fingerprint = $3, token = $4, state = $5, lease_ms = $6,
        until_ms = $7, status = NULL, answer = NULL WHERE store = $1 AND id = $2 RETURNING fence";
    fence(&bound(sql, store, claim).fetch_one(all).await?)
}

fn bound<'a>(sql: &'static str, store: &'a str, claim: &'a Claim) -> Query<'a, Postgres, PgArguments> {
    let query = sqlx::query(sql).bind(store).bind(claim.id.0.as_slice()).bind(claim.fingerprint.0.as_slice());
    let lease = claim.now + claim.lease;
    query.bind(claim.token.to_le_bytes().to_vec()).bind(RUNNING).bind(ms(lease)).bind(ms(lease + claim.keep))
}

fn fence(row: &PgRow) -> Outcome<u64> {
    Ok(row.try_get::<i64, _>("fence")?.unsigned_abs())
}

/// The row, which nobody else touches until this transaction is over.
async fn find(all: &mut PgConnection, store: &str, id: RecordId) -> Outcome<Option<Row>> {
    let sql = "SELECT fence, fingerprint, state, lease_ms, until_ms, status, answer FROM tidegate_record
        WHERE store = $1 AND id = $2 FOR UPDATE";
    let Some(row) = sqlx::query(sql).bind(store).bind(id.0.as_slice()).fetch_optional(all).await? else {
        return Ok(None);
    };
    let status: Option<i32> = row.try_get("status")?;
    Ok(Some(Row {
        fence: row.try_get("fence")?,
        fingerprint: row.try_get("fingerprint")?,
        state: row.try_get("state")?,
        lease: row.try_get("lease_ms")?,
        until: row.try_get("until_ms")?,
        status: status.and_then(|status| u16::try_from(status).ok()),
        answer: row.try_get("answer")?,
    }))
}

async fn give_up(all: &mut PgConnection, store: &str, id: RecordId) -> Outcome<()> {
    let sql = "UPDATE tidegate_record SET state = $3 WHERE store = $1 AND id = $2";
    sqlx::query(sql).bind(store).bind(id.0.as_slice()).bind(UNKNOWN).execute(all).await?;
    Ok(())
}
