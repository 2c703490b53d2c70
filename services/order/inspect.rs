//! Does everything add up: figures from the rows, and the invariants.

use std::collections::BTreeMap;

use rusqlite::Connection;
use serde::Serialize;

use super::files::OrderFiles;
use super::model::{OrderStatus, PaymentStatus};
use crate::outbox;
use crate::support::Problem;
use crate::support::checks::{self, Check};

/// Where everything stands.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Figures {
    /// Orders by state; states without any are there with 0.
    pub(super) orders: BTreeMap<&'static str, i64>,
    pub(super) payments: BTreeMap<&'static str, i64>,
    /// Tasks not done yet.
    pub(super) outbox: i64,
    /// Events not taken in yet, those among them that failed four times, and those that were given up.
    pub(super) events: [u64; 3],
    /// Age of the oldest payment without an outcome; 0 when there is none.
    pub(super) oldest_open_payment_ms: i64,
}

/// Counts everything in all files.
pub(super) async fn of_all(files: &OrderFiles, now_ms: i64) -> Result<Figures, Problem> {
    let mut sum = Figures::default();
    for file in files.all() {
        let one = file.store.read(move |connection| figures(connection, now_ms)).await?;
        for (all, here) in [(&mut sum.orders, one.orders), (&mut sum.payments, one.payments)] {
            for (state, count) in here {
                *all.entry(state).or_default() += count;
            }
        }
        sum.outbox += one.outbox;
        for (all, here) in sum.events.iter_mut().zip(one.events) {
            *all += here;
        }
        sum.oldest_open_payment_ms = sum.oldest_open_payment_ms.max(one.oldest_open_payment_ms);
    }
    Ok(sum)
}

/// Counts everything in one file.
pub(super) fn figures(connection: &Connection, now_ms: i64) -> rusqlite::Result<Figures> {
    let mut orders: BTreeMap<_, _> = OrderStatus::ALL.iter().map(|status| (status.as_str(), 0)).collect();
    for (status, count) in counts::<OrderStatus>(connection, "SELECT status, count(*) FROM orders GROUP BY status")? {
        orders.insert(status.as_str(), count);
    }
    let mut payments: BTreeMap<_, _> = PaymentStatus::ALL.iter().map(|status| (status.as_str(), 0)).collect();
    let by_status = "SELECT status, count(*) FROM payments GROUP BY status";
    for (status, count) in counts::<PaymentStatus>(connection, by_status)? {
        payments.insert(status.as_str(), count);
    }
    let tasks = connection.query_row("SELECT count(*) FROM tasks", [], |row| row.get(0))?;
    let oldest: Option<i64> = connection.query_row(
        "SELECT min(created_ms) FROM payments WHERE status IN ('CREATED', 'PENDING', 'UNKNOWN')",
        [],
        |row| row.get(0),
    )?;
    let oldest_open_payment_ms = oldest.map_or(0, |created_ms| now_ms - created_ms);
    let outbox::Depth { waiting, dead, parked } = outbox::depth(connection)?;
    let events = [waiting, dead, parked];
    Ok(Figures { orders, payments, outbox: tasks, events, oldest_open_payment_ms })
}

