//! What is asked for all the time, kept near at hand: the first level of the cache, in this process.
//!
//! A value is *fresh* for a second. After that one caller asks for it again and all others wait for his answer, so a hot
//! product costs one question a second, however many buyers there are. When nobody answers, the last value is shown for
//! as long as it is *kept*, and nobody asks again for a second: a service that hangs holds up one caller and not all of
//! them in turn. What does not exist is remembered, too, so that made-up names are not asked for.
//!
//! Kept times vary by a tenth either way, so that what came together does not go together.

use std::sync::Arc;
use std::time::{Duration, Instant};

use moka::Expiry;
use moka::future::Cache;
use moka::ops::compute::Op;
use rand::Rng;

use super::stock::Unreachable;
use crate::support::Counter;

/// How long a value is shown without asking again, in milliseconds.
pub(super) const FRESH_MS: i64 = 1_000;

/// How long a value is kept in case nobody answers.
const KEPT: Duration = Duration::from_secs(30 * 60);

/// The same for what was asked for before it was wanted.
const KEPT_WARM: Duration = Duration::from_secs(60 * 60);

/// How long it is remembered that something does not exist.
const KEPT_UNKNOWN: Duration = Duration::from_secs(5);

/// Values kept; those used least leave first.
const MOST: u64 = 10_000;

/// A value and its age.
#[derive(Debug)]
pub(super) struct Found<V> {
    /// Absent when it is known that there is none.
    pub(super) value: Option<Arc<V>>,
    /// Whether it is at most a second old.
    pub(super) fresh: bool,
}

enum State<V> {
    Known(Arc<V>),
    Unknown,
    Failed(Unreachable),
}

impl<V> Clone for State<V> {
    fn clone(&self) -> Self {
        match self {
            Self::Known(value) => Self::Known(Arc::clone(value)),
            Self::Unknown => Self::Unknown,
            Self::Failed(error) => Self::Failed(error.clone()),
        }
    }
}

struct Entry<V> {
    state: State<V>,
    /// When it was answered.
    read_ms: i64,
    /// When it was asked for last, with or without an answer.
    asked_ms: i64,
    warm: bool,
}

impl<V> Clone for Entry<V> {
    fn clone(&self) -> Self {
        Self { state: self.state.clone(), ..*self }
    }
}

impl<V> Entry<V> {
    /// Whether it need not be asked for.
    fn will_do(&self, now_ms: i64) -> bool {
        matches!(self.state, State::Unknown) || is_fresh(self.asked_ms, now_ms)
    }

    fn found(self, now_ms: i64) -> Result<Found<V>, Unreachable> {
        let fresh = is_fresh(self.read_ms, now_ms);
        match self.state {
            State::Known(value) => Ok(Found { value: Some(value), fresh }),
            State::Unknown => Ok(Found { value: None, fresh }),
            State::Failed(error) => Err(error),
        }
    }

    fn keep(&self) -> Duration {
        let kept = match self.state {
            State::Known(_) if self.warm => KEPT_WARM,
            State::Known(_) => KEPT,
            State::Unknown => KEPT_UNKNOWN,
            State::Failed(_) => Duration::from_millis(FRESH_MS.unsigned_abs()),
        };
        about(kept)
    }
}

/// A tenth more or less than this.
pub(super) fn about(kept: Duration) -> Duration {
    kept.mul_f64(rand::rng().random_range(0.9..1.1))
}

/// What is to be put in place of `there` after an answer.
fn after<V>(answer: Result<Option<V>, Unreachable>, there: Option<Entry<V>>, warm: bool, asked_ms: i64) -> Entry<V> {
    let warm = warm || there.as_ref().is_some_and(|entry| entry.warm);
    let new = |state| Entry { state, read_ms: asked_ms, asked_ms, warm };
    match (answer, there) {
        (Ok(Some(value)), _) => new(State::Known(Arc::new(value))),
        (Ok(None), _) => new(State::Unknown),
        (Err(_), Some(old @ Entry { state: State::Known(_), .. })) => Entry { asked_ms, warm, ..old },
        (Err(error), _) => new(State::Failed(error)),
    }
}

/// What was read in the time to come was read before the clock was set back; it may be any age.
pub(super) fn is_fresh(read_ms: i64, now_ms: i64) -> bool {
    now_ms.saturating_sub(read_ms).saturating_abs() < FRESH_MS
}

struct Keep;

impl<V> Expiry<String, Entry<V>> for Keep {
    fn expire_after_create(&self, _: &String, entry: &Entry<V>, _: Instant) -> Option<Duration> {
        Some(entry.keep())
    }

    fn expire_after_update(&self, _: &String, entry: &Entry<V>, _: Instant, _: Option<Duration>) -> Option<Duration> {
        Some(entry.keep())
    }
}

/// Values by name.
pub(super) struct Near<V> {
    cache: Cache<String, Entry<V>>,
    /// Served without asking.
    pub(super) hits: Counter,
    /// Asked for.
    pub(super) asked: Counter,
}

impl<V: Send + Sync + 'static> Near<V> {
    pub(super) fn new() -> Self {
        let cache = Cache::builder().max_capacity(MOST).expire_after(Keep).build();
        Self { cache, hits: Counter::default(), asked: Counter::default() }
    }

    /// The value under `name`, from here or from `ask`, of which one at a time is carried out.
    ///
    /// # Errors
    /// When nobody answers and it is not known from before.
    pub(super) async fn get(
        &self,
        name: &str,
        now_ms: i64,
        ask: impl Future<Output = Result<Option<V>, Unreachable>> + Send,
    ) -> Result<Found<V>, Unreachable> {
        if let Some(entry) = self.cache.get(name).await
            && entry.will_do(now_ms)
        {
            self.hits.add(1);
            return entry.found(now_ms);
        }
        self.ask(name, now_ms, false, ask).await
    }

    /// Asks for a value before it is wanted.
    ///
    /// # Errors
    /// As [`Near::get`].
    pub(super) async fn warm(
        &self,
        name: &str,
        now_ms: i64,
        ask: impl Future<Output = Result<Option<V>, Unreachable>> + Send,
    ) -> Result<Found<V>, Unreachable> {
        self.ask(name, now_ms, true, ask).await
    }

    async fn ask(
        &self,
        name: &str,
        now_ms: i64,
        warm: bool,
        ask: impl Future<Output = Result<Option<V>, Unreachable>> + Send,
    ) -> Result<Found<V>, Unreachable> {
        let began = Instant::now();
        let clock = || now_ms.saturating_add(i64::try_from(began.elapsed().as_millis()).unwrap_or(i64::MAX));
        let entry = self.cache.entry_by_ref(name).and_compute_with(async |there| {
            let there = there.map(moka::Entry::into_value);
            // Somebody else has asked while this one waited for his turn.
            if !warm && there.as_ref().is_some_and(|entry| entry.will_do(clock())) {
                self.hits.add(1);
                return Op::Nop;
            }
            self.asked.add(1);
            let answer = ask.await;
            Op::Put(after(answer, there, warm, clock()))
        });
        let entry = entry.await.into_entry().expect("invariant: the computation puts an entry or has found one");
        entry.into_value().found(clock())
    }
}
