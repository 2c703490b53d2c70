//! The rows of orders, their history and their tasks; every function runs inside one operation of the writer.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::events;
use super::model::{Event, Order, OrderStatus, Refusal, TaskKind};

const COLUMNS: &str = "order_no, user_id, sku, qty, amount, currency, status, fail_code, closing_to, paid_payment,
    created_ms, expires_ms";

/// A new order, before it has a row.
#[derive(Debug, Clone)]
pub(super) struct NewOrder {
    pub(super) order_no: String,
    pub(super) user: String,
    pub(super) idem_key: String,
    pub(super) fingerprint: [u8; 32],
    pub(super) sku: String,
    pub(super) qty: u32,
    pub(super) amount: i64,
    pub(super) currency: String,
    /// Sealed.
    pub(super) password: Option<Vec<u8>>,
    pub(super) expires_ms: i64,
    /// Pieces that its user may have of it; `None`: no bound.
    pub(super) most_each: Option<u32>,
}

fn order(row: &Row<'_>) -> rusqlite::Result<Order> {
    Ok(Order {
        order_no: row.get(0)?,
        user: row.get(1)?,
        sku: row.get(2)?,
        qty: row.get(3)?,
        amount: row.get(4)?,
        currency: row.get(5)?,
        status: row.get(6)?,
        fail_code: row.get(7)?,
        closing_to: row.get(8)?,
        paid_payment: row.get(9)?,
        created_ms: row.get(10)?,
        expires_ms: row.get(11)?,
    })
}

/// The order with this number.
pub(super) fn find(connection: &Connection, order_no: &str) -> rusqlite::Result<Option<Order>> {
    let sql = format!("SELECT {COLUMNS} FROM orders WHERE order_no = ?1");
    connection.prepare_cached(&sql)?.query_row([order_no], order).optional()
}

/// The order with this number, which must exist.
pub(super) fn get(connection: &Connection, order_no: &str) -> Result<Order, Refusal> {
    find(connection, order_no)?.ok_or(Refusal::NoOrder)
}

/// The order with this number if it is this user's; another user's order does not exist for him.
pub(super) fn get_owned(connection: &Connection, order_no: &str, user: &str) -> Result<Order, Refusal> {
    find(connection, order_no)?.filter(|order| order.user == user).ok_or(Refusal::NoOrder)
}

/// The order a user made with this idempotency key.
///
/// # Errors
/// [`Refusal::KeyReused`] when it was made by another request.
pub(super) fn find_same(
    connection: &Connection,
    user: &str,
    idem_key: &str,
    fingerprint: &[u8],
) -> Result<Option<Order>, Refusal> {
    let sql = format!("SELECT {COLUMNS}, fingerprint FROM orders WHERE user_id = ?1 AND idem_key = ?2");
    let found = connection
        .prepare_cached(&sql)?
        .query_row([user, idem_key], |row| Ok((order(row)?, row.get::<_, Vec<u8>>(12)?)))
        .optional()?;
    match found {
        Some((_, stored)) if stored != fingerprint => Err(Refusal::KeyReused),
        found => Ok(found.map(|(order, _)| order)),
    }
}

/// The newest orders of a user.
pub(super) fn of_user(connection: &Connection, user: &str, limit: u32) -> rusqlite::Result<Vec<Order>> {
    let sql =
        format!("SELECT {COLUMNS} FROM orders WHERE user_id = ?1 ORDER BY created_ms DESC, order_no DESC LIMIT ?2");
    connection.prepare_cached(&sql)?.query_map(params![user, limit], order)?.collect()
}

