//! One request that is being carried out: from its claim to its end, on every way out.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::live::{Flight, Landing, Live};
use crate::engine::{HeldBack, Known, Nanos};
use crate::store::{Answer, Claim, Claimed, End, Fingerprint, RecordId, Settle, StoreError};

/// How far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// The store was asked, or is about to be.
    Claiming,
    /// It is ours, and nothing was sent.
    Claimed(u64),
    /// It may have been sent.
    Sent,
    /// Its end is known, or somebody else's.
    Ended,
}

/// Times a record lives by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    pub(super) keep: Duration,
    pub(super) lease: Duration,
}

/// One request under way. Ends when it is dropped, if nothing ended it before.
pub(super) struct Lead {
    live: Arc<Live>,
    flight: Arc<Flight>,
    id: RecordId,
    principal: [u8; 32],
    token: u128,
    began: Duration,
    times: Times,
    progress: Mutex<Progress>,
}

impl Lead {
    pub(super) fn new(
        live: Arc<Live>,
        flight: Arc<Flight>,
        id: RecordId,
        principal: [u8; 32],
        now: Nanos,
        times: Times,
    ) -> Self {
        let (token, began) = (rand::random(), live.unix(now));
        Self { live, flight, id, principal, token, began, times, progress: Mutex::new(Progress::Claiming) }
    }

    /// Asks the store.
    pub(super) fn claim(&self, fingerprint: Fingerprint, again: bool) -> Answer<Claimed> {
        let Times { keep, lease } = self.times;
        let now = self.began;
        self.live.store.claim(Claim { id: self.id, fingerprint, token: self.token, now, lease, keep, again })
    }

    /// What the store said. `None`: it is ours to carry out.
    pub(super) fn claimed(&self, claimed: &Claimed) -> Option<Landing> {
        let landing = match claimed {
            Claimed::New { fence } => {
                *self.progress.lock() = Progress::Claimed(*fence);
                return None;
            }
            Claimed::Running => Landing::Nothing,
            Claimed::Done(stored) => Landing::Done(stored.clone()),
            Claimed::Unknown => Landing::Unknown,
            Claimed::Mismatch => Landing::Mismatch,
        };
        self.end(landing.clone());
        Some(landing)
    }

    /// The store did not answer; if it claims all the same, that is undone behind it.
    pub(super) fn give_up(&self) {
        self.finish(None);
    }

    /// It is about to be sent. Its fence, the first time.
    pub(super) fn sends(&self) -> Option<u64> {
        let mut progress = self.progress.lock();
        let Progress::Claimed(fence) = *progress else { return None };
        *progress = Progress::Sent;
        Some(fence)
    }

    /// Its answer is there. What must be done before the client sees its end.
    pub(super) fn answered(self: &Arc<Self>, end: End, now: Nanos) -> Option<HeldBack> {
        if *self.progress.lock() != Progress::Sent {
            return None;
        }
        let landing = landing(&end);
        match self.live.store.settle(self.settlement(end, self.live.unix(now))) {
            Answer::Now(_) => {
                self.end(landing);
                None
            }
            Answer::Later(settled) => {
                let lead = self.clone();
                // Whatever the disk says, this is the answer: the client and the twins get it.
                Some(Box::pin(async move {
                    let _: Result<(), StoreError> = settled.await;
                    lead.end(landing);
                }))
            }
        }
    }

    /// The request is over, whether it was answered or not. `known`: what is known about it at its upstream.
    pub(super) fn finish(&self, known: Option<Known>) {
        let end = match *self.progress.lock() {
            Progress::Ended => return,
            Progress::Claiming | Progress::Claimed(_) => End::Released,
            Progress::Sent => match known {
                None | Some(Known::NotSent | Known::NotProcessed) => End::Released,
                Some(Known::Unknown | Known::Final) => End::Unknown,
            },
        };
        let landing = landing(&end);
        self.live.store.post(self.settlement(end, self.began));
        self.end(landing);
    }

    fn settlement(&self, end: End, now: Duration) -> Settle {
        Settle { id: self.id, token: self.token, end, until: now + self.times.keep }
    }

    fn end(&self, landing: Landing) {
        if std::mem::replace(&mut *self.progress.lock(), Progress::Ended) != Progress::Ended {
            self.live.land(self.id, &self.principal, &self.flight, landing);
        }
    }
}

fn landing(end: &End) -> Landing {
    match end {
        End::Released => Landing::Nothing,
        End::Unknown => Landing::Unknown,
        End::Done(stored) => Landing::Done(stored.clone()),
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        // Nobody said how it went, so it went as badly as it can.
        self.finish(Some(Known::Unknown));
    }
}
