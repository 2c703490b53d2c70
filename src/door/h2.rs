//! HTTP/2: pingora speaks it, the door bounds it.
//!
//! pingora has no deadline for a stream's body and none for a whole stream, so both are here: a stream whose body stalls
//! or drips, whose answer nobody reads, or that takes longer than a request may, is reset.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, LazyLock, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use pingora::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream, ServerApp};
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::{H2Options, default_h2_options};
use pingora::proxy::HttpProxy;
use pingora::server::ShutdownWatch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tracing::Instrument;

use super::conn::Conn;
use super::seats::Seats;
use crate::config::Limits;
use crate::gateway::Gateway;
use crate::proxy::Adapter;

/// Unsent bytes a stream may hold; pingora's default of 400 KB lets 100 stalled readers hold 40 MB.
const SEND_BUFFER: usize = 64 * 1024;
/// Bytes of the connection preface (RFC 9113 §3.4).
const PREFACE_SIZE: u64 = 24;
/// How often a stream's progress is looked at.
const CHECK_EVERY: Duration = Duration::from_secs(1);

tokio::task_local! {
    /// The running stream's progress, for the proxy to note what arrives.
    pub(crate) static PROGRESS: Arc<Progress>;
}

/// How far a stream's request has come.
pub(crate) struct Progress {
    seats: Arc<Seats>,
    body_done: AtomicBool,
    body_bytes: AtomicU64,
    /// What the route says of a whole request, once the route is known.
    total: OnceLock<Duration>,
    /// When the last piece of the answer was handed over and how long the next may take, in milliseconds of the clock
    /// that [`since_start`] reads; 0 before the first.
    answer_due: AtomicU64,
}

/// Milliseconds on a clock of this module's own.
fn since_start() -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    // Never 0, which means that there is nothing yet.
    u64::try_from(START.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1)
}

impl Progress {
    fn new(seats: Arc<Seats>) -> Self {
        Self {
            seats,
            body_done: AtomicBool::new(false),
            body_bytes: AtomicU64::new(0),
            total: OnceLock::new(),
            answer_due: AtomicU64::new(0),
        }
    }

    /// The gateway's seats; `None` for a request over HTTP/1, which keeps its connection's.
    pub(crate) fn seats() -> Option<Arc<Seats>> {
        PROGRESS.try_with(|progress| progress.seats.clone()).ok()
    }

    /// The request's route was found.
    pub(crate) fn note_total(total: Duration) {
        let _ = PROGRESS.try_with(|progress| progress.total.set(total));
    }

    /// A piece of the request body arrived.
    pub(crate) fn note(bytes: usize, end: bool) {
        let _ = PROGRESS.try_with(|progress| {
            progress.body_bytes.fetch_add(bytes as u64, Relaxed);
            progress.body_done.fetch_or(end, Relaxed);
        });
    }

    /// A piece of the answer is about to be written; the next one follows within `silence`, or the client does not read.
    pub(crate) fn answering(silence: Duration) {
        let _ = PROGRESS.try_with(|progress| {
            let silence = u64::try_from(silence.as_millis()).unwrap_or(u64::MAX);
            progress.answer_due.store(since_start().saturating_add(silence), Relaxed);
        });
    }
}

/// Runs each HTTP/2 stream under a deadline.
pub(crate) struct StreamApp {
    gateway: Arc<Gateway>,
    proxy: Arc<HttpProxy<Adapter>>,
    seats: Arc<Seats>,
    options: HttpServerOptions,
}

impl StreamApp {
    pub(crate) fn new(gateway: Arc<Gateway>, proxy: Arc<HttpProxy<Adapter>>, seats: Arc<Seats>) -> Self {
        let mut options = HttpServerOptions::default();
        options.h2_idle_timeout = Some(gateway.snapshot().config.server.limits.idle_timeout);
        Self { gateway, proxy, seats, options }
    }

    /// Serves a whole connection.
    pub(crate) async fn serve(self: &Arc<Self>, conn: &Conn, limits: &Limits, shutdown: &ShutdownWatch) {
        let stream = conn.lend_as_h2();
        let connection = ServerApp::process_new(self, stream, shutdown);
        tokio::pin!(connection);
        tokio::select! {
            biased;
            _ = &mut connection => return,
            () = sleep(limits.header_timeout) => (),
        }
        // Whoever has not even sent a preface by now never will.
        if conn.read() >= PREFACE_SIZE {
            connection.await;
        }
    }
}

#[async_trait]
impl HttpServerApp for StreamApp {
    async fn process_new_http(
        self: &Arc<Self>,
        session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        let limits = self.gateway.snapshot().config.server.limits.clone();
        let _running = self.seats.stream();
        let progress = Arc::new(Progress::new(self.seats.clone()));
        let watched = progress.clone();
        let exchange = self.proxy.process_new_http(session, shutdown).instrument(crate::proxy::span("h2"));
        let exchange = PROGRESS.scope(progress, exchange);
        tokio::select! {
            biased;
            reused = exchange => reused,
            () = stalled(&watched, &limits) => None,
        }
    }

    fn h2_options(&self) -> Option<H2Options> {
        let mut options = default_h2_options();
        options.max_send_buffer_size(SEND_BUFFER);
        Some(options)
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        Some(&self.options)
    }

    async fn http_cleanup(&self) {
        self.proxy.http_cleanup().await;
    }
}

/// Resolves when a stream has run out of time, or its body out of pace.
async fn stalled(progress: &Progress, limits: &Limits) {
    let begun = Instant::now();
    let mut ticks = interval(CHECK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let taken = begun.elapsed();
        if taken >= progress.total.get().copied().unwrap_or(limits.request_timeout) {
            return;
        }
        // Once the answer has begun only its own pace counts: it may be complete before the request is.
        let due = progress.answer_due.load(Relaxed);
        if due > 0 {
            if since_start() >= due {
                return;
            }
            continue;
        }
        let bytes = progress.body_bytes.load(Relaxed);
        if !progress.body_done.load(Relaxed) && taken >= super::conn::body_allowance(limits.body_timeout, bytes) {
            return;
        }
    }
}
