//! The operations of the shop: each one decided and committed by the writer before it is answered.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use axum::http::StatusCode;
use parking_lot::RwLock;
use rusqlite::{Connection, OptionalExtension};
use subtle::ConstantTimeEq;
use tidegate_durable::{Options, Store, WriteError};

use super::allocator::Stock;
use super::catalogue::{self, Product};
use super::keyring::{self, Keyring};
use super::metrics::Counters;
use super::password::{self, Throttle};
use super::rows::{self, Refusal, Reservation, Status, Wanted};
use super::{DATA_FILE, Settings, schema};
use crate::support::{Problem, StartError};

/// Reservations given back in one transaction of the sweep; more would keep buyers waiting behind it.
const SWEEP_BATCH: u32 = 200;

/// What the service holds while it runs.
pub(super) struct Shop {
    pub(super) store: Store,
    pub(super) keyring: Arc<Keyring>,
    pub(super) stock: Stock,
    pub(super) throttle: Throttle,
    pub(super) counters: Counters,
    /// All products: a page view asks neither the file nor another thread.
    products: RwLock<BTreeMap<String, Product>>,
}

impl Shop {
    /// Opens the data and builds the free lists from the rows.
    pub(super) async fn open(settings: &Settings) -> Result<Self, StartError> {
        let path = settings.data_dir.join(DATA_FILE);
        let fresh = !path.exists();
        let store = Store::open(&path, schema::MIGRATIONS, Options::default())?;
        let master = keyring::master(&settings.key, &settings.data_dir, fresh || is_unused(&store).await?)?;
        let keyring = Arc::new(Keyring::new(&master));
        check_key(&store, &keyring, &path).await?;
        let stock = Stock::default();
        for (sku, id) in store.read(catalogue::free_keys).await? {
            stock.of(&sku).add(&[id]);
        }
        let products = store.read(catalogue::all).await?;
        let products = products.into_iter().map(|product| (product.sku.clone(), product)).collect();
        Ok(Self {
            store,
            keyring,
            stock,
            throttle: Throttle::default(),
            counters: Counters::default(),
            products: RwLock::new(products),
        })
    }

    /// All products by SKU.
    pub(super) fn products(&self) -> Vec<Product> {
        self.products.read().values().cloned().collect()
    }

    /// The product with this SKU.
    pub(super) fn product(&self, sku: &str) -> Result<Product, Problem> {
        self.products.read().get(sku).cloned().ok_or_else(|| Problem::from(Refusal::UnknownSku))
    }

    /// Adds or changes a product.
    pub(super) async fn put_product(self: &Arc<Self>, product: Product) -> Result<(), Problem> {
        let shop = Arc::clone(self);
        to_the_end(async move {
            let row = product.clone();
            shop.write(move |connection| Ok(catalogue::put(connection, &row)?)).await?;
            shop.products.write().insert(product.sku.clone(), product);
            Ok(())
        })
        .await
    }

    /// Reserves keys until `expires_ms`; the first part says whether that happened now or earlier.
    pub(super) async fn reserve(
        self: &Arc<Self>,
        wanted: Wanted,
        expires_ms: i64,
        password: Option<String>,
    ) -> Result<(bool, Reservation), Problem> {
        self.product(&wanted.sku)?;
        let shop = Arc::clone(self);
        to_the_end(async move {
            let list = shop.stock.of(&wanted.sku);
            // Without stock only an earlier reservation can be the answer; hashing would be the dearest part of it.
            let enough = list.len() >= wanted.qty as usize;
            let stored = enough.then(|| password.map(|password| password::hash(&shop.keyring, &password)));
            let (reservation, taken) =
                shop.write(move |connection| rows::reserve(connection, &list, &wanted, expires_ms, stored)).await?;
            let Some(taken) = taken else {
                return Ok((false, reservation));
            };
            taken.keep();
            shop.counters.reserved.add(1);
            Ok((true, reservation))
        })
        .await
    }

    /// Gives a reservation back. Unknown orders and those given back before are fine.
    pub(super) async fn release(self: &Arc<Self>, order_no: String) -> Result<(), Problem> {
        let shop = Arc::clone(self);
        to_the_end(async move {
            if let Some((sku, ids)) = shop.write(move |connection| rows::release(connection, &order_no)).await? {
                shop.stock.of(&sku).put_back(&ids);
                shop.counters.released.add(1);
            }
            Ok(())
        })
        .await
    }

    /// Issues the keys of an order exactly once; `true` when that happened now, `false` when earlier.
    pub(super) async fn allocate(self: &Arc<Self>, wanted: Wanted, now_ms: i64) -> Result<bool, Problem> {
        self.product(&wanted.sku)?;
        let shop = Arc::clone(self);
        to_the_end(async move {
            let list = shop.stock.of(&wanted.sku);
            let qty = u64::from(wanted.qty);
            let (now, taken) = shop.write(move |connection| rows::allocate(connection, &list, &wanted, now_ms)).await?;
            if let Some(taken) = taken {
                taken.keep();
            }
            if now {
                shop.counters.issued_keys.add(qty);
            }
            Ok(now)
        })
        .await
    }

