//! The steps of a record, in the order that makes promises hold: take it into one pair of hands, write down what follows,
//! then say so.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::sync::Notify;

use super::core::{Due, Entry, Id, Leave, State, Verdict, millis};
use super::counts::Event;
use super::letter::Letter;
use super::state::Deferred;
use crate::store::{StoreError, Stored};

/// Pause before something that must be written down is tried again.
const WRITE_AGAIN: Duration = Duration::from_secs(1);
/// How long answers can be fetched before any settings have said so.
const USUAL_KEEP: Duration = Duration::from_secs(86_400);

impl Deferred {
    /// Told when there may be something to do before the time that [`Deferred::due`] has told. Who waits for it need not
    /// hold the book.
    #[must_use]
    pub fn wake(&self) -> Arc<Notify> {
        self.wake.clone()
    }

    /// Which channels the upstreams have, as far as `channels` knows them.
    pub fn set_channels(&self, channels: impl Fn(&str) -> Vec<Arc<str>>) {
        self.book.lock().set_channels(channels);
    }

    /// To how many upstreams requests were deferred.
    #[must_use]
    pub fn lanes(&self) -> usize {
        self.book.lock().lanes()
    }

    /// What is to be done at this moment.
    #[must_use]
    pub fn due(&self, now: Duration) -> Due {
        self.book.lock().due(now)
    }

    /// Writes down that these are being sent, and reads what is to be sent. On an error nothing may be sent; the records
    /// wait on. Behind it [`Deferred::leave_at`] says when.
    ///
    /// # Errors
    /// When the disk refuses.
    pub async fn running(&self, entries: &[Entry]) -> Result<Vec<(i64, Letter)>, StoreError> {
        let shelf = self.shelf()?;
        let letters = shelf.letters(entries).await?;
        shelf.running(entries).await?;
        for entry in entries {
            self.watchers.tell(entry.id, entry.version);
        }
        Ok(letters)
    }

    /// When each of these, which are written down as running, is to be sent; `None`: it goes back into its line.
    #[must_use]
    pub fn leave_at(&self, entries: &[Entry], now: Duration) -> Vec<Option<Duration>> {
        let leave_at = self.book.lock().leave_at(entries.iter().map(|entry| entry.seq), now);
        // There is room on the way out.
        self.wake.notify_one();
        leave_at
    }

    /// The moment that one was given has come: whether it leaves.
    #[must_use]
    pub fn leave(&self, seq: i64, now: Duration) -> Leave {
        self.book.lock().leave(seq, now)
    }

    /// The bodies of these, as far as they can be read.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn letters(&self, entries: &[Entry]) -> Result<Vec<(i64, Letter)>, StoreError> {
        self.shelf()?.letters(entries).await
    }

    /// A try has ended: what follows is written down, however long that takes, and then told. Returns the state.
    pub async fn ended(
        &self,
        seq: i64,
        verdict: Verdict,
        told: (Option<Stored>, String),
        now: impl Fn() -> Duration + Send,
    ) -> Option<State> {
        let entry = self.book.lock().judge(seq, verdict, now())?;
        let (answer, why) = told;
        while let Err(error) = self.save(&entry, answer.as_ref(), &why, now()).await {
            // The answer is known and not on the disk: to forget it would be worse than to wait.
            tracing::error!(target: "tidegate::deferred", filter = &*self.name, id = %entry.id, %error,
                "an outcome could not be written down");
            tokio::time::sleep(WRITE_AGAIN).await;
        }
        self.book.lock().ended(entry.clone(), verdict, now());
        self.tell(&entry);
        self.wake.notify_one();
        Some(entry.state)
    }

    async fn save(&self, entry: &Entry, answer: Option<&Stored>, why: &str, now: Duration) -> Result<(), StoreError> {
        let keep = self.terms().map_or(USUAL_KEEP, |terms| terms.keep);
        let until = if entry.state.is_over() { millis(now + keep) } else { 0 };
        self.shelf()?.change(entry, answer, why, (millis(now), until)).await?;
        if entry.state.is_over() {
            self.over.fetch_add(1, Relaxed);
        }
        Ok(())
    }

    fn tell(&self, entry: &Entry) {
        if let Some(event) = Event::of(entry.state) {
            self.counts.count(event);
        }
        self.watchers.tell(entry.id, entry.version);
    }

    /// Writes down a change of a record that is in the caller's hands; on an error it stands as before.
    ///
    /// # Errors
    /// When the disk refuses.
    pub async fn settle(
        &self,
        entry: Entry,
        answer: Option<&Stored>,
        why: &str,
        now: Duration,
    ) -> Result<(), StoreError> {
        let saved = self.save(&entry, answer, why, now).await;
        let mut book = self.book.lock();
        match saved {
            Ok(()) => book.change(entry.clone()),
            Err(error) => {
                book.put_back(entry.seq);
                return Err(error);
            }
        }
        drop(book);
        self.tell(&entry);
        self.wake.notify_one();
        Ok(())
    }

    /// A look that told nothing: the record is looked at again at that moment; `None`: not by itself.
    pub fn look_again(&self, mut entry: Entry, at: Option<Duration>) {
        entry.looks = entry.looks.saturating_add(1);
        entry.due = at.map_or(u64::MAX, millis);
        self.book.lock().change(entry);
        self.wake.notify_one();
    }

    /// Changes a record as `wish` says; false when it cannot be changed so now.
    ///
    /// # Errors
    /// When the disk refuses.
    pub async fn act(
        self: &Arc<Self>,
        id: Id,
        wish: impl FnOnce(&mut Entry) -> bool + Send,
        answer: Option<Stored>,
        why: String,
        now: Duration,
    ) -> Result<bool, StoreError> {
        let Some(entry) = self.book.lock().take(id, wish) else { return Ok(false) };
        let deferred = self.clone();
        // Whoever asked may leave; the record is not left in nobody's hands.
        let task = tokio::spawn(async move { deferred.settle(entry, answer.as_ref(), &why, now).await });
        task.await.map_err(|error| StoreError::Failed(error.to_string()))??;
        Ok(true)
    }
}
