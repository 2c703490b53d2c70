//! Events of orders: written with the change they speak of, carried by the outbox, taken in once each.
//!
//! | Topic | When | Who takes it in |
//! | --- | --- | --- |
//! | `order_processing` | an order is paid, delivered, paid back, or over; or can be paid, and was placed later | writes the notice for the buyer, as another event |
//! | `inventory_update` | keys are reserved, given back or issued | counts them by product: what `GET /admin/sales` shows |
//! | `notification` | a buyer is to be told | his feed, which [`super::stream`] shows |
//!
//! What must be done for money and keys is not an event but a task (`rows`): it is tried for ever. An event whose consumer
//! fails again and again is parked instead, and waits for a person.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};
use tidegate_durable::WriteError;
use tokio::task::JoinHandle;

use super::Settings;
use super::desk::Desk;
use super::files::OrderFile;
use super::model::{Order, OrderStatus};
use crate::outbox::{self, Failure, Message, Publish, Topic};
use crate::support::{Stop, unix_ms};

/// What an event says.
#[derive(Debug, Serialize, Deserialize)]
struct Said {
    order_no: String,
    user: String,
    sku: String,
    qty: u32,
    status: String,
    at_ms: i64,
}

/// An event's body.
fn payload(order: &Order, status: OrderStatus, now_ms: i64) -> String {
    let said = Said {
        order_no: order.order_no.clone(),
        user: order.user.clone(),
        sku: order.sku.clone(),
        qty: order.qty,
        status: status.as_str().to_owned(),
        at_ms: now_ms,
    };
    serde_json::to_string(&said).unwrap_or_default()
}

/// Writes down that a buyer is to hear that his order can be paid: nobody was there to take the answer. Again is once.
pub(super) fn push_placed(connection: &Connection, order: &Order, now_ms: i64) -> rusqlite::Result<()> {
    let (topic, status) = (Topic::OrderProcessing, OrderStatus::PendingPayment);
    let id = format!("{}/{}/{}", topic.as_str(), order.order_no, status.as_str());
    outbox::push(connection, topic, &id, &order.order_no, &payload(order, status, now_ms), now_ms)
}

/// Writes the events of a change of state down.
pub(super) fn push(connection: &Connection, order: &Order, status: OrderStatus, now_ms: i64) -> rusqlite::Result<()> {
    let payload = payload(order, status, now_ms);
    for (topic, concerned) in
        [(Topic::OrderProcessing, is_told(status)), (Topic::InventoryUpdate, moved(status).is_some())]
    {
        if concerned {
            // An order is in no state twice.
            let id = format!("{}/{}/{}", topic.as_str(), order.order_no, status.as_str());
            outbox::push(connection, topic, &id, &order.order_no, &payload, now_ms)?;
        }
    }
    Ok(())
}

/// Whether a buyer wants to hear of it. That he may pay is the answer to his order.
fn is_told(status: OrderStatus) -> bool {
    !matches!(status, OrderStatus::Creating | OrderStatus::PendingPayment | OrderStatus::Closing)
}

/// What becomes of the keys of an order that comes into this state.
fn moved(status: OrderStatus) -> Option<&'static str> {
    match status {
        OrderStatus::PendingPayment => Some("reserved"),
        OrderStatus::Delivered => Some("issued"),
        OrderStatus::Cancelled | OrderStatus::Expired => Some("returned"),
        _ => None,
    }
}

/// Takes an event in, once; whoever is to be told of what follows is told after the commit.
fn take_in(connection: &Connection, message: &Message, now_ms: i64) -> Result<(), Failure> {
    let said: Said = serde_json::from_str(&message.payload)?;
    if !outbox::first_time(connection, &message.topic, &message.id, now_ms)? {
        return Ok(());
    }
    if message.topic == Topic::OrderProcessing.as_str() {
        let id = format!("{}/{}/{}", Topic::Notification.as_str(), said.order_no, said.status);
        outbox::push(connection, Topic::Notification, &id, &said.user, &message.payload, now_ms)?;
    } else if message.topic == Topic::Notification.as_str() {
        connection
            .prepare_cached("INSERT INTO notices (user_id, order_no, status, at_ms) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![said.user, said.order_no, said.status, said.at_ms])?;
    } else if let Some(what) = OrderStatus::parse(&said.status).and_then(moved) {
        connection
            .prepare_cached(
                "INSERT INTO sales (sku, what, keys) VALUES (?1, ?2, ?3)
                 ON CONFLICT DO UPDATE SET keys = keys + excluded.keys",
            )?
            .execute(params![said.sku, what, said.qty])?;
    }
    Ok(())
}

/// The consumers of one file's events.
pub(super) struct Consumers {
    pub(super) desk: Arc<Desk>,
    pub(super) file: usize,
}

impl Publish for Consumers {
    fn publish(&self, message: Message) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async move {
            let (file, now_ms) = (&self.desk.files.all()[self.file], unix_ms());
            let (topic, key) = (message.topic.clone(), message.key.clone());
            let taken = file.store.write(move |connection| take_in(connection, &message, now_ms)).await;
            taken.map_err(|error| match error {
                WriteError::Op(error) => error,
                WriteError::Store(error) => error.into(),
            })?;
            if topic == Topic::OrderProcessing.as_str() {
                file.events.send_replace(());
            } else if topic == Topic::Notification.as_str() {
                self.desk.streams.tell(&key);
            }
            Ok(())
        })
    }
}

/// Starts the relays, one a file.
pub(super) fn start(desk: &Arc<Desk>, stop: &Stop) -> Vec<JoinHandle<()>> {
    let Settings { retry_unit, sweep_every, .. } = desk.settings;
    let relay = |(file, one): (usize, &OrderFile)| {
        let target = Arc::new(Consumers { desk: Arc::clone(desk), file });
        let relay =
            outbox::relay(one.store.clone(), target, retry_unit, sweep_every, one.events.subscribe(), stop.clone());
        tokio::spawn(relay)
    };
    desk.files.all().iter().enumerate().map(relay).collect()
}

/// Something a buyer was told.
#[derive(Debug, Clone)]
pub(super) struct Notice {
    pub(super) seq: i64,
    pub(super) order_no: String,
    pub(super) status: String,
    pub(super) at_ms: i64,
}

/// What a user was told behind `after`, oldest first, at most `limit`.
pub(super) fn notices(connection: &Connection, user: &str, after: i64, limit: u32) -> rusqlite::Result<Vec<Notice>> {
    connection
        .prepare_cached(
            "SELECT seq, order_no, status, at_ms FROM notices WHERE user_id = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3",
        )?
        .query_map(params![user, after, limit], |row| {
            Ok(Notice { seq: row.get(0)?, order_no: row.get(1)?, status: row.get(2)?, at_ms: row.get(3)? })
        })?
        .collect()
}

/// The last thing a user was told; 0 when there is none.
pub(super) fn last_notice(connection: &Connection, user: &str) -> rusqlite::Result<i64> {
    connection
        .prepare_cached("SELECT coalesce(max(seq), 0) FROM notices WHERE user_id = ?1")?
        .query_row([user], |row| row.get(0))
}

/// Keys by product and by what became of them.
pub(super) fn sales(connection: &Connection) -> rusqlite::Result<Vec<(String, String, i64)>> {
    connection
        .prepare_cached("SELECT sku, what, keys FROM sales ORDER BY sku, what")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect()
}
