//! The statements of the journal in Postgres.

use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{Connection as _, Error, Result, Row as _};

use super::draft::Draft;
use super::model::{Attempt, AttemptState, Event, Frozen, Payment, PaymentState, View};
use crate::payments::outcome::Money;

/// Any number that nobody else uses: held while the tables are made.
const MAKING: i64 = 0x7469_6465_7061;
const SCHEMA: &str = include_str!("schema.pg.sql");

macro_rules! payment {
    () => {
        "p.id, p.upstream, p.amount, p.currency, p.kind, p.fingerprint, p.state, p.created_ms, p.updated_ms"
    };
}

macro_rules! attempt {
    () => {
        "a.payment_id, a.n, a.channel, a.number, a.state, a.evidence, a.http, a.code, a.considered, a.sends,
         a.created_ms, a.sent_ms, a.updated_ms, a.tries, a.not_found, a.next_ms"
    };
}

macro_rules! open {
    () => {
        "('DISPATCHING', 'SENT', 'PENDING', 'UNKNOWN')"
    };
}

/// Payments `p` whose gateway has been silent for `$1` seconds.
macro_rules! left {
    () => {
        "p.state = 'PROCESSING' AND NOT EXISTS (SELECT 1 FROM tidegate_gateway AS g
         WHERE g.name = p.owner AND g.seen > now() - make_interval(secs => $1))"
    };
}

/// Makes the tables, one gateway at a time. The first that is alive looks at everything anew: nobody was there to ask.
pub(super) async fn prepare(connection: &mut PgConnection, gateway: &str, silent: f64, now_ms: i64) -> Result<()> {
    let mut all = connection.begin().await?;
    sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(MAKING).execute(&mut *all).await?;
    // Making what is there already would lock it against those who use it.
    let made = "SELECT to_regclass('tidegate_gateway') IS NOT NULL";
    if !sqlx::query_scalar::<_, bool>(made).fetch_one(&mut *all).await? {
        sqlx::raw_sql(SCHEMA).execute(&mut *all).await?;
    }
    let alive = "SELECT EXISTS (SELECT 1 FROM tidegate_gateway WHERE seen > now() - make_interval(secs => $1))";
    if !sqlx::query_scalar::<_, bool>(alive).bind(silent).fetch_one(&mut *all).await? {
        let anew = "UPDATE tidegate_attempt SET next_ms = least(next_ms, $1), tries = 0
            WHERE state IN ('PENDING', 'UNKNOWN')";
        sqlx::query(anew).bind(now_ms).execute(&mut *all).await?;
    }
    all.commit().await?;
    beat(connection, gateway).await
}

/// Says that a gateway is alive.
pub(super) async fn beat(connection: &mut PgConnection, gateway: &str) -> Result<()> {
    let beat = "INSERT INTO tidegate_gateway (name, seen) VALUES ($1, now())
        ON CONFLICT (name) DO UPDATE SET seen = now()";
    sqlx::query(beat).bind(gateway).execute(&mut *connection).await?;
    let forget = "DELETE FROM tidegate_gateway WHERE seen < now() - interval '1 day'";
    sqlx::query(forget).execute(connection).await?;
    Ok(())
}

