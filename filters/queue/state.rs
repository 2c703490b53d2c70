//! A queue as everybody shares it: the lock around its decisions, the calls, and what operators see.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::GRACE;
use super::inner::{Called, Entry, Inner, Slot};
pub(super) use super::inner::{Limits, Reason, Refusal, Source};
use super::line::Place;
use crate::engine::{Key, Nanos, Permit, Priority, Release, Sample, SampleKind, State};

/// What one who waits is told.
enum Call {
    Go(Slot),
    Refused(Refusal),
}

/// One queue: its line, its places or its pace. Shared by all routes that list the filter; kept over reloads.
pub struct Queue {
    name: Arc<str>,
    inner: Mutex<Inner<oneshot::Sender<Call>>>,
    /// The gateway's clock and this process's, read at the same moment: places are given back without a `now`.
    anchor: OnceLock<(Nanos, Instant)>,
    /// Limits have changed.
    retuned: Notify,
    counts: Counts,
}

#[derive(Default)]
struct Counts {
    at_once: AtomicU64,
    waited: AtomicU64,
    wait_ns: AtomicU64,
    full: AtomicU64,
    timeout: AtomicU64,
    shed: AtomicU64,
    left: AtomicU64,
    /// Admitted so far and when, at the last look; and the rate between the last two.
    seen: Mutex<(u64, Nanos, f64)>,
}

/// How a queue stands.
#[derive(Clone, Debug, PartialEq)]
pub struct QueueView {
    /// The filter's name.
    pub name: Arc<str>,
    /// How many wait.
    pub waiting: usize,
    /// How many wait in each class, the least important first.
    pub by_class: [(Priority, usize); 4],
    /// How long the one who waits longest has waited; zero when nobody waits.
    pub oldest: Duration,
    /// Places held; 0 for a queue with a rate.
    pub in_service: usize,
    /// Places there are; `None` for a queue with a rate.
    pub max_concurrent: Option<usize>,
    /// The pace as written; `None` for a queue with places.
    pub rate: Option<String>,
    /// Admitted in the last second.
    pub admitted_per_second: f64,
    /// Mean time a place is held; `None` until one was given back.
    pub mean_hold: Option<Duration>,
}

/// What becomes of one who comes.
pub(super) enum Entered {
    Now(Option<Permit>),
    Refused(Refusal),
    Waits(Turn),
}

impl Queue {
    pub(super) fn new(name: Arc<str>, limits: Limits) -> Self {
        let (inner, counts) = (Mutex::new(Inner::new(limits)), Counts::default());
        Self { name, inner, anchor: OnceLock::new(), retuned: Notify::new(), counts }
    }

    /// The gateway's clock, for those who have none.
    fn now(&self) -> Nanos {
        self.anchor.get().map_or(Nanos(0), |(at, then)| at.after(then.elapsed()))
    }

    pub(super) fn enter(self: &Arc<Self>, class: Priority, flow: Key, now: Nanos) -> Entered {
        self.anchor.get_or_init(|| (now, Instant::now()));
        let mut receiver = None;
        let wake = || {
            let (sender, made) = oneshot::channel();
            receiver = Some(made);
            sender
        };
        let (entry, held, slipped) = {
            let mut inner = self.inner.lock();
            let held = matches!(inner.limits().source, Source::Concurrency(_));
            (inner.enter(class, flow, now, wake), held, inner.slipped())
        };
        match (entry, receiver) {
            (Entry::Now, _) => {
                self.counts.at_once.fetch_add(1, Relaxed);
                Entered::Now(held.then(|| self.permit(now)))
            }
            (Entry::Refused(refusal), _) => {
                self.refused(refusal.reason);
                Entered::Refused(refusal)
            }
            (Entry::Waits(place, displaced), receiver) => {
                if let Some((wake, refusal)) = displaced {
                    self.refuse(wake, refusal);
                }
                Entered::Waits(Turn { queue: self.clone(), place, since: now, slipped, call: receiver })
            }
        }
    }

    /// As if one came, in a line that holds nobody back.
    pub(super) fn rehearse(self: &Arc<Self>, now: Nanos) -> (Result<(), Option<Refusal>>, Option<Permit>) {
        self.anchor.get_or_init(|| (now, Instant::now()));
        let (result, held) = {
            let mut inner = self.inner.lock();
            (inner.rehearse(now), matches!(inner.limits().source, Source::Concurrency(_)))
        };
        match &result {
            Ok(()) => self.counts.at_once.fetch_add(1, Relaxed),
            Err(None) => self.counts.waited.fetch_add(1, Relaxed),
            Err(Some(refusal)) => self.refused(refusal.reason),
        };
        let runs = held && !matches!(result, Err(Some(_)));
        (result, runs.then(|| self.permit(now)))
    }

