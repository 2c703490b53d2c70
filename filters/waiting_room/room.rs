//! A room as many threads share it: the line behind a lock, what is asked most often in front of it.
//!
//! A poll reads the [`Outlook`] of the last tick and sets one bit; a valid pass is checked by its signature alone. Only
//! who joins, whose turn it is, or who renews a visit takes the lock, for well under a microsecond. [`Room::maintain`]
//! is called ten times a second from a thread that may wait for the disk; the lock is not held meanwhile.
//!
//! **Fails.** When the journal cannot be written, time stands still for the line: nobody is admitted beyond what was laid
//! in, everybody keeps what they have, and [`Room::is_degraded`] says so.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use parking_lot::Mutex;

use super::backends::Backends;
use super::bypass::Bypassed;
use super::draw::{Seed, Stamp};
use super::line::{Admission, Claim, Entry, Line, Look, Outlook, Reason, Visitor};
use super::marks::Marks;
use super::public::Public;
use super::record::{Delta, History, Journal};
use super::settings::Settings;
use super::token;
use crate::engine::Nanos;

/// A journal that has grown by more than this is replaced by one line.
const LONG_JOURNAL: usize = 4 << 20;

/// What a room is opened with.
pub struct Opening {
    /// Its name.
    pub name: Arc<str>,
    /// Secret of this room alone, the same in every run.
    pub seed: Seed,
    /// What it is configured with.
    pub settings: Arc<Settings>,
    /// Where it writes.
    pub journal: Box<dyn Journal>,
    /// What was written before.
    pub history: History,
    /// Wall time at the start of the process's clock.
    pub epoch: Duration,
    /// Now, by the process's clock.
    pub now: Nanos,
}

/// Counts since the process began.
#[derive(Debug, Default)]
pub struct Counts {
    /// Numbers given.
    pub joined: AtomicU64,
    /// Admissions.
    pub admitted: AtomicU64,
    /// Visitors who got no place, by [`Reason::index`].
    pub rejected: [AtomicU64; Reason::ALL.len()],
    /// Visits ended before their time.
    pub ended: AtomicU64,
    /// Looks that came too soon.
    pub too_soon: AtomicU64,
    /// People who left of their own will.
    pub left: AtomicU64,
    /// Lines that could not be written.
    pub unwritten: AtomicU64,
}

struct Unwritten {
    delta: Delta,
    line: Vec<u8>,
    whole: bool,
}

struct Writer {
    journal: Box<dyn Journal>,
    unwritten: Option<Unwritten>,
    length: usize,
    /// As many bytes of these as the line that says it all.
    whole: usize,
}

/// What makes bytes of the room's own.
struct Stamps {
    subject: Stamp,
    session: Stamp,
    pre: Stamp,
}

/// One waiting room.
pub struct Room {
    name: Arc<str>,
    tag: [u8; 4],
    stamps: Stamps,
    /// Milliseconds since 1970 at the start of the process's clock. At least what the journal knew: time here never goes
    /// back, not even over a restart under a clock that was set back.
    epoch: u64,
    began: u64,
    marks: Arc<Marks>,
    pub(super) line: Mutex<Line>,
    writer: Mutex<Writer>,
    outlook: ArcSwap<Outlook>,
    pub(super) settings: ArcSwap<Settings>,
    degraded: AtomicBool,
    pub(super) backends: Mutex<Backends>,
    visits: AtomicU64,
    /// What it tells everybody.
    pub(super) public: Public,
    /// What happened so far.
    pub counts: Counts,
    /// Requests that were not held up.
    pub(super) bypassed: Bypassed,
}

