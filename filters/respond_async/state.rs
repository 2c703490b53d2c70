//! What a filter remembers: the book in memory, the shelf on the disk, and who waits for news.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use http::StatusCode;
use parking_lot::Mutex;
use tidegate_durable::Stats;
use tokio::sync::{Notify, watch};

use super::core::{Book, Class, Entry, Figures, Id, Refused, Rules, State as Stand};
use super::counts::{Counts, Event};
use super::number;
use super::reply;
use super::rows::Known;
use super::shelf::Shelf;
use super::watchers::Watchers;
use crate::engine::{IdentityId, Key, Nanos, Permit, Rate, Release, Reply, RequestContext};
use crate::idempotency::key;
use crate::rate_limit::{Buckets, KeyRule, Quota};
use crate::store::{StoreError, Stored};

/// Clients whose asking is remembered, at most.
const MOST_ASKING: usize = 100_000;

/// A record as its owner may see it.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    /// Number, name, owner, state and times.
    pub entry: Entry,
    /// About how many leave before it, and in how long it leaves; `None` while it is in no line.
    pub place: Option<(usize, Duration)>,
    /// The status of its answer, and whether the answer was short enough to be kept; `None` before there is one.
    pub answered: Option<(u16, bool)>,
}

/// What a filter's settings say beside the book's rules.
#[derive(Clone, Debug)]
pub struct Terms {
    /// How long answers can be fetched.
    pub keep: Duration,
    /// How long a request may wait.
    pub ttl: Duration,
    /// The longest wait that a client may ask for.
    pub max_wait: Duration,
    /// Largest answer that is kept, in bytes.
    pub max_answer: usize,
    /// How often one client may ask how things stand; `None`: as it likes.
    pub status_quota: Option<Quota>,
    /// The identity that requests belong to.
    pub scope: IdentityId,
    /// Its name.
    pub scope_name: Arc<str>,
}

impl Terms {
    /// Whose a request is, by the identity of that number; who has no such identity is known by address.
    #[must_use]
    pub fn owner(&self, scope: IdentityId, cx: &RequestContext) -> u128 {
        let principal = key::principal(scope, cx).unwrap_or_else(|| key::address(cx));
        u128::from_be_bytes(number(&self.scope_name, &principal))
    }
}

/// All deferred requests of one filter. Kept over reloads.
pub struct Deferred {
    /// The filter's name.
    pub name: Arc<str>,
    epoch: Duration,
    pub(super) shelf: Option<Arc<Shelf>>,
    pub(super) book: Mutex<Book>,
    pub(super) counts: Counts,
    pub(super) watchers: Watchers,
    pub(super) wake: Arc<Notify>,
    passing: AtomicUsize,
    terms: Mutex<Option<Arc<Terms>>>,
    broken: Option<StoreError>,
    /// Its records that are over and still known.
    pub(super) over: Arc<AtomicUsize>,
    /// The running configuration does not have it.
    pub(super) orphaned: AtomicBool,
    /// Its settings, as the file knows them.
    written: Mutex<Arc<str>>,
    pub(super) purged_at: Mutex<Nanos>,
    /// More was to be forgotten than in one go.
    pub(super) purge_again: Arc<AtomicBool>,
    pub(super) asks: Buckets,
    /// The latest moment the figures know: about a second ago at most.
    pub(super) swept_at: Mutex<Nanos>,
}

/// Buckets of those who ask.
fn asks(filter: &Arc<str>) -> Buckets {
    let rule = KeyRule::Identity { name: "client".into(), id: IdentityId::CLIENT };
    let at_first = Rate { count: NonZeroU32::MIN, per: Duration::from_millis(1) };
    let quotas = Quota::new(at_first, None).into_iter().collect();
    Buckets::new(filter.clone(), "status".into(), rule, quotas, MOST_ASKING)
}

impl Deferred {
    /// Reads what the file knows; blocks. `shelf`: `None` for a stand-in that takes nothing.
    /// A file that cannot be read makes it [`Deferred::broken`].
    pub fn open(name: Arc<str>, shelf: Option<Arc<Shelf>>, rules: Rules, epoch: Duration) -> Self {
        let mut book = Book::new(rules);
        let (mut broken, mut over) = (None, 0);
        if let Some(shelf) = &shelf {
            let idempotent = book.rules().idempotent;
            let load = |mut entry: Entry, upstream: &str| {
                entry.lane = book.lane(upstream);
                book.load(entry);
            };
            match shelf.recover(&name, idempotent, load) {
                Ok(count) => over = count,
                Err(error) => broken = Some(error),
            }
        }
        Self {
            epoch,
            shelf,
            book: Mutex::new(book),
            counts: Counts::default(),
            watchers: Watchers::default(),
            wake: Arc::default(),
            passing: AtomicUsize::new(0),
            terms: Mutex::new(None),
            broken,
            over: Arc::new(AtomicUsize::new(over)),
            orphaned: AtomicBool::new(false),
            written: Mutex::new("".into()),
            purged_at: Mutex::default(),
            purge_again: Arc::default(),
            asks: asks(&name),
            swept_at: Mutex::default(),
            name,
        }
    }

    /// Whether that client may ask how something stands now; otherwise how long it has to wait.
    ///
    /// # Errors
    /// When it asks too often.
    pub fn may_ask(&self, owner: u128, now: Nanos) -> Result<(), Duration> {
        self.asks.take(Key(owner), 1, now).map(|_| ()).map_err(|refusal| {
            self.counts.count(Event::AskedTooOften);
            refusal.wait
        })
    }

    /// Why its file could not be read; `None`: it was.
    pub fn broken(&self) -> Option<&StoreError> {
        self.broken.as_ref()
    }

