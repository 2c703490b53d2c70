//! The operations of the order service: each decided and committed by the writer before it is answered or acted upon.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rand::Rng;
use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode};
use tidegate_durable::Options;

use super::channel::Channels;
use super::files::{OrderFile, OrderFiles};
use super::metrics::Counters;
use super::model::{Method, Order, OrderStatus, Payment, Refusal};
use super::near::Found;
use super::rows::{self, NewOrder};
use super::sale::Sale;
use super::secret::Secret;
use super::stock::{Answer, Stock, Unreachable};
use super::stream::Streams;
use super::{Settings, events, number, payments, resolver, settle};
use crate::support::{Problem, StartError, Stop, unix_ms};

/// Whoever places an order reserves at once; the background takes over after this long, in milliseconds.
const RESERVE_GRACE_MS: i64 = 5_000;

/// Longest time to get a connection. Everything is on the same machine or network.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// What a buyer asks for.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) user: String,
    pub(super) idem_key: String,
    pub(super) sku: String,
    pub(super) qty: u32,
    pub(super) password: String,
}

/// What the service holds while it runs.
pub(super) struct Desk {
    pub(super) files: OrderFiles,
    pub(super) stock: Stock,
    pub(super) channels: Channels,
    pub(super) sale: Sale,
    pub(super) settings: Settings,
    pub(super) counters: Counters,
    pub(super) streams: Streams,
    /// When it is asked for, streams end.
    pub(super) stop: Stop,
    secret: Secret,
}

impl Desk {
    /// Opens the data; what a crash left behind is due at once.
    pub(super) async fn open(settings: Settings, stop: Stop) -> Result<Self, StartError> {
        let secret = Secret::open(&settings.data_dir)?;
        let options = Options { max_batch: settings.max_batch, ..Options::default() };
        let files = OrderFiles::open(&settings.data_dir, settings.shards, &options).await?;
        // A proxy or a redirect would take an order's password, or a payment, somewhere else.
        let client = Client::builder().connect_timeout(CONNECT_TIMEOUT).no_proxy().redirect(Policy::none()).build();
        let client = client.map_err(|error| StartError::Setup(format!("cannot make an HTTP client: {error}")))?;
        let stock = Stock::new(&settings.card_key, client.clone());
        let channels = Channels::new(&settings, client)?;
        let (counters, sale) = (Counters::default(), Sale::new(settings.sale.clone()));
        Ok(Self { files, stock, channels, sale, settings, counters, streams: Streams::new(), stop, secret })
    }

    /// Places an order, once per idempotency key. `true` when that happened now.
    ///
    /// The order that is answered is never CREATING.
    pub(super) async fn place(self: &Arc<Self>, wanted: Wanted, now_ms: i64) -> Result<(bool, Order), Problem> {
        let desk = Arc::clone(self);
        to_the_end(async move {
            // The 1 says that there is a password; there were orders without.
            let parts = [wanted.sku.as_bytes(), &wanted.qty.to_be_bytes(), &[1], wanted.password.as_bytes()];
            let fingerprint = desk.secret.fingerprint(&parts);
            let (user, key) = (wanted.user.clone(), wanted.idem_key.clone());
            let file = desk.files.of_user(&wanted.user);
            let find = async || {
                let (user, key) = (user.clone(), key.clone());
                file.read(move |connection| rows::find_same(connection, &user, &key, &fingerprint)).await
            };
            let (now, order) = match find().await? {
                Some(order) => (false, order),
                None => match desk.price(wanted.clone(), fingerprint, now_ms).await {
                    Ok(new) => {
                        let due_ms = now_ms + RESERVE_GRACE_MS;
                        file.write(move |connection| rows::create(connection, &new, now_ms, due_ms)).await?
                    }
                    // The same request, sent earlier and still under way, may be who has taken the last key.
                    Err(problem) => (false, find().await?.ok_or(problem)?),
                },
            };
            if order.status != OrderStatus::Creating {
                return Ok((now, order));
            }
            // Whoever repeats the request does the same as the first: the reservation goes by the order's number.
            Ok((now, desk.reserve(&order, Some(&wanted.password), unix_ms()).await?))
        })
        .await
    }

    /// The buyer hears of an order that was placed while nobody waited for the answer, on every stream he has open.
    pub(super) async fn tell_placed(&self, order: &Order, now_ms: i64) -> Result<(), Problem> {
        let (file, told) = (self.file(&order.order_no)?, order.clone());
        if order.status == OrderStatus::PendingPayment {
            file.write(move |connection| Ok(events::push_placed(connection, &told, now_ms)?)).await?;
        }
        Ok(())
    }

