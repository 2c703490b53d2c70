//! Reconciliation as operators run it: the command with its exit codes, and the interface with its repairs.

mod command;
mod interface;

use std::fs::File;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, params};
use tidegate_services::reconciliation::bill::{self, Entry};
use tidegate_services::reconciliation::day::Day;
use tidegate_services::reconciliation::{Channel, OurPayment};

fn day() -> Day {
    "2026-11-20".parse().expect("a day")
}

/// Writes the bill of a day.
fn write_bill(folder: &Path, channel: Channel, day: Day, entries: impl Iterator<Item = Entry>) -> PathBuf {
    let ending = if channel == Channel::Alipay { "zip" } else { "csv" };
    let path = folder.join(format!("{channel}-{day}.{ending}"));
    bill::write(channel, day, entries, File::create(&path).expect("a file")).expect("written");
    path
}

/// Writes payments into the file that an order service has made and left.
fn write_books(folder: &Path, channel: Channel, rows: impl Iterator<Item = OurPayment>) {
    let mut file = Connection::open(folder.join("order-0-of-1.sqlite")).expect("the order service's file");
    let books = file.transaction().expect("a transaction");
    let mut order = books
        .prepare(
            "INSERT INTO orders (order_no, user_id, idem_key, fingerprint, sku, qty, amount, currency, status, created_ms,
             expires_ms, updated_ms) VALUES (?1, 'u', ?1, x'00', 'card', 1, ?2, 'CNY', 'EXPIRED', 0, 0, 0)
             ON CONFLICT DO NOTHING",
        )
        .expect("a statement");
    let mut payment = books
        .prepare(
            "INSERT INTO payments (payment_no, order_no, attempt, method, channel, amount, currency, status, trade_no,
             refund, next_ms, created_ms, updated_ms) VALUES (?1, ?2, ?3, ?4, ?4, ?5, ?6, ?7, ?8, ?9, 9000000000000000, 0, ?10)",
        )
        .expect("a statement");
    let mut event = books
        .prepare("INSERT INTO order_events (order_no, at_ms, kind, detail) VALUES (?1, ?2, 'REFUND_DONE', ?3)")
        .expect("a statement");
    for row in rows {
        let attempt: i64 = row.out_trade_no.rsplit('-').next().and_then(|n| n.parse().ok()).expect("an attempt");
        let refund = row.refund.as_ref().map(|_| "DONE");
        order.execute(params![row.intent, row.amount]).expect("an order");
        payment
            .execute(params![
                row.out_trade_no,
                row.intent,
                attempt,
                channel.as_str(),
                row.amount,
                row.currency,
                row.status,
                row.trade_no,
                refund,
                row.at_ms
            ])
            .expect("a payment");
        if let Some(done_ms) = row.refund.and_then(|refund| refund.done_ms) {
            event.execute(params![row.intent, done_ms, row.out_trade_no]).expect("an event");
        }
    }
    drop((order, payment, event));
    books.commit().expect("committed");
}
