//! What must hold between files: orders and their keys, orders and the money the channels hold for them.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::Books;
use crate::support::Shard;

/// An order as far as others must agree with it.
struct Order {
    no: String,
    sku: String,
    status: String,
    qty: i64,
    amount: i64,
    /// Something is still to be done: a payment is open, a task or a refund is under way.
    unsettled: bool,
}

const ORDERS: &str = "SELECT o.order_no, o.sku, o.status, o.qty, o.amount, o.status IN ('CREATING', 'CLOSING', 'PAID',
        'REFUNDING') OR EXISTS (SELECT 1 FROM payments p WHERE p.order_no = o.order_no AND (p.refund = 'WANTED' OR
        p.status IN ('CREATED', 'PENDING', 'UNKNOWN'))) OR EXISTS (SELECT 1 FROM tasks t WHERE t.kind = 'REFUND' AND
        t.subject >= o.order_no || '-' AND t.subject < o.order_no || '.')
    FROM orders o";

fn order(row: &Row<'_>) -> rusqlite::Result<Order> {
    Ok(Order {
        no: row.get(0)?,
        sku: row.get(1)?,
        status: row.get(2)?,
        qty: row.get(3)?,
        amount: row.get(4)?,
        unsettled: row.get(5)?,
    })
}

/// All violations in words.
pub(super) fn violations(books: &Books, told: &[String]) -> rusqlite::Result<Vec<String>> {
    let mut found = Vec::new();
    for file in &books.orders {
        let mut statement = file.prepare(ORDERS)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let order = order(row)?;
            if let Some(card_keys) = &books.card_keys {
                keys(card_keys, &order, &mut found)?;
            }
            if !books.channels.is_empty() {
                money(&books.channels, &order, &mut found)?;
            }
        }
    }
    if !books.orders.is_empty() {
        strangers(books, &mut found)?;
        for order_no in told.iter().filter(|line| !line.is_empty()) {
            if !is_there(books, order_no)? {
                found.push(format!("I6: an order that a client was told of is not there: {order_no}"));
            }
        }
    }
    Ok(found)
}

/// I2 and I3: a delivered order has exactly its keys, and nobody has keys who has not paid.
fn keys(card_keys: &Connection, order: &Order, found: &mut Vec<String>) -> rusqlite::Result<()> {
    let sql = "SELECT issued_ms IS NOT NULL, qty, sku FROM orders WHERE order_no = ?1";
    let there: Option<(bool, i64, String)> = card_keys
        .prepare_cached(sql)?
        .query_row([&order.no], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    let issued = there.as_ref().is_some_and(|(issued, ..)| *issued);
    match order.status.as_str() {
        "DELIVERED" if !issued => found.push(format!("I2: delivered, and no keys were issued: {}", order.no)),
        // Keys can be issued by a call that was given up before the money went back; nobody is shown them.
        "DELIVERED" | "PAID" | "REFUNDING" | "REFUNDED" => {}
        _ if issued => found.push(format!("I2: keys were issued for an order that was not paid: {}", order.no)),
        _ => {}
    }
    if let Some((_, qty, sku)) = there
        && (qty, &sku) != (order.qty, &order.sku)
    {
        found.push(format!("I3: other keys than were ordered: {}", order.no));
    }
    Ok(())
}

/// I5: when nothing is under way any more, the channels hold exactly the price of a delivered order, and nothing of any
/// other.
fn money(channels: &[(String, Connection)], order: &Order, found: &mut Vec<String>) -> rusqlite::Result<()> {
    let mut net = 0;
    for (_, channel) in channels {
        let sql = "SELECT coalesce(sum(CASE kind WHEN 'charge' THEN amount WHEN 'refund' THEN -amount ELSE 0 END), 0)
            FROM ledger WHERE payment_no >= ?1 || '-' AND payment_no < ?1 || '.'";
        net += channel.prepare_cached(sql)?.query_row([&order.no], |row| row.get::<_, i64>(0))?;
    }
    let wanted = if order.status == "DELIVERED" { order.amount } else { 0 };
    if !order.unsettled && net != wanted {
        let (no, status) = (&order.no, &order.status);
        found.push(format!("I5: the channels hold {net} instead of {wanted} for an order that is {status}: {no}"));
    }
    Ok(())
}

/// I5: money and keys of orders that nobody has.
fn strangers(books: &Books, found: &mut Vec<String>) -> rusqlite::Result<()> {
    for (_, channel) in &books.channels {
        let mut statement = channel.prepare("SELECT DISTINCT payment_no FROM ledger WHERE kind = 'charge'")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let payment_no: String = row.get(0)?;
            let order_no = payment_no.split('-').next().unwrap_or_default();
            // Other numbers are those of other shops.
            if Shard::of_number(order_no).is_some() && !is_there(books, order_no)? {
                found.push(format!("I5: a channel has charged for an order that nobody has: {payment_no}"));
            }
        }
    }
    Ok(())
}

fn is_there(books: &Books, order_no: &str) -> rusqlite::Result<bool> {
    let file = Shard::of_number(order_no).and_then(|shard| books.orders.get(books.files.of(shard)));
    let Some(file) = file else { return Ok(false) };
    let sql = "SELECT EXISTS (SELECT 1 FROM orders WHERE order_no = ?1)";
    file.prepare_cached(sql)?.query_row(params![order_no], |row| row.get(0))
}