    /// Turns a wish into an order with a number and a price.
    async fn price(&self, wanted: Wanted, fingerprint: [u8; 32], now_ms: i64) -> Result<NewOrder, Problem> {
        let Found { value, fresh } = self.stock.product(&wanted.sku, now_ms).await?;
        let product = value.ok_or_else(unknown_sku)?;
        // In a flash sale most requests come after the last key is gone. They cost no row.
        if fresh && product.stock < u64::from(wanted.qty) {
            return Err(sold_out());
        }
        let amount = product.price.checked_mul(i64::from(wanted.qty));
        let amount = amount.ok_or_else(|| Problem::invalid("the amount is too large"))?;
        let order_no = number::order(&wanted.user, now_ms, rand::rng().random());
        let password = Some(self.secret.seal(&order_no, &wanted.password).ok_or_else(Problem::internal)?);
        let pay_within_ms = i64::try_from(self.settings.pay_within.as_millis()).unwrap_or(i64::MAX);
        let most_each = (wanted.sku == self.sale.sku()).then_some(Sale::MOST_EACH);
        Ok(NewOrder {
            most_each,
            order_no,
            user: wanted.user,
            idem_key: wanted.idem_key,
            fingerprint,
            sku: wanted.sku,
            qty: wanted.qty,
            amount,
            currency: product.currency.clone(),
            password,
            expires_ms: now_ms.saturating_add(pay_within_ms),
        })
    }

    /// Reserves the keys of a CREATING order and decides by the answer what becomes of it.
    async fn reserve(&self, order: &Order, password: Option<&str>, now_ms: i64) -> Result<Order, Problem> {
        let answer = self.stock.reserve(order, password, now_ms).await;
        let (file, order_no) = (self.file(&order.order_no)?, order.order_no.clone());
        match answer {
            Ok(Answer::Done) => {
                let order = file.write(move |connection| rows::reserved(connection, &order_no, now_ms)).await?;
                Ok(order)
            }
            Ok(Answer::Refused(code)) => {
                let code = if code == "OUT_OF_STOCK" { "SOLD_OUT".to_owned() } else { code };
                file.write(move |connection| rows::failed(connection, &order_no, &code, false, now_ms)).await
            }
            Err(error) => {
                tracing::warn!(%error, order_no, "keys could not be reserved, trying again");
                Err(error.into())
            }
        }
    }

    /// The same for an order that somebody left behind.
    pub(super) async fn reserve_left_behind(&self, order_no: &str, now_ms: i64) -> Result<(), Problem> {
        let (file, number) = (self.file(order_no)?, order_no.to_owned());
        let (order, sealed) = file
            .read(move |connection| Ok((rows::get(connection, &number)?, rows::password(connection, &number)?)))
            .await?;
        let password = sealed.as_deref().map(|sealed| self.secret.open_sealed(order_no, sealed));
        let order_no = order_no.to_owned();
        match password {
            Some(None) => {
                tracing::error!(order_no, "the password of an order cannot be opened: the key file was changed");
                let lost = "PASSWORD_LOST";
                file.write(move |connection| rows::failed(connection, &order_no, lost, true, now_ms)).await?;
            }
            password => {
                self.reserve(&order, password.flatten().as_deref(), now_ms).await?;
            }
        }
        Ok(())
    }

    /// An order of this user with all its payments.
    pub(super) async fn order(&self, order_no: &str, user: &str) -> Result<(Order, Vec<Payment>), Problem> {
        let (file, order_no, user) = (self.file(order_no)?, order_no.to_owned(), user.to_owned());
        file.read(move |connection| {
            let order = rows::get_owned(connection, &order_no, &user)?;
            Ok((order, payments::of_order(connection, &order_no)?))
        })
        .await
    }

    /// Gives an order up. Answered is CANCELLED, or CLOSING while a channel has not closed its payment yet.
    pub(super) async fn cancel(
        self: &Arc<Self>,
        order_no: String,
        user: String,
        now_ms: i64,
    ) -> Result<Order, Problem> {
        let (file, number, close_at_ms) = (self.file(&order_no)?, order_no.clone(), self.after_a_call(now_ms));
        let order = file
            .write(move |connection| {
                rows::get_owned(connection, &number, &user)?;
                settle::close_order(connection, &number, OrderStatus::Cancelled, close_at_ms, now_ms)
            })
            .await?;
        file.ring();
        if order.status != OrderStatus::Closing {
            return Ok(order);
        }
        let number = order_no.clone();
        if let Some(payment) = file.read(move |connection| Ok(payments::live(connection, &number)?)).await? {
            self.in_time(resolver::close(Arc::clone(self), payment)).await;
        }
        file.read(move |connection| rows::get(connection, &order_no)).await
    }

    /// Starts a payment, or finds the one under way. `true` when it was started now.
    pub(super) async fn pay(
        self: &Arc<Self>,
        order_no: String,
        user: String,
        method: Method,
        now_ms: i64,
    ) -> Result<(bool, Payment), Problem> {
        let (file, due_ms) = (self.file(&order_no)?, self.after_a_call(now_ms));
        let (now, payment) =
            file.write(move |connection| payments::begin(connection, &order_no, &user, method, now_ms, due_ms)).await?;
        if !now {
            return Ok((false, payment));
        }
        self.in_time(resolver::start(Arc::clone(self), payment.clone())).await;
        Ok((true, self.payment(&payment.payment_no).await?))
    }

