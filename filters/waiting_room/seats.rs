//! Connections that listen or wait: so many in all, and few for one number, so that one visitor cannot take them all from
//! those who would hear of news by them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use parking_lot::Mutex;

use super::public::Public;
use super::room::Room;

/// Connections of one number at once: the tabs and devices of a person, and one that is not yet known to be cut off.
const EACH: u8 = 4;

/// Connections of one kind.
#[derive(Default)]
pub(super) struct Seats {
    by_number: Mutex<HashMap<u64, u8, ahash::RandomState>>,
    taken: AtomicUsize,
}

/// One connection; given back when dropped.
pub(super) struct Seat {
    room: Arc<Room>,
    of: fn(&Public) -> &Seats,
    number: u64,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let seats = (self.of)(&self.room.public);
        let mut by_number = seats.by_number.lock();
        seats.taken.fetch_sub(1, Relaxed);
        if let Some(theirs) = by_number.get_mut(&self.number) {
            *theirs -= 1;
            if *theirs == 0 {
                by_number.remove(&self.number);
            }
        }
    }
}

impl Seats {
    /// How many are taken.
    pub(super) fn taken(&self) -> usize {
        self.taken.load(Relaxed)
    }

    fn take(&self, number: u64, most: usize) -> bool {
        let mut by_number = self.by_number.lock();
        let theirs = by_number.get(&number).copied().unwrap_or(0);
        let free = self.taken() < most && theirs < EACH;
        if free {
            self.taken.fetch_add(1, Relaxed);
            by_number.insert(number, theirs + 1);
        }
        free
    }
}

impl Room {
    /// A connection more for the holder of `number`; `None` when there are `most`, or this number has its share.
    pub(super) fn seat(self: &Arc<Self>, of: fn(&Public) -> &Seats, number: u64, most: usize) -> Option<Seat> {
        of(&self.public).take(number, most).then(|| Seat { room: self.clone(), of, number })
    }
}