impl Room {
    /// Opens a room, as its journal left it.
    #[must_use]
    pub fn open(opening: Opening) -> Self {
        let Opening { name, seed, settings, journal, history, epoch, now } = opening;
        let since = millis(Duration::from_nanos(now.0));
        let last = history.lines.last().map_or(0, |line| line.at);
        let epoch = millis(epoch).max(last.saturating_sub(since));
        let began = epoch + since;
        let lowest = history.lines.iter().flat_map(|line| &line.marks).map(|(chunk, _)| *chunk).min();
        let marks = Arc::new(Marks::starting_at(lowest.unwrap_or(0) * super::marks::CHUNK));
        let mut line = Line::new(name.clone(), seed, settings.rules.clone(), marks.clone(), began);
        line.restore(&history, began);
        let (outlook, public) = (line.outlook(), Public::new(line.notice()));
        let length = history.length.max(usize::from(!history.lines.is_empty()) * (LONG_JOURNAL + 1));
        let room = Self {
            tag: token::room_tag(&name),
            name,
            stamps: Stamps {
                subject: Stamp::new(&seed, b"subject"),
                session: Stamp::new(&seed, b"session"),
                pre: Stamp::new(&seed, b"pre"),
            },
            epoch,
            began,
            marks,
            line: Mutex::new(line),
            // A journal from before is replaced at the first line: what a kill cut off must not stand before new lines.
            writer: Mutex::new(Writer { journal, unwritten: None, length, whole: 0 }),
            outlook: ArcSwap::from_pointee(outlook),
            settings: ArcSwap::new(settings),
            degraded: AtomicBool::new(false),
            backends: Mutex::default(),
            visits: AtomicU64::new(0),
            public,
            counts: Counts::default(),
            bypassed: Bypassed::default(),
        };
        room.bypassed.follow(&room.settings());
        room.maintain(|| began);
        room
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The four bytes of its name in tokens.
    #[must_use]
    pub fn tag(&self) -> [u8; 4] {
        self.tag
    }

    /// Room time, in milliseconds since 1970.
    #[must_use]
    pub fn time(&self, now: Nanos) -> u64 {
        self.epoch + now.0 / 1_000_000
    }

    /// When this process opened it, in room time.
    #[must_use]
    pub fn began(&self) -> u64 {
        self.began
    }

    /// Whether the journal could not be written the last time.
    #[must_use]
    pub fn is_degraded(&self) -> bool {
        self.degraded.load(Relaxed)
    }

    /// How the line stood at the last tick.
    #[must_use]
    pub fn outlook(&self) -> Arc<Outlook> {
        self.outlook.load_full()
    }

    /// The same, for a moment only.
    pub(super) fn outlook_now(&self) -> Guard<Arc<Outlook>> {
        self.outlook.load()
    }

    /// Lets time pass: ends what has ended, decides whose turn it is, writes it down, and then tells it. About ten times
    /// a second, from one thread that may wait for the disk; so `clock` is asked again when it has written.
    pub fn maintain(&self, clock: impl Fn() -> u64) {
        let now = clock();
        self.public.ticked(now);
        let mut writer = self.writer.lock();
        if writer.unwritten.is_none() {
            let mut line = self.line.lock();
            match line.tick(now) {
                Some(delta) => {
                    let whole = writer.length > LONG_JOURNAL + writer.whole;
                    let text = if whole { line.whole(&delta).to_line() } else { delta.to_line() };
                    writer.unwritten = Some(Unwritten { delta, line: text, whole });
                }
                None => self.outlook.store(Arc::new(line.outlook())),
            }
        }
        if let Some(unwritten) = writer.unwritten.take() {
            let written = writer.write(&unwritten);
            self.degraded.store(written.is_err(), Relaxed);
            if written.is_err() {
                self.counts.unwritten.fetch_add(1, Relaxed);
                writer.unwritten = Some(unwritten);
                self.tell(clock());
                return;
            }
            let mut line = self.line.lock();
            line.written(clock(), &unwritten.delta);
            self.outlook.store(Arc::new(line.outlook()));
            if let Some(notice) = unwritten.delta.notice {
                self.publish_notice((!notice.text.is_empty()).then(|| Arc::new(notice)));
            }
        }
        self.tell(clock());
    }

    /// Somebody comes who has no number.
    pub fn enter(&self, now: u64, visitor: Visitor) -> Entry {
        let mut line = self.line.lock();
        let before = line.given();
        let entry = line.enter(now, visitor);
        let after = line.given();
        drop(line);
        // Somebody who is known may only have come back: that is neither a number nor an admission.
        match entry {
            Entry::Pass(_) => self.counts.admitted.fetch_add(after.1 - before.1, Relaxed),
            Entry::Place(_) | Entry::Registered(_) => self.counts.joined.fetch_add(after.0 - before.0, Relaxed),
            Entry::Rejected(reason) => self.counts.rejected[reason.index()].fetch_add(1, Relaxed),
            Entry::Pre | Entry::Busy => 0,
        };
        entry
    }

    /// Somebody in line looks. Takes no lock unless their turn has come. `None`: not yet.
    pub fn poll(&self, now: u64, number: u64, subject: u64) -> Option<Claim> {
        self.marks.see(number);
        let turn =
            number <= self.outlook.load().frontier || self.marks.is_picked(number) || self.marks.is_spent(number);
        turn.then(|| self.claim(now, number, subject)).filter(|claim| *claim != Claim::Wait(number))
    }

    /// Somebody in line looks whether it is their turn, without taking it. Takes no lock unless it is.
    pub fn look(&self, now: u64, number: u64, subject: u64) -> Look {
        self.marks.see(number);
        let due = number <= self.outlook.load().frontier || self.marks.is_picked(number) || self.marks.is_spent(number);
        if due { self.line.lock().look(now, number, subject) } else { Look::Wait(number) }
    }

    /// Somebody with a number wants in.
    pub fn claim(&self, now: u64, number: u64, subject: u64) -> Claim {
        let claim = self.line.lock().claim(now, number, subject);
        if matches!(claim, Claim::Pass(_)) {
            self.counts.admitted.fetch_add(1, Relaxed);
        }
        claim
    }

    /// Whether a pass of this number was ended before its time. Takes no lock.
    #[must_use]
    pub fn is_ended(&self, number: u64) -> bool {
        self.marks.is_ended(number)
    }

    /// Somebody inside makes a request; see [`Line::visit`].
    pub fn visit(&self, now: u64, number: u64, subject: u64, issued: u64, expires: u64) -> Option<Admission> {
        self.line.lock().visit(now, number, subject, issued, expires)
    }

    /// Somebody comes back from paying; see [`Line::come_back`].
    pub(super) fn come_back(&self, now: u64, number: u64, issued: u64, expires: u64) -> Option<Admission> {
        self.line.lock().come_back(now, number, issued, expires)
    }

    /// When the visit of this number began.
    pub(super) fn visit_began(&self, number: u64) -> Option<u64> {
        self.line.lock().began(number)
    }

    /// Somebody leaves.
    pub fn leave(&self, now: u64, number: u64) {
        self.line.lock().leave(now, number);
    }

    /// Ends a visit before its time.
    pub fn end(&self, number: u64) -> bool {
        let ended = self.line.lock().end(number);
        self.counts.ended.fetch_add(u64::from(ended), Relaxed);
        ended
    }

    /// Makes a visit last at least `span` from now.
    pub fn extend(&self, now: u64, number: u64, span: Duration) -> Option<Admission> {
        self.line.lock().extend(now, number, millis(span))
    }

    /// How many of those present stand before a number.
    #[must_use]
    pub fn ahead(&self, outlook: &Outlook, number: u64) -> u64 {
        outlook.ahead(number, |from, to| self.marks.count(from, to))
    }

    /// Where a person is remembered: the same in every run, for whoever holds the room's seed. Never 0.
    #[must_use]
    pub fn subject(&self, identity: &[u8]) -> u64 {
        self.stamps.subject.of(identity).max(1)
    }

    /// Eight bytes that tell the visit of this number from all others.
    #[must_use]
    pub fn session(&self, number: u64) -> [u8; 8] {
        self.stamps.session.of(&number.to_be_bytes()).to_be_bytes()
    }

    /// Eight bytes for a visitor who has no number yet.
    #[must_use]
    pub fn fresh_session(&self) -> [u8; 8] {
        let count = self.visits.fetch_add(1, Relaxed);
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.began.to_be_bytes());
        bytes[8..].copy_from_slice(&count.to_be_bytes());
        self.stamps.pre.of(&bytes).to_be_bytes()
    }

    /// From 0 to 1, another each time: makes clients come at different times.
    pub(super) fn spread(&self) -> f64 {
        spread(self.visits.fetch_add(1, Relaxed))
    }
}

/// From 0 to 1. Steps of the golden ratio leave no gaps and no heaps (a Weyl sequence); nothing secret hangs on it.
pub(super) fn spread(step: u64) -> f64 {
    step.wrapping_mul(0x9e37_79b9_7f4a_7c15) as f64 / u64::MAX as f64
}

impl Writer {
    fn write(&mut self, unwritten: &Unwritten) -> std::io::Result<()> {
        if unwritten.whole {
            self.journal.replace(&unwritten.line)?;
            (self.length, self.whole) = (0, unwritten.line.len());
        } else {
            self.journal.append(&unwritten.line)?;
        }
        self.length += unwritten.line.len();
        Ok(())
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
