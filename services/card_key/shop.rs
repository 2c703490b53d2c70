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
use super::delivery::{self, Outcome, Paid};
use super::keyring::{self, Keyring};
use super::metrics::Counters;
use super::password::{self, Throttle};
use super::price::{self, Quote};
use super::refusal::Refusal;
use super::reserving::{self, Placing};
use super::rows::{self, Order, Secrets, Status, Stored, Wanted};
use super::{DATA_FILE, Settings, schema, token};
use crate::support::{Problem, Secret, StartError, hex};

/// Reservations given back in one transaction of the sweep; more would keep buyers waiting behind it.
const SWEEP_BATCH: u32 = 200;

/// What the service holds while it runs.
pub(super) struct Shop {
    pub(super) store: Store,
    pub(super) keyring: Arc<Keyring>,
    pub(super) stock: Arc<Stock>,
    pub(super) throttle: Throttle,
    pub(super) counters: Counters,
    /// Signs paid events.
    pub(super) hook_secret: Option<Secret>,
    /// Held while keys are generated: two calls for one batch would both make what is missing.
    pub(super) generating: Arc<tokio::sync::Mutex<()>>,
    /// All products: a page view asks neither the file nor another thread.
    products: RwLock<BTreeMap<String, Arc<Product>>>,
}