/// Writes a CREATING order down together with the task to reserve for it, or finds the one that the same key made
/// before (then the first part is `false`).
///
/// The task is due at `reserve_at_ms`: whoever made the order reserves at once and needs it only if he dies.
pub(super) fn create(
    connection: &Connection,
    new: &NewOrder,
    now_ms: i64,
    reserve_at_ms: i64,
) -> Result<(bool, Order), Refusal> {
    if let Some(earlier) = find_same(connection, &new.user, &new.idem_key, &new.fingerprint)? {
        return Ok((false, earlier));
    }
    if let Some(most) = new.most_each {
        let has: u32 = connection
            .prepare_cached(
                "SELECT coalesce(sum(qty), 0) FROM orders WHERE user_id = ?1 AND sku = ?2
                 AND status NOT IN ('FAILED', 'CANCELLED', 'EXPIRED', 'REFUNDED')",
            )?
            .query_row(params![new.user, new.sku], |row| row.get(0))?;
        if has.saturating_add(new.qty) > most {
            return Err(Refusal::Enough(most));
        }
    }
    connection
        .prepare_cached(
            "INSERT INTO orders (order_no, user_id, idem_key, fingerprint, sku, qty, amount, currency, status, password,
             created_ms, expires_ms, updated_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 'CREATING', ?9, ?10, ?11, ?10)",
        )?
        .execute(params![
            new.order_no,
            new.user,
            new.idem_key,
            new.fingerprint,
            new.sku,
            new.qty,
            new.amount,
            new.currency,
            new.password,
            now_ms,
            new.expires_ms,
        ])?;
    event(connection, &new.order_no, OrderStatus::Creating.as_str(), "", now_ms)?;
    add_task(connection, TaskKind::Reserve, &new.order_no, now_ms, reserve_at_ms)?;
    Ok((true, get(connection, &new.order_no)?))
}

/// The sealed password of an order whose keys are not reserved yet.
pub(super) fn password(connection: &Connection, order_no: &str) -> rusqlite::Result<Option<Vec<u8>>> {
    connection
        .prepare_cached("SELECT password FROM orders WHERE order_no = ?1")?
        .query_row([order_no], |row| row.get(0))
}

/// Moves an order to a state and writes that into its history and to whoever is concerned. The password is forgotten: every state but the first
/// does without.
pub(super) fn set_status(
    connection: &Connection,
    order_no: &str,
    status: OrderStatus,
    detail: &str,
    now_ms: i64,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "UPDATE orders SET status = ?2, updated_ms = ?3, password = NULL,
             fail_code = CASE ?2 WHEN 'FAILED' THEN ?4 END WHERE order_no = ?1",
        )?
        .execute(params![order_no, status, now_ms, detail])?;
    if let Some(order) = find(connection, order_no)? {
        events::push(connection, &order, status, now_ms)?;
    }
    event(connection, order_no, status.as_str(), detail, now_ms)
}

/// The keys of a CREATING order are reserved: it may be paid. In any other state nothing happens.
pub(super) fn reserved(connection: &Connection, order_no: &str, now_ms: i64) -> Result<Order, Refusal> {
    if get(connection, order_no)?.status == OrderStatus::Creating {
        set_status(connection, order_no, OrderStatus::PendingPayment, "", now_ms)?;
        end_task(connection, TaskKind::Reserve, order_no)?;
    }
    get(connection, order_no)
}

/// A CREATING order will never be one. `held` says that keys may be reserved for it all the same.
pub(super) fn failed(
    connection: &Connection,
    order_no: &str,
    code: &str,
    held: bool,
    now_ms: i64,
) -> Result<Order, Refusal> {
    if get(connection, order_no)?.status == OrderStatus::Creating {
        set_status(connection, order_no, OrderStatus::Failed, code, now_ms)?;
        end_task(connection, TaskKind::Reserve, order_no)?;
        if held {
            add_task(connection, TaskKind::Release, order_no, now_ms, now_ms)?;
        }
    }
    get(connection, order_no)
}

/// Sets what a CLOSING order will become.
pub(super) fn set_closing(
    connection: &Connection,
    order_no: &str,
    to: OrderStatus,
    now_ms: i64,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE orders SET closing_to = ?2 WHERE order_no = ?1")?
        .execute(params![order_no, to])?;
    set_status(connection, order_no, OrderStatus::Closing, to.as_str(), now_ms)
}

