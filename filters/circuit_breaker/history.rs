//! What happened to a breaker, and who holds it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::breaker::Phase;

/// Changes that are kept for people to look at.
const MOST_EVENTS: usize = 32;

/// An operator's word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manual {
    /// Who gave it: the address that asked.
    pub by: Arc<str>,
    /// When, since 1970.
    pub wall: Duration,
}

/// One change of phase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When, since 1970.
    pub wall: Duration,
    /// Before.
    pub from: Phase,
    /// After.
    pub to: Phase,
    /// Why.
    pub why: &'static str,
    /// Who, if it was an operator.
    pub by: Option<Arc<str>>,
}

/// The latest changes and their number.
#[derive(Default)]
pub(super) struct History {
    pub(super) manual: Option<Manual>,
    events: VecDeque<Event>,
    /// Changes to closed, open and half-open so far.
    pub(super) changes: [u64; 3],
}

impl History {
    pub(super) fn push(&mut self, event: Event) {
        self.changes[event.to as usize] += 1;
        if self.events.len() == MOST_EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    pub(super) fn holder(&self) -> Option<Arc<str>> {
        self.manual.as_ref().map(|manual| manual.by.clone())
    }

    pub(super) fn events(&self) -> Vec<Event> {
        self.events.iter().cloned().collect()
    }
}
