//! What follows from the outcome of a payment: the decisions, each inside one operation of the writer.
//!
//! A success can come from three sides (the answer to the payment, a notification, a query), more than once, and after
//! the order was given up. All of them end here:
//!
//! | State of the order | A success |
//! | --- | --- |
//! | PENDING_PAYMENT, CLOSING | pays for it: PAID, and the keys are issued |
//! | EXPIRED | pays late: PAID, and the keys are issued if there are any left, else the money goes back |
//! | CANCELLED, FAILED | is paid back: the buyer did not want the order any more |
//! | anything else | is the same success again, or a second payment, which is paid back |
//!
//! A payment that is still open when another one has paid is closed at its channel: nobody wants it any more.
//!
//! A payment for which the gateway chose the channel is at the first channel that is known to have it, and stays there. A
//! success at any other channel is a second charge and is paid back there.
//!
//! The time is an argument.

use rusqlite::Connection;

use super::model::{Channel, Order, OrderStatus, Payment, PaymentStatus, Refund, Refusal, TaskKind};
use super::{payments, rows};

/// What a channel says about a payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) state: Told,
    pub(super) trade_no: Option<String>,
    /// Checked when it is there.
    pub(super) amount: Option<i64>,
    pub(super) currency: Option<String>,
}

/// The state of a payment in a channel's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    Pending,
    Success,
    Declined,
    Closed,
}

/// Applies what a channel says; `from` is absent when it is not known which one that was. `false`: it speaks of another amount or currency, so it was only written down.
pub(super) fn apply(
    connection: &Connection,
    payment_no: &str,
    from: Option<Channel>,
    report: &Report,
    source: &str,
    now_ms: i64,
) -> Result<bool, Refusal> {
    let mut payment = payments::get(connection, payment_no)?;
    let other_amount = report.amount.is_some_and(|amount| amount != payment.amount);
    let other_currency = report.currency.as_ref().is_some_and(|currency| *currency != payment.currency);
    if other_amount || other_currency {
        let (amount, currency) = (report.amount.unwrap_or_default(), report.currency.as_deref().unwrap_or(""));
        let detail =
            format!("{payment_no} is {} {}, {source} says {amount} {currency}", payment.amount, payment.currency);
        // The resolver hears it every minute; the history needs it once.
        rows::event_once(connection, &payment.order_no, "AMOUNT_MISMATCH", &detail, now_ms)?;
        return Ok(false);
    }
    match (payment.channel, from) {
        (Some(there), Some(here)) if there != here => {
            if report.state == Told::Success {
                charged_elsewhere(connection, &payment, here, now_ms)?;
            }
            return Ok(true);
        }
        (Some(_), _) => {}
        (None, Some(here)) => payments::pin(connection, &mut payment, here, now_ms)?,
        // Money that is nobody knows where cannot be paid back: it is looked for first.
        (None, None) => {
            unknown(connection, payment_no, None, "the gateway does not say where it is", now_ms)?;
            return Ok(true);
        }
    }
    let trade_no = report.trade_no.as_deref();
    match report.state {
        Told::Success => succeeded(connection, &payment, trade_no, source, now_ms)?,
        Told::Pending => pending(connection, &payment, trade_no, source, now_ms)?,
        Told::Declined => ended(connection, &payment, PaymentStatus::Declined, source, now_ms)?,
        Told::Closed => ended(connection, &payment, PaymentStatus::Closed, source, now_ms)?,
    }
    Ok(true)
}

/// The channel waits for the payer.
fn pending(
    connection: &Connection,
    payment: &Payment,
    trade_no: Option<&str>,
    source: &str,
    now_ms: i64,
) -> Result<(), Refusal> {
    // A late "pending" after the outcome is an answer that was overtaken.
    if payment.status.is_live() && payment.status != PaymentStatus::Pending {
        payments::set_status(connection, payment, PaymentStatus::Pending, trade_no, source, now_ms)?;
    }
    Ok(())
}

/// Another channel than the payment's has charged it too. The money goes back there.
fn charged_elsewhere(connection: &Connection, payment: &Payment, here: Channel, now_ms: i64) -> Result<(), Refusal> {
    let subject = elsewhere(&payment.payment_no, here);
    if rows::event_once(connection, &payment.order_no, "DUPLICATE_CHARGE", &subject, now_ms)? {
        rows::event(connection, &payment.order_no, "REFUND_WANTED", &subject, now_ms)?;
        rows::add_task(connection, TaskKind::Refund, &subject, now_ms, now_ms)?;
    }
    Ok(())
}

/// Names a payment at a channel that is not its own.
fn elsewhere(payment_no: &str, channel: Channel) -> String {
    format!("{payment_no}@{}", channel.as_str())
}

/// The payment that a refund is about, and its channel if that is not its own.
pub(super) fn refund_of(subject: &str) -> (&str, Option<Channel>) {
    let named = subject.split_once('@').and_then(|(payment_no, name)| Some((payment_no, Channel::parse(name)?)));
    named.map_or((subject, None), |(payment_no, channel)| (payment_no, Some(channel)))
}

