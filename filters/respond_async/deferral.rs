//! One request on its way onto the shelf.

use std::sync::Arc;
use std::time::Duration;

use rand::RngCore;

use super::core::{Class, Entry, Id, Refused, Seat, State, millis};
use super::counts::Event;
use super::letter::Letter;
use super::prefer::Prefer;
use super::rows::{Appended, New, Twin};
use super::shelves::Shelves;
use super::state::Deferred;
use crate::engine::RequestContext;
use crate::store::StoreError;

/// What may be forgotten is, by then.
const FORGOTTEN_WITHIN: Duration = Duration::from_secs(15);

/// What a request is, for finding it again.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) twin: Option<[u8; 32]>,
    pub(super) fingerprint: [u8; 32],
    pub(super) owner: u128,
    pub(super) party: u64,
    pub(super) class: Class,
}

/// A place in the bounds; given back unless the record takes it over.
struct Reserved {
    deferred: Arc<Deferred>,
    seat: Option<Seat>,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if let Some(seat) = self.seat.take() {
            self.deferred.book.lock().give_back(seat);
        }
    }
}

/// A request that a filter wants carried out later.
pub struct Deferral {
    /// Where it goes.
    pub deferred: Arc<Deferred>,
    /// What the client prefers.
    pub prefer: Prefer,
    /// How long the client's connection is held for the answer before it gets 202.
    pub wait: Option<Duration>,
    /// How long the disk is waited for.
    pub patience: Duration,
    pub(super) ask: Ask,
    /// Files whose records count as repeated, too.
    pub(super) shelves: Shelves,
    /// How long it may wait before it expires.
    pub(super) ttl: Duration,
    /// Only a repeat of a deferred request is answered here; a new one goes on.
    pub(super) only_known: bool,
    /// One that goes on counts as under way.
    pub(super) counts_passing: bool,
}

/// What became of a deferral.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Submitted {
    /// It is written down.
    New(Id),
    /// It was before; be it that another filter did it, in whichever file.
    Known(Id),
    /// Its key was used for another request.
    Mismatch,
    /// No deferred request has its key; it goes on as any other.
    Pass,
    /// There is no room.
    Refused(Refused),
}

impl Deferral {
    /// Writes it down; it joins its line in the same step. Once this was called, a caller that leaves changes nothing.
    ///
    /// # Errors
    /// When the disk refuses or takes too long; it may then be there all the same, and a repeat with its key finds it.
    pub async fn submit(&self, letter: Letter, upstream: &str, now: Duration) -> Result<Submitted, StoreError> {
        let shelf = self.deferred.shelf.clone().ok_or_else(|| StoreError::Failed("there is no file".to_owned()))?;
        if let Some(twin) = self.ask.twin
            && let Some(known) = self.shelves.twin(&shelf, twin).await?
        {
            return Ok(self.known(&known));
        }
        if self.only_known {
            return Ok(Submitted::Pass);
        }
        if shelf.is_full() {
            // No sooner than one is forgotten, which is looked after now and then.
            let next = shelf.next_forgotten().await?.unwrap_or_default();
            let wait = Duration::from_millis(next).saturating_sub(now) + FORGOTTEN_WITHIN;
            return Ok(Submitted::Refused(Refused::Full { wait }));
        }
        let (ask, size) = (&self.ask, letter.size());
        let mut random = [0; 20];
        rand::rng().fill_bytes(&mut random);
        let (id, lot) = random.split_at(16);
        let id = Id(id.try_into().map_or(0, u128::from_le_bytes));
        let lot = lot.try_into().map_or(0, u32::from_le_bytes);
        let seat = self.deferred.book.lock().reserve(ask.class, ask.party, size, lot, now);
        let seat = match seat {
            Ok(seat) => seat,
            Err(refused) => return Ok(Submitted::Refused(refused)),
        };
        let mut reserved = Reserved { deferred: self.deferred.clone(), seat: Some(seat) };
        let malformed = || StoreError::Failed("the request cannot be written".to_owned());
        let (created, expires) = (millis(now), millis(now + self.ttl));
        let new = New {
            id,
            filter: self.deferred.name.to_string(),
            twin: ask.twin,
            fingerprint: ask.fingerprint,
            owner: ask.owner,
            party: ask.party,
            route: letter.route.clone(),
            upstream: upstream.to_owned(),
            class: ask.class,
            size,
            created,
            expires,
            letter: shelf.seal(id, &letter).ok_or_else(malformed)?,
        };
        let lane = self.deferred.book.lock().lane(upstream);
        let (owner, party, class) = (ask.owner, ask.party, ask.class);
        // A task of its own: what is on the disk must be in the book, whether or not anybody waits for it.
        let task = tokio::spawn(async move {
            let appended = shelf.append(new).await?;
            if let (Appended::New(seq), Some(seat)) = (&appended, reserved.seat.take()) {
                let entry = Entry {
                    seq: *seq,
                    id,
                    owner,
                    party,
                    class,
                    lane,
                    state: State::Queued,
                    tries: 0,
                    doubt: false,
                    looks: 0,
                    version: 1,
                    size,
                    created,
                    due: 0,
                    expires,
                };
                reserved.deferred.joined(seat, entry);
            }
            Ok::<_, StoreError>(appended)
        });
        let ended = tokio::time::timeout(self.patience, task).await;
        let late = |_| StoreError::Failed("the store did not answer in time".to_owned());
        match ended.map_err(late)?.map_err(|error| StoreError::Failed(error.to_string()))?? {
            Appended::New(_) => Ok(Submitted::New(id)),
            Appended::Known(known) => Ok(self.known(&known)),
        }
    }

    fn known(&self, twin: &Twin) -> Submitted {
        let same = twin.fingerprint == self.ask.fingerprint;
        self.deferred.counts.count(if same { Event::Repeated } else { Event::Mismatch });
        if same { Submitted::Known(twin.id) } else { Submitted::Mismatch }
    }

    /// It goes on as any other.
    pub fn pass(&self, cx: &mut RequestContext) {
        self.deferred.pass(cx, self.counts_passing);
    }

    /// The disk has refused.
    pub fn store_failed(&self) {
        self.deferred.counts.count(Event::StoreError);
    }
}
