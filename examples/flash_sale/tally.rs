//! What has happened so far. Shared by all buyers; its memory grows with the keys that were delivered and the people who
//! were let in only.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::histogram::Histogram;

/// Kinds of refusals and failures that are told apart; more would be noise.
const MOST_KINDS: usize = 24;

/// How one arrival's order ended.
#[derive(Debug)]
pub(crate) enum Ordered {
    /// There is an order.
    Placed,
    /// Everything has been sold.
    SoldOut,
    /// The gateway refused; by the policy of that name.
    Limited(String),
    /// Something went wrong; what it was.
    Failed(String),
}

/// Counts, all since the start.
#[derive(Clone, Debug)]
pub(crate) struct Counts {
    pub(crate) arrived: u64,
    /// Arrivals the driver itself had no room for.
    pub(crate) not_started: u64,
    /// Refused at the order, by policy.
    pub(crate) limited: BTreeMap<String, u64>,
    pub(crate) sold_out: u64,
    pub(crate) ordered: u64,
    /// Ordered by somebody who did not want to pay, or whose quota was used up by flooding.
    pub(crate) unpaid: u64,
    /// Confirmed in the wallet and not declined.
    pub(crate) paid: u64,
    pub(crate) delivered: u64,
    /// Refusals met after ordering, by policy; the buyer came back every time.
    pub(crate) waited: BTreeMap<String, u64>,
    /// What went wrong for good, by kind.
    pub(crate) failed: BTreeMap<String, u64>,
    /// Answers that were errors and were asked for again.
    pub(crate) repeated: BTreeMap<String, u64>,
    pub(crate) keys: u64,
    pub(crate) keys_seen_twice: u64,
    pub(crate) flooder: Flooder,
    /// Order requests that were answered with an order or `SOLD_OUT`.
    pub(crate) answered: Histogram,
    /// Order requests that the gateway refused.
    pub(crate) refused: Histogram,
    /// From the intended arrival to the keys in hand.
    pub(crate) bought: Histogram,
    /// From a place in line to the way in.
    pub(crate) line: Histogram,
    /// When people got past the waiting room, as time since the start.
    pub(crate) let_in: Vec<Duration>,
    /// When somebody first had to wait, and when somebody first heard that nothing is left.
    pub(crate) first_wait: Option<Duration>,
    pub(crate) gone: Option<Duration>,
    /// When those who waited heard it.
    pub(crate) told: Vec<Duration>,
    /// How late the driver itself was.
    pub(crate) driver_late: Histogram,
}

/// The same for the one who floods.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub(crate) struct Flooder {
    pub(crate) arrived: u64,
    pub(crate) limited: u64,
    pub(crate) ordered: u64,
}

struct Inner {
    counts: Counts,
    keys: HashSet<String>,
    people: HashSet<Arc<str>>,
    ended: bool,
}

/// The shared tally.
pub(crate) struct Tally {
    started: Instant,
    inner: Mutex<Inner>,
}

impl Tally {
    pub(crate) fn new() -> Self {
        let counts = Counts {
            arrived: 0,
            not_started: 0,
            limited: BTreeMap::new(),
            sold_out: 0,
            ordered: 0,
            unpaid: 0,
            paid: 0,
            delivered: 0,
            waited: BTreeMap::new(),
            failed: BTreeMap::new(),
            repeated: BTreeMap::new(),
            keys: 0,
            keys_seen_twice: 0,
            flooder: Flooder::default(),
            answered: Histogram::new(),
            refused: Histogram::new(),
            bought: Histogram::new(),
            line: Histogram::new(),
            let_in: Vec::new(),
            first_wait: None,
            gone: None,
            told: Vec::new(),
            driver_late: Histogram::new(),
        };
        Self {
            started: Instant::now(),
            inner: Mutex::new(Inner { counts, keys: HashSet::new(), people: HashSet::new(), ended: false }),
        }
    }

    /// Somebody arrives, `late` after the moment he meant to.
    pub(crate) fn arrived(&self, floods: bool, late: Duration) {
        self.count(|counts| {
            counts.arrived += 1;
            counts.flooder.arrived += u64::from(floods);
            counts.driver_late.add(late);
        });
    }

    /// Somebody should have arrived, and there was no room for him here.
    pub(crate) fn not_started(&self) {
        self.count(|counts| counts.not_started += 1);
    }

