//! Who is next: four classes, in each a turn for everybody who waits, in each turn the oldest.
//!
//! Knows no clock and wakes nobody. All steps cost the logarithm of the line's length, leaving it in the middle included, so
//! nothing is left behind by those who go.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use crate::engine::{Key, Nanos, Priority};

const CLASSES: [Priority; 4] = [Priority::Bulk, Priority::Normal, Priority::High, Priority::Critical];

/// Where somebody waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) class: Priority,
    pub(super) flow: Key,
    number: u64,
}

/// One who waits, with whatever is needed to wake them.
pub(super) struct Waiter<T> {
    pub(super) since: Nanos,
    pub(super) wake: T,
}

/// All that one identity has waiting in one class.
struct Flow<T> {
    turn: u64,
    waiting: BTreeMap<u64, Waiter<T>>,
}

struct Class<T> {
    flows: HashMap<Key, Flow<T>>,
    /// Whose turn it is: the lowest number. Round robin, which is deficit round robin where everybody costs the same.
    turns: BTreeMap<u64, Key>,
    length: usize,
}

impl<T> Default for Class<T> {
    fn default() -> Self {
        Self { flows: HashMap::new(), turns: BTreeMap::new(), length: 0 }
    }
}

/// The line.
pub(super) struct Line<T> {
    classes: [Class<T>; 4],
    next_number: u64,
    length: usize,
}

impl<T> Default for Line<T> {
    fn default() -> Self {
        Self { classes: Default::default(), next_number: 0, length: 0 }
    }
}

impl<T> Line<T> {
    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// How many wait in each class, the least important first.
    pub(super) fn lengths(&self) -> [(Priority, usize); 4] {
        CLASSES.map(|class| (class, self.classes[class as usize].length))
    }

    /// Since when the one who waits longest has waited.
    pub(super) fn oldest(&self) -> Option<Nanos> {
        let flows = self.classes.iter().flat_map(|class| class.flows.values());
        flows.filter_map(|flow| Some(flow.waiting.first_key_value()?.1.since)).min()
    }

    /// How many leave before one who joined now. Exact while one flow waits alone in its class; else at most so many, as
    /// long as nobody more important and no further flow joins later.
    pub(super) fn ahead(&self, class: Priority, flow: Key) -> usize {
        let above = self.classes[class as usize + 1..].iter().map(|class| class.length).sum::<usize>();
        let class = &self.classes[class as usize];
        let own = class.flows.get(&flow).map_or(0, |flow| flow.waiting.len());
        let others = class.flows.len() - usize::from(own > 0);
        above + class.length.min(own + others.saturating_mul(own + 1))
    }

    /// Joins at the end.
    pub(super) fn join(&mut self, class: Priority, flow: Key, since: Nanos, wake: T) -> Place {
        let number = self.next_number;
        self.next_number += 1;
        let Class { flows, turns, length } = &mut self.classes[class as usize];
        let waiting = flows.entry(flow).or_insert_with(|| {
            turns.insert(number, flow);
            Flow { turn: number, waiting: BTreeMap::new() }
        });
        waiting.waiting.insert(number, Waiter { since, wake });
        *length += 1;
        self.length += 1;
        Place { class, flow, number }
    }

    /// Leaves from anywhere; `None` when they were called already.
    pub(super) fn leave(&mut self, place: Place) -> Option<Waiter<T>> {
        let class = &mut self.classes[place.class as usize];
        let flow = class.flows.get_mut(&place.flow)?;
        let waiter = flow.waiting.remove(&place.number)?;
        if flow.waiting.is_empty() {
            class.turns.remove(&flow.turn);
            class.flows.remove(&place.flow);
        }
        class.length -= 1;
        self.length -= 1;
        Some(waiter)
    }

    /// Calls the next: of the most important class, where every `ageing` of waiting counts as one class more, and at the
    /// same importance whoever has waited longer.
    pub(super) fn call(&mut self, ageing: Duration, now: Nanos) -> Option<(Place, Waiter<T>)> {
        let candidates = CLASSES.iter().filter_map(|class| {
            let (place, since) = self.first_of(*class)?;
            let grown = now.since(since).as_nanos() / ageing.as_nanos().max(1);
            Some((*class as u128 + grown, std::cmp::Reverse(since), *class as u8, place))
        });
        let (.., place) = candidates.max_by_key(|(rank, since, class, _)| (*rank, *since, *class))?;
        self.take(place)
    }

    /// Takes out the first of the least important class, whatever its age; `None` when nobody is below
    /// `class`.
    pub(super) fn call_least(&mut self, class: Priority) -> Option<(Place, Waiter<T>)> {
        let (place, _) = CLASSES.iter().find_map(|class| self.first_of(*class))?;
        if place.class < class { self.take(place) } else { None }
    }

    fn first_of(&self, class: Priority) -> Option<(Place, Nanos)> {
        let inner = &self.classes[class as usize];
        let (_, flow) = inner.turns.first_key_value()?;
        let (number, waiter) = inner.flows.get(flow)?.waiting.first_key_value()?;
        Some((Place { class, flow: *flow, number: *number }, waiter.since))
    }

    /// Takes one out and moves its flow behind the others.
    fn take(&mut self, place: Place) -> Option<(Place, Waiter<T>)> {
        let waiter = self.leave(place)?;
        let turn = self.next_number;
        let Class { flows, turns, .. } = &mut self.classes[place.class as usize];
        if let Some(flow) = flows.get_mut(&place.flow) {
            self.next_number += 1;
            turns.remove(&flow.turn);
            turns.insert(turn, place.flow);
            flow.turn = turn;
        }
        Some((place, waiter))
    }
}