/// Remembers which payment paid for an order.
pub(super) fn set_paid_payment(connection: &Connection, order_no: &str, payment_no: &str) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE orders SET paid_payment = ?2 WHERE order_no = ?1")?
        .execute([order_no, payment_no])?;
    Ok(())
}

/// Orders in this state whose time was over at `now_ms`, at most `limit`.
pub(super) fn overdue(
    connection: &Connection,
    status: OrderStatus,
    now_ms: i64,
    limit: u32,
) -> rusqlite::Result<Vec<String>> {
    // The literal list lets SQLite use the partial index.
    connection
        .prepare_cached(
            "SELECT order_no FROM orders WHERE status IN ('CREATING', 'PENDING_PAYMENT') AND expires_ms <= ?1
             AND status = ?2 ORDER BY expires_ms LIMIT ?3",
        )?
        .query_map(params![now_ms, status, limit], |row| row.get(0))?
        .collect()
}

/// Adds to the history of an order.
pub(super) fn event(
    connection: &Connection,
    order_no: &str,
    kind: &str,
    detail: &str,
    now_ms: i64,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT INTO order_events (order_no, at_ms, kind, detail) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![order_no, now_ms, kind, detail])?;
    Ok(())
}

/// Adds to the history of an order what is not in it yet; `true` when that was so.
pub(super) fn event_once(
    connection: &Connection,
    order_no: &str,
    kind: &str,
    detail: &str,
    now_ms: i64,
) -> rusqlite::Result<bool> {
    let known: bool = connection
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM order_events WHERE order_no = ?1 AND kind = ?2 AND detail = ?3)")?
        .query_row([order_no, kind, detail], |row| row.get(0))?;
    if !known {
        event(connection, order_no, kind, detail, now_ms)?;
    }
    Ok(!known)
}

/// The history of an order, oldest first.
pub(super) fn events(connection: &Connection, order_no: &str) -> rusqlite::Result<Vec<Event>> {
    connection
        .prepare_cached("SELECT at_ms, kind, detail FROM order_events WHERE order_no = ?1 ORDER BY id")?
        .query_map([order_no], |row| Ok(Event { at_ms: row.get(0)?, kind: row.get(1)?, detail: row.get(2)? }))?
        .collect()
}

/// Writes down what is to be done, from `due_ms` on. Once is enough: what is written down already stays as it is.
pub(super) fn add_task(
    connection: &Connection,
    kind: TaskKind,
    subject: &str,
    now_ms: i64,
    due_ms: i64,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO tasks (kind, subject, next_ms, created_ms) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
        )?
        .execute(params![kind, subject, due_ms, now_ms])?;
    Ok(())
}

/// It is done, or need not be done any more.
pub(super) fn end_task(connection: &Connection, kind: TaskKind, subject: &str) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM tasks WHERE kind = ?1 AND subject = ?2")?.execute(params![kind, subject])?;
    Ok(())
}

/// It will be tried again at `due_ms`.
pub(super) fn postpone(connection: &Connection, kind: TaskKind, subject: &str, due_ms: i64) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE tasks SET next_ms = ?3 WHERE kind = ?1 AND subject = ?2")?
        .execute(params![kind, subject, due_ms])?;
    Ok(())
}

/// Takes at most `limit` due tasks, for refunds or for everything else, until `lease_ms`: whoever took a task and died
/// leaves it to the next one then. Answers kind, subject and how often it has been taken.
pub(super) fn claim_tasks(
    connection: &Connection,
    refunds: bool,
    now_ms: i64,
    lease_ms: i64,
    limit: usize,
) -> rusqlite::Result<Vec<(TaskKind, String, u32)>> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    connection
        .prepare_cached(
            "UPDATE tasks SET next_ms = ?3, tries = tries + 1 WHERE id IN
             (SELECT id FROM tasks WHERE next_ms <= ?2 AND (kind = 'REFUND') = ?1 ORDER BY next_ms LIMIT ?4)
             RETURNING kind, subject, tries",
        )?
        .query_map(params![refunds, now_ms, lease_ms, limit], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect()
}
