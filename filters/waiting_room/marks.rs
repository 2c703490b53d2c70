//! Three bits for each number: seen lately (in two generations), and used up.
//!
//! A poll sets one bit of its own with one atomic operation and takes no lock, so a million waiters who poll disturb
//! neither each other nor those who join. Numbers come in chunks of 65,536, which appear when numbers are given and go
//! when the last ticket with one of theirs has ended.
//!
//! *Seen* is two bitmaps: the current generation and the one before. Turning the generation forgets the older one, so a
//! waiter counts as present for at least one generation after the last poll and for at most two. Two more bitmaps exist
//! only where they are needed: `picked` where turns are drawn by chance, `ended` where passes were revoked.
//!
//! **Fails.** Nothing here can. A number outside of all chunks has no bits: it is not waiting, and used up.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;

/// Numbers of a chunk.
pub(super) const CHUNK: u64 = 65_536;
const WORDS: usize = (CHUNK / 64) as usize;

// A bit is a fact of its own: nothing else is read on the strength of it, so no order between bits is needed.
const ORDER: Ordering = Ordering::Relaxed;

struct Bits(Box<[AtomicU64]>);

impl Bits {
    fn new() -> Self {
        Self((0..WORDS).map(|_| AtomicU64::new(0)).collect())
    }

    fn word(&self, at: usize) -> u64 {
        self.0[at].load(ORDER)
    }

    fn has(&self, number: u64) -> bool {
        self.word(word_of(number)) & bit_of(number) != 0
    }

    fn set(&self, number: u64) {
        // Reading first keeps the line shared where the bit is there already.
        if !self.has(number) {
            self.0[word_of(number)].fetch_or(bit_of(number), ORDER);
        }
    }

    fn clear(&self, number: u64) {
        self.0[word_of(number)].fetch_and(!bit_of(number), ORDER);
    }
}

fn word_of(number: u64) -> usize {
    (number % CHUNK / 64) as usize
}

fn bit_of(number: u64) -> u64 {
    1 << (number % 64)
}

struct Chunk {
    seen: [Bits; 2],
    spent: Bits,
    picked: OnceLock<Bits>,
    ended: OnceLock<Bits>,
    /// Room time in milliseconds when anybody of it was last seen, by the generation.
    alive: AtomicU64,
}

impl Chunk {
    fn new(now: u64) -> Self {
        Self {
            seen: [Bits::new(), Bits::new()],
            spent: Bits::new(),
            picked: OnceLock::new(),
            ended: OnceLock::new(),
            alive: AtomicU64::new(now),
        }
    }

    /// Who of these 64 waits: seen lately, not used up, not picked.
    fn waiting(&self, word: usize) -> u64 {
        let seen = self.seen[0].word(word) | self.seen[1].word(word);
        if seen == 0 {
            return 0;
        }
        seen & !self.spent.word(word) & !self.picked.get().map_or(0, |picked| picked.word(word))
    }

    /// Who of these 64 was neither seen lately, nor used up, nor picked.
    fn absent(&self, word: usize) -> u64 {
        let known = self.seen[0].word(word) | self.seen[1].word(word) | self.spent.word(word);
        !(known | self.picked.get().map_or(0, |picked| picked.word(word)))
    }
}

/// Those of the 64 numbers from `start` on that lie in `from..to`.
fn within(start: u64, from: u64, to: u64) -> u64 {
    let above = if start < from { u64::MAX << (from - start) } else { u64::MAX };
    let below = if to - start < 64 { (1 << (to - start)) - 1 } else { u64::MAX };
    above & below
}

/// Consecutive chunks; replaced as a whole when one is added or taken away.
struct Chunks {
    first: u64,
    chunks: Vec<Arc<Chunk>>,
}

impl Chunks {
    fn of(&self, number: u64) -> Option<&Chunk> {
        let at = (number / CHUNK).checked_sub(self.first)?;
        self.chunks.get(usize::try_from(at).ok()?).map(|chunk| &**chunk)
    }
}

/// The bits of all numbers of a room.
pub(super) struct Marks {
    chunks: ArcSwap<Chunks>,
    current: AtomicU8,
}

impl Marks {
    /// Bits for numbers from `number` on; chunks below are not made.
    pub(super) fn starting_at(number: u64) -> Self {
        let first = number / CHUNK;
        Self { chunks: ArcSwap::from_pointee(Chunks { first, chunks: Vec::new() }), current: AtomicU8::new(0) }
    }

