//! The line itself: who has which number, whose turn it is, who is inside. A pure machine; time comes as an argument.
//!
//! **Numbers** are given in order, from a range that the journal knows to be given. The *frontier* is the number up to
//! which turns have come; it never goes back. People are let on, not numbers: the frontier moves until it has passed as
//! many *present* waiters as there are free places, and passes those who left for nothing.
//!
//! **Places.** A turn takes a place the moment it begins, so a turn that is announced can always be taken. Places are
//! bounded at once by the people inside, by the admissions of any 60 seconds (turns that are open count, since they may
//! be taken at any moment), and by the cap on admissions in all.
//!
//! **Decided, then written, then told.** A tick stages what it decides. Only when the journal has it does
//! [`Line::written`] make it visible. Walk-ins would wait for the disk this way, so a tick lays in a *credit* of places
//! for them that the journal counts as taken.
//!
//! **Fails.** Without numbers or credit on disk a visitor is told to look again shortly. A clock that goes back stands
//! still here.

mod doubts;
mod outlook;
mod places;
mod proof;
mod reset;
mod restore;
mod tick;
mod told;
mod turns;
mod visits;

pub use outlook::{Lottery, Outlook, Prediction, State};
pub use proof::Proof;
pub use turns::{Claim, Look};

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use doubts::Doubts;

use super::deadlines::Deadlines;
use super::draw::Seed;
use super::leases::{Lease, Leases};
use super::marks::Marks;
use super::pace::Pace;
use super::public::Notice;
use super::record::Delta;
use super::rules::{Limits, Method, Phase, Rules};
use super::window::Window;

/// A pass, or what it was renewed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admission {
    /// The visitor's number.
    pub number: u64,
    /// When the pass ends (milliseconds since 1970).
    pub until: u64,
    /// Whether it lasts only until it is brought back.
    pub short: bool,
}

/// Why somebody gets no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The line is full.
    QueueFull,
    /// Nothing is left.
    SoldOut,
    /// Nobody waits here, and no place is free.
    NoRoom,
    /// Not everybody may have a place, and this one may not.
    Ineligible,
}

impl Reason {
    /// All of them.
    pub const ALL: [Reason; 4] = [Reason::QueueFull, Reason::SoldOut, Reason::NoRoom, Reason::Ineligible];

    /// Its place in [`Reason::ALL`].
    #[must_use]
    pub fn index(self) -> usize {
        self as usize
    }

    /// The word used in documents.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::QueueFull => "queue_full",
            Reason::SoldOut => "sold_out",
            Reason::NoRoom => "reject_method",
            Reason::Ineligible => "ineligible",
        }
    }
}

/// What somebody who has no number yet is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Come in.
    Pass(Admission),
    /// This is your place in line.
    Place(u64),
    /// You take part in the draw with this number.
    Registered(u64),
    /// Bring the cookie back first.
    Pre,
    /// Look again shortly: numbers are being laid in.
    Busy,
    /// No.
    Rejected(Reason),
}

/// Who wants to enter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Visitor {
    /// A hash of who it is; 0 when nobody is known.
    pub subject: u64,
    /// Whether the client has shown that it keeps what it is given: it brought a cookie back, or is known by name.
    pub steady: bool,
}

#[derive(Clone, Copy, Debug)]
struct Turn {
    /// When it began, or somewhat earlier.
    since: u64,
    until: u64,
    /// The visitor must have looked since the turn began, by this moment.
    show_up: u64,
    second: bool,
    /// Begun before a kill: it may have been taken right before it, without the journal knowing.
    doubtful: bool,
}

/// A draw that was made: number `first + i` became `base + ranks[i]`.
struct Draw {
    first: u64,
    base: u64,
    ranks: Vec<u32>,
    /// Whether it is written down: before that, another process might draw otherwise.
    told: bool,
}

