//! The table of a database, how much it keeps, and what goes when that is too much.

use std::sync::Arc;

use sqlx::Row as _;
use sqlx::postgres::{PgArguments, PgConnection, PgRow, Postgres};
use sqlx::query::Query;

use super::{Bounds, Kept};

/// Rows that are changed in one go.
const AT_ONCE: i64 = 2_000;

/// The table, made by the first gateway.
pub(super) const SCHEMA: [&str; 4] = [
    "CREATE TABLE IF NOT EXISTS tidegate_record (
        fence       BIGINT GENERATED ALWAYS AS IDENTITY,
        store       TEXT   NOT NULL,
        id          BYTEA  NOT NULL,
        fingerprint BYTEA  NOT NULL,
        token       BYTEA  NOT NULL,
        state       BIGINT NOT NULL,
        lease_ms    BIGINT NOT NULL,
        until_ms    BIGINT NOT NULL,
        status      INTEGER,
        answer      BYTEA,
        PRIMARY KEY (store, id)
    )",
    "CREATE INDEX IF NOT EXISTS tidegate_record_until ON tidegate_record (store, until_ms) WHERE state <> 0",
    // What a gateway left running when it died, and nobody has asked for since.
    "CREATE INDEX IF NOT EXISTS tidegate_record_running ON tidegate_record (store, until_ms) WHERE state = 0",
    "CREATE INDEX IF NOT EXISTS tidegate_record_answer ON tidegate_record (store, fence) WHERE answer IS NOT NULL",
];

/// What is kept and what may be.
pub(super) struct Room {
    /// As of the last count, with what was done here since.
    pub(super) kept: Kept,
    pub(super) bounds: Arc<Bounds>,
}

/// What a deletion has taken.
pub(super) struct Gone {
    pub(super) records: usize,
    pub(super) bytes: u64,
    /// It took as many as it may.
    pub(super) more: bool,
}

/// Lets answers go, the oldest first, until `excess` bytes are free or so many are gone; their records stay. Returns the bytes.
pub(super) async fn drop_answers(all: &mut PgConnection, store: &str, excess: u64) -> Result<u64, sqlx::Error> {
    let sql = "WITH oldest AS MATERIALIZED (SELECT id, fence, octet_length(answer) AS size FROM tidegate_record
            WHERE store = $1 AND answer IS NOT NULL ORDER BY fence LIMIT $2 FOR UPDATE SKIP LOCKED),
        wanted AS (SELECT id, size, sum(size) OVER (ORDER BY fence) - size AS before FROM oldest)
        UPDATE tidegate_record SET answer = NULL FROM wanted
        WHERE store = $1 AND tidegate_record.id = wanted.id AND wanted.before < $3 RETURNING wanted.size";
    let excess = i64::try_from(excess).unwrap_or(i64::MAX);
    let rows = sqlx::query(sql).bind(store).bind(AT_ONCE).bind(excess).fetch_all(all).await?;
    sizes(&rows)
}

/// Carries out `delete`, which lacks only how many at once and returns the sizes of answers.
pub(super) async fn forget(
    all: &mut PgConnection,
    delete: Query<'_, Postgres, PgArguments>,
) -> Result<Gone, sqlx::Error> {
    let rows = delete.bind(AT_ONCE).fetch_all(all).await?;
    Ok(Gone {
        records: rows.len(),
        bytes: sizes(&rows)?,
        more: i64::try_from(rows.len()).is_ok_and(|rows| rows == AT_ONCE),
    })
}

fn sizes(rows: &[PgRow]) -> Result<u64, sqlx::Error> {
    rows.iter().map(|row| Ok(u64::from(row.try_get::<i32, _>(0)?.unsigned_abs()))).sum()
}

/// Records, and bytes of their answers.
pub(super) async fn count(all: &mut PgConnection, store: &str) -> Result<(usize, u64), sqlx::Error> {
    let sql = "SELECT count(*), coalesce(sum(octet_length(answer)), 0)::bigint FROM tidegate_record WHERE store = $1";
    let row = sqlx::query(sql).bind(store).fetch_one(all).await?;
    Ok((usize::try_from(row.try_get::<i64, _>(0)?).unwrap_or(0), row.try_get::<i64, _>(1)?.unsigned_abs()))
}
