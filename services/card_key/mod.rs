//! The card-key service: sells keys (gift cards, game codes) exactly once each.
//!
//! The order service reserves keys when an order is placed (`POST /v1/reservations`) and has them issued when it is
//! paid (`POST /v1/allocations`); the buyer reads them with his query password. Both calls are idempotent by order
//! number, and neither answer holds a key: what passes through the gateway and its stores is a number of keys only.
//!
//! | File | What |
//! | --- | --- |
//! | `shop`, `seller` | the operations, each durable before it is answered |
//! | `reserving`, `delivery` | the decisions on an order before and after its payment, inside the writer's transaction |
//! | `rows`, `catalogue`, `batches`, `journal`, `schema` | the rows |
//! | `policy`, `price` | what a seller decides for a product; what an order costs |
//! | `allocator` | which keys are on sale, in memory |
//! | `keyring`, `password`, `token` | encryption at rest, fingerprints, query passwords, download tokens |
//! | `import`, `generate`, `permutation`, `pace` | a million keys in one call with bounded memory; keys that are made up |
//! | `inspect` | does everything add up |
//! | `http`, `hook`, `buyer` | the interface for shops, and through them for buyers |
//! | `admin`, `selling`, `guard` | the interface for sellers, and who may use it |

mod admin;
mod allocator;
mod batches;
mod buyer;
mod catalogue;
pub mod cli;
mod delivery;
mod generate;
mod guard;
mod hook;
mod http;
mod import;
pub(crate) mod inspect;
mod journal;
mod keyring;
mod metrics;
mod pace;
mod password;
mod permutation;
mod policy;
mod price;
mod refusal;
mod reserving;
mod rows;
mod schema;
mod seed;
mod seller;
mod selling;
mod shop;
#[cfg(test)]
mod tests;
mod token;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use keyring::KeySource;
use shop::Shop;

use crate::support::{Running, Secret, StartError, Stop, unix_ms};

/// Name of the data file inside the data folder.
pub(crate) const DATA_FILE: &str = "card-key.sqlite";

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
    /// Signs paid events; without it the way for them is closed.
    pub hook_secret: Option<Secret>,
    /// What sellers show; without it they are served on loopback only.
    pub admin_token: Option<Secret>,
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
    let guard = guard::Guard::new(settings.admin_token, settings.listen);
    let router = http::router(shop, guard);
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
