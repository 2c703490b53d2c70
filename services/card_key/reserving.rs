//! An order before it is paid: placed, given back, run out; every function here runs inside one operation of the writer.
//!
//! Reservation, expiry, release and payment of one order are decided by the state of its row, one after the other in the
//! writer's thread: an expiry that races with a payment either comes first, then the payment takes free stock, or comes
//! second and finds the order issued. Limits are counted in the same thread, so that no number of requests at once gets
//! past them. The time is an argument.

use std::sync::Arc;

use rusqlite::{Connection, params};

use super::allocator::{FreeList, Taken};
use super::catalogue::Product;
use super::policy::{Kind, OnHoard, Reserve};
use super::price;
use super::refusal::Refusal;
use super::rows::{self, Order, Secrets, State, Status, Wanted};

const DAY_MS: i64 = 24 * 3_600 * 1_000;

/// What is asked for.
#[derive(Debug, Clone)]
pub(super) struct Placing {
    pub(super) wanted: Wanted,
    /// Now.
    pub(super) created_ms: i64,
    pub(super) expires_ms: i64,
    pub(super) principal: Option<String>,
    pub(super) ip: Option<String>,
    pub(super) coupon: Option<String>,
    /// Ids of chosen keys; empty, or as many as are wanted.
    pub(super) chosen: Vec<i64>,
    /// Absent: the caller saw no stock, and asks only for an earlier order.
    pub(super) secrets: Option<Secrets>,
}

/// Places an order, or finds that this was done before (then the second part is absent).
pub(super) fn reserve(
    connection: &Connection,
    list: &Arc<FreeList>,
    product: &Product,
    placing: &Placing,
) -> Result<(Order, Option<Taken>), Refusal> {
    let Placing { wanted, created_ms, .. } = placing;
    if let Some(earlier) = rows::find_same(connection, wanted)? {
        return Ok((earlier, None));
    }
    let secrets = placing.secrets.clone().ok_or(Refusal::OutOfStock)?;
    let held = is_held(connection, list, product, placing)?;
    check_limits(connection, product, placing, held)?;
    let terms = placing.coupon.as_ref().map(|code| price::terms(connection, code)).transpose()?;
    let quote = price::quote(product, wanted.qty, placing.chosen.len(), terms.as_ref(), *created_ms)?;
    if let Some(code) = &placing.coupon {
        price::count_use(connection, code, 1)?;
    }
    let order = Order {
        wanted: wanted.clone(),
        status: Status::Reserved,
        held,
        created_ms: *created_ms,
        expires_ms: placing.expires_ms,
        secrets,
        principal: placing.principal.clone(),
        ip: placing.ip.clone(),
        amount: quote.total,
        coupon: placing.coupon.clone(),
        product: rows::snapshot(product, &quote),
    };
    rows::insert(connection, &order)?;
    let taken = match (held, placing.chosen.as_slice()) {
        (false, _) => Taken::from(list),
        (true, []) => rows::hold(connection, list, wanted, product.policy.pick)?.ok_or(Refusal::OutOfStock)?,
        (true, chosen) => rows::hold_chosen(connection, list, wanted, chosen)?,
    };
    Ok((order, Some(taken)))
}

/// Whether `qty` keys could be had at this moment.
pub(super) fn has_stock(list: &FreeList, product: &Product, qty: u32) -> bool {
    let needed = match product.policy.kind {
        Kind::Manual => 0,
        Kind::Shared => 1,
        Kind::Unique => qty as usize,
    };
    list.len() >= needed
}

/// Whether keys are set aside for this order. Chosen keys always are: a buyer who pays for a choice gets it.
fn is_held(connection: &Connection, list: &FreeList, product: &Product, placing: &Placing) -> Result<bool, Refusal> {
    if !has_stock(list, product, placing.wanted.qty) {
        return Err(Refusal::OutOfStock);
    }
    if product.policy.kind != Kind::Unique {
        return Ok(false);
    }
    let chosen = !placing.chosen.is_empty();
    if product.policy.reserve == Reserve::OnPaid && !chosen {
        return Ok(false);
    }
    if placing.principal.is_none() || share_allows(connection, product, placing.wanted.qty)? {
        return Ok(true);
    }
    match product.policy.on_hoard {
        OnHoard::OnPaid if !chosen => Ok(false),
        _ => Err(Refusal::StockHeld),
    }
}