/// A channel that is not the payment's own has paid it back.
pub(super) fn refunded_elsewhere(connection: &Connection, subject: &str, now_ms: i64) -> Result<(), Refusal> {
    rows::end_task(connection, TaskKind::Refund, subject)?;
    let payment = payments::get(connection, refund_of(subject).0)?;
    rows::event(connection, &payment.order_no, "REFUND_DONE", subject, now_ms)?;
    Ok(())
}

/// Nobody knows whether the channel has charged; `at` is where the payment was sent, if that is known.
pub(super) fn unknown(
    connection: &Connection,
    payment_no: &str,
    at: Option<Channel>,
    why: &str,
    now_ms: i64,
) -> Result<(), Refusal> {
    let mut payment = payments::get(connection, payment_no)?;
    if let (None, Some(channel), true) = (payment.channel, at, payment.status.is_live()) {
        payments::pin(connection, &mut payment, channel, now_ms)?;
    }
    if payment.status == PaymentStatus::Created {
        payments::set_status(connection, &payment, PaymentStatus::Unknown, None, why, now_ms)?;
    }
    Ok(())
}

/// The channel was certainly not asked, or refused the request as such.
pub(super) fn not_sent(connection: &Connection, payment_no: &str, why: &str, now_ms: i64) -> Result<(), Refusal> {
    let payment = payments::get(connection, payment_no)?;
    // Only the first call can say so: after UNKNOWN an earlier one may have arrived.
    if payment.status == PaymentStatus::Created {
        ended(connection, &payment, PaymentStatus::Failed, why, now_ms)?;
    }
    Ok(())
}

/// No channel has the payment, or none that would charge it.
pub(super) fn nowhere(
    connection: &Connection,
    payment_no: &str,
    declined: Option<Channel>,
    now_ms: i64,
) -> Result<(), Refusal> {
    let mut payment = payments::get(connection, payment_no)?;
    if payment.channel.is_some() || !payment.status.is_live() {
        return Ok(());
    }
    let Some(channel) = declined else {
        return ended(connection, &payment, PaymentStatus::Closed, "no channel has it", now_ms);
    };
    payments::pin(connection, &mut payment, channel, now_ms)?;
    ended(connection, &payment, PaymentStatus::Declined, "no other channel has it", now_ms)
}

/// The payment will not be charged. A CLOSING order without any other payment ends.
fn ended(
    connection: &Connection,
    payment: &Payment,
    status: PaymentStatus,
    source: &str,
    now_ms: i64,
) -> Result<(), Refusal> {
    if !payment.status.is_live() {
        return Ok(());
    }
    payments::set_status(connection, payment, status, None, source, now_ms)?;
    let order = rows::get(connection, &payment.order_no)?;
    if order.status == OrderStatus::Closing {
        let to = order.closing_to.unwrap_or(OrderStatus::Expired);
        give_up(connection, &order.order_no, to, now_ms)?;
    }
    Ok(())
}

/// Ends an order that nobody can pay any more and has its keys put back.
fn give_up(connection: &Connection, order_no: &str, to: OrderStatus, now_ms: i64) -> Result<(), Refusal> {
    rows::set_status(connection, order_no, to, "", now_ms)?;
    rows::add_task(connection, TaskKind::Release, order_no, now_ms, now_ms)?;
    Ok(())
}

/// Ends a PENDING_PAYMENT order: at once, or, when a payment is under way, after its channel has closed it. The resolver
/// sees to that from `close_at_ms` on.
pub(super) fn close_order(
    connection: &Connection,
    order_no: &str,
    to: OrderStatus,
    close_at_ms: i64,
    now_ms: i64,
) -> Result<Order, Refusal> {
    match rows::get(connection, order_no)?.status {
        OrderStatus::PendingPayment => {}
        same if same == to => return rows::get(connection, order_no),
        OrderStatus::Closing => return rows::get(connection, order_no),
        other => return Err(Refusal::WrongState(other)),
    }
    match payments::live(connection, order_no)? {
        None => give_up(connection, order_no, to, now_ms)?,
        Some(payment) => {
            rows::set_closing(connection, order_no, to, now_ms)?;
            payments::want_close(connection, &payment.payment_no, close_at_ms)?;
        }
    }
    rows::get(connection, order_no)
}

/// Ends at most `limit` orders whose time was over at `now_ms`; answers how many.
pub(super) fn expire(connection: &Connection, now_ms: i64, limit: u32) -> Result<usize, Refusal> {
    let unpaid = rows::overdue(connection, OrderStatus::PendingPayment, now_ms, limit)?;
    for order_no in &unpaid {
        close_order(connection, order_no, OrderStatus::Expired, now_ms, now_ms)?;
    }
    let unmade = rows::overdue(connection, OrderStatus::Creating, now_ms, limit)?;
    for order_no in &unmade {
        // The reservation may have been made without us hearing of it.
        rows::failed(connection, order_no, "RESERVATION_TIMEOUT", true, now_ms)?;
    }
    Ok(unpaid.len().max(unmade.len()))
}

