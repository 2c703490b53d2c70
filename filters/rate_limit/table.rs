//! A hash table of buckets whose keys are hashes already: open addressing in one array, 32 bytes a place.
//!
//! Not a library's map, for two reasons: a look-up costs one cache miss instead of two (the key is its own hash, so there
//! is nothing to store beside it), and a bounded store must be able to look for something to forget a few places at a
//! time, which no map of the standard library offers.

/// One bucket: when it is full again, and which limit that is measured by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cell {
    /// Nanoseconds of the process clock.
    pub(super) full_at: u64,
    /// Number of the limit in the plan.
    pub(super) lane: u8,
}

#[derive(Clone, Copy)]
struct Slot {
    key: u128,
    cell: Cell,
}

/// The lane of a place that holds nothing.
const EMPTY: u8 = u8::MAX;
const VACANT: Slot = Slot { key: 0, cell: Cell { full_at: 0, lane: EMPTY } };

/// Places of the smallest table.
const SMALLEST: usize = 8;

/// Buckets by key.
#[derive(Default)]
pub(super) struct Table {
    /// None, or a power of two, of which at most three quarters are taken.
    slots: Box<[Slot]>,
    len: usize,
    /// Where the search for something to forget goes on.
    hand: usize,
}

impl Table {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    fn mask(&self) -> usize {
        self.slots.len().wrapping_sub(1)
    }

    /// The low bits: the high ones chose the shard.
    fn home(&self, key: u128) -> usize {
        key as usize & self.mask()
    }

    fn taken(&self, at: usize) -> bool {
        self.slots[at].cell.lane != EMPTY
    }

    /// The place of a key, good until the table changes.
    pub(super) fn find(&self, key: u128) -> Option<usize> {
        if self.len == 0 {
            return None;
        }
        let mut at = self.home(key);
        while self.taken(at) {
            if self.slots[at].key == key {
                return Some(at);
            }
            at = (at + 1) & self.mask();
        }
        None
    }

    pub(super) fn get(&self, key: u128) -> Option<&Cell> {
        self.find(key).map(|at| &self.slots[at].cell)
    }

    pub(super) fn at(&self, at: usize) -> &Cell {
        &self.slots[at].cell
    }

    pub(super) fn at_mut(&mut self, at: usize) -> &mut Cell {
        &mut self.slots[at].cell
    }

    /// Puts in a key that is not there yet. The only call that may allocate.
    pub(super) fn insert(&mut self, key: u128, cell: Cell) {
        if (self.len + 1) * 4 > self.slots.len() * 3 {
            self.resize((self.slots.len() * 2).max(SMALLEST));
        }
        self.len += 1;
        let at = self.free_place(key);
        self.slots[at] = Slot { key, cell };
    }

    fn free_place(&self, key: u128) -> usize {
        let mut at = self.home(key);
        while self.taken(at) {
            at = (at + 1) & self.mask();
        }
        at
    }

    fn resize(&mut self, places: usize) {
        let old = std::mem::replace(&mut self.slots, vec![VACANT; places].into_boxed_slice());
        self.hand = 0;
        for slot in old.iter().filter(|slot| slot.cell.lane != EMPTY) {
            let at = self.free_place(slot.key);
            self.slots[at] = *slot;
        }
    }

    pub(super) fn remove(&mut self, key: u128) -> bool {
        let found = self.find(key);
        if let Some(at) = found {
            self.remove_at(at);
        }
        found.is_some()
    }

    /// Empties a place and moves what follows back, so that no search ends too early.
    fn remove_at(&mut self, at: usize) {
        let mask = self.mask();
        let (mut hole, mut next) = (at, (at + 1) & mask);
        while self.taken(next) {
            let from_home = next.wrapping_sub(self.home(self.slots[next].key)) & mask;
            if from_home >= next.wrapping_sub(hole) & mask {
                self.slots[hole] = self.slots[next];
                hole = next;
            }
            next = (next + 1) & mask;
        }
        self.slots[hole] = VACANT;
        self.len -= 1;
    }

    pub(super) fn cells_mut(&mut self) -> impl Iterator<Item = &mut Cell> {
        self.slots.iter_mut().map(|slot| &mut slot.cell).filter(|cell| cell.lane != EMPTY)
    }

    /// Forgets every bucket that is full at `now`; returns how many, and the latest moment any of them became full.
    pub(super) fn forget_full(&mut self, now: u64) -> (usize, u64) {
        let (before, mut latest) = (self.len, 0);
        for at in 0..self.slots.len() {
            while self.taken(at) && self.slots[at].cell.full_at <= now {
                latest = latest.max(self.slots[at].cell.full_at);
                self.remove_at(at);
            }
        }
        // After a flood the memory goes back: a table three quarters empty at half its size has room to grow again.
        if self.slots.len() > SMALLEST && self.len * 8 < self.slots.len() {
            self.resize((self.len * 2).next_power_of_two().max(SMALLEST));
        }
        (before - self.len, latest)
    }

    /// Looks at `places` places from where it stopped last and forgets the first bucket that is full at `now`; returns
    /// the moment it became full.
    pub(super) fn forget_one(&mut self, now: u64, places: usize) -> Option<u64> {
        for _ in 0..places.min(self.slots.len()) {
            self.hand = (self.hand + 1) & self.mask();
            let cell = self.slots[self.hand].cell;
            if cell.lane != EMPTY && cell.full_at <= now {
                self.remove_at(self.hand);
                return Some(cell.full_at);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn it_finds_what_a_plain_map_finds_after_any_mix_of_puts_and_removals() {
        let (mut table, mut model) = (Table::default(), HashMap::new());
        let mut random = 1u64;
        for _ in 0..20_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let (key, full_at) = (u128::from((random >> 33) % 300), random >> 40);
            match random >> 60 {
                0..=8 if !model.contains_key(&key) => {
                    table.insert(key, Cell { full_at, lane: 0 });
                    model.insert(key, full_at);
                }
                9..=14 => assert_eq!(table.remove(key), model.remove(&key).is_some()),
                15 => {
                    let limit = full_at / 16;
                    table.forget_full(limit);
                    model.retain(|_, full_at| *full_at > limit);
                }
                _ => (),
            }
            assert_eq!(table.len(), model.len());
            assert_eq!(table.get(key).map(|cell| cell.full_at), model.get(&key).copied());
        }
        assert!(model.iter().all(|(key, full_at)| table.get(*key).is_some_and(|cell| cell.full_at == *full_at)));
    }

    #[test]
    fn a_place_is_32_bytes() {
        assert_eq!(size_of::<Slot>(), 32);
    }
}
