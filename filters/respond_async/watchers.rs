//! Who waits for news of a record. A place exists only while somebody waits, so a million records cost nothing here.

use std::collections::HashMap;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::core::Id;

/// News of records: the number of the latest change.
#[derive(Default)]
pub(super) struct Watchers(Mutex<HashMap<Id, watch::Sender<u32>>>);

impl Watchers {
    /// News of a record from now on. Read the record behind this call, and nothing is missed.
    pub(super) fn subscribe(&self, id: Id) -> watch::Receiver<u32> {
        self.0.lock().entry(id).or_insert_with(|| watch::channel(0).0).subscribe()
    }

    /// A record has changed.
    pub(super) fn tell(&self, id: Id, version: u32) {
        let mut all = self.0.lock();
        if let Some(sender) = all.get(&id) {
            if sender.receiver_count() == 0 {
                all.remove(&id);
            } else {
                sender.send_replace(version);
            }
        }
    }

    /// Forgets places where nobody waits any more.
    pub(super) fn sweep(&self) {
        self.0.lock().retain(|_, sender| sender.receiver_count() > 0);
    }

    /// How many records somebody waits for.
    pub(super) fn len(&self) -> usize {
        self.0.lock().len()
    }
}