/// The channel has charged.
fn succeeded(
    connection: &Connection,
    payment: &Payment,
    trade_no: Option<&str>,
    source: &str,
    now_ms: i64,
) -> Result<(), Refusal> {
    let order = rows::get(connection, &payment.order_no)?;
    if payment.status == PaymentStatus::Success {
        return same_again(connection, payment, trade_no, now_ms);
    }
    payments::set_status(connection, payment, PaymentStatus::Success, trade_no, source, now_ms)?;
    // This one may have been believed ended, and another one begun since. It would be asked for without end, and could
    // be paid as well.
    if let Some(other) = payments::live(connection, &order.order_no)? {
        payments::want_close(connection, &other.payment_no, now_ms)?;
    }
    match order.status {
        OrderStatus::PendingPayment | OrderStatus::Closing => paid(connection, payment, now_ms),
        OrderStatus::Expired => {
            rows::event(connection, &order.order_no, "LATE_PAYMENT", &payment.payment_no, now_ms)?;
            paid(connection, payment, now_ms)
        }
        OrderStatus::Cancelled | OrderStatus::Failed | OrderStatus::Creating => {
            rows::event(connection, &order.order_no, "LATE_PAYMENT", &payment.payment_no, now_ms)?;
            refund(connection, payment, "the order was given up", now_ms)
        }
        OrderStatus::Paid | OrderStatus::Delivered | OrderStatus::Refunding | OrderStatus::Refunded => {
            rows::event(connection, &order.order_no, "DUPLICATE_CHARGE", &payment.payment_no, now_ms)?;
            refund(connection, payment, "the order was paid already", now_ms)
        }
    }
}

/// A success that is known already. With another number of the channel it is a second charge under one payment: the
/// channel has to be asked by a person, since a refund by our number would hit the wrong one.
fn same_again(connection: &Connection, payment: &Payment, trade_no: Option<&str>, now_ms: i64) -> Result<(), Refusal> {
    if let (Some(old), Some(new)) = (payment.trade_no.as_deref(), trade_no)
        && old != new
    {
        let detail = format!("{} has trade {old} and {new}", payment.payment_no);
        rows::event(connection, &payment.order_no, "DUPLICATE_CHARGE", &detail, now_ms)?;
    }
    Ok(())
}

fn paid(connection: &Connection, payment: &Payment, now_ms: i64) -> Result<(), Refusal> {
    let order_no = &payment.order_no;
    rows::set_paid_payment(connection, order_no, &payment.payment_no)?;
    rows::set_status(connection, order_no, OrderStatus::Paid, &payment.payment_no, now_ms)?;
    // If the keys have not been put back yet, they need not be.
    rows::end_task(connection, TaskKind::Release, order_no)?;
    rows::add_task(connection, TaskKind::Deliver, order_no, now_ms, now_ms)?;
    Ok(())
}

fn refund(connection: &Connection, payment: &Payment, why: &str, now_ms: i64) -> Result<(), Refusal> {
    payments::set_refund(connection, &payment.payment_no, Refund::Wanted)?;
    let detail = format!("{}: {why}", payment.payment_no);
    rows::event(connection, &payment.order_no, "REFUND_WANTED", &detail, now_ms)?;
    rows::add_task(connection, TaskKind::Refund, &payment.payment_no, now_ms, now_ms)?;
    Ok(())
}

/// The keys of a PAID order have been issued.
pub(super) fn delivered(connection: &Connection, order_no: &str, now_ms: i64) -> Result<(), Refusal> {
    rows::end_task(connection, TaskKind::Deliver, order_no)?;
    if rows::get(connection, order_no)?.status == OrderStatus::Paid {
        rows::set_status(connection, order_no, OrderStatus::Delivered, "", now_ms)?;
    }
    Ok(())
}

/// The keys of a PAID order will not be issued: the money goes back.
pub(super) fn undeliverable(connection: &Connection, order_no: &str, why: &str, now_ms: i64) -> Result<(), Refusal> {
    rows::end_task(connection, TaskKind::Deliver, order_no)?;
    let order = rows::get(connection, order_no)?;
    let (OrderStatus::Paid, Some(payment_no)) = (order.status, &order.paid_payment) else {
        return Ok(());
    };
    rows::set_status(connection, order_no, OrderStatus::Refunding, why, now_ms)?;
    let payment = payments::get(connection, payment_no)?;
    refund(connection, &payment, why, now_ms)
}

/// The channel has paid a payment back.
pub(super) fn refunded(connection: &Connection, payment_no: &str, now_ms: i64) -> Result<(), Refusal> {
    rows::end_task(connection, TaskKind::Refund, payment_no)?;
    let payment = payments::get(connection, payment_no)?;
    if payment.refund != Some(Refund::Wanted) {
        return Ok(());
    }
    payments::set_refund(connection, payment_no, Refund::Done)?;
    let order = rows::get(connection, &payment.order_no)?;
    if order.status == OrderStatus::Refunding && order.paid_payment.as_deref() == Some(payment_no) {
        rows::set_status(connection, &order.order_no, OrderStatus::Refunded, payment_no, now_ms)?;
    }
    rows::event(connection, &order.order_no, "REFUND_DONE", payment_no, now_ms)?;
    Ok(())
}
