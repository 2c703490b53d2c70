//! What a room tells everybody: one document and one stream of frames, made once however many read them.
//!
//! The document is made when somebody asks for it and the last one is a second old and no longer true; while nothing
//! changes its bytes stay the same, so that whoever has them is told so (304). Frames are made by the tick, and only while
//! anybody listens.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use arc_swap::{ArcSwap, ArcSwapOption};
use bytes::Bytes;
use http::HeaderValue;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::document;
use super::line::{Outlook, Reason, State};
use super::room::Room;
use crate::engine::{Sample, SampleKind};

/// A document is at least this old before it is made anew (milliseconds). It may be cached for as long.
const FRESH: u64 = 1_000;
/// Even if nothing has changed a document is made anew after this, for its time to be of use (milliseconds).
const STALE: u64 = 10_000;

/// Time between two ticks, as they are meant (milliseconds).
const TICK: u64 = 100;

/// How much a notice matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Good to know.
    #[default]
    Info,
    /// Something is wrong.
    Warning,
}

impl Level {
    /// The word used in documents.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Level::Info => "info",
            Level::Warning => "warning",
        }
    }
}

/// An operator's word to all who wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// What it says, as plain text.
    pub text: String,
    /// How much it matters.
    pub level: Level,
}

impl Notice {
    /// The longest text, in characters: it is a line, not a page.
    pub const LONGEST: usize = 300;
}

/// The public document as sent.
#[derive(Clone)]
pub(super) struct Published {
    pub(super) bytes: Bytes,
    pub(super) etag: HeaderValue,
    made: u64,
    of: (u32, u64, u64, u64, State),
    notice: Option<Arc<Notice>>,
}

/// A room at one tick, for those who listen.
pub(super) struct Frame {
    pub(super) outlook: Arc<Outlook>,
    pub(super) document: Bytes,
    pub(super) notice: Option<Arc<Notice>>,
    /// The process ends: come back to the next one.
    pub(super) over: bool,
}

/// What a room has for everybody.
pub(super) struct Public {
    published: ArcSwap<Published>,
    /// Held by whoever makes a document; counts them.
    making: Mutex<u64>,
    notice: ArcSwapOption<Notice>,
    frames: watch::Sender<Option<Arc<Frame>>>,
    listeners: AtomicUsize,
    /// Room time of the last tick, and milliseconds that it was late.
    ticked: AtomicU64,
    lag: AtomicU64,
}

/// One of those who listen; gives the connection back when dropped.
pub(super) struct Seat(Arc<Room>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.public.listeners.fetch_sub(1, Relaxed);
    }
}

impl Public {
    pub(super) fn new() -> Self {
        let never = Published {
            bytes: Bytes::new(),
            etag: HeaderValue::from_static("\"0\""),
            made: 0,
            of: (0, 0, 0, 0, State::Suspended),
            notice: None,
        };
        Self {
            published: ArcSwap::from_pointee(never),
            making: Mutex::new(0),
            notice: ArcSwapOption::empty(),
            frames: watch::Sender::new(None),
            listeners: AtomicUsize::new(0),
            ticked: AtomicU64::new(0),
            lag: AtomicU64::new(0),
        }
    }

    /// Notes a tick.
    pub(super) fn ticked(&self, now: u64) {
        let before = self.ticked.swap(now, Relaxed);
        let span = if before == 0 { 0 } else { now.saturating_sub(before) };
        self.lag.store(span.saturating_sub(TICK), Relaxed);
    }
}

fn of(outlook: &Outlook) -> (u32, u64, u64, u64, State) {
    (outlook.epoch, outlook.frontier, outlook.tail, outlook.waiting, outlook.state)
}

impl Room {
    /// What all who wait are told, besides numbers.
    #[must_use]
    pub fn notice(&self) -> Option<Arc<Notice>> {
        self.public.notice.load_full()
    }

    /// Tells all who wait something, or nothing any more. Forgotten when the process ends.
    pub fn set_notice(&self, notice: Option<Notice>) {
        self.public.notice.store(notice.map(Arc::new));
    }

    /// How many connections listen.
    #[must_use]
    pub fn listeners(&self) -> usize {
        self.public.listeners.load(Relaxed)
    }

    /// The public document: at most a second older than the last tick, and younger where the state has changed.
    pub(super) fn published(&self) -> Arc<Published> {
        let held = self.public.published.load();
        let outlook = self.outlook_now();
        if !is_outdated(&held, &outlook, &self.public.notice.load()) {
            return held.clone();
        }
        // One makes it; those who ask meanwhile get the one before.
        let mut made = match self.public.making.try_lock() {
            Some(made) => made,
            None if held.made > 0 => return held.clone(),
            None => self.public.making.lock(),
        };
        *made += 1;
        let fresh = Arc::new(self.make(*made));
        self.public.published.store(fresh.clone());
        fresh
    }

