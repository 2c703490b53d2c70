//! The operations of a channel: each one decided and committed by the writer before it is answered.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::http::StatusCode;
use parking_lot::RwLock;
use rusqlite::Connection;
use tidegate_durable::{Options, Store, WriteError};
use tokio::sync::{Notify, OnceCell, OwnedSemaphorePermit};

use super::course::{Course, Seen, Stopped};
use super::dialects::keys::Keys;
use super::metrics::Counters;
use super::plan::{Force, Hit, Plan, Request};
use super::refunds::{self, Refund};
use super::rows::{self, Now, Numbers, Payment, Refusal, Wanted};
use super::{Settings, schema, truth};
use crate::support::dialect::Dialect;
use crate::support::dialect::wechat::API_V3_KEY_BYTES;
use crate::support::{Problem, Secret, StartError, unix_ms};

/// Longest name of a channel in bytes.
const MAX_NAME: usize = 32;

/// Scene of a payment that needs no buyer: it is confirmed when it is created.
const AUTO_SCENE: &str = "auto";

/// What the service holds while it runs.
pub(super) struct Channel {
    pub(super) name: String,
    pub(super) store: Store,
    pub(super) counters: Counters,
    /// What callbacks and answers are signed with.
    pub(super) secret: Secret,
    pub(super) api_v3_key: [u8; API_V3_KEY_BYTES],
    pub(super) epay_key: Secret,
    keys_folder: PathBuf,
    keys: OnceCell<Arc<Keys>>,
    /// Told when a callback may have become due.
    pub(super) wake: Notify,
    /// Told when a payment is being processed.
    pub(super) processing: Notify,
    /// Told when there is more in the ledger, or nothing any more.
    pub(super) moved: Notify,
    /// How often everything was deleted.
    pub(super) resets: AtomicU64,
    /// The channel's clock minus the machine's.
    offset_ms: AtomicI64,
    /// Told when another plan or another clock may open or close the door.
    door: Notify,
    auto_confirm: bool,
    public_url: Option<String>,
    listen: SocketAddr,
    address: OnceLock<SocketAddr>,
    force: RwLock<Arc<Force>>,
}

impl Channel {
    /// Opens the data.
    pub(super) fn open(settings: &Settings, plan: Plan) -> Result<Self, StartError> {
        let name = settings.name.clone();
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(plain) {
            let why = format!("the name of a channel must be 1 to {MAX_NAME} of a-z, 0-9 and -");
            return Err(StartError::Setup(why));
        }
        let path = settings.data_dir.join(format!("channel-{name}.sqlite"));
        let store = Store::open(&path, &[schema::SCHEMA], Options::default())?;
        let api_v3_key = settings
            .api_v3_key
            .bytes()
            .try_into()
            .map_err(|_| StartError::Setup(format!("the key for version 3 must have {API_V3_KEY_BYTES} bytes")))?;
        Ok(Self {
            store,
            counters: Counters::default(),
            secret: settings.secret.clone(),
            api_v3_key,
            epay_key: settings.epay_key.clone(),
            keys_folder: settings
                .keys
                .clone()
                .unwrap_or_else(|| settings.data_dir.join(format!("channel-{name}-keys"))),
            keys: OnceCell::new(),
            wake: Notify::new(),
            processing: Notify::new(),
            moved: Notify::new(),
            resets: AtomicU64::new(0),
            name,
            offset_ms: AtomicI64::new(0),
            door: Notify::new(),
            auto_confirm: settings.auto_confirm,
            public_url: settings.public_url.clone(),
            listen: settings.listen,
            address: OnceLock::new(),
            force: RwLock::new(Force::new(plan, unix_ms())),
        })
    }

    /// Remembers where the service really listens, which is not known before it does.
    pub(super) fn listens_on(&self, address: SocketAddr) {
        // Called once; were it not, the first address would stay.
        let _ = self.address.set(address);
    }

    /// The keys of the signed dialects; the first call that needs them waits until they have been made.
    pub(super) async fn keys(&self) -> Result<Arc<Keys>, Problem> {
        let made = async || {
            let folder = self.keys_folder.clone();
            match tokio::task::spawn_blocking(move || Keys::open(&folder)).await {
                Ok(Ok(keys)) => Ok(Arc::new(keys)),
                Ok(Err(error)) => {
                    tracing::error!(channel = self.name, error, "the keys cannot be used");
                    Err(Problem::internal())
                }
                Err(_) => Err(Problem::internal()),
            }
        };
        self.keys.get_or_try_init(made).await.cloned()
    }