/// Contact and passwords as a buyer sends them.
#[derive(Debug, Clone, Default)]
pub(super) struct Credentials {
    pub(super) password: Option<String>,
    /// An address or number to be found again by, together with the password.
    pub(super) contact: Option<String>,
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
        let stock = Arc::new(Stock::default());
        let lists = Arc::clone(&stock);
        store.read(move |connection| catalogue::on_sale(connection, |sku, id| lists.of(sku).add(&[id]))).await?;
        let products = store.read(catalogue::all).await?;
        let products = products.into_iter().map(|product| (product.sku.clone(), Arc::new(product))).collect();
        Ok(Self {
            store,
            keyring,
            stock,
            throttle: Throttle::default(),
            counters: Counters::default(),
            hook_secret: settings.hook_secret.clone(),
            generating: Arc::default(),
            products: RwLock::new(products),
        })
    }

    /// All products by SKU.
    pub(super) fn products(&self) -> Vec<Arc<Product>> {
        self.products.read().values().cloned().collect()
    }

    /// The product with this SKU.
    pub(super) fn product(&self, sku: &str) -> Result<Arc<Product>, Problem> {
        self.products.read().get(sku).cloned().ok_or_else(|| Problem::from(Refusal::UnknownSku))
    }

    /// Adds or changes a product.
    pub(super) async fn put_product(self: &Arc<Self>, product: Product) -> Result<(), Problem> {
        let shop = Arc::clone(self);
        to_the_end(async move {
            let product = Arc::new(product);
            let row = Arc::clone(&product);
            shop.write(move |connection| catalogue::put(connection, &row)).await?;
            shop.products.write().insert(product.sku.clone(), product);
            Ok(())
        })
        .await
    }

    /// What `qty` keys cost.
    pub(super) async fn quote(
        &self,
        sku: &str,
        qty: u32,
        chosen: usize,
        coupon: Option<String>,
        now_ms: i64,
    ) -> Result<Quote, Problem> {
        let product = self.product(sku)?;
        let terms = match coupon {
            None => None,
            Some(code) => Some(self.store.read(move |connection| Ok(price::terms(connection, &code))).await??),
        };
        Ok(price::quote(&product, qty, chosen, terms.as_ref(), now_ms)?)
    }

    /// Places an order; the first part says whether that happened now or earlier.
    pub(super) async fn reserve(
        self: &Arc<Self>,
        mut placing: Placing,
        credentials: Credentials,
    ) -> Result<(bool, Order), Problem> {
        let product = self.product(&placing.wanted.sku)?;
        let shop = Arc::clone(self);
        to_the_end(async move {
            let list = shop.stock.of(&placing.wanted.sku);
            // Without stock only an earlier order can be the answer; hashing would be the dearest part of it.
            placing.secrets =
                reserving::has_stock(&list, &product, placing.wanted.qty).then(|| shop.hash(&credentials));
            let operation = move |connection: &Connection| reserving::reserve(connection, &list, &product, &placing);
            let (order, taken) = shop.write(operation).await?;
            let Some(taken) = taken else {
                return Ok((false, order));
            };
            taken.keep();
            shop.counters.reserved.add(1);
            Ok((true, order))
        })
        .await
    }

    fn hash(&self, credentials: &Credentials) -> Secrets {
        let Credentials { password, contact } = credentials;
        let both = password.as_ref().zip(contact.as_ref());
        Secrets {
            password: password.as_ref().map(|password| password::hash(&self.keyring, password)),
            lookup: both.map(|(password, contact)| password::lookup(&self.keyring, contact, password)),
        }
    }

    /// Gives a reservation back. Unknown orders and those given back before are fine.
    pub(super) async fn release(self: &Arc<Self>, order_no: String) -> Result<(), Problem> {
        let shop = Arc::clone(self);
        to_the_end(async move {
            if let Some((sku, ids)) = shop.write(move |connection| reserving::release(connection, &order_no)).await? {
                shop.stock.of(&sku).add(&ids);
                shop.counters.released.add(1);
            }
            Ok(())
        })
        .await
    }

    /// Issues the keys of an order exactly once. The order service answers for the money: an order that has to be paid
    /// back is refused and leaves no trace here.
    pub(super) async fn allocate(self: &Arc<Self>, wanted: Wanted, now_ms: i64) -> Result<(bool, Outcome), Problem> {
        let product = self.product(&wanted.sku)?;
        let list = self.stock.of(&wanted.sku);
        self.deliver(move |connection| {
            let paid = delivery::pay(connection, &list, &product, &wanted, now_ms)?;
            if paid.outcome == Outcome::RefundDue { Err(Refusal::OutOfStock) } else { Ok((wanted.qty, paid)) }
        })
        .await
    }

    /// Runs an operation that may deliver an order of some keys, and keeps lists and figures right.
    pub(super) async fn deliver(
        self: &Arc<Self>,
        operation: impl FnOnce(&Connection) -> Result<(u32, Paid), Refusal> + Send + 'static,
    ) -> Result<(bool, Outcome), Problem> {
        let shop = Arc::clone(self);
        to_the_end(async move {
            let (qty, Paid { outcome, now, taken }) = shop.write(operation).await?;
            if let Some(taken) = taken {
                taken.keep();
            }
            if now {
                shop.counters.issued_keys.add(u64::from(qty));
            }
            Ok((now, outcome))
        })
        .await
    }

    /// Gives back every reservation whose time was over at `now_ms`; answers how many there were.
    pub(super) async fn expire(self: &Arc<Self>, now_ms: i64) -> Result<u64, Problem> {
        let shop = Arc::clone(self);
        to_the_end(async move {
            let mut total = 0;
            loop {
                let due = shop.write(move |connection| Ok(reserving::expire(connection, now_ms, SWEEP_BATCH)?)).await?;
                for (sku, ids) in &due {
                    shop.stock.of(sku).add(ids);
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
    ) -> Result<(Order, Vec<String>), Problem> {
        self.admit(order_no, now_ms)?;
        let order = self.find(order_no).await?;
        let stored = order.as_ref().and_then(|order| order.secrets.password.as_deref());
        let right = password::matches(&self.keyring, password, stored);
        // One answer for a wrong number and a wrong password: order numbers cannot be tried out.
        let Some(order) = order.filter(|_| right) else { return Err(self.wrong_password()) };
        self.throttle.succeeded(order_no);
        let keys = self.keys_of(&order).await?;
        Ok((order, keys))
    }

    /// The same for whoever has a token.
    pub(super) async fn query_by_token(
        &self,
        order_no: &str,
        token: &str,
        now_ms: i64,
    ) -> Result<(Order, Vec<String>), Problem> {
        if !token::is_good(&self.keyring, order_no, token, now_ms) {
            let detail = "The token is not for this order, or its time is over.";
            return Err(Problem::new(StatusCode::FORBIDDEN, "WRONG_TOKEN", detail));
        }
        let order = self.find(order_no).await?.ok_or_else(|| Problem::from(Refusal::UnknownOrder))?;
        let keys = self.keys_of(&order).await?;
        Ok((order, keys))
    }

    /// The newest orders that were placed with this contact and password, at most `limit`.
    pub(super) async fn lookup(
        &self,
        contact: &str,
        password: &str,
        limit: u32,
        now_ms: i64,
    ) -> Result<Vec<Order>, Problem> {
        // Order numbers have no `@`, so a contact is never counted together with an order.
        let counted = format!("@{}", hex(&keyring::hmac_sha256(&[0; 32], &[password::fold(contact).as_bytes()])));
        self.admit(&counted, now_ms)?;
        let lookup = password::lookup(&self.keyring, contact, password);
        let orders = self.store.read(move |connection| rows::find_looked_up(connection, &lookup, limit)).await?;
        if orders.is_empty() {
            return Err(self.wrong_password());
        }
        self.throttle.succeeded(&counted);
        Ok(orders)
    }

    fn admit(&self, counted: &str, now_ms: i64) -> Result<(), Problem> {
        self.throttle.begin(counted, now_ms).map_err(|seconds| {
            let detail = "Too many wrong passwords for this order.";
            Problem::new(StatusCode::TOO_MANY_REQUESTS, "TOO_MANY_ATTEMPTS", detail).retry_after(seconds)
        })
    }

    fn wrong_password(&self) -> Problem {
        self.counters.wrong_passwords.add(1);
        let detail = "The order number or the password is wrong.";
        Problem::new(StatusCode::FORBIDDEN, "WRONG_PASSWORD", detail)
    }

    async fn find(&self, order_no: &str) -> Result<Option<Order>, Problem> {
        let number = order_no.to_owned();
        Ok(self.store.read(move |connection| rows::find(connection, &number)).await?)
    }

    async fn keys_of(&self, order: &Order) -> Result<Vec<String>, Problem> {
        if order.status != Status::Issued {
            return Ok(Vec::new());
        }
        let number = order.wanted.order_no.clone();
        let stored = self.store.read(move |connection| rows::issued(connection, &number)).await?;
        stored.iter().map(|stored| self.open_key(stored)).collect()
    }

    /// A stored key in clear.
    pub(super) fn open_key(&self, stored: &Stored) -> Result<String, Problem> {
        self.keyring.open(&stored.sku, &stored.fp, &stored.sealed).map_err(|error| {
            tracing::error!(%error, sku = stored.sku, "a key cannot be shown");
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
                match refusal {
                    Refusal::OutOfStock => self.counters.out_of_stock.add(1),
                    Refusal::TooManyOpen | Refusal::StockHeld | Refusal::Limit(_) => self.counters.limited.add(1),
                    _ => {}
                }
                Problem::from(refusal)
            }
            WriteError::Store(error) => Problem::from(error),
        })
    }
}

/// Runs `work` to its end even if the client goes away: what the writer has done must reach the free lists.
pub(super) async fn to_the_end<T: Send + 'static>(
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