    fn make(&self, count: u64) -> Published {
        let outlook = self.outlook_now();
        // Two documents of one tick may differ; two of one count come from two processes, hence at two times.
        let etag = format!("\"{:x}-{count:x}\"", outlook.at);
        Published {
            bytes: document::frontier(self),
            etag: HeaderValue::from_str(&etag).unwrap_or_else(|_| HeaderValue::from_static("\"0\"")),
            made: outlook.at,
            of: of(&outlook),
            notice: self.notice(),
        }
    }

    /// A place among those who listen; `None` when there are `most`.
    pub(super) fn listen(self: &Arc<Self>, most: usize) -> Option<(Seat, watch::Receiver<Option<Arc<Frame>>>)> {
        let taken = self.public.listeners.fetch_update(Relaxed, Relaxed, |taken| (taken < most).then_some(taken + 1));
        taken.ok()?;
        let seat = Seat(self.clone());
        Some((seat, self.public.frames.subscribe()))
    }

    /// The frame of this moment.
    pub(super) fn frame(&self, over: bool) -> Frame {
        Frame { outlook: self.outlook(), document: document::frontier(self), notice: self.notice(), over }
    }

    /// Tells those who listen how things stand; called by each tick.
    pub(super) fn tell(&self) {
        if self.public.frames.receiver_count() > 0 {
            self.public.frames.send_replace(Some(Arc::new(self.frame(false))));
        }
    }

    /// Sends those who listen away, since the process ends.
    pub fn dismiss(&self) {
        self.public.frames.send_replace(Some(Arc::new(self.frame(true))));
    }
}

impl Room {
    /// What is counted and measured about visitors who wait.
    pub(super) fn more_samples(&self, out: &mut Vec<Sample>) {
        let (outlook, counts) = (self.outlook_now(), &self.counts);
        let mut add = |name, help, kind, label: Option<(&'static str, &str)>, value: f64| {
            let room = ("room", self.name().to_string());
            let more = label.map(|(name, value)| (name, value.to_owned()));
            out.push(Sample { name, help, kind, labels: [room].into_iter().chain(more).collect(), value });
        };
        let rejected = "tidegate_waiting_room_rejected_total";
        for reason in Reason::ALL {
            let count = counts.rejected[reason.index()].load(Relaxed);
            let label = Some(("reason", reason.as_str()));
            add(rejected, "Visitors who got no place.", SampleKind::Counter, label, count as f64);
        }
        let counters = [
            ("tidegate_waiting_room_abandoned_total", "Visitors who said that they leave.", counts.left.load(Relaxed)),
            ("tidegate_waiting_room_missed_total", "Turns that nobody took.", outlook.missed),
            ("tidegate_waiting_room_poll_too_soon_total", "Looks that came too soon.", counts.too_soon.load(Relaxed)),
        ];
        for (name, help, value) in counters {
            add(name, help, SampleKind::Counter, None, value as f64);
        }
        let lag = self.public.lag.load(Relaxed) as f64 / 1_000.0;
        add("tidegate_waiting_room_tick_lag_seconds", "How late the last tick was.", SampleKind::Gauge, None, lag);
        let listeners = self.listeners() as f64;
        add("tidegate_waiting_room_sse_connections", "Open streams of events.", SampleKind::Gauge, None, listeners);
        if let Some(wait) = outlook.estimate(outlook.waiting) {
            let (name, help) = ("tidegate_waiting_room_eta_seconds", "Wait of somebody who comes now.");
            add(name, help, SampleKind::Gauge, Some(("quantile", "0.5")), wait.p50);
            add(name, help, SampleKind::Gauge, Some(("quantile", "0.9")), wait.p90);
        }
    }
}

fn is_outdated(held: &Published, outlook: &Outlook, notice: &Option<Arc<Notice>>) -> bool {
    let age = outlook.at.saturating_sub(held.made);
    let same_notice = match (&held.notice, notice) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        (one, other) => one.is_none() && other.is_none(),
    };
    // That nothing is left, or something is again, is told at once.
    let turned = held.of.4 != outlook.state || held.of.0 != outlook.epoch || !same_notice;
    held.made == 0 || turned || age >= STALE || (age >= FRESH && held.of != of(outlook))
}