/// Calls whose gateway has ended are unknown. Returns how many.
pub(super) async fn lose(connection: &mut PgConnection, silent: f64, now_ms: i64) -> Result<u64> {
    let lose = concat!(
        "UPDATE tidegate_attempt SET state = 'UNKNOWN', evidence = 'the gateway that sent it has ended', updated_ms = $2,
         tries = 0, next_ms = $2 WHERE (payment_id, n) IN (SELECT a.payment_id, a.n
         FROM tidegate_attempt AS a JOIN tidegate_payment AS p ON p.id = a.payment_id
         WHERE a.state IN ('DISPATCHING', 'SENT') AND ",
        left!(),
        " FOR UPDATE OF a SKIP LOCKED)"
    );
    Ok(sqlx::query(lose).bind(silent).bind(now_ms).execute(connection).await?.rows_affected())
}

/// Payments between two rounds whose gateway has ended, some of them.
pub(super) async fn left(connection: &mut PgConnection, silent: f64) -> Result<Vec<String>> {
    let left = concat!(
        "SELECT p.id FROM tidegate_payment AS p WHERE ",
        left!(),
        " AND NOT EXISTS (SELECT 1 FROM tidegate_attempt AS a WHERE a.payment_id = p.id AND a.state IN ",
        open!(),
        ") LIMIT 100"
    );
    sqlx::query_scalar(left).bind(silent).fetch_all(connection).await
}

/// Nobody else may change the payment before the transaction ends; `false` when somebody is at it.
pub(super) async fn try_lock(all: &mut PgConnection, id: &str) -> Result<bool> {
    sqlx::query_scalar("SELECT pg_try_advisory_xact_lock(hashtextextended($1, 0))").bind(id).fetch_one(all).await
}

/// A payment with its tries, which nobody else may change before the transaction ends.
pub(super) async fn locked(all: &mut PgConnection, id: &str) -> Result<Option<View>> {
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))").bind(id).execute(&mut *all).await?;
    // The resolver's claims do not know the lock.
    let claims = "SELECT n FROM tidegate_attempt WHERE payment_id = $1 ORDER BY n FOR UPDATE";
    sqlx::query(claims).bind(id).execute(&mut *all).await?;
    view(all, id).await
}

/// A payment with its tries.
pub(super) async fn view(connection: &mut PgConnection, id: &str) -> Result<Option<View>> {
    let one = concat!("SELECT ", payment!(), " FROM tidegate_payment AS p WHERE p.id = $1");
    let Some(row) = sqlx::query(one).bind(id).fetch_optional(&mut *connection).await? else { return Ok(None) };
    let tries = concat!("SELECT ", attempt!(), " FROM tidegate_attempt AS a WHERE a.payment_id = $1 ORDER BY a.n");
    let attempts = sqlx::query(tries).bind(id).fetch_all(connection).await?;
    let attempts = attempts.iter().map(attempt).collect::<Result<_>>()?;
    Ok(Some(View { payment: payment(&row)?, attempts }))
}

/// Writes what an operation has changed.
pub(super) async fn save(all: &mut PgConnection, gateway: &str, draft: &Draft) -> Result<()> {
    let Some(View { payment, .. }) = draft.found() else { return Ok(()) };
    let Payment { frozen, state, created_ms, updated_ms } = payment;
    if draft.is_new {
        let Frozen { id, upstream, money, kind, fingerprint } = frozen;
        let insert =
            "INSERT INTO tidegate_payment (id, upstream, amount, currency, kind, fingerprint, state, owner, created_ms,
            updated_ms) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
        let insert = sqlx::query(insert).bind(id).bind(upstream).bind(money.amount).bind(money.currency.as_deref());
        let insert = insert.bind(kind.as_deref()).bind(fingerprint).bind(state.as_str()).bind(gateway);
        insert.bind(created_ms).bind(updated_ms).execute(&mut *all).await?;
    } else if draft.moved {
        let update = "UPDATE tidegate_payment SET state = $2, updated_ms = $3 WHERE id = $1";
        sqlx::query(update).bind(draft.id()).bind(state.as_str()).bind(updated_ms).execute(&mut *all).await?;
    }
    let sends = |attempt: &Attempt| attempt.state == AttemptState::Dispatching;
    if !draft.is_new && draft.written().any(sends) {
        let own = "UPDATE tidegate_payment SET owner = $2 WHERE id = $1";
        sqlx::query(own).bind(draft.id()).bind(gateway).execute(&mut *all).await?;
    }
    for attempt in draft.written() {
        if draft.added == Some(attempt.n) {
            insert(all, attempt).await?;
        } else {
            update(all, attempt).await?;
        }
    }
    for Event { kind, detail, at_ms } in &draft.events {
        let event = "INSERT INTO tidegate_payment_event (payment_id, kind, detail, at_ms) VALUES ($1, $2, $3, $4)";
        sqlx::query(event).bind(draft.id()).bind(kind).bind(detail).bind(at_ms).execute(&mut *all).await?;
    }
    Ok(())
}

