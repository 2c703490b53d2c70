//! The operations of a channel: each one decided and committed by the writer before it is answered.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use axum::http::StatusCode;
use parking_lot::{Mutex, RwLock};
use rusqlite::Connection;
use tidegate_durable::{Options, Store, WriteError};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::metrics::Counters;
use super::pace::Bucket;
use super::plan::Plan;
use super::rows::{self, Numbers, Payment, Refund, Refusal, Wanted};
use super::{Settings, schema};
use crate::support::{Problem, StartError};

/// Longest name of a channel in bytes.
const MAX_NAME: usize = 32;

/// Scene of a payment that needs no buyer: it is confirmed when it is created.
const AUTO_SCENE: &str = "auto";

/// What the service holds while it runs.
pub(super) struct Channel {
    pub(super) name: String,
    pub(super) store: Store,
    pub(super) counters: Counters,
    /// Told when a callback may have become due.
    pub(super) wake: Notify,
    auto_confirm: bool,
    public_url: Option<String>,
    listen: SocketAddr,
    address: OnceLock<SocketAddr>,
    force: RwLock<Arc<Force>>,
}

/// A plan in force, with what it counts.
struct Force {
    plan: Plan,
    bucket: Option<Mutex<Bucket>>,
    places: Option<Arc<Semaphore>>,
}

impl Force {
    fn new(plan: Plan, now_ms: i64) -> Arc<Self> {
        let bucket = plan.capacity.per_second.map(|rate| Mutex::new(Bucket::new(rate, now_ms)));
        let places = plan.capacity.concurrent.map(|most| Arc::new(Semaphore::new(most as usize)));
        Arc::new(Self { plan, bucket, places })
    }
}

impl Channel {
    /// Opens the data.
    pub(super) fn open(settings: &Settings, plan: Plan, now_ms: i64) -> Result<Self, StartError> {
        let name = settings.name.clone();
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(plain) {
            let why = format!("the name of a channel must be 1 to {MAX_NAME} of a-z, 0-9 and -");
            return Err(StartError::Setup(why));
        }
        let path = settings.data_dir.join(format!("channel-{name}.sqlite"));
        let store = Store::open(&path, schema::MIGRATIONS, Options::default())?;
        Ok(Self {
            name,
            store,
            counters: Counters::default(),
            wake: Notify::new(),
            auto_confirm: settings.auto_confirm,
            public_url: settings.public_url.clone(),
            listen: settings.listen,
            address: OnceLock::new(),
            force: RwLock::new(Force::new(plan, now_ms)),
        })
    }

    /// Remembers where the service really listens, which is not known before it does.
    pub(super) fn listens_on(&self, address: SocketAddr) {
        // Called once; were it not, the first address would stay.
        let _ = self.address.set(address);
    }

    /// Where the buyer agrees to a payment.
    pub(super) fn pay_url(&self, payment_no: &str) -> String {
        let path = format!("cashier/{payment_no}");
        match &self.public_url {
            Some(url) => format!("{}/{path}", url.trim_end_matches('/')),
            None => format!("http://{}/{path}", self.address.get().unwrap_or(&self.listen)),
        }
    }

    /// The plan in force.
    pub(super) fn plan(&self) -> Plan {
        self.force.read().plan.clone()
    }

    /// Puts another plan in force. Calls under way keep the places of the old one.
    pub(super) fn set_plan(&self, plan: Plan, now_ms: i64) {
        *self.force.write() = Force::new(plan, now_ms);
    }