    /// The payment as it is now.
    pub(super) async fn payment(&self, payment_no: &str) -> Result<Payment, Problem> {
        let (file, payment_no) = (self.file_of_payment(payment_no)?, payment_no.to_owned());
        file.read(move |connection| payments::get(connection, &payment_no)).await
    }

    /// A payment of an order of this user.
    pub(super) async fn owned_payment(&self, order_no: &str, payment_no: &str, user: &str) -> Result<Payment, Problem> {
        let (_, payments) = self.order(order_no, user).await?;
        let found = payments.into_iter().find(|payment| payment.payment_no == payment_no);
        found.ok_or_else(|| Refusal::NoPayment.into())
    }

    /// Closes a payment so that another way to pay can be taken.
    pub(super) async fn close_payment(self: &Arc<Self>, payment: Payment, now_ms: i64) -> Result<Payment, Problem> {
        let payment_no = payment.payment_no.clone();
        if payment.status.is_live() {
            let (number, due_ms) = (payment_no.clone(), self.after_a_call(now_ms));
            let file = self.file_of_payment(&payment_no)?;
            file.write(move |connection| Ok(payments::want_close(connection, &number, due_ms)?)).await?;
            self.in_time(resolver::close(Arc::clone(self), payment)).await;
        }
        self.payment(&payment_no).await
    }

    /// Shows the keys of an order to whoever knows its password.
    pub(super) async fn keys(
        &self,
        order_no: &str,
        password: &str,
    ) -> Result<(StatusCode, Option<u64>, Bytes), Problem> {
        Ok(self.stock.query(order_no, password).await?)
    }

    /// When the resolver may look at a payment whose channel is being called by somebody else: that call is at most two,
    /// and two seconds are for writing the answer down.
    fn after_a_call(&self, now_ms: i64) -> i64 {
        let calls_ms = i64::try_from(self.settings.channel_timeout.as_millis() * 2).unwrap_or(i64::MAX);
        now_ms.saturating_add(calls_ms).saturating_add(2_000)
    }

    /// Waits for `work`, but not longer than a buyer likes to; it goes on in any case.
    async fn in_time(&self, work: impl Future<Output = ()> + Send + 'static) {
        // An error is a client that will see an open payment and ask again.
        let _ = tokio::time::timeout(self.settings.answer_within, tokio::spawn(work)).await;
    }

    /// The file with an order, by its number.
    pub(super) fn file(&self, order_no: &str) -> Result<&OrderFile, Problem> {
        Ok(self.files.of_number(order_no).ok_or(Refusal::NoOrder)?)
    }

    /// The file of a payment that was read from one.
    pub(super) fn home(&self, payment: &Payment) -> &OrderFile {
        // Rows with other numbers cannot be made; the first file would answer that there is no such payment.
        self.files.of_number(&payment.payment_no).unwrap_or_else(|| &self.files.all()[0])
    }

    /// The file with a payment, by its number.
    pub(super) fn file_of_payment(&self, payment_no: &str) -> Result<&OrderFile, Problem> {
        Ok(self.files.of_number(payment_no).ok_or(Refusal::NoPayment)?)
    }
}

/// 409 for an order that finds no keys.
pub(super) fn sold_out() -> Problem {
    Problem::new(StatusCode::CONFLICT, "SOLD_OUT", "There are not enough keys left.")
}

/// 404 for a product nobody knows.
pub(super) fn unknown_sku() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "UNKNOWN_SKU", "There is no such product.")
}

impl From<Unreachable> for Problem {
    fn from(error: Unreachable) -> Self {
        tracing::warn!(%error, "a request has to be repeated");
        let detail = "The stock cannot be asked at the moment. Repeat the request with the same key.";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "STOCK_UNAVAILABLE", detail).retry_after(1)
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let conflict = |code, detail: String| Self::new(StatusCode::CONFLICT, code, detail);
        match refusal {
            Refusal::NoOrder => Self::new(StatusCode::NOT_FOUND, "UNKNOWN_ORDER", "There is no such order."),
            Refusal::NoPayment => Self::new(StatusCode::NOT_FOUND, "UNKNOWN_PAYMENT", "There is no such payment."),
            Refusal::KeyReused => {
                let detail = "This Idempotency-Key was used with another request.";
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "IDEMPOTENCY_KEY_REUSED", detail)
            }
            Refusal::WrongState(status) => conflict("WRONG_STATE", format!("The order is {}.", status.as_str())),
            Refusal::Enough(most) => {
                conflict("ENOUGH", format!("One person gets at most {most} of what is in the sale."))
            }
            Refusal::TooLate => conflict("ORDER_EXPIRED", "The time to pay is over.".to_owned()),
            Refusal::PaymentLive(payment_no) => {
                conflict("PAYMENT_LIVE", format!("Payment {payment_no} is not decided yet."))
            }
            Refusal::Sqlite(error) => tidegate_durable::StoreError::from(error).into(),
        }
    }
}

/// Runs `work` to its end even if the client goes away.
async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, Problem>> + Send + 'static,
) -> Result<T, Problem> {
    tokio::spawn(work).await.unwrap_or_else(|error| {
        tracing::error!(%error, "an operation ended abnormally");
        Err(Problem::internal())
    })
}
