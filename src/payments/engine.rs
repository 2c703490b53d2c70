//! What payments share: the journal, the client with its connections, and a thread that outlives every request.
//!
//! Payments run on a thread of their own and not on the workers that serve clients: a client that leaves takes its task
//! along, and a payment that has begun must end.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use tidegate_filters::engine::{StateKey, StateRegistry};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::journal::{Journal, Place};
use super::metrics::Metrics;
use super::resolver;
use super::wire::Wire;
use crate::gateway::Gateway;

/// File of the journal in the data directory.
pub(crate) const FILE: &str = "payments.db";

/// Payments of the process; does nothing until a configuration has a payment upstream.
#[derive(Default)]
pub struct Payments {
    engine: Mutex<Option<Arc<Engine>>>,
    inert: bool,
    gateway: OnceLock<Weak<Gateway>>,
}

/// The running engine.
pub(crate) struct Engine {
    handle: Handle,
    /// Sends requests.
    pub(crate) wire: Wire,
    /// Counts.
    pub(crate) metrics: Arc<Metrics>,
    journal: Mutex<Option<(Place, Journal)>>,
    running: Arc<AtomicUsize>,
    /// Ends the thread when the engine is dropped.
    _stop: oneshot::Sender<()>,
}

impl Payments {
    /// Payments that are never made: for trying out whether a configuration can be compiled. A second look at a journal in
    /// use would take running calls for lost ones.
    #[must_use]
    pub fn inert() -> Self {
        Self { inert: true, ..Self::default() }
    }

    /// Starts the engine, and opens the journal at `journal` if there is one; both only once.
    ///
    /// # Errors
    /// When the thread cannot be started or the journal not be opened, and when it is open elsewhere: payments that are
    /// under way there would be forgotten.
    pub(crate) fn start(&self, states: &StateRegistry, journal: Option<Place>) -> Result<(), String> {
        if self.inert {
            return Ok(());
        }
        let mut slot = self.engine.lock();
        let engine = match &*slot {
            Some(engine) => engine.clone(),
            None => {
                let engine = Arc::new(Engine::start(states).map_err(|error| error.to_string())?);
                if let Some(gateway) = self.gateway.get() {
                    engine.resolve(gateway.clone());
                }
                engine
            }
        };
        if let Some(place) = journal {
            let mut open = engine.journal.lock();
            match &mut *open {
                Some((at, journal)) => {
                    if !journal.adopt(at, &place).map_err(|refusal| refusal.to_string())? {
                        let why = "it is open in another store, and payments under way there would be forgotten";
                        return Err(why.to_owned());
                    }
                    *at = place;
                }
                None => {
                    let journal = Journal::open(&place, unix_ms()).map_err(|refusal| refusal.to_string())?;
                    *open = Some((place, journal));
                }
            }
        }
        *slot = Some(engine);
        Ok(())
    }

    /// Lets what is unknown be resolved for as long as `gateway` lives. Called once, at start.
    pub fn attach(&self, gateway: &Arc<Gateway>) {
        let slot = self.engine.lock();
        if self.gateway.set(Arc::downgrade(gateway)).is_ok()
            && let Some(engine) = &*slot
        {
            engine.resolve(Arc::downgrade(gateway));
        }
    }

    /// The engine; `None` before there is a payment upstream.
    pub(crate) fn engine(&self) -> Option<Arc<Engine>> {
        self.engine.lock().clone()
    }

    /// Payments that are being made now; a stopping gateway waits for them.
    #[must_use]
    pub fn running(&self) -> usize {
        self.engine.lock().as_ref().map_or(0, |engine| engine.running.load(SeqCst))
    }
}

/// One more payment runs until this is dropped.
struct Running(Arc<AtomicUsize>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

impl Engine {
    fn start(states: &StateRegistry) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let run = move || {
            // Ends with an error when the engine is dropped, which is what is waited for.
            drop(runtime.block_on(stopped));
        };
        std::thread::Builder::new().name("payments".into()).spawn(run)?;
        let key = StateKey { kind: "payments", name: "payments".into(), shape: 0 };
        let (metrics, _) = states.acquire(&key, Metrics::default);
        let running = Arc::new(AtomicUsize::new(0));
        Ok(Self { handle, wire: Wire::default(), metrics, journal: Mutex::new(None), running, _stop: stop })
    }

    fn resolve(self: &Arc<Self>, gateway: Weak<Gateway>) {
        self.handle.spawn(resolver::run(Arc::downgrade(self), gateway));
    }

    /// The journal; `None` when no upstream has one.
    pub(crate) fn journal(&self) -> Option<Journal> {
        self.journal.lock().as_ref().map(|(_, journal)| journal.clone())
    }

    /// Runs a payment to its end, whoever waits for it. A stopping gateway waits, too.
    pub(crate) fn spawn_payment<T: Send + 'static>(
        &self,
        payment: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        self.running.fetch_add(1, SeqCst);
        let running = Running(self.running.clone());
        self.handle.spawn(async move {
            let _running = running;
            payment.await
        })
    }

    /// Asks the channels of a payment now, whatever the schedule says.
    pub(crate) fn ask_now(self: &Arc<Self>, gateway: &Arc<Gateway>, id: String) {
        let (engine, gateway) = (self.clone(), gateway.clone());
        self.handle.spawn(async move { resolver::ask_all(&engine, &gateway, &id).await });
    }

    /// Runs something on the payments' thread.
    pub(crate) fn spawn<T: Send + 'static>(&self, task: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
        self.handle.spawn(task)
    }
}

/// Wall time in unix milliseconds, for rows and their schedules.
pub(crate) fn unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
