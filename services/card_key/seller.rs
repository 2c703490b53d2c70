//! What sellers do: orders confirmed, delivered again and refunded, batches taken off sale, moved and exported.
//!
//! Whatever changes something leaves a row in the log of operations in the same transaction. A change of a batch is
//! made in chunks, so that a million keys do not keep buyers waiting; each chunk is whole, and sending the same request
//! again does what is left.

use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;
use serde::Serialize;
use serde_json::{Value, json};

use super::batches::{self, Batch, Resealed, Shift, Shifted};
use super::catalogue::{Shelf, Source};
use super::delivery::{self, Outcome};
use super::journal::{self, Sign};
use super::refusal::Refusal;
use super::rows::{self, State, Status, Stored, Wanted};
use super::shop::{Shop, to_the_end};
use crate::support::{Problem, unix_ms};

/// Keys changed in one transaction. They lie side by side in the file, so that is some 20 ms in the writer.
const CHUNK: u32 = 2_000;

/// Short orders tried in one transaction.
const REDELIVERED_AT_ONCE: usize = 20;

/// Keys whose commit is a moment old are waited for so often, with this pause.
const PASSES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(25);

/// What a change of a batch did.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Changed {
    /// Keys that were changed.
    changed: usize,
    /// Keys that were being sold at that moment.
    left: usize,
}

/// How one click on "deliver what is short" ended.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Redelivered {
    delivered: u64,
    still_short: u64,
}

impl Shop {
    /// Confirms by hand that an order is paid, or tries again to deliver it: the way of every paid order, with a name.
    pub(super) async fn pay_by_hand(
        self: &Arc<Self>,
        order_no: String,
        action: &'static str,
        sign: Sign,
    ) -> Result<(bool, Outcome), Problem> {
        let shop = Arc::clone(self);
        let number = order_no.clone();
        let found = self.store.read(move |connection| rows::find(connection, &number)).await?;
        let wanted = found.ok_or(Refusal::UnknownOrder)?.wanted;
        if action == "redeliver" {
            self.require_paid(&order_no).await?;
        }
        let product = self.product(&wanted.sku)?;
        self.deliver(move |connection| {
            let (list, now_ms) = (shop.stock.of(&wanted.sku), unix_ms());
            let paid = delivery::pay(connection, &list, &product, &wanted, now_ms)?;
            let detail = json!({ "outcome": paid.outcome, "now": paid.now });
            journal::log(connection, &sign, action, &order_no, &detail, now_ms)?;
            Ok((wanted.qty, paid))
        })
        .await
    }

    /// Only what is paid can be delivered again; an order does not become unpaid, so looking before is enough.
    async fn require_paid(&self, order_no: &str) -> Result<(), Problem> {
        let number = order_no.to_owned();
        let order = self.store.read(move |connection| rows::find(connection, &number)).await?;
        if order.is_some_and(|order| order.status.is_paid()) { Ok(()) } else { Err(Refusal::NotPaid.into()) }
    }

    /// Tries to deliver every short order, those paid first at the front; one that does not fit lets others pass.
    pub(super) async fn redeliver_all(
        self: &Arc<Self>,
        sku: Option<String>,
        sign: Sign,
    ) -> Result<Redelivered, Problem> {
        let shop = Arc::clone(self);
        to_the_end(async move {
            let all = move |connection: &Connection| rows::waiting(connection, Status::Short, sku.as_deref(), u32::MAX);
            let short: Vec<_> = shop.store.read(all).await?.into_iter().map(|order| order.wanted).collect();
            let mut total = Redelivered::default();
            for orders in short.chunks(REDELIVERED_AT_ONCE) {
                let (orders, sign, inner) = (orders.to_vec(), sign.clone(), Arc::clone(&shop));
                let paid = shop.write(move |connection| inner.redeliver(connection, &orders, &sign)).await?;
                for (qty, paid) in paid {
                    if paid.outcome == Outcome::Delivered {
                        total.delivered += 1
                    } else {
                        total.still_short += 1
                    }
                    shop.counters.issued_keys.add(if paid.now { u64::from(qty) } else { 0 });
                    if let Some(taken) = paid.taken {
                        taken.keep();
                    }
                }
            }
            Ok(total)
        })
        .await
    }