    /// Gives back every reservation whose time was over at `now_ms`; answers how many there were.
    pub(super) async fn expire(self: &Arc<Self>, now_ms: i64) -> Result<u64, Problem> {
        let shop = Arc::clone(self);
        to_the_end(async move {
            let mut total = 0;
            loop {
                let due = shop.write(move |connection| Ok(rows::expire(connection, now_ms, SWEEP_BATCH)?)).await?;
                for (sku, ids) in &due {
                    shop.stock.of(sku).put_back(ids);
                }
                total += due.len() as u64;
                shop.counters.expired.add(due.len() as u64);
                if due.len() < SWEEP_BATCH as usize {
                    return Ok(total);
                }
            }
        })
        .await
    }

    /// The order and, when they have been issued, its keys in clear, if the password is right.
    pub(super) async fn query(
        &self,
        order_no: &str,
        password: &str,
        now_ms: i64,
    ) -> Result<(Reservation, Vec<String>), Problem> {
        self.throttle.begin(order_no, now_ms).map_err(|seconds| {
            let detail = "Too many wrong passwords for this order.";
            Problem::new(StatusCode::TOO_MANY_REQUESTS, "TOO_MANY_ATTEMPTS", detail).retry_after(seconds)
        })?;
        let number = order_no.to_owned();
        let order = self.store.read(move |connection| rows::find(connection, &number)).await?;
        let stored = order.as_ref().and_then(|order| order.password.as_deref());
        let right = password::matches(&self.keyring, password, stored);
        // One answer for a wrong number and a wrong password: order numbers cannot be tried out.
        let Some(order) = order.filter(|_| right) else {
            self.counters.wrong_passwords.add(1);
            let detail = "The order number or the password is wrong.";
            return Err(Problem::new(StatusCode::FORBIDDEN, "WRONG_PASSWORD", detail));
        };
        self.throttle.succeeded(order_no);
        let keys = if order.status == Status::Issued { self.keys_of(&order.wanted).await? } else { Vec::new() };
        Ok((order, keys))
    }

    async fn keys_of(&self, wanted: &Wanted) -> Result<Vec<String>, Problem> {
        let number = wanted.order_no.clone();
        let sealed = self.store.read(move |connection| rows::issued(connection, &number)).await?;
        let open = |(fp, sealed): &(Vec<u8>, Vec<u8>)| self.keyring.open(&wanted.sku, fp, sealed);
        sealed.iter().map(open).collect::<Result<_, _>>().map_err(|error| {
            tracing::error!(%error, order_no = wanted.order_no, "the keys of an order cannot be shown");
            Problem::internal()
        })
    }

    /// Runs an operation in the writer and turns its refusal into an answer.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        op: impl FnOnce(&Connection) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Problem> {
        self.store.write(op).await.map_err(|error| match error {
            WriteError::Op(refusal) => {
                if matches!(refusal, Refusal::OutOfStock) {
                    self.counters.out_of_stock.add(1);
                }
                Problem::from(refusal)
            }
            WriteError::Store(error) => Problem::from(error),
        })
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let (status, code, detail) = match refusal {
            Refusal::OutOfStock => (StatusCode::CONFLICT, "OUT_OF_STOCK", "There are not enough keys in stock."),
            Refusal::Mismatch => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "RESERVATION_MISMATCH",
                "This order number was used with another sku or quantity.",
            ),
            Refusal::AlreadyAllocated => {
                (StatusCode::CONFLICT, "ALREADY_ALLOCATED", "The keys of this order have been issued.")
            }
            Refusal::UnknownSku => (StatusCode::NOT_FOUND, "UNKNOWN_SKU", "There is no such product."),
            Refusal::Duplicate(_) => (StatusCode::CONFLICT, "DUPLICATE_KEY", "A key is in stock already."),
            Refusal::Sqlite(error) => return Self::from(tidegate_durable::StoreError::from(error)),
        };
        Self::new(status, code, detail)
    }
}

/// Runs `work` to its end even if the client goes away: what the writer has done must reach the free lists.
async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, Problem>> + Send + 'static,
) -> Result<T, Problem> {
    tokio::spawn(work).await.unwrap_or_else(|error| {
        tracing::error!(%error, "an operation ended abnormally");
        Err(Problem::internal())
    })
}

/// Whether no master key has been used with these data yet.
async fn is_unused(store: &Store) -> Result<bool, StartError> {
    let known: i64 = store
        .read(|connection| connection.query_row("SELECT count(*) FROM meta WHERE name = 'key'", [], |row| row.get(0)))
        .await?;
    Ok(known == 0)
}

/// Refuses to work with another master key than the one the data were sealed with; remembers it the first time.
async fn check_key(store: &Store, keyring: &Keyring, path: &Path) -> Result<(), StartError> {
    let check = *keyring.check();
    let stored: Vec<u8> = store
        .write(move |connection| {
            let select = "SELECT value FROM meta WHERE name = 'key'";
            let stored = connection.query_row(select, [], |row| row.get(0)).optional()?;
            if stored.is_none() {
                connection.execute("INSERT INTO meta VALUES ('key', ?1)", [check])?;
            }
            Ok::<_, rusqlite::Error>(stored.unwrap_or_else(|| check.to_vec()))
        })
        .await
        .map_err(|error| match error {
            WriteError::Op(error) => StartError::Store(error.into()),
            WriteError::Store(error) => StartError::Store(error),
        })?;
    if stored.ct_eq(&check).into() {
        return Ok(());
    }
    Err(StartError::Setup(format!("{} was sealed with another key than the one given", path.display())))
}
