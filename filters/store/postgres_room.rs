//! How much a database keeps, and what goes when that is too much.

use std::sync::Arc;

use sqlx::Row as _;
use sqlx::postgres::{PgArguments, PgConnection, PgRow, Postgres};
use sqlx::query::Query;

use super::{Bounds, Kept};

/// Rows that are changed in one go.
const AT_ONCE: i64 = 2_000;

/// What is kept and what may be.
pub(super) struct Room {
    /// As of the last count, with what was done here since.
    pub(super) kept: Kept,
    pub(super) bounds: Arc<Bounds>,
}

/// Lets answers go, the oldest first; their records stay.
pub(super) async fn drop_answers(all: &mut PgConnection, store: &str, room: &Room) -> Result<(), sqlx::Error> {
    let sql = "WITH oldest AS (SELECT id, octet_length(answer) AS size FROM tidegate_record
        WHERE store = $1 AND answer IS NOT NULL ORDER BY fence LIMIT $2 FOR UPDATE SKIP LOCKED)
        UPDATE tidegate_record SET answer = NULL FROM oldest
        WHERE store = $1 AND tidegate_record.id = oldest.id RETURNING oldest.size";
    let rows = sqlx::query(sql).bind(store).bind(AT_ONCE).fetch_all(all).await?;
    room.kept.less(0, sizes(&rows)?);
    Ok(())
}

/// Carries out `delete`, which lacks only how many at once and returns the sizes of answers.
pub(super) async fn forget(
    all: &mut PgConnection,
    room: &Room,
    delete: Query<'_, Postgres, PgArguments>,
) -> Result<(), sqlx::Error> {
    let rows = delete.bind(AT_ONCE).fetch_all(all).await?;
    room.kept.less(rows.len(), sizes(&rows)?);
    Ok(())
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