    /// An arrival's last word on its order, `after` the intended arrival.
    pub(crate) fn ordered(&self, outcome: Ordered, floods: bool, after: Duration) {
        self.count(|counts| match outcome {
            Ordered::Placed => {
                counts.ordered += 1;
                counts.flooder.ordered += u64::from(floods);
                counts.answered.add(after);
            }
            Ordered::SoldOut => {
                counts.sold_out += 1;
                counts.answered.add(after);
            }
            Ordered::Limited(policy) => {
                add(&mut counts.limited, policy);
                counts.flooder.limited += u64::from(floods);
                counts.refused.add(after);
            }
            Ordered::Failed(kind) => add(&mut counts.failed, kind),
        });
    }

    /// Somebody got past the waiting room; `since`: in line since then.
    pub(crate) fn let_in(&self, who: &Arc<str>, since: Option<Instant>) {
        let now = self.elapsed();
        let inner = &mut *self.inner.lock();
        // Whoever orders twice in one visit was let in once.
        if inner.people.insert(Arc::clone(who)) {
            let counts = &mut inner.counts;
            counts.let_in.push(now);
            if let Some(since) = since {
                counts.line.add(since.elapsed());
                let began = now.saturating_sub(since.elapsed());
                counts.first_wait = Some(counts.first_wait.map_or(began, |first| first.min(began)));
            }
        }
    }

    /// Somebody hears that nothing is left, in line or not.
    pub(crate) fn sold_out(&self, in_line: bool) {
        let now = self.elapsed();
        self.count(|counts| {
            counts.gone = Some(counts.gone.map_or(now, |gone| gone.min(now)));
            if in_line {
                counts.told.push(now);
            }
        });
    }

    pub(crate) fn unpaid(&self) {
        self.count(|counts| counts.unpaid += 1);
    }

    pub(crate) fn paid(&self) {
        self.count(|counts| counts.paid += 1);
    }

    /// A buyer with an order was told to come back.
    pub(crate) fn waited(&self, policy: String) {
        self.count(|counts| add(&mut counts.waited, policy));
    }

    /// An error that a second try may mend.
    pub(crate) fn repeated(&self, kind: String) {
        self.count(|counts| add(&mut counts.repeated, kind));
    }

    /// An order that came to nothing.
    pub(crate) fn failed(&self, kind: String) {
        self.count(|counts| add(&mut counts.failed, kind));
    }

    /// Confirmed, and declined by the channel.
    pub(crate) fn declined(&self) {
        self.count(|counts| {
            counts.paid -= 1;
            add(&mut counts.failed, "payment declined".to_owned());
        });
    }

    pub(crate) fn delivered(&self) {
        self.count(|counts| counts.delivered += 1);
    }

    /// Keys in hand, `after` the intended arrival.
    pub(crate) fn bought(&self, keys: Vec<String>, after: Duration) {
        let Inner { counts, keys: seen, .. } = &mut *self.inner.lock();
        counts.bought.add(after);
        for key in keys {
            counts.keys += 1;
            counts.keys_seen_twice += u64::from(!seen.insert(key));
        }
    }

    pub(crate) fn end(&self) {
        self.inner.lock().ended = true;
    }

    pub(crate) fn ended(&self) -> bool {
        self.inner.lock().ended
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    pub(crate) fn counts(&self) -> Counts {
        self.inner.lock().counts.clone()
    }

    /// What the progress line shows: arrived, limited, sold out, ordered, delivered, failed.
    pub(crate) fn glance(&self) -> [u64; 6] {
        let counts = &self.inner.lock().counts;
        let (limited, failed) = (total(&counts.limited), total(&counts.failed));
        [counts.arrived, limited, counts.sold_out, counts.ordered, counts.delivered, failed]
    }

    fn count(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.inner.lock().counts);
    }
}

/// All kinds together.
pub(crate) fn total(kinds: &BTreeMap<String, u64>) -> u64 {
    kinds.values().sum()
}

fn add(kinds: &mut BTreeMap<String, u64>, kind: String) {
    let known = kinds.len() < MOST_KINDS || kinds.contains_key(&kind);
    *kinds.entry(if known { kind } else { "other".to_owned() }).or_default() += 1;
}