/// The index refuses it while another is live.
async fn insert(all: &mut PgConnection, attempt: &Attempt) -> Result<()> {
    let Attempt { payment_id, n, channel, number, state, evidence, considered, sends, created_ms, .. } = attempt;
    let Attempt { sent_ms, updated_ms, tries, not_found, next_ms, .. } = attempt;
    let insert =
        "INSERT INTO tidegate_attempt (payment_id, n, channel, number, state, evidence, considered, sends, created_ms,
            sent_ms, updated_ms, tries, not_found, next_ms)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)";
    let insert = sqlx::query(insert).bind(payment_id).bind(n).bind(channel).bind(number).bind(state.as_str());
    let insert = insert.bind(evidence).bind(considered).bind(sends).bind(created_ms).bind(sent_ms).bind(updated_ms);
    insert.bind(tries).bind(not_found).bind(next_ms).execute(all).await?;
    Ok(())
}

async fn update(all: &mut PgConnection, attempt: &Attempt) -> Result<()> {
    let Attempt { payment_id, n, state, evidence, http, code, sends, sent_ms, updated_ms, .. } = attempt;
    let update =
        "UPDATE tidegate_attempt SET state = $3, evidence = $4, http = $5, code = $6, sends = $7, sent_ms = $8,
            updated_ms = $9, tries = $10, not_found = $11, next_ms = $12 WHERE payment_id = $1 AND n = $2";
    let update = sqlx::query(update).bind(payment_id).bind(n).bind(state.as_str()).bind(evidence);
    let update = update.bind(http.map(i32::from)).bind(code.as_deref()).bind(sends).bind(sent_ms).bind(updated_ms);
    let done = update.bind(attempt.tries).bind(attempt.not_found).bind(attempt.next_ms).execute(all).await?;
    if done.rows_affected() == 1 { Ok(()) } else { Err(Error::RowNotFound) }
}

/// What a gateway may ask about: tries of these upstreams but for those on these channels, and what was due so long ago that
/// whoever has its upstream must be gone.
pub(super) struct Reach {
    pub(super) now_ms: i64,
    pub(super) but: Vec<String>,
    pub(super) upstreams: Vec<String>,
    pub(super) long_ago_ms: i64,
}

/// Tries `a` that are within reach; `$1` to `$4`.
macro_rules! due {
    () => {
        "a.state IN ('DISPATCHING', 'SENT', 'PENDING', 'UNKNOWN') AND a.next_ms <= $1 AND a.channel <> ALL ($2)
         AND (a.next_ms <= $3 OR EXISTS (SELECT 1 FROM tidegate_payment AS p
             WHERE p.id = a.payment_id AND p.upstream = ANY ($4)))"
    };
}

/// Whether a try is due.
pub(super) async fn is_due(connection: &mut PgConnection, reach: &Reach) -> Result<bool> {
    let due = concat!("SELECT EXISTS (SELECT 1 FROM tidegate_attempt AS a WHERE ", due!(), ")");
    let Reach { now_ms, but, upstreams, long_ago_ms } = reach;
    sqlx::query_scalar(due).bind(now_ms).bind(but).bind(long_ago_ms).bind(upstreams).fetch_one(connection).await
}

/// Takes due tries until `lease_ms`. One that is still called dispatching or sent belongs to a call that nobody waits for
/// any more.
pub(super) async fn claim(
    connection: &mut PgConnection,
    reach: &Reach,
    lease_ms: i64,
    limit: i64,
) -> Result<Vec<Attempt>> {
    let claim = concat!(
        "WITH due AS MATERIALIZED (SELECT a.payment_id, a.n FROM tidegate_attempt AS a WHERE ",
        due!(),
        " ORDER BY a.next_ms LIMIT $5 FOR UPDATE SKIP LOCKED)
         UPDATE tidegate_attempt AS a SET next_ms = $6, tries = a.tries + 1,
             state = CASE WHEN a.state IN ('DISPATCHING', 'SENT') THEN 'UNKNOWN' ELSE a.state END
         FROM due WHERE a.payment_id = due.payment_id AND a.n = due.n RETURNING ",
        attempt!()
    );
    let Reach { now_ms, but, upstreams, long_ago_ms } = reach;
    let claim = sqlx::query(claim).bind(now_ms).bind(but).bind(long_ago_ms).bind(upstreams).bind(limit).bind(lease_ms);
    let rows = claim.fetch_all(connection).await?;
    rows.iter().map(attempt).collect()
}