/// One room's line.
pub struct Line {
    room: Arc<str>,
    seed: Seed,
    rules: Arc<Rules>,
    limits: Limits,
    marks: Arc<Marks>,
    now: u64,
    /// The last tick; visitors move `now` between two.
    ticked: u64,
    /// Until when those may be silent who were inside before a kill.
    silence: Option<u64>,
    /// When this process took the room over; passes from before may not be known to the journal.
    began: u64,
    epoch: u32,
    /// The epoch as told: it lags while a reset is being written down.
    told_epoch: u32,
    /// The next number.
    tail: u64,
    reserved: u64,
    frontier: u64,
    /// The frontier as told.
    published: u64,
    leases: Leases,
    turns: HashMap<u64, Turn, ahash::RandomState>,
    /// As many of them as a kill left in doubt.
    doubtful: u64,
    turn_ends: Deadlines,
    /// Those who missed a turn and came back.
    late: VecDeque<u64>,
    late_set: HashSet<u64, ahash::RandomState>,
    window: Window,
    /// Smooths admissions: sixty-thousandths of one.
    allowance: u64,
    /// Admissions a minute that the backend can take; `None`: as configured.
    health_rate: Option<u32>,
    /// Places for walk-ins that the journal counts as taken; and as many as the line that is being written says.
    credit: u32,
    next_credit: u32,
    /// Walk-ins that are in the line that is being written, and those since.
    writing: u32,
    fresh: u32,
    /// Places that are free and that the journal counts as taken: as far as the line that is being written says, and since.
    freeing: u64,
    freed: u64,
    admitted: u64,
    sold_out: bool,
    /// The backend says that nothing is left.
    gone: bool,
    /// Pieces that it says are left.
    stock: Option<u64>,
    /// An operator empties the room: nobody is let in, no visit is prolonged.
    draining: bool,
    /// Numbers by subject.
    subjects: HashMap<u64, u64, ahash::RandomState>,
    /// Waiters that are present: counted at the last tick, plus those who came since.
    waiting: u64,
    turned_away: u64,
    turned_at: u64,
    /// The longest patience that somebody may still rely on, and since when it was the longest.
    patience: (u64, u64),
    pace: Pace,
    /// Mean length of a visit in milliseconds; 0 while none has ended.
    mean_visit: f64,
    collecting: Option<u64>,
    draws: Vec<Draw>,
    /// New numbers of those who missed a turn, by the old one.
    moved: HashMap<u64, u64, ahash::RandomState>,
    /// Places that a journal from before a kill counts as taken without saying by whom.
    unknown: Doubts,
    ended: VecDeque<(u64, u64)>,
    /// Numbers that kills left in doubt, from and up to.
    gaps: Vec<(u64, u64)>,
    staged: Vec<(u64, bool)>,
    dirty: Delta,
    last: Delta,
    releases: u64,
    missed: u64,
    proof: Proof,
    /// What bounded the places that are being given.
    granted_under: (Limits, Option<u64>),
    /// An operator's word to all who wait.
    notice: Option<Arc<Notice>>,
}

impl Line {
    /// An empty line that begins at `now`. `seed` decides what is left to chance.
    #[must_use]
    pub(super) fn new(room: Arc<str>, seed: Seed, rules: Arc<Rules>, marks: Arc<Marks>, now: u64) -> Self {
        let limits = rules.limits_at(now);
        Self {
            room,
            seed,
            limits,
            marks,
            now,
            ticked: now,
            silence: None,
            began: now,
            epoch: 1,
            told_epoch: 1,
            tail: 1,
            reserved: 1,
            frontier: 0,
            published: 0,
            leases: Leases::default(),
            turns: HashMap::default(),
            doubtful: 0,
            turn_ends: Deadlines::default(),
            late: VecDeque::new(),
            late_set: HashSet::default(),
            window: Window::default(),
            allowance: tick::burst(limits.new_users_per_minute),
            health_rate: None,
            credit: 0,
            next_credit: 0,
            writing: 0,
            fresh: 0,
            freeing: 0,
            freed: 0,
            admitted: 0,
            sold_out: false,
            gone: false,
            stock: None,
            draining: false,
            subjects: HashMap::default(),
            waiting: 0,
            turned_away: 0,
            turned_at: now,
            patience: (0, now),
            pace: Pace::default(),
            mean_visit: 0.0,
            collecting: None,
            draws: Vec::new(),
            moved: HashMap::default(),
            unknown: Doubts::default(),
            ended: VecDeque::new(),
            gaps: Vec::new(),
            staged: Vec::new(),
            dirty: Delta::default(),
            last: Delta::default(),
            releases: 0,
            missed: 0,
            proof: Proof::default(),
            granted_under: (limits, rules.admission_cap),
            notice: None,
            rules,
        }
    }

    /// Somebody comes who has no number.
    pub fn enter(&mut self, now: u64, visitor: Visitor) -> Entry {
        self.advance(now);
        if self.told_epoch != self.epoch {
            return Entry::Busy;
        }
        if let Some(entry) = self.known(visitor.subject) {
            return entry;
        }
        if self.is_sold_out() {
            return Entry::Rejected(Reason::SoldOut);
        }
        let collecting = matches!(self.rules.phase(self.now), Phase::Prequeue(_));
        let room = self.free() > 0 && self.free_places() > 0;
        if room && self.is_open() && self.has_credit() && self.tail < self.reserved {
            return Entry::Pass(self.walk_in(visitor));
        }
        if self.limits.method == Method::Reject && !collecting {
            return Entry::Rejected(Reason::NoRoom);
        }
        if !visitor.steady {
            return Entry::Pre;
        }
        if self.tail >= self.reserved {
            return Entry::Busy;
        }
        if !self.has_room_for(visitor.subject) {
            return Entry::Rejected(Reason::QueueFull);
        }
        if collecting && self.collecting.is_none() && self.shuffles() {
            self.collecting = Some(self.tail);
        }
        let number = self.join(visitor.subject);
        if self.collecting.is_some() { Entry::Registered(number) } else { Entry::Place(number) }
    }

    fn advance(&mut self, now: u64) {
        self.now = self.now.max(now);
    }
}

fn admission(number: u64, lease: &Lease) -> Admission {
    Admission { number, until: lease.durable, short: lease.short }
}
