//! An order from its payment on; every function here runs inside one operation of the writer.
//!
//! A payment is heard of in several ways: the order service has the keys issued, a signed event arrives, a seller
//! confirms it by hand, a seller restocks. All of them end in [`pay`]. In one transaction it writes that the order is
//! paid, which keys it gets, that it is delivered, and the announcement of that: there is no moment at which a crash
//! leaves an order paid and forgotten. It happens once, however often it is called.

use std::sync::Arc;

use rusqlite::{Connection, params};
use serde::Serialize;

use super::allocator::{FreeList, Taken};
use super::catalogue::{self, Product, Shelf, Source};
use super::journal;
use super::keyring::Sealed;
use super::policy::{Kind, OnShort};
use super::price;
use super::refusal::Refusal;
use super::rows::{self, Order, Secrets, State, Status, Wanted};

/// What became of a paid order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Outcome {
    /// The keys are the buyer's.
    Delivered,
    /// There were not enough; it gets its keys after restocking.
    Short,
    /// The seller delivers by hand.
    Awaiting,
    /// There were not enough; the money has to go back.
    RefundDue,
}

impl Outcome {
    /// The word in the file and for readers of announcements.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Short => "short",
            Self::Awaiting => "awaiting",
            Self::RefundDue => "refund_due",
        }
    }

    /// What the word stands for.
    pub(super) fn parse(word: &str) -> Option<Self> {
        [Self::Delivered, Self::Short, Self::Awaiting, Self::RefundDue].into_iter().find(|one| one.as_str() == word)
    }

    fn status(self) -> Status {
        match self {
            Self::Delivered => Status::Issued,
            Self::Short => Status::Short,
            Self::Awaiting => Status::Awaiting,
            Self::RefundDue => Status::RefundDue,
        }
    }
}

/// The answer of [`pay`].
#[derive(Debug)]
pub(super) struct Paid {
    pub(super) outcome: Outcome,
    /// Whether the keys were issued now and not earlier.
    pub(super) now: bool,
    /// Keys that left the free list; to be kept when the change is durable.
    pub(super) taken: Option<Taken>,
}

impl Paid {
    fn earlier(outcome: Outcome) -> Self {
        Self { outcome, now: false, taken: None }
    }
}

/// Takes note that an order is paid, and delivers it if that can be done and was not done before.
///
/// A reservation whose time is over but which nobody has given up yet still holds its keys: the buyer has paid, and
/// nobody else can have been promised them. An order nobody has placed is placed by this.
pub(super) fn pay(
    connection: &Connection,
    list: &Arc<FreeList>,
    product: &Product,
    wanted: &Wanted,
    now_ms: i64,
) -> Result<Paid, Refusal> {
    let order = match rows::find_same(connection, wanted)? {
        Some(order) => order,
        None => place_paid(connection, product, wanted, now_ms)?,
    };
    match order.status {
        Status::Issued => return Ok(Paid::earlier(Outcome::Delivered)),
        Status::Awaiting => return Ok(Paid::earlier(Outcome::Awaiting)),
        Status::RefundDue => return Ok(Paid::earlier(Outcome::RefundDue)),
        Status::Refunded => return Err(Refusal::Refunded),
        Status::Reserved | Status::Released | Status::Expired | Status::Short => {}
    }
    if let (Status::Released | Status::Expired, Some(code)) = (order.status, &order.coupon) {
        // Its use was given back, but the price with it has been paid.
        price::count_use(connection, code, 1)?;
    }
    let (outcome, taken) = deliver(connection, list, product, &order, now_ms)?;
    rows::set_paid(connection, &wanted.order_no, outcome.status(), now_ms)?;
    journal::announce(connection, outcome.as_str(), &wanted.order_no, now_ms)?;
    Ok(Paid { outcome, now: outcome == Outcome::Delivered, taken })
}

/// The row of an order that was paid without being placed here.
fn place_paid(connection: &Connection, product: &Product, wanted: &Wanted, now_ms: i64) -> Result<Order, Refusal> {
    let quote = price::quote(product, wanted.qty, 0, None, now_ms)?;
    let order = Order {
        wanted: wanted.clone(),
        status: Status::Reserved,
        held: false,
        created_ms: now_ms,
        expires_ms: now_ms,
        secrets: Secrets::default(),
        principal: None,
        ip: None,
        amount: quote.total,
        coupon: None,
        product: rows::snapshot(product, &quote),
    };
    rows::insert(connection, &order)?;
    Ok(order)
}

