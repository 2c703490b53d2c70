//! What can be done about differences without a person, and only when asked for.
//!
//! Money is moved by nobody here. A payment that the channel has and we do not is asked for at its channel, and what the
//! channel says is taken in as a notification would have been; the order service knows what follows. A charge that is
//! one too many becomes a proposal. Both can be repeated.

use futures_util::future::BoxFuture;
use serde::Serialize;
use tidegate_durable::WriteError;

use super::run::Runs;
use super::{RunError, store};
use crate::support::unix_ms;

/// Items looked at together.
const PAGE: u32 = 200;

/// Whoever can ask a channel for a payment of ours.
pub trait Redrive: Send + Sync + 'static {
    /// Asks where the payment stands, takes the answer in, and answers our state of the payment then.
    fn redrive(&self, out_trade_no: String) -> BoxFuture<'_, Result<String, String>>;
}

/// What a repair has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Repaired {
    /// Payments that are held for paid now.
    pub taken_in: u64,
    /// Payments that were asked for and are not held for paid; a person has to look.
    pub still_open: u64,
    /// Refunds proposed.
    pub proposed: u64,
}

/// Repairs what can be repaired in a run.
///
/// # Errors
/// When the file of runs cannot be read or written. Payments that cannot be asked for are counted, not an error.
pub async fn repair(runs: &Runs, id: &str, channel: &dyn Redrive) -> Result<Repaired, RunError> {
    let (mut done, mut after) = (Repaired::default(), 0);
    loop {
        let run = id.to_owned();
        let page = runs.store.read(move |connection| store::repairable(connection, &run, after, PAGE)).await?;
        let Some(last) = page.last() else { return Ok(done) };
        after = last.n;
        for item in page {
            let (run, now_ms) = (id.to_owned(), unix_ms());
            let written: Result<(), WriteError<rusqlite::Error>> = if item.field("action") == "propose_refund" {
                done.proposed += 1;
                runs.store.write(move |connection| store::propose_refund(connection, &run, &item, now_ms)).await
            } else {
                let told = channel.redrive(item.field("out_trade_no").to_owned()).await;
                let settled = told.as_deref() == Ok("SUCCESS");
                *(if settled { &mut done.taken_in } else { &mut done.still_open }) += 1;
                let outcome = match told {
                    Ok(status) => format!("asked for: {status}"),
                    Err(why) => format!("could not be asked for: {why}"),
                };
                runs.store
                    .write(move |connection| {
                        store::set_outcome(connection, &run, item.n, &outcome)?;
                        if settled {
                            store::resolve(connection, &run, item.n, "taken in", now_ms)?;
                        }
                        Ok(())
                    })
                    .await
            };
            written.map_err(RunError::from)?;
        }
    }
}