/// Whether the unpaid share of the stock stays within the limit with `qty` more. The first order is always let in:
/// otherwise nobody could buy the last key.
fn share_allows(connection: &Connection, product: &Product, qty: u32) -> Result<bool, Refusal> {
    let mut count =
        connection.prepare_cached("SELECT coalesce(sum(n), 0) FROM counts WHERE sku = ?1 AND state = ?2")?;
    let mut count = |state: State| count.query_row(params![product.sku, state], |row| row.get::<_, i64>(0));
    let (free, reserved) = (count(State::Free)?, count(State::Reserved)?);
    let limit = (free + reserved) * i64::from(product.policy.max_unpaid_percent);
    Ok(reserved == 0 || (reserved + i64::from(qty)) * 100 <= limit)
}

fn check_limits(connection: &Connection, product: &Product, placing: &Placing, held: bool) -> Result<(), Refusal> {
    let Placing { wanted, principal, ip, created_ms, .. } = placing;
    let policy = &product.policy;
    if let Some(principal) = principal {
        if held {
            let open: u32 = connection
                .prepare_cached(
                    "SELECT count(*) FROM orders WHERE principal = ?1 AND principal IS NOT NULL
                     AND status = 'reserved' AND held = 1",
                )?
                .query_row([principal], |row| row.get(0))?;
            if open >= policy.max_open {
                return Err(Refusal::TooManyOpen);
            }
        }
        if let Some(most) = policy.max_per_principal {
            let bought: u32 = connection
                .prepare_cached(
                    "SELECT coalesce(sum(qty), 0) FROM orders WHERE principal = ?1 AND sku = ?2
                     AND status NOT IN ('released', 'expired', 'refunded')",
                )?
                .query_row(params![principal, wanted.sku], |row| row.get(0))?;
            within(bought, wanted.qty, most, "buyer")?;
        }
    }
    if let (Some(ip), Some(most)) = (ip, policy.max_per_ip_day) {
        let bought: u32 = connection
            .prepare_cached(
                "SELECT coalesce(sum(qty), 0) FROM orders WHERE ip = ?1 AND sku = ?2 AND created_ms > ?3
                 AND status NOT IN ('released', 'expired', 'refunded')",
            )?
            .query_row(params![ip, wanted.sku, created_ms - DAY_MS], |row| row.get(0))?;
        within(bought, wanted.qty, most, "address")?;
    }
    Ok(())
}

fn within(bought: u32, qty: u32, most: u32, whose: &'static str) -> Result<(), Refusal> {
    if bought.saturating_add(qty) > most { Err(Refusal::Limit(whose)) } else { Ok(()) }
}

/// Gives the keys of a reserved order back; answers their ids.
fn give_up(connection: &Connection, order: &Order, status: Status) -> rusqlite::Result<Vec<i64>> {
    rows::set_unpaid(connection, &order.wanted.order_no, status)?;
    if let Some(code) = &order.coupon {
        price::count_use(connection, code, -1)?;
    }
    rows::free(connection, &order.wanted.order_no)
}

/// Releases an order; answers the SKU and the ids that are free again. Nothing happens for an order that is unknown or
/// was given up before.
pub(super) fn release(connection: &Connection, order_no: &str) -> Result<Option<(String, Vec<i64>)>, Refusal> {
    let Some(order) = rows::find(connection, order_no)? else { return Ok(None) };
    match order.status {
        Status::Issued => Err(Refusal::AlreadyAllocated),
        Status::Reserved => {
            let ids = give_up(connection, &order, Status::Released)?;
            Ok(Some((order.wanted.sku, ids)))
        }
        Status::Released | Status::Expired => Ok(None),
        Status::Refunded => Err(Refusal::Refunded),
        Status::Short | Status::Awaiting | Status::RefundDue => Err(Refusal::AlreadyPaid),
    }
}

/// Gives up at most `limit` orders whose time was over at `now_ms`; answers SKU and freed ids of each.
pub(super) fn expire(connection: &Connection, now_ms: i64, limit: u32) -> rusqlite::Result<Vec<(String, Vec<i64>)>> {
    let due: Vec<String> = connection
        .prepare_cached(
            "SELECT order_no FROM orders WHERE status = 'reserved' AND expires_ms <= ?1 ORDER BY expires_ms LIMIT ?2",
        )?
        .query_map(params![now_ms, limit], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    let orders = due.iter().filter_map(|order_no| rows::find(connection, order_no).transpose());
    orders
        .map(|order| {
            let order = order?;
            let ids = give_up(connection, &order, Status::Expired)?;
            Ok((order.wanted.sku, ids))
        })
        .collect()
}