    /// Where the buyer agrees to a payment.
    pub(super) fn pay_url(&self, payment_no: &str) -> String {
        self.url(&format!("/cashier/{payment_no}"))
    }

    /// Something of this service, as others reach it.
    pub(super) fn url(&self, path: &str) -> String {
        match &self.public_url {
            Some(url) => format!("{}{path}", url.trim_end_matches('/')),
            None => format!("http://{}{path}", self.address.get().unwrap_or(&self.listen)),
        }
    }

    /// The time, by the machine's clock and by the channel's.
    pub(super) fn now(&self) -> Now {
        let ms = unix_ms();
        Now { ms, clock_ms: ms.saturating_add(self.offset_ms.load(Ordering::Relaxed)) }
    }

    /// Puts the channel's clock so much before the machine's.
    pub(super) fn set_clock(&self, offset_ms: i64) {
        self.offset_ms.store(offset_ms, Ordering::Relaxed);
        self.door.notify_one();
    }

    /// The plan in force.
    pub(super) fn plan(&self) -> Plan {
        self.force.read().plan.clone()
    }

    /// Puts another plan in force. Calls under way keep the places of the old one.
    pub(super) fn set_plan(&self, plan: Plan) {
        *self.force.write() = Force::new(plan, self.now().clock_ms);
        self.door.notify_one();
    }

    fn force(&self) -> Arc<Force> {
        Arc::clone(&self.force.read())
    }

    /// What is the matter with the listener.
    pub(super) fn door(&self) -> Option<Hit> {
        self.force().of_door(self.now().clock_ms)
    }

    /// Resolves when [`Channel::door`] may have another answer; while the plan has windows for it, at every `tick`.
    pub(super) async fn door_changed(&self, tick: Duration) {
        if self.force().has_doors() {
            // An early end of the wait is the same as a late one.
            let _ = tokio::time::timeout(tick, self.door.notified()).await;
        } else {
            self.door.notified().await;
        }
    }

    /// The fault of a connection that has just come about.
    pub(super) fn of_connection(&self) -> Option<Hit> {
        self.force().of_connection(self.now().clock_ms).inspect(|hit| self.counters.fault(hit.kind))
    }

    /// Takes as long as the plan wants a call to take, and chooses its fault.
    ///
    /// # Errors
    /// When the fault comes before anything is done.
    pub(super) async fn course(&self, request: &Request<'_>, seen: Seen) -> Result<Course, Stopped> {
        let force = self.force();
        let time = force.plan.latency(request.step.name(), request.payment_no);
        if !time.is_zero() {
            tokio::time::sleep(time).await;
        }
        let hit = force.of_request(request, self.now().clock_ms).inspect(|hit| self.counters.fault(hit.kind));
        Course::new(hit, seen).before(request.charges)
    }