fn deliver(
    connection: &Connection,
    list: &Arc<FreeList>,
    product: &Product,
    order: &Order,
    now_ms: i64,
) -> Result<(Outcome, Option<Taken>), Refusal> {
    let wanted = &order.wanted;
    // An order that was told to wait goes on waiting, whatever the policy says by now.
    let short = match product.policy.on_short {
        OnShort::Refund if order.status != Status::Short => Outcome::RefundDue,
        _ => Outcome::Short,
    };
    match product.policy.kind {
        Kind::Manual => Ok((Outcome::Awaiting, None)),
        Kind::Shared => {
            let Some(id) = list.peek(product.policy.pick) else { return Ok((short, None)) };
            let issued = connection
                .prepare_cached(
                    "INSERT INTO shared_allocations SELECT ?1, id, ?3 FROM keys WHERE id = ?2 AND state = 3",
                )?
                .execute(params![wanted.order_no, id, now_ms])?;
            if issued != 1 {
                tracing::error!(id, sku = wanted.sku, "a key on the list of shared ones is not shared");
                return Ok((short, None));
            }
            Ok((Outcome::Delivered, None))
        }
        Kind::Unique => {
            let holds = order.status == Status::Reserved && order.held;
            let taken = if holds {
                None
            } else if list.len() < wanted.qty as usize {
                return Ok((short, None));
            } else {
                match rows::hold(connection, list, wanted, product.policy.pick)? {
                    None => return Ok((short, None)),
                    taken => taken,
                }
            };
            issue(connection, wanted, now_ms)?;
            Ok((Outcome::Delivered, taken))
        }
    }
}

/// Makes the keys an order holds the buyer's.
fn issue(connection: &Connection, wanted: &Wanted, now_ms: i64) -> Result<(), Refusal> {
    let issued = connection
        .prepare_cached("INSERT INTO allocations SELECT id, ?1, ?2 FROM keys WHERE order_no = ?1 AND state = 1")?
        .execute(params![wanted.order_no, now_ms])?;
    if issued != wanted.qty as usize {
        tracing::error!(order_no = wanted.order_no, issued, "a reservation does not hold the keys it says");
        return Err(Refusal::OutOfStock);
    }
    connection
        .prepare_cached("UPDATE keys SET state = 2 WHERE order_no = ?1 AND state = 1")?
        .execute([&wanted.order_no])?;
    Ok(())
}

/// Delivers an awaiting order by hand: the seller's keys become sold ones of this order. `false`: that was done before.
pub(super) fn by_hand(connection: &Connection, order_no: &str, keys: &[Sealed], now_ms: i64) -> Result<bool, Refusal> {
    let order = rows::find(connection, order_no)?.ok_or(Refusal::UnknownOrder)?;
    match order.status {
        Status::Issued => return Ok(false),
        Status::Awaiting if keys.len() == order.wanted.qty as usize => {}
        Status::Awaiting => return Err(Refusal::Mismatch),
        _ => return Err(Refusal::NotAwaiting),
    }
    let sku = order.wanted.sku.clone();
    let shelf = Shelf { sku, batch: String::new(), source: Source::ByHand, state: State::Reserved };
    let batch = catalogue::batch(connection, &shelf, now_ms)?;
    for (line, key) in (1..).zip(keys) {
        let inserted = connection
            .prepare_cached(
                "INSERT INTO keys (sku, batch_id, state, order_no, fp, sealed) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                 ON CONFLICT (fp) DO NOTHING",
            )?
            .execute(params![shelf.sku, batch, shelf.state, order_no, key.fp, key.sealed])?;
        if inserted != 1 {
            return Err(Refusal::Duplicate(line));
        }
    }
    catalogue::count_made(connection, batch, keys.len())?;
    issue(connection, &order.wanted, now_ms)?;
    rows::set_paid(connection, order_no, Status::Issued, now_ms)?;
    journal::announce(connection, Outcome::Delivered.as_str(), order_no, now_ms)?;
    Ok(true)
}

/// Writes down that the money of a paid order goes back; keys that have been issued stay the buyer's, who may have
/// read them, and are shown to nobody any more. `false`: that was done before.
pub(super) fn refund(connection: &Connection, order_no: &str, now_ms: i64) -> Result<bool, Refusal> {
    let order = rows::find(connection, order_no)?.ok_or(Refusal::UnknownOrder)?;
    match order.status {
        Status::Refunded => return Ok(false),
        Status::Reserved | Status::Released | Status::Expired => return Err(Refusal::NotPaid),
        Status::Short | Status::Awaiting | Status::RefundDue | Status::Issued => {}
    }
    rows::set_paid(connection, order_no, Status::Refunded, now_ms)?;
    journal::announce(connection, "refunded", order_no, now_ms)?;
    Ok(true)
}
