//! The statements of the journal in Postgres.

use sqlx::postgres::{PgConnection, PgPool, PgRow};
use sqlx::{Error, Result, Row as _};

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
pub(super) async fn prepare(pool: &PgPool, gateway: &str, silent: f64, now_ms: i64) -> Result<()> {
    let mut all = pool.begin().await?;
    sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(MAKING).execute(&mut *all).await?;
    sqlx::raw_sql(SCHEMA).execute(&mut *all).await?;
    let alive = "SELECT EXISTS (SELECT 1 FROM tidegate_gateway WHERE seen > now() - make_interval(secs => $1))";
    if !sqlx::query_scalar::<_, bool>(alive).bind(silent).fetch_one(&mut *all).await? {
        let anew = "UPDATE tidegate_attempt SET next_ms = least(next_ms, $1), tries = 0
            WHERE state IN ('PENDING', 'UNKNOWN')";
        sqlx::query(anew).bind(now_ms).execute(&mut *all).await?;
    }
    all.commit().await?;
    beat(pool, gateway).await
}

/// Says that a gateway is alive.
pub(super) async fn beat(pool: &PgPool, gateway: &str) -> Result<()> {
    let beat = "INSERT INTO tidegate_gateway (name, seen) VALUES ($1, now())
        ON CONFLICT (name) DO UPDATE SET seen = now()";
    sqlx::query(beat).bind(gateway).execute(pool).await?;
    let forget = "DELETE FROM tidegate_gateway WHERE seen < now() - interval '1 day'";
    sqlx::query(forget).execute(pool).await?;
    Ok(())
}

/// Calls whose gateway has ended are unknown. Returns how many.
pub(super) async fn lose(pool: &PgPool, silent: f64, now_ms: i64) -> Result<u64> {
    let lose = concat!(
        "UPDATE tidegate_attempt SET state = 'UNKNOWN', evidence = 'the gateway that sent it has ended', updated_ms = $2,
         tries = 0, next_ms = $2 WHERE (payment_id, n) IN (SELECT a.payment_id, a.n
         FROM tidegate_attempt AS a JOIN tidegate_payment AS p ON p.id = a.payment_id
         WHERE a.state IN ('DISPATCHING', 'SENT') AND ",
        left!(),
        " FOR UPDATE OF a SKIP LOCKED)"
    );
    Ok(sqlx::query(lose).bind(silent).bind(now_ms).execute(pool).await?.rows_affected())
}

/// Payments between two rounds whose gateway has ended, some of them.
pub(super) async fn left(pool: &PgPool, silent: f64) -> Result<Vec<String>> {
    let left = concat!(
        "SELECT p.id FROM tidegate_payment AS p WHERE ",
        left!(),
        " AND NOT EXISTS (SELECT 1 FROM tidegate_attempt AS a WHERE a.payment_id = p.id AND a.state IN ",
        open!(),
        ") LIMIT 100"
    );
    sqlx::query_scalar(left).bind(silent).fetch_all(pool).await
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
        write(all, attempt).await?;
    }
    for Event { kind, detail, at_ms } in &draft.events {
        let event = "INSERT INTO tidegate_payment_event (payment_id, kind, detail, at_ms) VALUES ($1, $2, $3, $4)";
        sqlx::query(event).bind(draft.id()).bind(kind).bind(detail).bind(at_ms).execute(&mut *all).await?;
    }
    Ok(())
}