    /// Makes room for `number`. Called under the line's lock.
    pub(super) fn cover(&self, number: u64, now: u64) {
        let old = self.chunks.load();
        let wanted = usize::try_from((number / CHUNK).saturating_sub(old.first) + 1).unwrap_or(usize::MAX);
        if old.chunks.len() < wanted {
            let mut chunks = old.chunks.clone();
            chunks.resize_with(wanted, || Arc::new(Chunk::new(now)));
            self.chunks.store(Arc::new(Chunks { first: old.first, chunks }));
        }
    }

    /// Drops chunks that lie wholly below `number` and of which nobody was seen for `silence` milliseconds.
    pub(super) fn prune(&self, number: u64, now: u64, silence: u64) {
        let old = self.chunks.load();
        let below = usize::try_from((number / CHUNK).saturating_sub(old.first)).unwrap_or(usize::MAX);
        let quiet = |chunk: &&Arc<Chunk>| chunk.alive.load(ORDER).saturating_add(silence) < now;
        let gone = old.chunks.iter().take(below).take_while(quiet).count();
        if gone > 0 {
            let chunks = Chunks { first: old.first + gone as u64, chunks: old.chunks[gone..].to_vec() };
            self.chunks.store(Arc::new(chunks));
        }
    }

    /// The lowest number that has bits.
    pub(super) fn lowest(&self) -> u64 {
        self.chunks.load().first * CHUNK
    }

    /// Marks a number as seen just now. The only thing that a poll writes.
    pub(super) fn see(&self, number: u64) {
        if let Some(chunk) = self.chunks.load().of(number) {
            chunk.seen[usize::from(self.current.load(ORDER) & 1)].set(number);
        }
    }

    /// Forgets that a number was seen, so that the next sight of it tells something new.
    pub(super) fn unsee(&self, number: u64) {
        if let Some(chunk) = self.chunks.load().of(number) {
            chunk.seen.iter().for_each(|seen| seen.clear(number));
        }
    }

    /// Whether a number was seen in this generation or the one before.
    pub(super) fn is_seen(&self, number: u64) -> bool {
        self.chunks.load().of(number).is_some_and(|chunk| chunk.seen.iter().any(|seen| seen.has(number)))
    }

    /// Turns the generation: who was not seen since the last turn counts as gone.
    pub(super) fn turn(&self, now: u64) {
        let next = (self.current.load(ORDER) & 1) ^ 1;
        for chunk in &self.chunks.load().chunks {
            let latest = &chunk.seen[usize::from(next ^ 1)];
            if latest.0.iter().any(|word| word.load(ORDER) != 0) {
                chunk.alive.store(now, ORDER);
            }
            chunk.seen[usize::from(next)].0.iter().for_each(|word| word.store(0, ORDER));
        }
        // A poll that still writes into the generation before is remembered for one generation less, not lost.
        self.current.store(next, ORDER);
    }

    /// Uses a number up: it was admitted, left, or missed its last turn.
    pub(super) fn spend(&self, number: u64) {
        if let Some(chunk) = self.chunks.load().of(number) {
            chunk.spent.set(number);
        }
    }

    /// Whether a number was used up; true for those that have no bits any more.
    pub(super) fn is_spent(&self, number: u64) -> bool {
        self.chunks.load().of(number).is_none_or(|chunk| chunk.spent.has(number))
    }

    /// Gives a number its turn out of order.
    pub(super) fn pick(&self, number: u64) {
        if let Some(chunk) = self.chunks.load().of(number) {
            chunk.picked.get_or_init(Bits::new).set(number);
        }
    }

    pub(super) fn is_picked(&self, number: u64) -> bool {
        let chunks = self.chunks.load();
        chunks.of(number).and_then(|chunk| chunk.picked.get()).is_some_and(|picked| picked.has(number))
    }

    /// Ends the pass of a number before its time.
    pub(super) fn end(&self, number: u64) {
        if let Some(chunk) = self.chunks.load().of(number) {
            chunk.ended.get_or_init(Bits::new).set(number);
        }
    }

    /// Whether the pass of a number was ended before its time.
    pub(super) fn is_ended(&self, number: u64) -> bool {
        let chunks = self.chunks.load();
        chunks.of(number).and_then(|chunk| chunk.ended.get()).is_some_and(|ended| ended.has(number))
    }

