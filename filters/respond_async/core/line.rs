//! Who of one upstream's line is next: three classes that share by weight, in each a turn for everybody, in each turn the
//! oldest.
//!
//! Classes share 8:3:1 (smooth weighted round robin), so the important go first without the others standing still. Strict
//! order with ageing would turn around in a long backlog: all that is old enough would stand before the important newcomer.
//! Ageing moves weights instead: a class whose next in turn has waited for `ageing` counts as the class above it, twice as
//! long as the one above that.
//!
//! Within a class identities take turns (deficit round robin, Shreedhar and Varghese 1995, where every request costs one and
//! the quantum is the identity's weight), so one with a hundred thousand records holds up another's by one turn each.

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::record::Class;

/// Weight of a class by its number.
const WEIGHTS: [i64; 3] = [1, 3, 8];

/// All that one identity has in one class: number in the file, and when it came.
#[derive(Default)]
struct Flow {
    waiting: BTreeMap<i64, u64>,
    /// Turns it has left before the next identity.
    deficit: u32,
}

#[derive(Default)]
struct Shelf {
    flows: HashMap<u64, Flow, ahash::RandomState>,
    /// Whose turn it is: the front. An identity that left stays until its turn comes.
    turns: VecDeque<u64>,
    length: usize,
    credit: i64,
}

impl Shelf {
    /// Brings an identity with something to send to the front.
    fn settle(&mut self, weight: impl Fn(u64) -> u32) -> Option<u64> {
        loop {
            let party = *self.turns.front()?;
            match self.flows.get_mut(&party) {
                Some(flow) if flow.waiting.is_empty() => {
                    self.flows.remove(&party);
                    self.turns.pop_front();
                }
                Some(flow) => {
                    if flow.deficit == 0 {
                        flow.deficit = weight(party).max(1);
                    }
                    return Some(party);
                }
                None => {
                    self.turns.pop_front();
                }
            }
        }
    }

    fn take(&mut self, party: u64) -> Option<i64> {
        let flow = self.flows.get_mut(&party)?;
        let (seq, _) = flow.waiting.pop_first()?;
        self.length -= 1;
        flow.deficit = flow.deficit.saturating_sub(1);
        if flow.deficit == 0 {
            self.turns.rotate_left(1);
        }
        Some(seq)
    }
}

/// The line of one upstream.
#[derive(Default)]
pub(super) struct Line {
    classes: [Shelf; 3],
}

impl Line {
    pub(super) fn len(&self) -> usize {
        self.classes.iter().map(|class| class.length).sum()
    }

    pub(super) fn length_of(&self, class: Class) -> usize {
        self.classes[class as usize].length
    }

    /// Joins at its place: the older in the file the further in front.
    pub(super) fn join(&mut self, class: Class, party: u64, seq: i64, since: u64) {
        let shelf = &mut self.classes[class as usize];
        let flow = shelf.flows.entry(party).or_insert_with(|| {
            shelf.turns.push_back(party);
            Flow::default()
        });
        if flow.waiting.insert(seq, since).is_none() {
            shelf.length += 1;
        }
    }

    /// Leaves from anywhere; false when it was not there.
    pub(super) fn leave(&mut self, class: Class, party: u64, seq: i64) -> bool {
        let shelf = &mut self.classes[class as usize];
        let gone = shelf.flows.get_mut(&party).is_some_and(|flow| flow.waiting.remove(&seq).is_some());
        shelf.length -= usize::from(gone);
        gone
    }

    /// Takes out the next. `ageing`: milliseconds, above zero.
    pub(super) fn call(&mut self, ageing: u64, now: u64, weight: impl Fn(u64) -> u32) -> Option<i64> {
        let mut sum = 0;
        let mut best: Option<(i64, usize, u64)> = None;
        for (at, shelf) in self.classes.iter_mut().enumerate() {
            let Some(party) = shelf.settle(&weight) else {
                shelf.credit = 0;
                continue;
            };
            let since = shelf.flows.get(&party).and_then(|flow| flow.waiting.first_key_value());
            let age = since.map_or(0, |(_, since)| now.saturating_sub(*since)) / ageing.max(1);
            let grown = usize::try_from(age).unwrap_or(usize::MAX);
            let gain = WEIGHTS[at.saturating_add(grown).min(2)];
            shelf.credit += gain;
            sum += gain;
            if best.is_none_or(|(credit, ..)| shelf.credit >= credit) {
                best = Some((shelf.credit, at, party));
            }
        }
        let (_, at, party) = best?;
        self.classes[at].credit -= sum;
        self.classes[at].take(party)
    }

    /// About how many leave before this one: exact for one identity alone in one class.
    pub(super) fn ahead(&self, class: Class, party: u64, seq: i64) -> usize {
        let own_class = &self.classes[class as usize];
        let above: usize = self.classes[class as usize + 1..].iter().map(|class| class.length).sum();
        let Some(flow) = own_class.flows.get(&party) else { return above + own_class.length };
        let first = flow.waiting.first_key_value().map_or(seq, |(first, _)| *first);
        // Numbers of others lie between: this is a bound, and counting exactly would walk the line.
        let own = usize::try_from(seq.saturating_sub(first)).unwrap_or(0).min(flow.waiting.len().saturating_sub(1));
        let others = own_class.flows.len().saturating_sub(1);
        let same = (own + others.saturating_mul(own + 1)).min(own_class.length.saturating_sub(1));
        above + same
    }
}