    fn redeliver(
        &self,
        connection: &Connection,
        orders: &[Wanted],
        sign: &Sign,
    ) -> Result<Vec<(u32, delivery::Paid)>, Refusal> {
        let now_ms = unix_ms();
        let mut all = Vec::new();
        for wanted in orders {
            let product = self.product(&wanted.sku).map_err(|_| Refusal::UnknownSku)?;
            let paid = match delivery::pay(connection, &self.stock.of(&wanted.sku), &product, wanted, now_ms) {
                // Refunded since the list was read.
                Err(Refusal::Refunded) => continue,
                other => other?,
            };
            if paid.now {
                journal::log(connection, sign, "redeliver", &wanted.order_no, &json!({ "of_all": true }), now_ms)?;
            }
            all.push((wanted.qty, paid));
        }
        Ok(all)
    }

    /// Writes down that the money of an order goes back; `false` when that was done before.
    pub(super) async fn refund(self: &Arc<Self>, order_no: String, sign: Sign) -> Result<bool, Problem> {
        self.write(move |connection| {
            let now_ms = unix_ms();
            let now = delivery::refund(connection, &order_no, now_ms)?;
            if now {
                journal::log(connection, &sign, "refund", &order_no, &json!({}), now_ms)?;
            }
            Ok(now)
        })
        .await
    }

    /// Delivers an order of a manual product; `false` when that was done before.
    pub(super) async fn deliver_by_hand(
        self: &Arc<Self>,
        order_no: String,
        keys: Vec<String>,
        sign: Sign,
    ) -> Result<bool, Problem> {
        let number = order_no.clone();
        let found = self.store.read(move |connection| rows::find(connection, &number)).await?;
        let sku = found.ok_or(Refusal::UnknownOrder)?.wanted.sku;
        let sealed: Option<Vec<_>> = keys.iter().map(|key| self.keyring.seal(&sku, key)).collect();
        let sealed = sealed.ok_or_else(Problem::internal)?;
        let now = self
            .write(move |connection| {
                let now_ms = unix_ms();
                let now = delivery::by_hand(connection, &order_no, &sealed, now_ms)?;
                if now {
                    journal::log(connection, &sign, "deliver", &order_no, &json!({ "keys": sealed.len() }), now_ms)?;
                }
                Ok(now)
            })
            .await?;
        self.counters.issued_keys.add(if now { keys.len() as u64 } else { 0 });
        Ok(now)
    }

    /// The batch with this id, and the state in which its keys are on sale.
    pub(super) async fn batch(&self, id: i64) -> Result<(Batch, State), Problem> {
        let batch = self.store.read(move |connection| Ok(batches::get(connection, id))).await??;
        let on_sale = self.product(&batch.sku)?.on_sale();
        Ok((batch, on_sale))
    }

    /// Takes the unsold keys of a batch off sale or puts them back.
    pub(super) async fn shift(
        self: &Arc<Self>,
        id: i64,
        (shift, action): (Shift, String),
        sign: Sign,
    ) -> Result<Changed, Problem> {
        let (batch, on_sale) = self.batch(id).await?;
        let list = self.stock.of(&batch.sku);
        self.in_passes(&batch.sku.clone(), move |shop, after| {
            let (list, sign, action) = (Arc::clone(&list), sign.clone(), format!("batch.{action}"));
            async move {
                shop.write(move |connection| {
                    let done = batches::shift(connection, &list, id, (shift, on_sale), after, CHUNK)?;
                    log_chunk(connection, &sign, &action, id, &done, json!({}))?;
                    Ok(done)
                })
                .await
            }
        })
        .await
    }

    /// Moves the keys of a batch that are on sale to another product of the same kind.
    pub(super) async fn relocate(self: &Arc<Self>, id: i64, shelf: Shelf, sign: Sign) -> Result<Changed, Problem> {
        let (batch, on_sale) = self.batch(id).await?;
        let target = self.product(&shelf.sku)?;
        if target.on_sale() != on_sale || target.policy.kind != self.product(&batch.sku)?.policy.kind {
            return Err(Refusal::OtherKind.into());
        }
        if target.sku == batch.sku {
            return Err(Problem::invalid("the batch belongs to this product already"));
        }
        let shelf = Arc::new(Shelf { source: Source::Move, state: on_sale, ..shelf });
        let to = shelf.sku.clone();
        self.in_passes(&to, move |shop, after| {
            let (sku, shelf, sign) = (batch.sku.clone(), Arc::clone(&shelf), sign.clone());
            async move {
                let states = [on_sale, on_sale];
                let stored = shop.store.read(move |connection| batches::unsold(connection, id, states, after, CHUNK));
                let resealed = Arc::clone(&shop).reseal(stored.await?, shelf.sku.clone()).await?;
                if resealed.is_empty() {
                    return Ok(Shifted::default());
                }
                let list = shop.stock.of(&sku);
                shop.write(move |connection| {
                    let done = batches::relocate(connection, &list, &sku, &shelf, &resealed, unix_ms())?;
                    let to = json!({ "to": shelf.sku, "batch": shelf.batch });
                    log_chunk(connection, &sign, "batch.move", id, &done, to)?;
                    Ok(done)
                })
                .await
            }
        })
        .await
    }