fn counts<T: rusqlite::types::FromSql>(connection: &Connection, sql: &str) -> rusqlite::Result<Vec<(T, i64)>> {
    connection.prepare_cached(sql)?.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

/// The invariants, by their numbers: I2 paid and delivered belong together, I5 nobody pays twice, I6 what was said stays,
/// I7 each effect once, I8 one channel at a time, I10 everything ends.
const CHECKS: &[Check] = &[
    (
        "I2: order paid or delivered without a payment that succeeded",
        "SELECT o.order_no FROM orders o LEFT JOIN payments p ON p.payment_no = o.paid_payment AND p.status = 'SUCCESS'
         WHERE o.status IN ('PAID', 'DELIVERED', 'REFUNDING', 'REFUNDED') AND p.payment_no IS NULL",
    ),
    (
        "I5: payment that succeeded for nothing and is not paid back",
        "SELECT p.payment_no FROM payments p JOIN orders o ON o.order_no = p.order_no WHERE p.status = 'SUCCESS'
         AND p.refund IS NULL AND (o.paid_payment IS NOT p.payment_no OR o.status NOT IN ('PAID', 'DELIVERED'))",
    ),
    (
        "I5: delivered and paid back",
        "SELECT o.order_no FROM orders o JOIN payments p ON p.payment_no = o.paid_payment
         WHERE o.status = 'DELIVERED' AND p.refund IS NOT NULL",
    ),
    (
        "I5: payment of another amount than its order",
        "SELECT p.payment_no FROM payments p JOIN orders o ON o.order_no = p.order_no
         WHERE p.amount <> o.amount OR p.currency <> o.currency",
    ),
    (
        "I10: order ended with a payment under way",
        "SELECT p.payment_no FROM payments p JOIN orders o ON o.order_no = p.order_no
         WHERE p.status IN ('CREATED', 'PENDING', 'UNKNOWN') AND o.status IN ('CREATING', 'FAILED', 'CANCELLED', 'EXPIRED')",
    ),
    (
        "I8: order paid with another payment under way that is not being closed",
        "SELECT p.payment_no FROM payments p JOIN orders o ON o.order_no = p.order_no
         WHERE p.status IN ('CREATED', 'PENDING', 'UNKNOWN') AND p.close_wanted = 0
         AND o.status IN ('PAID', 'DELIVERED', 'REFUNDING', 'REFUNDED')",
    ),
    (
        "I10: closing for ever: no payment under way",
        "SELECT o.order_no FROM orders o WHERE o.status = 'CLOSING' AND NOT EXISTS (SELECT 1 FROM payments p
         WHERE p.order_no = o.order_no AND p.status IN ('CREATED', 'PENDING', 'UNKNOWN') AND p.close_wanted = 1)",
    ),
    (
        "I10: forgotten: no task for what is to be done",
        "SELECT o.order_no FROM orders o WHERE o.status IN ('CREATING', 'PAID') AND NOT EXISTS (SELECT 1 FROM tasks t
         WHERE t.subject = o.order_no AND t.kind = CASE o.status WHEN 'PAID' THEN 'DELIVER' ELSE 'RESERVE' END)
         UNION ALL SELECT p.payment_no FROM payments p WHERE p.refund = 'WANTED' AND NOT EXISTS
         (SELECT 1 FROM tasks t WHERE t.subject = p.payment_no AND t.kind = 'REFUND')",
    ),
    (
        "I6: history does not end with the state",
        "SELECT o.order_no FROM orders o WHERE o.status IS NOT (SELECT e.kind FROM order_events e
         WHERE e.order_no = o.order_no AND e.kind IN ('CREATING', 'PENDING_PAYMENT', 'CLOSING', 'PAID', 'DELIVERED',
         'REFUNDING', 'REFUNDED', 'FAILED', 'CANCELLED', 'EXPIRED') ORDER BY e.id DESC LIMIT 1)",
    ),
    (
        "I2: paid long ago, and neither delivered nor paid back",
        "SELECT order_no FROM orders WHERE status IN ('PAID', 'REFUNDING') AND updated_ms < :before",
    ),
    (
        "I7: keys counted from events differ from those of the orders",
        "WITH counted AS (SELECT o.sku, CASE e.kind WHEN 'PENDING_PAYMENT' THEN 'reserved' WHEN 'DELIVERED' THEN 'issued'
             ELSE 'returned' END AS what, sum(o.qty) AS keys FROM order_events e JOIN orders o USING (order_no)
             WHERE e.kind IN ('PENDING_PAYMENT', 'DELIVERED', 'CANCELLED', 'EXPIRED') GROUP BY 1, 2)
         SELECT sku || ' ' || what FROM counted c FULL JOIN sales s USING (sku, what) WHERE c.keys IS NOT s.keys
         AND NOT EXISTS (SELECT 1 FROM outbox WHERE topic = 'inventory_update')",
    ),
    (
        "I7: a buyer was not told, or of something that did not happen",
        "WITH told AS (SELECT order_no, kind, 1 AS there FROM order_events WHERE kind IN ('PAID', 'DELIVERED', 'REFUNDING', 'REFUNDED',
             'FAILED', 'CANCELLED', 'EXPIRED'))
         SELECT order_no FROM told t FULL JOIN (SELECT order_no, status AS kind, 1 AS there FROM notices) n USING (order_no, kind)
         WHERE (t.there IS NULL OR n.there IS NULL) AND NOT EXISTS
         (SELECT 1 FROM outbox WHERE topic IN ('order_processing', 'notification'))",
    ),
    (
        "I8: a payment begun while the outcome of another one was open",
        "SELECT p.payment_no FROM payments p JOIN payments q ON q.order_no = p.order_no AND q.attempt < p.attempt
         WHERE NOT EXISTS (SELECT 1 FROM order_events d WHERE d.order_no = p.order_no AND d.kind IN ('PAYMENT_DECLINED',
         'PAYMENT_CLOSED', 'PAYMENT_FAILED', 'PAYMENT_SUCCESS') AND d.detail || ' ' LIKE q.payment_no || ' %' AND d.id <
         (SELECT min(c.id) FROM order_events c WHERE c.order_no = p.order_no AND c.kind = 'PAYMENT_CREATED'
         AND c.detail LIKE p.payment_no || ' %'))",
    ),
    (
        "I10: not at its end long after its time",
        "SELECT order_no FROM orders WHERE (status IN ('CREATING', 'PENDING_PAYMENT') AND expires_ms < :before)
         OR (status = 'CLOSING' AND updated_ms < :before)",
    ),
    ("I10: an event waits for a person", "SELECT id FROM outbox WHERE state = 'PARKED'"),
];

/// How long after its time something is still nobody's fault.
const LATE_MS: i64 = 15 * 60_000;

/// All violated invariants in words; empty when everything adds up.
pub(crate) fn violations(connection: &Connection, now_ms: i64) -> rusqlite::Result<Vec<String>> {
    checks::violations(connection, CHECKS, now_ms - LATE_MS)
}