    /// What the running settings say; `None` before the first.
    pub fn terms(&self) -> Option<Arc<Terms>> {
        self.terms.lock().clone()
    }

    /// Time since 1970.
    #[must_use]
    pub fn unix(&self, now: Nanos) -> Duration {
        self.epoch + Duration::from_nanos(now.0)
    }

    /// `written`: the settings these come from, for the file.
    pub(super) fn retune(&self, rules: Rules, terms: Arc<Terms>, written: &Arc<str>) {
        if let Some(shelf) = &self.shelf
            && std::mem::replace(&mut *self.written.lock(), written.clone()) != *written
        {
            shelf.describe(&self.name, written);
        }
        self.orphaned.store(false, Relaxed);
        self.book.lock().retune(rules);
        if let Some(quota) = terms.status_quota {
            self.asks.retune(&[quota], MOST_ASKING);
        }
        *self.terms.lock() = Some(terms);
        self.wake.notify_one();
    }

    /// A record is on the disk and joins its line.
    pub(super) fn joined(&self, seat: super::core::Seat, entry: Entry) {
        self.book.lock().insert(seat, entry);
        self.counts.count(Event::Accepted);
        self.wake.notify_one();
    }

    /// Whether there is room for a newcomer, as far as that can be said before its body is there.
    pub(super) fn room(&self, class: Class, party: u64, now: Nanos) -> Result<(), Refused> {
        let now = self.unix(now);
        let mut book = self.book.lock();
        let seat = book.reserve(class, party, 0, u32::MAX, now)?;
        book.give_back(seat);
        Ok(())
    }

    /// The answer to a request there is no room for.
    #[must_use]
    pub fn refusal(&self, refused: Refused) -> Reply {
        let (event, reply) = match refused {
            Refused::Full { wait } => (Event::Shed, reply::full(wait)),
            Refused::Quota => (Event::Quota, reply::quota()),
        };
        self.counts.count(event);
        reply
    }

    /// Requests that were let through and are under way.
    pub(super) fn passing(&self) -> usize {
        self.passing.load(Relaxed)
    }

    /// Lets a request through; `counts`: it counts as under way until it is over.
    pub(super) fn pass(self: &Arc<Self>, cx: &mut RequestContext, counts: bool) {
        if counts {
            self.passing.fetch_add(1, Relaxed);
            cx.hold(Permit::new(self.clone(), 0));
        }
        self.counts.count(Event::Passed);
    }

    pub(super) fn shelf(&self) -> Result<&Arc<Shelf>, StoreError> {
        self.shelf.as_ref().ok_or_else(|| StoreError::Failed("there is no file".to_owned()))
    }

    /// Commits and operations of its disk since the start; `None` without one.
    #[must_use]
    pub fn disk(&self) -> Option<Stats> {
        self.shelf.as_ref().map(|shelf| shelf.stats())
    }

    /// Figures for operators.
    #[must_use]
    pub fn figures(&self, now: Duration) -> Figures {
        self.book.lock().figures(now)
    }

    /// How the record of that name stands; `None` when there is none.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn view(&self, id: Id, now: Duration) -> Result<Option<View>, StoreError> {
        let live = {
            let book = self.book.lock();
            book.find(id).map(|entry| View { entry: entry.clone(), place: book.place_of(entry, now), answered: None })
        };
        if live.is_some() {
            return Ok(live);
        }
        Ok(self.known(id).await?.map(|known| View {
            answered: known.status.map(|status| (status, known.kept)),
            entry: known.entry,
            place: None,
        }))
    }

    /// News of a record. Read it behind this call, and nothing is missed.
    #[must_use]
    pub fn subscribe(&self, id: Id) -> watch::Receiver<u32> {
        self.watchers.subscribe(id)
    }

    /// Waits until `until` says so of a record, at most for `patience`; how it stands then.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn wait(
        &self,
        id: Id,
        until: impl Fn(&Entry) -> bool + Send,
        patience: Duration,
        now: impl Fn() -> Duration + Send,
    ) -> Result<Option<View>, StoreError> {
        let mut news = self.subscribe(id);
        let deadline = tokio::time::Instant::now() + patience;
        loop {
            let view = self.view(id, now()).await?;
            let Some(standing) = &view else { return Ok(None) };
            if until(&standing.entry) || tokio::time::timeout_at(deadline, news.changed()).await.is_err() {
                return Ok(view);
            }
        }
    }

    /// The answer of a record that is done; `None` before. Without a body when that was too long to be kept.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn answer(&self, id: Id) -> Result<Option<Stored>, StoreError> {
        let shelf = self.shelf()?;
        match shelf.find(&self.name, id).await? {
            Some(known) => shelf.answer(&known).await,
            None => Ok(None),
        }
    }

    /// The latest records, in one state or in all.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn list(&self, state: Option<Stand>, limit: usize) -> Result<Vec<Known>, StoreError> {
        match &self.shelf {
            Some(shelf) => shelf.list(&self.name, state, limit).await,
            None => Ok(Vec::new()),
        }
    }

    /// One record with what is known of it; a stand-in knows none.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn known(&self, id: Id) -> Result<Option<Known>, StoreError> {
        match &self.shelf {
            Some(shelf) => shelf.find(&self.name, id).await,
            None => Ok(None),
        }
    }
}

/// An answer of the gateway's own for a record that a person resolves.
#[must_use]
pub fn resolved(status: StatusCode, body: String) -> Stored {
    let json = (http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    Stored { status, headers: vec![json], body: Some(body.into()) }
}

impl Release for Deferred {
    /// A request that was let through is over.
    fn release(&self, _: u64) {
        self.passing.fetch_sub(1, Relaxed);
    }
}