/// Payments, the latest change first.
pub(super) async fn list(
    connection: &mut PgConnection,
    state: Option<PaymentState>,
    limit: i64,
) -> Result<Vec<Payment>> {
    let list = concat!(
        "SELECT ",
        payment!(),
        " FROM tidegate_payment AS p WHERE $1::text IS NULL OR p.state = $1 ORDER BY p.updated_ms DESC, p.id LIMIT $2"
    );
    let rows = sqlx::query(list).bind(state.map(PaymentState::as_str)).bind(limit).fetch_all(connection).await?;
    rows.iter().map(payment).collect()
}

/// What people should see of a payment, oldest first.
pub(super) async fn events(connection: &mut PgConnection, id: &str) -> Result<Vec<Event>> {
    let events = "SELECT kind, detail, at_ms FROM tidegate_payment_event WHERE payment_id = $1 ORDER BY number";
    let rows = sqlx::query(events).bind(id).fetch_all(connection).await?;
    let event = |row: &PgRow| {
        Ok(Event { kind: row.try_get("kind")?, detail: row.try_get("detail")?, at_ms: row.try_get("at_ms")? })
    };
    rows.iter().map(event).collect()
}

/// How many payments wait for a person, and how many tries are live.
pub(super) async fn figures(connection: &mut PgConnection) -> Result<(u64, u64)> {
    let manual = "SELECT count(*) FROM tidegate_payment WHERE state = 'MANUAL'";
    let live = concat!("SELECT count(*) FROM tidegate_attempt WHERE state IN ", open!());
    let manual: i64 = sqlx::query_scalar(manual).fetch_one(&mut *connection).await?;
    let live: i64 = sqlx::query_scalar(live).fetch_one(connection).await?;
    Ok((manual.unsigned_abs(), live.unsigned_abs()))
}

fn word<T>(row: &PgRow, parse: impl Fn(&str) -> Option<T>) -> Result<T> {
    let word: &str = row.try_get("state")?;
    parse(word).ok_or_else(|| Error::Decode(format!("`{word}` is no state").into()))
}

fn payment(row: &PgRow) -> Result<Payment> {
    let money = Money { amount: row.try_get("amount")?, currency: row.try_get("currency")? };
    let (id, upstream) = (row.try_get("id")?, row.try_get("upstream")?);
    let frozen = Frozen { id, upstream, money, kind: row.try_get("kind")?, fingerprint: row.try_get("fingerprint")? };
    let (created_ms, updated_ms) = (row.try_get("created_ms")?, row.try_get("updated_ms")?);
    Ok(Payment { frozen, state: word(row, PaymentState::parse)?, created_ms, updated_ms })
}

fn attempt(row: &PgRow) -> Result<Attempt> {
    let http: Option<i32> = row.try_get("http")?;
    Ok(Attempt {
        payment_id: row.try_get("payment_id")?,
        n: row.try_get("n")?,
        channel: row.try_get("channel")?,
        number: row.try_get("number")?,
        state: word(row, AttemptState::parse)?,
        evidence: row.try_get("evidence")?,
        http: http.and_then(|http| u16::try_from(http).ok()),
        code: row.try_get("code")?,
        considered: row.try_get("considered")?,
        sends: row.try_get("sends")?,
        created_ms: row.try_get("created_ms")?,
        sent_ms: row.try_get("sent_ms")?,
        updated_ms: row.try_get("updated_ms")?,
        tries: row.try_get("tries")?,
        not_found: row.try_get("not_found")?,
        next_ms: row.try_get("next_ms")?,
    })
}
