//! Finds out where a payment is when nobody has said so: the gateway chose a channel, and its answer was lost.
//!
//! Every channel is asked. One that has charged, or waits for the payer, is where the payment is. While one of them
//! cannot say, nothing is done. Only when all of them, twice in a row and when no call can be on its way any more, do
//! not know the payment or have declined it, and have agreed to close it, is it over; the buyer may pay anew then.

use futures_util::future::join_all;

use super::channel::Reply;
use super::desk::Desk;
use super::model::{Channel, Payment};
use super::resolver::{BELIEVED, absorb, finish, is_old, old_at_ms};
use super::settle::{self, Report, Told};
use super::{backoff_ms, payments};
use crate::support::unix_ms;

/// What all channels together say.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// It is here, and a charge also everywhere else that is listed.
    At(Vec<(Channel, Report)>),
    /// Not everybody could say.
    Open,
    /// It is nowhere, or nowhere any more; this channel declined it.
    Nowhere(Option<Channel>),
}

/// Puts the answers of all channels together.
pub(super) fn found(replies: &[(Channel, Reply)]) -> Found {
    let told = |wanted: Told| -> Vec<(Channel, Report)> {
        let reports = replies.iter().filter_map(|(channel, reply)| match reply {
            Reply::Told(report) if report.state == wanted => Some((*channel, report.clone())),
            _ => None,
        });
        reports.collect()
    };
    let charged = told(Told::Success);
    if !charged.is_empty() {
        return Found::At(charged);
    }
    let pending = told(Told::Pending);
    if !pending.is_empty() {
        return Found::At(pending.into_iter().take(1).collect());
    }
    if replies.iter().any(|(_, reply)| matches!(reply, Reply::Unknown(_) | Reply::NotSent(_))) {
        return Found::Open;
    }
    Found::Nowhere(told(Told::Declined).first().map(|(channel, _)| *channel))
}

/// Asks everybody, once.
pub(super) async fn sound(desk: &Desk, payment: &Payment) {
    let ask = |channel: &Channel| {
        let channel = *channel;
        async move { (channel, desk.channels.query(payment, channel).await) }
    };
    let replies = join_all(Channel::ALL.iter().map(ask)).await;
    match found(&replies) {
        Found::At(places) => {
            for (channel, report) in places {
                absorb(desk, payment, Reply::Told(report), Some(channel), "search").await;
            }
        }
        Found::Open => absorb(desk, payment, Reply::Unknown("not everybody answers".to_owned()), None, "search").await,
        Found::Nowhere(declined) if is_old(desk, payment) && payment.not_found + 1 >= BELIEVED => {
            let absent = replies.iter().filter(|(_, reply)| *reply == Reply::NotFound);
            let close = absent.map(async |(channel, _)| desk.channels.close(payment, *channel).await);
            let closed = join_all(close).await.iter().all(|reply| match reply {
                Reply::NotFound => true,
                Reply::Told(report) => matches!(report.state, Told::Closed | Told::Declined),
                Reply::NotSent(_) | Reply::Unknown(_) => false,
            });
            if closed {
                over(desk, payment, declined).await;
            } else {
                // Whoever did not hear it is told again in the next round: that nobody has it is believed already.
                nobody(desk, payment, payment.not_found).await;
            }
        }
        Found::Nowhere(_) => nobody(desk, payment, payment.not_found + 1).await,
    }
}

async fn over(desk: &Desk, payment: &Payment, declined: Option<Channel>) {
    let (number, now_ms) = (payment.payment_no.clone(), unix_ms());
    let file = desk.home(payment);
    let done = file.write(move |connection| settle::nowhere(connection, &number, declined, now_ms)).await;
    finish(desk, payment, done.map(|()| true));
}

/// When to ask again: at the latest when the answer will be believed. The buyer waits for that.
pub(super) fn no_later(now_ms: i64, due_ms: i64, old_at_ms: i64) -> i64 {
    if old_at_ms > now_ms { due_ms.min(old_at_ms) } else { due_ms }
}

/// Nobody has it, `times` in a row.
async fn nobody(desk: &Desk, payment: &Payment, times: u32) {
    let (number, now_ms) = (payment.payment_no.clone(), unix_ms());
    let due_ms = now_ms + backoff_ms(desk.settings.retry_unit, payment.tries);
    let due_ms = no_later(now_ms, due_ms, old_at_ms(desk, payment));
    let written = desk
        .home(payment)
        .write(move |connection| {
            settle::unknown(connection, &number, None, "no channel knows it", now_ms)?;
            Ok(payments::look_again(connection, &number, times, due_ms)?)
        })
        .await;
    finish(desk, payment, written.map(|()| false));
}