    pub(super) fn retune(&self, limits: Limits) {
        let now = self.now();
        self.inner.lock().retune(limits, now);
        self.call(now);
        self.retuned.notify_waiters();
    }

    fn permit(self: &Arc<Self>, now: Nanos) -> Permit {
        Permit::new(self.clone(), now.0)
    }

    /// Calls everybody whose turn it is. Returns when the next one's time comes, if somebody waits for it.
    fn call(&self, now: Nanos) -> Option<Nanos> {
        loop {
            let (called, shed) = {
                let mut inner = self.inner.lock();
                let (called, shed) = inner.next(now);
                if called.is_none() {
                    return inner.next_at();
                }
                (called, shed)
            };
            if let Some((wake, refusal)) = shed {
                self.refuse(wake, refusal);
            }
            if let Some(Called { wake, slot }) = called
                && wake.send(Call::Go(slot)).is_err()
            {
                // Gone since: the next one gets it.
                self.inner.lock().undo(slot);
            }
        }
    }

    fn refuse(&self, wake: oneshot::Sender<Call>, refusal: Refusal) {
        if wake.send(Call::Refused(refusal)).is_ok() {
            self.refused(refusal.reason);
        }
    }

    fn refused(&self, reason: Reason) -> u64 {
        let counter = match reason {
            Reason::Full => &self.counts.full,
            Reason::Timeout => &self.counts.timeout,
            Reason::Shed => &self.counts.shed,
        };
        counter.fetch_add(1, Relaxed)
    }

    /// Sees to it that a task keeps the pace while somebody waits for their time.
    fn keep_pace(self: &Arc<Self>) {
        let mut inner = self.inner.lock();
        if inner.needs_pacing() && !std::mem::replace(&mut inner.pacing, true) {
            tokio::spawn(keep_pace(self.clone()));
        }
    }

    /// How it stands at `now`.
    #[must_use]
    pub fn view(&self, now: Nanos) -> QueueView {
        let inner = self.inner.lock();
        let (max_concurrent, rate) = match inner.limits().source {
            Source::Concurrency(most) => (Some(most), None),
            Source::Rate(rate, _) => (None, Some(rate.to_string())),
        };
        QueueView {
            name: self.name.clone(),
            waiting: inner.line().len(),
            by_class: inner.line().lengths(),
            oldest: inner.line().oldest().map_or(Duration::ZERO, |since| now.since(since)),
            in_service: inner.in_service(),
            max_concurrent,
            rate,
            admitted_per_second: self.counts.seen.lock().2,
            mean_hold: inner.mean_hold(),
        }
    }
}

impl Release for Queue {
    /// `token`: when the place was given.
    fn release(&self, token: u64) {
        let now = self.now();
        self.inner.lock().release(now.since(Nanos(token)));
        self.call(now);
    }
}

/// Calls the next one whenever a time has come, until nobody waits.
async fn keep_pace(queue: Arc<Queue>) {
    loop {
        let now = queue.now();
        let next = queue.call(now);
        let Some(at) = next else {
            let mut inner = queue.inner.lock();
            // Somebody may have come between the call and this.
            if inner.needs_pacing() {
                continue;
            }
            inner.pacing = false;
            return;
        };
        tokio::select! {
            () = tokio::time::sleep(at.since(queue.now())) => (),
            () = queue.retuned.notified() => (),
        }
    }
}

/// One's place in the line. Dropped, it leaves no trace: a place that was given meanwhile goes to the next.
pub(super) struct Turn {
    queue: Arc<Queue>,
    place: Place,
    since: Nanos,
    /// By how much turns had been put off by then; `None` in a queue with places.
    slipped: Option<Duration>,
    call: Option<oneshot::Receiver<Call>>,
}

