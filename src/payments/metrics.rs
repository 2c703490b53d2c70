//! Figures of payments, for the metrics page.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use tidegate_filters::engine::{Sample, SampleKind, State};

/// Counters of the process.
#[derive(Default)]
pub(crate) struct Metrics {
    attempts: Mutex<BTreeMap<(Arc<str>, &'static str), u64>>,
    queries: Mutex<BTreeMap<(Arc<str>, &'static str), u64>>,
    alerts: Mutex<BTreeMap<&'static str, u64>>,
    journal_writes: AtomicU64,
    journal_micros: AtomicU64,
    journal_commits: AtomicU64,
    manual: AtomicU64,
    live: AtomicU64,
}

impl Metrics {
    /// A try on a channel ended.
    pub(crate) fn attempt(&self, channel: &Arc<str>, class: &'static str) {
        *self.attempts.lock().entry((channel.clone(), class)).or_default() += 1;
    }

    /// A channel was asked about a payment.
    pub(crate) fn query(&self, channel: &Arc<str>, result: &'static str) {
        *self.queries.lock().entry((channel.clone(), result)).or_default() += 1;
    }

    /// Something that a person should see.
    pub(crate) fn alert(&self, kind: &'static str) {
        *self.alerts.lock().entry(kind).or_default() += 1;
    }

    /// A try was written down before it was made, which took so long.
    pub(crate) fn journal(&self, took: Duration) {
        self.journal_writes.fetch_add(1, Relaxed);
        self.journal_micros.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Relaxed);
    }

    /// So many commits of the journal's file.
    pub(crate) fn commits(&self, commits: u64) {
        self.journal_commits.store(commits, Relaxed);
    }

    /// How many payments wait for a person, and how many tries are undecided.
    pub(crate) fn figures(&self, (manual, live): (u64, u64)) {
        self.manual.store(manual, Relaxed);
        self.live.store(live, Relaxed);
    }
}

impl State for Metrics {
    fn samples(&self, out: &mut Vec<Sample>) {
        let mut put = |name, help, kind, labels, value| out.push(Sample { name, help, kind, labels, value });
        let channel =
            |channel: &Arc<str>, what, word: &str| vec![("channel", channel.to_string()), (what, word.to_owned())];
        for ((name, class), count) in &*self.attempts.lock() {
            let help = "Payments tried, by channel and what is known about the try.";
            let labels = channel(name, "class", class);
            put("tidegate_payment_attempts_total", help, SampleKind::Counter, labels, double(*count));
        }
        for ((name, result), count) in &*self.queries.lock() {
            let help = "Channels asked about payments, by what they told.";
            let labels = channel(name, "result", result);
            put("tidegate_payment_queries_total", help, SampleKind::Counter, labels, double(*count));
        }
        for (kind, count) in &*self.alerts.lock() {
            let help = "Payments that somebody must look at, by kind.";
            let labels = vec![("kind", (*kind).to_owned())];
            put("tidegate_payment_alerts_total", help, SampleKind::Counter, labels, double(*count));
        }
        let writes = self.journal_writes.load(Relaxed);
        if writes > 0 {
            let seconds = Duration::from_micros(self.journal_micros.load(Relaxed)).as_secs_f64();
            let help = "Tries written down before they were made.";
            put("tidegate_payment_journal_writes_total", help, SampleKind::Counter, Vec::new(), double(writes));
            let help = "Time that writing them down took.";
            put("tidegate_payment_journal_seconds_total", help, SampleKind::Counter, Vec::new(), seconds);
        }
        let help = "Commits of the journal to its file, each with one wait for the disk.";
        let commits = double(self.journal_commits.load(Relaxed));
        put("tidegate_payment_journal_commits_total", help, SampleKind::Counter, Vec::new(), commits);
        let help = "Tries whose outcome is open.";
        put("tidegate_payments_live", help, SampleKind::Gauge, Vec::new(), double(self.live.load(Relaxed)));
        let help = "Payments that wait for a person.";
        put("tidegate_payments_manual", help, SampleKind::Gauge, Vec::new(), double(self.manual.load(Relaxed)));
    }
}

#[expect(clippy::cast_precision_loss, reason = "a metric is a double by definition")]
fn double(value: u64) -> f64 {
    value as f64
}