    /// Lets a call in; it holds its place until the permit is dropped.
    pub(super) fn enter(&self, now_ms: i64) -> Result<Option<OwnedSemaphorePermit>, Problem> {
        let force = self.force();
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

    /// Whether a payment of this scene is confirmed when it is created.
    pub(super) fn is_auto(&self, scene: Option<&str>) -> bool {
        self.auto_confirm || scene == Some(AUTO_SCENE)
    }

    /// Records a payment, and with `charges` decides it too; the flag says whether that happened now or earlier.
    pub(super) async fn create(
        &self,
        wanted: Wanted,
        key: String,
        charges: bool,
        course: &Course,
    ) -> Result<(Payment, bool), Problem> {
        let now = self.now();
        let fate = charges.then(|| course.fate(self.force().plan.fate(&wanted.payment_no)));
        let (numbers, seen) = (made_up(now.ms), course.seen.clone());
        let create = move |connection: &Connection| {
            let consent = fate.as_ref().map(|fate| (fate, &seen));
            rows::create(connection, wanted, &key, &numbers, consent, now)
        };
        let (payment, first) = self.write(create).await?;
        if first {
            self.counters.created.add(1);
            self.decided(&payment);
        }
        Ok((payment, first))
    }

    /// The buyer agrees; the flag says whether that happened now or earlier.
    pub(super) async fn confirm(&self, payment_no: String, course: &Course) -> Result<(Payment, bool), Problem> {
        let now = self.now();
        let fate = course.fate(self.force().plan.fate(&payment_no));
        let (notify_id, seen) = (made_up(now.ms).notify_id, course.seen.clone());
        let confirm =
            move |connection: &Connection| rows::confirm(connection, &payment_no, &notify_id, &fate, &seen, now);
        let (payment, first) = self.write(confirm).await?;
        if first {
            self.decided(&payment);
        }
        Ok((payment, first))
    }

    /// Decides a payment whose processing is over.
    pub(super) async fn settle(&self, payment_no: String) -> Result<(), Problem> {
        let now = self.now();
        let fate = self.force().plan.fate(&payment_no);
        let notify_id = made_up(now.ms).notify_id;
        let settle = move |connection: &Connection| rows::settle(connection, &payment_no, &notify_id, fate, now);
        if let Some(payment) = self.write(settle).await? {
            self.decided(&payment);
        }
        Ok(())
    }

    fn decided(&self, payment: &Payment) {
        match payment.status {
            rows::Status::Success => self.counters.charged.add(1),
            rows::Status::Declined => self.counters.declined.add(1),
            rows::Status::Pending | rows::Status::Closed => {
                if payment.due.is_some() {
                    self.processing.notify_one();
                }
                return;
            }
        }
        self.wake.notify_one();
        self.moved.notify_one();
    }

    /// Makes sure that a payment can never be charged; the flag says whether that happened now or earlier.
    pub(super) async fn close(&self, payment_no: String) -> Result<(Payment, bool), Problem> {
        let now = self.now();
        let closed = self.write(move |connection| rows::close(connection, &payment_no, now)).await?;
        let (payment, first) = closed.ok_or(Refusal::Unknown)?;
        self.counters.closed.add(u64::from(first));
        Ok((payment, first))
    }

    /// Gives money back; the flag says whether that happened now or earlier.
    pub(super) async fn refund(
        &self,
        payment_no: String,
        refund_no: String,
        amount: i64,
        course: &Course,
    ) -> Result<(Payment, Refund, bool), Problem> {
        let (now, seen) = (self.now(), course.seen.clone());
        let refund =
            move |connection: &Connection| refunds::refund(connection, &payment_no, &refund_no, amount, &seen, now);
        let (payment, refund, first) = self.write(refund).await?;
        self.counters.refunded.add(u64::from(first));
        self.moved.notify_one();
        Ok((payment, refund, first))
    }

    /// The payment with this number.
    pub(super) async fn find(&self, payment_no: String) -> Result<Payment, Problem> {
        let now = self.now();
        let found = self.store.read(move |connection| rows::find(connection, &payment_no, now)).await?;
        found.ok_or_else(|| Problem::from(Refusal::Unknown))
    }

    /// The refund with this number.
    pub(super) async fn find_refund(&self, payment_no: String, refund_no: String) -> Result<Option<Refund>, Problem> {
        let find = move |connection: &Connection| refunds::find_refund(connection, &payment_no, &refund_no);
        Ok(self.store.read(find).await?)
    }

    /// The number of a payment that is named by it, or else by the channel's own number.
    pub(super) async fn number_of(&self, payment_no: &str, trade_no: &str) -> Result<String, Problem> {
        if !payment_no.is_empty() {
            return Ok(payment_no.to_owned());
        }
        let trade_no = trade_no.to_owned();
        let found = self.store.read(move |connection| rows::number_of(connection, &trade_no)).await?;
        found.ok_or_else(|| Problem::from(Refusal::Unknown))
    }

    /// The newest payments of a dialect.
    pub(super) async fn latest(&self, dialect: Dialect, most: u32) -> Result<Vec<Payment>, Problem> {
        Ok(self.store.read(move |connection| rows::latest(connection, dialect, most)).await?)
    }

    /// Deletes everything; answers how many payments that were.
    pub(super) async fn reset(&self) -> Result<usize, Problem> {
        let deleted = self.write(|connection| truth::reset(connection).map_err(Refusal::from)).await?;
        self.resets.fetch_add(1, Ordering::Relaxed);
        self.moved.notify_one();
        Ok(deleted)
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
            Refusal::Processing => conflict("PAYMENT_PROCESSING", "The payment is being processed."),
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
