//! Sends callbacks until they are acknowledged.
//!
//! The file is the queue: a callback stays pending until an acknowledgement has been committed, so a crash repeats
//! attempts and loses none. What is under way is remembered in memory only, and so is how many that may be.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use reqwest::redirect::Policy;
use reqwest::{Client, Response};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::channel::Channel;
use super::dialects::notification;
use super::outbox::{self, Due, Outcome};
use crate::support::dialect::Dialect;
use crate::support::{StartError, Stop, unix_ms};

/// Callbacks under way at the same time.
const MAX_UNDER_WAY: usize = 64;

/// Callbacks read from the file at a time, besides those under way.
const BATCH: usize = 256;

/// A receiver has this long to answer; real channels give five seconds.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Longest answer that is read: an acknowledgement has 18 bytes.
const MAX_ANSWER: usize = 4 * 1024;

/// The file is looked into at least this often, should a wake-up have been missed.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// The file is looked into at most once in this time: under load a look then finds many callbacks and not one.
const PACE: Duration = Duration::from_millis(5);

/// Pause after the file could not be read or written.
const PAUSE: Duration = Duration::from_secs(1);

/// Sends the callbacks of one channel.
pub(super) struct Sender {
    channel: Arc<Channel>,
    client: Client,
    time_scale: f64,
}

impl Sender {
    /// A sender that has not started.
    ///
    /// # Errors
    /// [`StartError::Setup`] when there is no HTTP client to be had.
    pub(super) fn new(channel: Arc<Channel>, time_scale: f64) -> Result<Arc<Self>, StartError> {
        // A redirect is no acknowledgement, and following it would send the message to somebody else.
        let client = Client::builder().redirect(Policy::none()).timeout(TIMEOUT).no_proxy().build();
        let client = client.map_err(|error| StartError::Setup(format!("cannot make an HTTP client: {error}")))?;
        Ok(Arc::new(Self { channel, client, time_scale }))
    }

    /// Sends what is due until the service stops; attempts under way are then given up and repeated after a restart.
    pub(super) async fn run(self: Arc<Self>, stop: Stop) {
        let mut tasks: JoinSet<String> = JoinSet::new();
        let mut taken: HashSet<String> = HashSet::new();
        let mut queue: VecDeque<Due> = VecDeque::new();
        let mut look_at = Instant::now();
        loop {
            if queue.is_empty() && Instant::now() >= look_at {
                let found = self.read(&taken).await;
                (queue, look_at) = (found.0, Instant::now() + found.1);
                taken.extend(queue.iter().map(|due| due.notify_id.clone()));
            }
            while tasks.len() < MAX_UNDER_WAY
                && let Some(due) = queue.pop_front()
            {
                tasks.spawn(Arc::clone(&self).attempt(due));
            }
            tokio::select! {
                () = stop.requested() => return,
                Some(ended) = tasks.join_next() => {
                    if let Ok(notify_id) = ended {
                        taken.remove(&notify_id);
                    }
                    // More may be due than was read, and this attempt may have to be repeated soon.
                    look_at = look_at.min(Instant::now() + PACE);
                }
                () = self.channel.wake.notified() => look_at = look_at.min(Instant::now() + PACE),
                () = tokio::time::sleep_until(look_at), if queue.is_empty() => {}
            }
        }
    }

    /// What is due and not taken yet, and how long to sleep if that is nothing.
    async fn read(&self, taken: &HashSet<String>) -> (VecDeque<Due>, Duration) {
        let now_ms = unix_ms();
        let most = BATCH + taken.len();
        match self.channel.store.read(move |connection| outbox::due(connection, now_ms, most)).await {
            Ok((due, next)) => {
                let fresh = due.into_iter().filter(|due| !taken.contains(&due.notify_id)).collect();
                let wait = next.map_or(LONGEST_SLEEP, |at| Duration::from_millis((at - now_ms).unsigned_abs()));
                (fresh, wait.clamp(PACE, LONGEST_SLEEP))
            }
            Err(error) => {
                tracing::warn!(%error, "callbacks could not be read, trying again");
                (VecDeque::new(), PAUSE)
            }
        }
    }

    /// One attempt from sending to recording; answers whose it was.
    async fn attempt(self: Arc<Self>, due: Due) -> String {
        let counters = &self.channel.counters;
        if due.probe {
            counters.probes.add(1);
            let accepted = self.send(&due, true).await == Outcome::Acknowledged;
            counters.probes_accepted.add(u64::from(accepted));
        }
        counters.callback_attempts.add(1);
        counters.callback_copies.add(u64::from(due.copies));
        // One acknowledgement is enough: whoever saw one of the copies knows.
        let outcomes = join_all((0..=due.copies).map(|_| self.send(&due, false))).await;
        let outcome = outcomes.into_iter().find(|one| *one == Outcome::Acknowledged).unwrap_or(Outcome::Failed);
        self.record(&due, outcome).await;
        due.notify_id
    }

    async fn send(&self, due: &Due, probe: bool) -> Outcome {
        let dialect = due.payment.wanted.dialect;
        // A failed look at the keys is a failed attempt.
        let keys = match dialect {
            Dialect::Alipay | Dialect::Wechat => match self.channel.keys().await {
                Ok(keys) => Some(keys),
                Err(_) => return Outcome::Failed,
            },
            Dialect::Json | Dialect::Epay => None,
        };
        let message = notification::message(&self.channel, keys.as_deref(), due, probe);
        let mut request = self.client.request(message.method, message.url).body(message.body);
        for (name, value) in message.headers {
            request = request.header(name, value);
        }
        match request.send().await {
            Ok(answer) => outcome(dialect, answer).await,
            Err(_) => Outcome::Failed,
        }
    }

    async fn record(&self, due: &Due, outcome: Outcome) {
        let (notify_id, scale) = (due.notify_id.clone(), self.time_scale);
        let now_ms = unix_ms();
        let record = move |connection: &_| outbox::record(connection, &notify_id, outcome, scale, now_ms);
        match self.channel.store.write(record).await {
            Ok(Some("acknowledged")) => self.channel.counters.callbacks_acknowledged.add(1),
            Ok(Some("given_up")) => {
                self.channel.counters.callbacks_given_up.add(1);
                tracing::warn!(notify_id = due.notify_id, attempts = due.attempts + 1, "a callback was given up");
            }
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(%error, "an attempt could not be recorded and will be repeated");
                // The callback is still due: without a pause it would be sent in a tight loop.
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn outcome(dialect: Dialect, mut answer: Response) -> Outcome {
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = answer.chunk().await {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_ANSWER {
            return Outcome::Failed;
        }
    }
    if notification::acknowledges(dialect, answer.status(), &body) { Outcome::Acknowledged } else { Outcome::Failed }
}
