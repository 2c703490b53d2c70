//! The card-key service: sells keys (gift cards, game codes) exactly once each.
//!
//! The order service reserves keys when an order is placed (`POST /v1/reservations`) and has them issued when it is
//! paid (`POST /v1/allocations`); the buyer reads them with his query password. Both calls are idempotent by order
//! number, and neither answer holds a key: what passes through the gateway and its stores is a number of keys only.
//!
//! | File | What |
//! | --- | --- |
//! | `shop` | the operations, each durable before it is answered |
//! | `rows`, `catalogue`, `schema` | the rows and the decisions on them, inside the writer's transaction |
//! | `allocator` | which keys are free, in memory |
//! | `keyring`, `password` | encryption at rest, fingerprints, query passwords |
//! | `import` | a million keys in one call with bounded memory |
//! | `inspect` | does everything add up |
//! | `http`, `admin` | the interface for shops and for sellers |

mod admin;
mod allocator;
mod catalogue;
pub mod cli;
mod http;
mod import;
mod inspect;
mod keyring;
mod metrics;
mod password;
mod rows;
mod schema;
mod seed;
mod shop;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use keyring::KeySource;
use shop::Shop;

use crate::support::{Running, StartError, Stop, unix_ms};

/// Name of the data file inside the data folder.
const DATA_FILE: &str = "card-key.sqlite";

/// Everything the service can be told.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Address to listen on; port 0 takes any free one.
    pub listen: SocketAddr,
    /// Folder of the data file, made when absent.
    pub data_dir: PathBuf,
    /// Where the key that seals the card keys comes from.
    pub key: KeySource,
    /// Put three demo products with keys into an empty store.
    pub seed_demo: bool,
    /// How often reservations whose time is over are looked for.
    pub sweep_every: Duration,
}

/// Opens the data, builds the free lists and listens.
///
/// # Errors
/// When the address is taken, the data file cannot be opened or was made by a newer version, or the key does not fit.
pub async fn start(settings: Settings) -> Result<Running, StartError> {
    let shop = Arc::new(Shop::open(&settings).await?);
    if settings.seed_demo {
        seed::demo(&shop).await?;
    }
    let stop = Stop::new();
    let sweeper = tokio::spawn(sweep(Arc::clone(&shop), settings.sweep_every, stop.clone()));
    let router = http::router(shop);
    Running::start("card-key", settings.listen, router, stop, vec![sweeper]).await
}

/// Gives reservations back when their time is over, until the service stops.
async fn sweep(shop: Arc<Shop>, every: Duration, stop: Stop) {
    loop {
        tokio::select! {
            () = stop.requested() => return,
            () = tokio::time::sleep(every) => {}
        }
        if let Err(problem) = shop.expire(unix_ms()).await {
            tracing::warn!(code = problem.code, "reservations could not be expired, trying again");
        }
    }
}
