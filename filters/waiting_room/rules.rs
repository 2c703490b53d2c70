//! What a room is told to do: its limits, how it treats waiters, its events. Plain numbers, checked by whoever read them.
//!
//! All times are milliseconds, moments are milliseconds since 1970.

/// Who gets a free place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// The lowest number.
    #[default]
    Fifo,
    /// Any of those who wait, each with the same chance.
    Random,
    /// Everybody, at once; the room only counts.
    Passthrough,
    /// Nobody waits: who finds no free place is refused.
    Reject,
}

impl Method {
    /// The word used in files and documents.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Method::Fifo => "fifo",
            Method::Random => "random",
            Method::Passthrough => "passthrough",
            Method::Reject => "reject",
        }
    }
}

/// What becomes of somebody who did not come when it was their turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Missed {
    /// On coming back they get the next free place, once.
    #[default]
    Front,
    /// On coming back they get a new number at the end.
    Back,
    /// Their number is void.
    Expire,
}

/// What happens to somebody who wants a number when the line is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// They are refused.
    #[default]
    Reject,
    /// Chance decides whether they are refused or take the number of somebody in line, so that all who came since the
    /// line was full have the same chance, however late.
    RandomDrop,
}

/// Limits that an event may override.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Who gets a free place.
    pub method: Method,
    /// People inside at once, those included whose turn it is.
    pub total_active_users: u32,
    /// People admitted in any 60 seconds.
    pub new_users_per_minute: u32,
    /// How long a visit lasts without a request.
    pub session: u64,
    /// Whether a request prolongs a visit; otherwise it ends after `session` in any case.
    pub renewal: bool,
    /// Whether everybody new waits, whatever is free.
    pub queue_all: bool,
    /// Whether the room is out of the way: everybody passes and nothing is counted.
    pub suspended: bool,
}

/// What an event overrides. The two limits come together or not at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Who gets a free place.
    pub method: Option<Method>,
    /// `total_active_users` and `new_users_per_minute`.
    pub limits: Option<(u32, u32)>,
    /// How long a visit lasts without a request.
    pub session: Option<u64>,
    /// Whether a request prolongs a visit.
    pub renewal: Option<bool>,
    /// Whether everybody new waits.
    pub queue_all: Option<bool>,
    /// Whether the room is out of the way.
    pub suspended: Option<bool>,
}

/// Something that begins and ends at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its name.
    pub name: String,
    /// From here on people are collected and nobody is admitted; `None`: not before it starts.
    pub prequeue: Option<u64>,
    /// Its start.
    pub start: u64,
    /// Its end.
    pub end: u64,
    /// Whether those collected before the start are put into an order drawn by chance.
    pub shuffle: bool,
    /// What is different while it lasts.
    pub overrides: Overrides,
}

/// Where a moment lies among the events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase<'a> {
    /// No event is on.
    Ordinary,
    /// People are collected for this event.
    Prequeue(&'a Event),
    /// This event is on.
    Event(&'a Event),
}

/// How often a client is asked to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Polling {
    /// At most this often.
    pub min: u64,
    /// At least this often.
    pub max: u64,
    /// So many looks in the time that is left to wait.
    pub divisor: u32,
}

/// All rules of a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Limits while no event is on.
    pub limits: Limits,
    /// Events in the order of their starts; they do not overlap.
    pub events: Vec<Event>,
    /// Who is silent for this long counts as gone, at the latest.
    pub queue_grace: u64,
    /// How long a turn lasts.
    pub claim_window: u64,
    /// What becomes of those who miss it.
    pub missed: Missed,
    /// People in line, at most.
    pub max_queue_length: u64,
    /// What happens beyond.
    pub overflow: Overflow,
    /// People admitted in all, at most; `None`: no bound.
    pub admission_cap: Option<u64>,
    /// People inside at once for each piece that the backend says is left, besides those who have ordered; `None`: how many
    /// are left bounds nothing.
    pub per_piece: Option<u64>,
    /// How often clients look.
    pub polling: Polling,
    /// How often a page without scripts looks.
    pub refresh: u64,
}

impl Rules {
    /// The rules of a room of which only the two limits and the length of a visit are said.
    #[must_use]
    pub fn new(total_active_users: u32, new_users_per_minute: u32, session: u64) -> Self {
        let limits = Limits {
            method: Method::Fifo,
            total_active_users,
            new_users_per_minute,
            session,
            renewal: true,
            queue_all: false,
            suspended: false,
        };
        Self {
            limits,
            events: Vec::new(),
            queue_grace: 300_000,
            claim_window: 60_000,
            missed: Missed::Front,
            max_queue_length: 2_000_000,
            overflow: Overflow::Reject,
            admission_cap: None,
            per_piece: None,
            polling: Polling { min: 2_000, max: 60_000, divisor: 5 },
            refresh: 20_000,
        }
    }

    /// Where `now` lies among the events.
    #[must_use]
    pub fn phase(&self, now: u64) -> Phase<'_> {
        let event = self.events.iter().find(|event| event.prequeue.unwrap_or(event.start) <= now && now < event.end);
        match event {
            Some(event) if now < event.start => Phase::Prequeue(event),
            Some(event) => Phase::Event(event),
            None => Phase::Ordinary,
        }
    }

    /// The limits at `now`, those of a running event included.
    #[must_use]
    pub fn limits_at(&self, now: u64) -> Limits {
        match self.phase(now) {
            Phase::Ordinary => self.limits,
            Phase::Prequeue(event) | Phase::Event(event) => event.overrides.over(self.limits),
        }
    }

    /// How long a number without a sign of life is kept, once passed: as long as a ticket lasts.
    #[must_use]
    pub fn ticket_life(&self) -> u64 {
        self.queue_grace.max(3_600_000)
    }
}

impl Overrides {
    fn over(&self, limits: Limits) -> Limits {
        let (total_active_users, new_users_per_minute) =
            self.limits.unwrap_or((limits.total_active_users, limits.new_users_per_minute));
        Limits {
            method: self.method.unwrap_or(limits.method),
            total_active_users,
            new_users_per_minute,
            session: self.session.unwrap_or(limits.session),
            renewal: self.renewal.unwrap_or(limits.renewal),
            queue_all: self.queue_all.unwrap_or(limits.queue_all),
            suspended: self.suspended.unwrap_or(limits.suspended),
        }
    }
}
