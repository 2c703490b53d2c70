//! One deferred request as it is kept in memory, and what becomes of it when a try has ended.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::rules::Rules;
use crate::engine::Priority;

/// Names a record: 128 random bits, written as 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(pub u128);

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl FromStr for Id {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let plain = text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if plain { u128::from_str_radix(text, 16).map(Self).map_err(|_| ()) } else { Err(()) }
    }
}

/// How important a record is. The order is the order of importance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Routes of priority `bulk`.
    Low,
    /// Routes of priority `normal`.
    Normal,
    /// Routes of priority `high` and `critical`.
    High,
}

impl Class {
    /// All classes, the least important first.
    pub const ALL: [Class; 3] = [Class::Low, Class::Normal, Class::High];

    /// The class of a route's priority.
    #[must_use]
    pub fn of(priority: Priority) -> Self {
        match priority {
            Priority::Bulk => Class::Low,
            Priority::Normal => Class::Normal,
            Priority::High | Priority::Critical => Class::High,
        }
    }

    /// The class of that number in the file; what is none counts as `Normal`.
    #[must_use]
    pub fn numbered(number: i64) -> Self {
        match number {
            0 => Class::Low,
            2 => Class::High,
            _ => Class::Normal,
        }
    }

    /// The word of metrics and answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Class::Low => "low",
            Class::Normal => "normal",
            Class::High => "high",
        }
    }
}

macro_rules! states {
    ($($(#[$about:meta])* $name:ident = $number:literal, $word:literal;)*) => {
        /// Where a record stands.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum State { $($(#[$about])* $name,)* }

        impl State {
            /// All states.
            pub const ALL: &'static [State] = &[$(State::$name,)*];

            /// The word of answers, events and the admin side.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(State::$name => $word,)* }
            }

            /// The number in the file.
            #[must_use]
            pub fn number(self) -> i64 {
                match self { $(State::$name => $number,)* }
            }

            /// The state of that number; `None` for any other.
            #[must_use]
            pub fn numbered(number: i64) -> Option<Self> {
                match number { $($number => Some(State::$name),)* _ => None }
            }

            /// The state of that word; `None` for any other.
            #[must_use]
            pub fn parse(word: &str) -> Option<Self> {
                match word { $($word => Some(State::$name),)* _ => None }
            }
        }
    };
}

states! {
    /// In the line.
    Queued = 0, "QUEUED";
    /// Being sent: written down before a byte leaves.
    Running = 1, "RUNNING";
    /// Tried, known not to have been acted on, and soon tried again.
    Retrying = 2, "RETRYING";
    /// The quick retries are used up; tried again at long intervals.
    DeadLetter = 3, "DEAD_LETTER";
    /// It may have been carried out. Not sent again unless the upstream recognises keys.
    Unknown = 4, "UNKNOWN";
    /// Every try is used up: a person decides.
    Parked = 5, "PARKED";
    /// Answered; the answer can be fetched.
    Done = 6, "DONE";
    /// Withdrawn before it was carried out.
    Cancelled = 7, "CANCELLED";
    /// Its time was over before it was carried out.
    Expired = 8, "EXPIRED";
}

impl State {
    /// Whether nothing follows.
    #[must_use]
    pub fn is_over(self) -> bool {
        matches!(self, State::Done | State::Cancelled | State::Expired)
    }

    /// Whether it waits to be sent, now or later.
    #[must_use]
    pub fn is_waiting(self) -> bool {
        matches!(self, State::Queued | State::Retrying | State::DeadLetter)
    }
}

/// A record that is not over, as small as it can be: its body is on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its number in the file: older is smaller.
    pub seq: i64,
    /// Its name.
    pub id: Id,
    /// Whose it is; hash of the identity.
    pub owner: u128,
    /// With whom it takes turns; hash of the identity.
    pub party: u64,
    /// Its importance.
    pub class: Class,
    /// Number of its upstream's lane in the book.
    pub lane: u16,
    /// Where it stands.
    pub state: State,
    /// Tries so far.
    pub tries: u8,
    /// Whether some try may have been carried out.
    pub doubt: bool,
    /// How often it was looked for since it is in doubt, or since the process began.
    pub looks: u8,
    /// Counts changes: the id of its latest event.
    pub version: u32,
    /// Bytes on the disk.
    pub size: u32,
    /// When it came, in milliseconds since 1970.
    pub created: u64,
    /// When it is due, if its state has a time; same clock.
    pub due: u64,
    /// When it expires unless it was carried out before; same clock.
    pub expires: u64,
}

/// How a try ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The upstream has answered: this is the answer.
    Answered,
    /// The upstream did not act, for certain.
    Nothing {
        /// It asked to be left alone for so long.
        wait: Option<Duration>,
    },
    /// It may have acted.
    Unknown,
    /// Nobody was asked, since nobody may be asked now (an open breaker); no try.
    Postponed {
        /// For so long.
        wait: Duration,
        /// Nothing can be sent to the upstream for so long, not only this.
        all: bool,
    },
}

impl Entry {
    /// What becomes of it: the state and when it is due. Changes nothing but the entry.
    pub(super) fn end(&mut self, verdict: Verdict, rules: &Rules, now: u64) {
        let wait = match verdict {
            Verdict::Answered => return self.turn(State::Done, now),
            Verdict::Postponed { wait, .. } => return self.turn(State::Queued, now + millis(wait)),
            Verdict::Unknown => {
                self.tries = self.tries.saturating_add(1);
                self.doubt = true;
                self.looks = 0;
                if !rules.idempotent {
                    return self.turn(State::Unknown, now);
                }
                Duration::ZERO
            }
            Verdict::Nothing { wait } => {
                self.tries = self.tries.saturating_add(1);
                wait.unwrap_or_default()
            }
        };
        let (quick, late) = (rules.retries.quick, rules.retries.late);
        if self.tries < quick {
            self.turn(State::Retrying, now + millis(rules.retries.pause(self.tries).max(wait)));
        } else if self.tries < quick.saturating_add(late) {
            self.turn(State::DeadLetter, now + millis(rules.retries.every.max(wait)));
        } else {
            self.turn(State::Parked, now);
        }
    }

    pub(super) fn turn(&mut self, state: State, due: u64) {
        self.state = state;
        self.due = due;
        self.version += 1;
    }

    /// Whether it may expire: only what was surely not carried out.
    pub(super) fn may_expire(&self) -> bool {
        self.state.is_waiting() && !self.doubt
    }

    /// Withdraws it; false when it is being sent or may have been carried out.
    pub fn cancel(&mut self) -> bool {
        let can = self.may_expire() || (self.state == State::Parked && !self.doubt);
        if can {
            self.turn(State::Cancelled, 0);
        }
        can
    }

    /// Lets it be sent again, at a person's word; false when that is no state to do so from. `until`: it does not expire
    /// before, in milliseconds since 1970.
    pub fn requeue(&mut self, until: u64) -> bool {
        let stopped = matches!(self.state, State::Parked | State::Unknown | State::DeadLetter | State::Retrying);
        if stopped {
            self.tries = 0;
            self.expires = self.expires.max(until);
            self.turn(State::Queued, 0);
        }
        stopped
    }

    /// It is over at a person's word; false when it is being sent.
    pub fn resolve(&mut self) -> bool {
        let can = self.state != State::Running && !self.state.is_over();
        if can {
            self.turn(State::Done, 0);
        }
        can
    }
}

/// Milliseconds of a span or of a moment since 1970.
pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