    /// How many of `from..to` wait.
    pub(super) fn count(&self, from: u64, to: u64) -> u64 {
        let mut count = 0;
        self.words(from, to, |_, bits| {
            count += u64::from(bits.count_ones());
            true
        });
        count
    }

    /// How many of `from..to` were neither seen lately nor used up.
    pub(super) fn absent(&self, from: u64, to: u64) -> u64 {
        let chunks = self.chunks.load();
        let (mut start, mut count) = (from.max(chunks.first * CHUNK) / 64 * 64, 0);
        while start < to {
            let Some(chunk) = chunks.of(start) else { break };
            count += u64::from((chunk.absent(word_of(start)) & within(start, from, to)).count_ones());
            start += 64;
        }
        count
    }

    /// Calls `each` with the waiting numbers of `from..to` in order, until it returns false.
    pub(super) fn each(&self, from: u64, to: u64, mut each: impl FnMut(u64) -> bool) {
        self.words(from, to, |start, mut bits| {
            while bits != 0 {
                if !each(start + u64::from(bits.trailing_zeros())) {
                    return false;
                }
                bits &= bits - 1;
            }
            true
        });
    }

    /// Calls `each` with those of `from..to` who wait and have these ranks among them, from 0; ranks come in ascending order.
    pub(super) fn at_ranks(&self, from: u64, to: u64, ranks: impl IntoIterator<Item = u64>, mut each: impl FnMut(u64)) {
        let mut ranks = ranks.into_iter().peekable();
        let mut before = 0;
        self.words(from, to, |start, mut bits| {
            let end = before + u64::from(bits.count_ones());
            while let Some(rank) = ranks.next_if(|rank| *rank < end) {
                while before < rank {
                    bits &= bits - 1;
                    before += 1;
                }
                each(start + u64::from(bits.trailing_zeros()));
            }
            before = end;
            ranks.peek().is_some()
        });
    }

    /// How many of `from..to` wait, added up block by block: entry `i` is the count before block `i`.
    pub(super) fn sums(&self, from: u64, to: u64, block: u64) -> Vec<u32> {
        let first = from / block;
        let blocks = usize::try_from((to / block).saturating_sub(first) + 1).unwrap_or(0);
        let mut sums = vec![0u32; blocks + 1];
        self.words(from, to, |start, bits| {
            let at = usize::try_from(start / block - first).unwrap_or(blocks);
            sums[(at + 1).min(blocks)] += bits.count_ones();
            true
        });
        for at in 1..sums.len() {
            sums[at] += sums[at - 1];
        }
        sums
    }

    /// The used-up bits of each chunk below `to`, as hexadecimal text, with the chunk's number.
    pub(super) fn spent(&self, to: u64) -> Vec<(u64, String)> {
        let chunks = self.chunks.load();
        let last = to / CHUNK;
        let listed = (chunks.first..).zip(&chunks.chunks).take_while(|(at, _)| *at <= last);
        listed
            .map(|(at, chunk)| (at, chunk.spent.0.iter().map(|word| format!("{:016x}", word.load(ORDER))).collect()))
            .collect()
    }

    /// Takes over used-up bits as [`Marks::spent`] gave them; what cannot be read leaves the chunk as it is.
    pub(super) fn set_spent(&self, chunk: u64, text: &str, now: u64) {
        self.cover(chunk * CHUNK, now);
        let chunks = self.chunks.load();
        let Some(chunk) = chunks.of(chunk * CHUNK) else { return };
        for (word, text) in chunk.spent.0.iter().zip(text.as_bytes().chunks(16)) {
            let bits = std::str::from_utf8(text).ok().and_then(|text| u64::from_str_radix(text, 16).ok());
            word.fetch_or(bits.unwrap_or(0), ORDER);
        }
    }

    /// Calls `each` with the first number of each word of 64 and the waiting bits of it that lie in `from..to`.
    fn words(&self, from: u64, to: u64, mut each: impl FnMut(u64, u64) -> bool) {
        let chunks = self.chunks.load();
        let mut start = from.max(chunks.first * CHUNK) / 64 * 64;
        while start < to {
            let Some(chunk) = chunks.of(start) else { return };
            let bits = chunk.waiting(word_of(start)) & within(start, from, to);
            if bits != 0 && !each(start, bits) {
                return;
            }
            start += 64;
        }
    }
}