    async fn reseal(self: Arc<Self>, keys: Vec<(i64, Stored)>, sku: String) -> Result<Vec<Resealed>, Problem> {
        let reseal = move |(id, stored): (i64, Stored)| {
            let secret = self.open_key(&stored)?;
            let sealed = self.keyring.seal(&sku, &secret).ok_or_else(Problem::internal)?.sealed;
            Ok(Resealed { id, sealed })
        };
        tokio::task::spawn_blocking(move || keys.into_iter().map(reseal).collect())
            .await
            .unwrap_or_else(|_| Err(Problem::internal()))
    }

    /// Runs `chunk` behind the last id of the one before until none is left, again while keys were not on their list
    /// yet, and puts those that are on sale on the list of `sku`.
    async fn in_passes<C, F>(self: &Arc<Self>, sku: &str, chunk: C) -> Result<Changed, Problem>
    where
        C: Fn(Arc<Self>, i64) -> F + Send + 'static,
        F: Future<Output = Result<Shifted, Problem>> + Send,
    {
        let (shop, list) = (Arc::clone(self), self.stock.of(sku));
        to_the_end(async move {
            let mut total = Changed::default();
            for _ in 0..PASSES {
                total.left = 0;
                let mut after = 0;
                loop {
                    let done = chunk(Arc::clone(&shop), after).await?;
                    if let Some(taken) = done.taken {
                        taken.keep();
                    }
                    list.add(&done.on_sale);
                    total.changed += done.ids.len();
                    total.left += done.busy;
                    match done.last {
                        Some(last) => after = last,
                        None => break,
                    }
                }
                if total.left == 0 {
                    break;
                }
                tokio::time::sleep(PAUSE).await;
            }
            Ok(total)
        })
        .await
    }

    /// Writes down that somebody takes the unsold keys of a batch out of the shop; answers them chunk by chunk after it.
    pub(super) async fn begin_export(&self, id: i64, sign: Sign) -> Result<State, Problem> {
        let (batch, on_sale) = self.batch(id).await?;
        let unsold =
            json!({ "sku": batch.sku, "unsold": batch.counts.free + batch.counts.shared + batch.counts.paused });
        self.write(move |connection| {
            Ok(journal::log(connection, &sign, "batch.export", &subject(id), &unsold, unix_ms())?)
        })
        .await?;
        Ok(on_sale)
    }

    /// The next chunk of an export as text, one key a line, and the id to go on behind; absent at the end.
    pub(super) async fn export(
        self: &Arc<Self>,
        id: i64,
        on_sale: State,
        after: i64,
    ) -> Result<Option<(i64, String)>, Problem> {
        let states = [on_sale, State::Paused];
        let stored = self.store.read(move |connection| batches::unsold(connection, id, states, after, CHUNK)).await?;
        let Some(last) = stored.last().map(|(id, _)| *id) else { return Ok(None) };
        let shop = Arc::clone(self);
        let open = move || stored.iter().map(|(_, stored)| Ok(shop.open_key(stored)? + "\n")).collect();
        let text: Result<String, Problem> =
            tokio::task::spawn_blocking(open).await.unwrap_or_else(|_| Err(Problem::internal()));
        Ok(Some((last, text?)))
    }
}

/// The name of a batch in the log.
fn subject(id: i64) -> String {
    format!("batch {id}")
}

fn log_chunk(
    connection: &Connection,
    sign: &Sign,
    action: &str,
    id: i64,
    done: &Shifted,
    mut detail: Value,
) -> Result<(), Refusal> {
    if done.ids.is_empty() {
        return Ok(());
    }
    detail["keys"] = json!(done.ids.len());
    Ok(journal::log(connection, sign, action, &subject(id), &detail, unix_ms())?)
}
