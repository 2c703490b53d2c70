//! What a room tells everybody: one document and one stream of frames, made once however many read them.
//!
//! The document is made when somebody asks for it and the last one is a second old and no longer true; while nothing
//! changes its bytes stay the same, so that whoever has them is told so (304). Frames are made by the tick, and only while
//! anybody listens.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use arc_swap::{ArcSwap, ArcSwapOption};
use bytes::Bytes;
use http::HeaderValue;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::common::Made;
use super::document;
use super::line::{Outlook, State};
use super::room::Room;
use super::seats::{Seat, Seats};

/// A document is at least this old before it is made anew (milliseconds). It may be cached for as long.
const FRESH: u64 = 1_000;
/// Even if nothing has changed a document is made anew after this, for its time to be of use (milliseconds).
const STALE: u64 = 10_000;

/// Time between two ticks, as they are meant (milliseconds).
const TICK: u64 = 100;

/// How much a notice matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
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
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
pub struct Notice {
    /// What it says, as plain text.
    pub text: String,
    /// How much it matters.
    pub level: Level,
}

impl Notice {
    /// The longest text, in characters: it is a line, not a page.
    pub const LONGEST: usize = 300;

    /// What the journal says where there is none any more.
    pub(super) fn none() -> Self {
        Self { text: String::new(), level: Level::Info }
    }
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

/// What concerns everybody who waits, apart from how far the line has moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct News {
    /// Differs where it differs.
    pub(super) mark: u64,
    /// Room time when it was told. Who was told something before that may not know it.
    pub(super) since: u64,
    /// The process ends.
    pub(super) over: bool,
}

impl News {
    fn mark(outlook: &Outlook, degraded: bool, notice: Option<&Notice>) -> u64 {
        let mut hash = DefaultHasher::new();
        // To those who wait it is the same, and it changes with every visit to a quiet room.
        let state = if outlook.state == State::NotQueueing { State::Queueing } else { outlook.state };
        (outlook.epoch, state.as_str(), degraded).hash(&mut hash);
        notice.map(|notice| (&notice.text, notice.level.as_str())).hash(&mut hash);
        hash.finish()
    }

    /// The entity tag of a document that was made at this moment. No two documents are the same.
    pub(super) fn tag(self, at: u64) -> String {
        format!("\"{:x}-{at:x}\"", self.mark)
    }

    /// What somebody knows who sends this tag.
    pub(super) fn known(tag: &str) -> Option<u64> {
        u64::from_str_radix(tag.trim().strip_prefix('"')?.split('-').next()?, 16).ok()
    }
}

/// What a room has for everybody.
pub(super) struct Public {
    published: ArcSwap<Published>,
    /// Held by whoever makes a document; counts them.
    making: Mutex<u64>,
    notice: ArcSwapOption<Notice>,
    frames: watch::Sender<Option<Arc<Frame>>>,
    listeners: Seats,
    pub(super) news: watch::Sender<News>,
    pub(super) waiting: Seats,
    /// What documents share, as it was made last.
    pub(super) common: ArcSwapOption<Made>,
    /// Room time of the last tick, and milliseconds that it was late.
    ticked: AtomicU64,
    pub(super) lag: AtomicU64,
}

impl Public {
    /// For a room of which the journal keeps this word.
    pub(super) fn new(notice: Option<Arc<Notice>>) -> Self {
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
            notice: ArcSwapOption::new(notice),
            frames: watch::Sender::new(None),
            listeners: Seats::default(),
            news: watch::Sender::new(News::default()),
            waiting: Seats::default(),
            common: ArcSwapOption::empty(),
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

    /// What the journal has is told.
    pub(super) fn publish_notice(&self, notice: Option<Arc<Notice>>) {
        self.public.notice.store(notice);
    }

    /// How many connections listen.
    #[must_use]
    pub fn listeners(&self) -> usize {
        self.public.listeners.taken()
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

    /// A place among those who listen, for the holder of this number; `None` as for [`Room::seat`].
    pub(super) fn listen(
        self: &Arc<Self>,
        number: u64,
        most: usize,
    ) -> Option<(Seat, watch::Receiver<Option<Arc<Frame>>>)> {
        let seat = self.seat(|public| &public.listeners, number, most)?;
        Some((seat, self.public.frames.subscribe()))
    }

    /// The frame of this moment.
    pub(super) fn frame(&self, over: bool) -> Frame {
        Frame { outlook: self.outlook(), document: document::frontier(self), notice: self.notice(), over }
    }

    /// What concerns everybody, as of the last tick.
    pub(super) fn news(&self) -> News {
        *self.public.news.borrow()
    }

    /// Tells those who listen how things stand, and those who wait whether anything is new; called by each tick.
    pub(super) fn tell(&self, now: u64) {
        let outlook = self.outlook_now();
        let mark = News::mark(&outlook, self.is_degraded(), self.public.notice.load().as_deref());
        self.public.news.send_if_modified(|news| {
            let new = news.mark != mark;
            if new {
                (news.mark, news.since) = (mark, now);
            }
            new
        });
        if self.public.frames.receiver_count() > 0 {
            self.public.frames.send_replace(Some(Arc::new(self.frame(false))));
        }
    }

    /// Sends those who listen away, since the process ends.
    pub fn dismiss(&self) {
        self.public.news.send_modify(|news| news.over = true);
        self.public.frames.send_replace(Some(Arc::new(self.frame(true))));
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
