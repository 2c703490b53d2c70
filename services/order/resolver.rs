//! Finds out how payments ended, for as long as it takes.
//!
//! A payment whose outcome is open is asked for at its own channel, under our number, after 1, 2, 4, 8, 15, 30 and then
//! every 60 seconds; a notification makes that unnecessary at any time. A channel that does not know the number proves
//! nothing while the first call may still be on its way. Two things are safe then: sending the same payment with the
//! same number again, and closing it; and closing it only while no call can be on its way.

use std::sync::Arc;

use super::channel::{Heard, Reply};
use super::desk::Desk;
use super::model::{Channel, Payment, PaymentStatus};
use super::settle::{self, Report, Told};
use super::{backoff_ms, payments, sounding};
use crate::support::unix_ms;

/// "Not found" so often in a row is believed.
pub(super) const BELIEVED: u32 = 2;

/// Calls the channel for a payment that has just been written down.
pub(super) async fn start(desk: Arc<Desk>, payment: Payment) {
    let Heard { reply, from } = desk.channels.create(&payment).await;
    match reply {
        Reply::NotSent(why) => not_sent(&desk, &payment, why).await,
        Reply::NotFound => not_sent(&desk, &payment, "the channel has no such service".to_owned()).await,
        reply => absorb(&desk, &payment, reply, from, "answer").await,
    }
}

/// Asks for a payment that is due, or closes it if that is wanted.
pub(super) async fn resolve(desk: Arc<Desk>, payment: Payment) {
    let Some(channel) = payment.channel else {
        return sounding::sound(&desk, &payment).await;
    };
    if payment.close_wanted {
        return close(desk, payment).await;
    }
    match desk.channels.query(&payment, channel).await {
        // The same payment again, with the same number and key: at worst the channel says that it has it already.
        Reply::NotFound if payment.not_found + 1 >= BELIEVED => send_again(&desk, payment).await,
        reply => absorb(&desk, &payment, reply, Some(channel), "query").await,
    }
}

/// Sends a payment to its channel again, unless somebody has decided otherwise since it was looked at.
async fn send_again(desk: &Desk, payment: Payment) {
    let (number, now_ms) = (payment.payment_no.clone(), unix_ms());
    let file = desk.home(&payment);
    let noted = file.write(move |connection| Ok(payments::send_again(connection, &number, now_ms)?)).await;
    match noted {
        Ok(true) => {
            let payment = Payment { not_found: 0, ..payment };
            let Heard { reply, from } = desk.channels.create(&payment).await;
            absorb(desk, &payment, reply, from, "answer").await;
        }
        // Whoever decided has set the time at which it is looked at next.
        Ok(false) => {}
        Err(problem) => finish(desk, &payment, Err(problem)),
    }
}

/// Has the channel close a payment; what it says instead counts as well.
pub(super) async fn close(desk: Arc<Desk>, payment: Payment) {
    let Some(channel) = payment.channel else {
        return sounding::sound(&desk, &payment).await;
    };
    let reply = match desk.channels.close(&payment, channel).await {
        told @ Reply::Told(_) => told,
        Reply::NotFound => {
            // No call can still be on its way. Should one be, its success is a late payment.
            if is_old(&desk, &payment) && payment.not_found + 1 >= BELIEVED {
                told(Told::Closed)
            } else {
                Reply::NotFound
            }
        }
        // Refused, perhaps because it is paid.
        Reply::NotSent(_) | Reply::Unknown(_) => desk.channels.query(&payment, channel).await,
    };
    absorb(&desk, &payment, reply, Some(channel), "close").await;
}

/// Whether no call can be on its way any more.
pub(super) fn is_old(desk: &Desk, payment: &Payment) -> bool {
    unix_ms() >= old_at_ms(desk, payment)
}

/// From when on that is so.
pub(super) fn old_at_ms(desk: &Desk, payment: &Payment) -> i64 {
    let age_ms = i64::try_from(desk.settings.not_found_min_age.as_millis()).unwrap_or(i64::MAX);
    payment.updated_ms.saturating_add(age_ms)
}

fn told(state: Told) -> Reply {
    Reply::Told(Report { state, trade_no: None, amount: None, currency: None })
}

async fn not_sent(desk: &Desk, payment: &Payment, why: String) {
    let (payment_no, now_ms) = (payment.payment_no.clone(), unix_ms());
    let file = desk.home(payment);
    let done = file.write(move |connection| settle::not_sent(connection, &payment_no, &why, now_ms)).await;
    finish(desk, payment, done.map(|()| true));
}

/// Writes down what came of a call and, while the outcome is open, when to ask again.
pub(super) async fn absorb(desk: &Desk, payment: &Payment, reply: Reply, from: Option<Channel>, source: &'static str) {
    let (payment_no, now_ms) = (payment.payment_no.clone(), unix_ms());
    let not_found = if reply == Reply::NotFound { payment.not_found + 1 } else { 0 };
    let due_ms = now_ms + backoff_ms(desk.settings.retry_unit, payment.tries);
    let written = desk
        .home(payment)
        .write(move |connection| {
            let believed = match &reply {
                Reply::Told(report) => settle::apply(connection, &payment_no, from, report, source, now_ms)?,
                Reply::Unknown(why) | Reply::NotSent(why) => {
                    settle::unknown(connection, &payment_no, from, why, now_ms)?;
                    true
                }
                Reply::NotFound => {
                    settle::unknown(connection, &payment_no, from, "the channel does not know it", now_ms)?;
                    true
                }
            };
            if !believed {
                settle::unknown(connection, &payment_no, from, "another amount", now_ms)?;
            }
            payments::look_again(connection, &payment_no, not_found, due_ms)?;
            Ok((believed, payments::get(connection, &payment_no)?.status != PaymentStatus::Pending))
        })
        .await;
    if let Ok((false, _)) = written {
        // Nothing here can decide it: it stays open until a person has talked to the channel.
        desk.counters.wrong_amounts.add(1);
        tracing::error!(payment_no = payment.payment_no, "a channel speaks of another amount; the payment stays open");
    }
    finish(desk, payment, written.map(|(_, follow)| follow));
}

/// Wakes the background when something may follow from what was written.
pub(super) fn finish(desk: &Desk, payment: &Payment, done: Result<bool, crate::support::Problem>) {
    match done {
        Ok(true) => desk.home(payment).ring(),
        Ok(false) => {}
        // The payment stays open, and its turn comes again.
        Err(problem) => {
            tracing::warn!(
                code = problem.code,
                payment_no = payment.payment_no,
                "an outcome could not be written down"
            );
        }
    }
}