    /// Lets a call in; it holds its place until the permit is dropped.
    pub(super) fn enter(&self, now_ms: i64) -> Result<Option<OwnedSemaphorePermit>, Problem> {
        let force = Arc::clone(&self.force.read());
        if force.bucket.as_ref().is_some_and(|bucket| !bucket.lock().take(now_ms)) {
            self.counters.throttled.add(1);
            let detail = "The channel takes fewer calls a second.";
            return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, "CHANNEL_THROTTLED", detail).retry_after(1));
        }
        let Some(places) = &force.places else {
            return Ok(None);
        };
        Arc::clone(places).try_acquire_owned().map(Some).map_err(|_| {
            self.counters.overloaded.add(1);
            let detail = "The channel takes fewer calls at the same time.";
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "CHANNEL_OVERLOADED", detail).retry_after(1)
        })
    }

    /// Takes as long as the plan wants the step to take.
    pub(super) async fn think(&self, step: &str, payment_no: &str) {
        let force = Arc::clone(&self.force.read());
        let time = force.plan.latency(step, payment_no);
        if !time.is_zero() {
            tokio::time::sleep(time).await;
        }
    }

    /// Records a payment; the flag says whether that happened now or earlier.
    pub(super) async fn create(&self, wanted: Wanted, key: String, now_ms: i64) -> Result<(Payment, bool), Problem> {
        let auto = self.auto_confirm || wanted.scene.as_deref() == Some(AUTO_SCENE);
        let fate = auto.then(|| self.force.read().plan.fate(&wanted.payment_no));
        let numbers = made_up(now_ms);
        let create =
            move |connection: &Connection| rows::create(connection, wanted, &key, &numbers, fate.as_ref(), now_ms);
        let (payment, now) = self.write(create).await?;
        if now {
            self.counters.created.add(1);
            self.decided(&payment);
        }
        Ok((payment, now))
    }

    /// The buyer agrees; the flag says whether that happened now or earlier.
    pub(super) async fn confirm(&self, payment_no: String, now_ms: i64) -> Result<(Payment, bool), Problem> {
        let fate = self.force.read().plan.fate(&payment_no);
        let notify_id = made_up(now_ms).notify_id;
        let confirm = move |connection: &Connection| rows::confirm(connection, &payment_no, &notify_id, &fate, now_ms);
        let (payment, now) = self.write(confirm).await?;
        if now {
            self.decided(&payment);
        }
        Ok((payment, now))
    }

    fn decided(&self, payment: &Payment) {
        match payment.status {
            rows::Status::Success => self.counters.charged.add(1),
            rows::Status::Declined => self.counters.declined.add(1),
            rows::Status::Pending | rows::Status::Closed => return,
        }
        self.wake.notify_one();
    }

    /// Makes sure that a payment can never be charged; the flag says whether that happened now or earlier.
    pub(super) async fn close(&self, payment_no: String, now_ms: i64) -> Result<(Payment, bool), Problem> {
        let (payment, now) = self.write(move |connection| rows::close(connection, &payment_no, now_ms)).await?;
        self.counters.closed.add(u64::from(now));
        Ok((payment, now))
    }

    /// Gives money back; the flag says whether that happened now or earlier.
    pub(super) async fn refund(
        &self,
        payment_no: String,
        refund_no: String,
        amount: i64,
        now_ms: i64,
    ) -> Result<(Payment, Refund, bool), Problem> {
        let refund = move |connection: &Connection| rows::refund(connection, &payment_no, &refund_no, amount, now_ms);
        let (payment, refund, now) = self.write(refund).await?;
        self.counters.refunded.add(u64::from(now));
        Ok((payment, refund, now))
    }

    /// The payment with this number.
    pub(super) async fn find(&self, payment_no: String) -> Result<Payment, Problem> {
        let found = self.store.read(move |connection| rows::find(connection, &payment_no)).await?;
        found.ok_or_else(|| Problem::from(Refusal::Unknown))
    }

    async fn write<T: Send + 'static>(
        &self,
        op: impl FnOnce(&Connection) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Problem> {
        self.store.write(op).await.map_err(|error| match error {
            WriteError::Op(refusal) => Problem::from(refusal),
            WriteError::Store(error) => Problem::from(error),
        })
    }
}

/// Identities for one payment: random, so that the trade number of one payment says nothing about that of another. Two
/// equal ones will not be seen, and the file would refuse the second.
fn made_up(now_ms: i64) -> Numbers {
    let (trade, notify): (u64, u128) = rand::random();
    Numbers { trade_no: format!("{now_ms:013}{trade:016x}"), notify_id: format!("{notify:032x}") }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let conflict = |code, detail: &str| Self::new(StatusCode::CONFLICT, code, detail);
        match refusal {
            Refusal::Unknown => Self::new(StatusCode::NOT_FOUND, "PAYMENT_NOT_FOUND", "There is no such payment."),
            Refusal::Conflict => conflict("PAYMENT_CONFLICT", "This number or key was used with another content."),
            Refusal::AlreadyPaid => conflict("ALREADY_PAID", "The payment has been charged."),
            Refusal::Closed => conflict("PAYMENT_CLOSED", "The payment has been closed."),
            Refusal::NotPaid => conflict("NOT_PAID", "The payment has not been charged."),
            Refusal::RefundConflict => conflict("REFUND_CONFLICT", "This refund number was used with another amount."),
            Refusal::RefundTooMuch(left) => {
                conflict("REFUND_TOO_MUCH", &format!("Only {left} of this payment can still be refunded."))
            }
            Refusal::Sqlite(error) => tidegate_durable::StoreError::from(error).into(),
        }
    }
}