impl Turn {
    /// Waits to be called. The wait, and what is held from now on, or why it was in vain.
    pub(super) async fn wait(mut self) -> (Duration, Result<Option<Permit>, Refusal>) {
        let queue = self.queue.clone();
        let told = loop {
            queue.keep_pace();
            let left = self.left();
            let Some(call) = &mut self.call else { break None };
            tokio::select! {
                biased;
                told = &mut *call => break told.ok(),
                // A queue with places may have got a pace instead.
                () = queue.retuned.notified() => continue,
                () = tokio::time::sleep(left.unwrap_or_default()), if left.is_some() => (),
            }
            // Who was told a time gets it, however late this process is with it.
            queue.call(queue.now());
            if let Ok(told) = call.try_recv() {
                break Some(told);
            }
            if self.left() == Some(Duration::ZERO) && queue.inner.lock().leave(self.place) {
                queue.refused(Reason::Timeout);
                let wait = queue.inner.lock().limits().max_wait;
                break Some(Call::Refused(Refusal { reason: Reason::Timeout, wait }));
            }
        };
        self.call = None;
        let now = self.queue.now();
        let waited = now.since(self.since);
        let counts = &self.queue.counts;
        let result = match told {
            Some(Call::Go(slot)) => {
                counts.waited.fetch_add(1, Relaxed);
                counts.wait_ns.fetch_add(u64::try_from(waited.as_nanos()).unwrap_or(u64::MAX), Relaxed);
                Ok((slot == Slot::Held).then(|| self.queue.permit(now)))
            }
            Some(Call::Refused(refusal)) => Err(refusal),
            None => Err(Refusal { reason: Reason::Shed, wait: waited }),
        };
        (waited, result)
    }
}

impl Turn {
    /// Time until it has waited for too long: longer than anybody may, and the time by which its turn was put off since it
    /// came. `None` in a queue with places, where nobody can be told a time.
    fn left(&self) -> Option<Duration> {
        let (slipped, most) = {
            let inner = self.queue.inner.lock();
            (inner.slipped()?.saturating_sub(self.slipped?), inner.limits().max_wait)
        };
        Some((most + GRACE + slipped).saturating_sub(self.queue.now().since(self.since)))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let Some(mut call) = self.call.take() else { return };
        call.close();
        let now = self.queue.now();
        let overdue = now.since(self.since) >= self.queue.inner.lock().limits().max_wait;
        match call.try_recv() {
            Ok(Call::Go(slot)) => {
                self.queue.inner.lock().undo(slot);
                self.queue.call(now);
            }
            Ok(Call::Refused(_)) => return,
            Err(_) => {
                self.queue.inner.lock().leave(self.place);
            }
        }
        let counter = if overdue { &self.queue.counts.timeout } else { &self.queue.counts.left };
        counter.fetch_add(1, Relaxed);
    }
}

impl State for Queue {
    fn sweep(&self, now: Nanos) -> usize {
        let admitted = self.counts.at_once.load(Relaxed) + self.counts.waited.load(Relaxed);
        let (before, then, rate) = &mut *self.counts.seen.lock();
        let passed = now.since(*then).as_secs_f64();
        if passed > 0.0 {
            #[expect(clippy::cast_precision_loss, reason = "a rate to look at")]
            let grown = admitted.saturating_sub(*before) as f64;
            (*before, *then, *rate) = (admitted, now, grown / passed);
        }
        self.inner.lock().line().len()
    }

    fn samples(&self, out: &mut Vec<Sample>) {
        let label = || ("queue", self.name.to_string());
        let mut push = |name, help, kind, labels, value: f64| out.push(Sample { name, help, kind, labels, value });
        #[expect(clippy::cast_precision_loss, reason = "a metric is a double by definition")]
        let read = |counter: &AtomicU64| counter.load(Relaxed) as f64;
        #[expect(clippy::cast_precision_loss, reason = "a metric is a double by definition")]
        let (waiting, in_service) = {
            let inner = self.inner.lock();
            (inner.line().len() as f64, inner.in_service() as f64)
        };
        let counts = &self.counts;
        let (gauge, counter) = (SampleKind::Gauge, SampleKind::Counter);
        push("tidegate_queue_length", "Requests that wait.", gauge, vec![label()], waiting);
        push("tidegate_queue_in_service", "Places held; none with a rate.", gauge, vec![label()], in_service);
        for (word, count) in [("no", &counts.at_once), ("yes", &counts.waited)] {
            let labels = vec![label(), ("waited", word.to_owned())];
            push("tidegate_queue_admitted_total", "Requests let through.", counter, labels, read(count));
        }
        let help = "Time that admitted requests waited.";
        push("tidegate_queue_wait_seconds_total", help, counter, vec![label()], read(&counts.wait_ns) / 1e9);
        let reasons = [("full", &counts.full), ("timeout", &counts.timeout), ("shed", &counts.shed)];
        for (reason, count) in reasons {
            let labels = vec![label(), ("reason", reason.to_owned())];
            push("tidegate_queue_rejections_total", "Requests refused.", counter, labels, read(count));
        }
        let help = "Clients that left while they waited.";
        push("tidegate_queue_left_total", help, counter, vec![label()], read(&counts.left));
    }
}