async fn write(all: &mut PgConnection, attempt: &Attempt) -> Result<()> {
    let Attempt { payment_id, n, channel, number, state, evidence, http, code, considered, sends, .. } = attempt;
    let Attempt { created_ms, sent_ms, updated_ms, tries, not_found, next_ms, .. } = attempt;
    // The index refuses a new one while another is live.
    let write =
        "INSERT INTO tidegate_attempt (payment_id, n, channel, number, considered, created_ms, state, evidence, http,
            code, sends, sent_ms, updated_ms, tries, not_found, next_ms)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
        ON CONFLICT (payment_id, n) DO UPDATE SET state = $7, evidence = $8, http = $9, code = $10, sends = $11,
            sent_ms = $12, updated_ms = $13, tries = $14, not_found = $15, next_ms = $16";
    let write =
        sqlx::query(write).bind(payment_id).bind(n).bind(channel).bind(number).bind(considered).bind(created_ms);
    let write = write.bind(state.as_str()).bind(evidence).bind(http.map(i32::from)).bind(code.as_deref()).bind(sends);
    let write = write.bind(sent_ms).bind(updated_ms).bind(tries).bind(not_found).bind(next_ms);
    write.execute(all).await?;
    Ok(())
}

/// Whether a try is due, but for those on these channels.
pub(super) async fn is_due(pool: &PgPool, now_ms: i64, but: Vec<String>) -> Result<bool> {
    let due = concat!(
        "SELECT EXISTS (SELECT 1 FROM tidegate_attempt WHERE state IN ",
        open!(),
        " AND next_ms <= $1 AND channel <> ALL ($2))"
    );
    sqlx::query_scalar(due).bind(now_ms).bind(but).fetch_one(pool).await
}

/// Takes due tries until `lease_ms`. One that is still called dispatching or sent belongs to a call that nobody waits for
/// any more.
pub(super) async fn claim(
    pool: &PgPool,
    now_ms: i64,
    lease_ms: i64,
    limit: i64,
    but: Vec<String>,
) -> Result<Vec<Attempt>> {
    let claim = concat!(
        "UPDATE tidegate_attempt AS a SET next_ms = $2, tries = a.tries + 1,
             state = CASE WHEN a.state IN ('DISPATCHING', 'SENT') THEN 'UNKNOWN' ELSE a.state END
         FROM (SELECT payment_id, n FROM tidegate_attempt WHERE state IN ",
        open!(),
        " AND next_ms <= $1 AND channel <> ALL ($4) ORDER BY next_ms LIMIT $3 FOR UPDATE SKIP LOCKED) AS due
         WHERE a.payment_id = due.payment_id AND a.n = due.n RETURNING ",
        attempt!()
    );
    let rows = sqlx::query(claim).bind(now_ms).bind(lease_ms).bind(limit).bind(but).fetch_all(pool).await?;
    rows.iter().map(attempt).collect()
}

/// Payments, the latest change first.
pub(super) async fn list(pool: &PgPool, state: Option<PaymentState>, limit: i64) -> Result<Vec<Payment>> {
    let list = concat!(
        "SELECT ",
        payment!(),
        " FROM tidegate_payment AS p WHERE $1::text IS NULL OR p.state = $1 ORDER BY p.updated_ms DESC, p.id LIMIT $2"
    );
    let rows = sqlx::query(list).bind(state.map(PaymentState::as_str)).bind(limit).fetch_all(pool).await?;
    rows.iter().map(payment).collect()
}

/// What people should see of a payment, oldest first.
pub(super) async fn events(pool: &PgPool, id: &str) -> Result<Vec<Event>> {
    let events = "SELECT kind, detail, at_ms FROM tidegate_payment_event WHERE payment_id = $1 ORDER BY number";
    let rows = sqlx::query(events).bind(id).fetch_all(pool).await?;
    let event = |row: &PgRow| {
        Ok(Event { kind: row.try_get("kind")?, detail: row.try_get("detail")?, at_ms: row.try_get("at_ms")? })
    };
    rows.iter().map(event).collect()
}

/// How many payments wait for a person, and how many tries are live.
pub(super) async fn figures(pool: &PgPool) -> Result<(u64, u64)> {
    let manual = "SELECT count(*) FROM tidegate_payment WHERE state = 'MANUAL'";
    let live = concat!("SELECT count(*) FROM tidegate_attempt WHERE state IN ", open!());
    let manual: i64 = sqlx::query_scalar(manual).fetch_one(pool).await?;
    let live: i64 = sqlx::query_scalar(live).fetch_one(pool).await?;
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
