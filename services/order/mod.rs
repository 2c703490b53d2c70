//! The order service: takes orders, has them paid through the gateway's egress, has the keys issued; and the shop page.
//!
//! An order is a row before anything else happens, and every further step is decided in one transaction together with
//! the row for what has to be done next. Calls to others come after the commit and are all idempotent, so a kill at any
//! moment loses nothing and does nothing twice.
//!
//! ```text
//! CREATING ─ reserved ─> PENDING_PAYMENT ─ success ─> PAID ─ issued ─> DELIVERED
//!     └ no keys ─> FAILED       │                       └ no keys ─> REFUNDING ─> REFUNDED
//!                               └ cancel, time ─> (CLOSING: payment closed at its channel) ─> CANCELLED, EXPIRED
//! ```
//!
//! | File | What |
//! | --- | --- |
//! | `desk` | the operations, each durable before it is answered |
//! | `settle` | what follows from the outcome of a payment |
//! | `files` | the files, and the way to the right one |
//! | `rows`, `payments`, `schema`, `model` | the rows and their states |
//! | `resolver`, `sounding`, `redrive` | finding out how payments ended, and where they are, also when a bill says so |
//! | `work` | the background |
//! | `near` | what is asked for all the time, in memory |
//! | `stock`, `channel` | the card-key service and the payment channels, over HTTP |
//! | `merchant` | channels that speak Alipay's, WeChat Pay's or Epay's dialect |
//! | `notify` | notifications of the channels |
//! | `sale` | what the waiting room in front is told |
//! | `events`, `stream` | what follows from changes for others: counts, and notices to buyers as they come |
//! | `http`, `view`, `token` | the interface for buyers, and who they are |
//! | `operations` | the interface for operators |
//! | `secret`, `number` | the key of this service, order numbers |
//! | `inspect`, `metrics` | does everything add up |
//! | `page` | the shop: HTML, CSS and JavaScript, no build step |
//!
//! The process also serves [`crate::accounts`] and [`crate::reconciliation`].

mod channel;
pub mod cli;
mod desk;
mod events;
mod files;
mod http;
pub(crate) mod inspect;
mod merchant;
mod metrics;
mod model;
mod near;
mod notify;
mod number;
mod operations;
mod page;
mod payments;
mod redrive;
mod resolver;
mod rows;
mod sale;
mod schema;
mod secret;
mod settle;
mod sounding;
mod stock;
mod stream;
#[cfg(test)]
mod tests;
mod token;
mod view;
mod work;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use desk::Desk;

pub use merchant::Bills;

use crate::accounts;
use crate::reconciliation::{self, Runs};
use crate::support::{Files, Running, Secret, StartError, Stop, signature};

/// What the names of the data files inside the data folder begin with.
pub(crate) const SERVICE: &str = "order";

/// Signs the tokens of buyers unless another secret is given; the gateway's example configuration has the same.
pub const DEFAULT_JWT_SECRET: &str = "development-only-secret-of-the-bundled-shop";

/// Everything the service can be told.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Address to listen on; port 0 takes any free one.
    pub listen: SocketAddr,
    /// Folder of the data file and the key file, made when absent.
    pub data_dir: PathBuf,
    /// Base URL of the card-key service.
    pub card_key: String,
    /// Base URL under which the payment channels are reached.
    pub egress: String,
    /// Base URL under which the payment channels reach this service.
    pub public_url: String,
    /// Signs the tokens of buyers.
    pub jwt_secret: Secret,
    /// Signs the notifications of channels that speak plain JSON.
    pub channel_secret: Secret,
    /// Product that people wait for in the gateway's waiting room.
    pub sale: String,
    /// File that says which channels speak a dialect, and who we are there; absent: all speak plain JSON.
    pub merchants: Option<PathBuf>,
    /// Time to pay.
    pub pay_within: Duration,
    /// Longest a call to a channel may take.
    pub channel_timeout: Duration,
    /// Longest a buyer waits for a channel before he is told to look again.
    pub answer_within: Duration,
    /// Time after a payment was sent from which a channel that does not know it is believed; at least as long as a call
    /// may take.
    pub not_found_min_age: Duration,
    /// Unit of the waiting times between tries: 1, 2, 4, 8, 15, 30, then 60 of them.
    pub retry_unit: Duration,
    /// Products that are asked for at the start, before a sale.
    pub preheat: Vec<String>,
    /// How often rows that are due are looked for.
    pub sweep_every: Duration,
    /// Over how many files the orders are spread. Files that were written with another number are not opened.
    pub shards: Files,
    /// Most operations that share a commit of a file, and so an fsync; at least 1.
    pub max_batch: usize,
    /// The accounts that are served beside the orders.
    pub accounts: accounts::Settings,
}

/// Opens the data, resumes what a crash left behind, and listens.
///
/// # Errors
/// When the address is taken or the data cannot be opened. The card-key service and the channels may come later.
pub async fn start(settings: Settings) -> Result<Running, StartError> {
    for (secret, default) in
        [(&settings.jwt_secret, DEFAULT_JWT_SECRET), (&settings.channel_secret, signature::DEVELOPMENT_SECRET)]
    {
        if secret.bytes().is_empty() {
            return Err(StartError::Setup("a shared secret must not be empty".to_owned()));
        }
        if secret.bytes() == default.as_bytes() {
            tracing::warn!(secret = default, "a secret that everybody knows is in use");
        }
    }
    if settings.not_found_min_age < settings.channel_timeout {
        let why = "a channel that does not know a payment cannot be believed while the call may still be on its way: \
            the age for that must not be less than the time a call may take";
        return Err(StartError::Setup(why.to_owned()));
    }
    let (listen, data_dir) = (settings.listen, settings.data_dir.clone());
    let bank = accounts::Bank::open(&data_dir, settings.accounts.clone()).await?;
    let stop = Stop::new();
    let desk = Arc::new(Desk::open(settings, stop.clone()).await?);
    let mut workers = work::start(&desk, &stop);
    workers.push(tokio::spawn(work::preheat(Arc::clone(&desk), stop.clone())));
    workers.extend(events::start(&desk, &stop));
    workers.extend(bank.work(&stop));
    let repair = Arc::new(redrive::Here(Arc::clone(&desk)));
    let reconciling = reconciliation::Desk::new(Runs::open(&data_dir)?, &data_dir, repair);
    let router = http::router(desk).merge(accounts::router(bank)).merge(reconciliation::router(reconciling));
    Running::start("order", listen, router, stop, workers).await
}

/// How long to wait after the `tries`-th failure (from 0), in milliseconds.
fn backoff_ms(unit: Duration, tries: u32) -> i64 {
    const STEPS: [u32; 7] = [1, 2, 4, 8, 15, 30, 60];
    let step = STEPS[(tries as usize).min(STEPS.len() - 1)];
    i64::try_from((unit * step).as_millis()).unwrap_or(i64::MAX)
}
