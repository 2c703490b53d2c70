//! From tree to serde types, with every problem and not only the first.
//!
//! Serde stops at the first error by design. Two things get around that. Unknown keys never reach serde: they are
//! recorded and passed over. And a value that does not fit is recorded, pruned, and the whole is decoded again without
//! it; a key that is not there is recorded and, from then on, filled with a made-up value. So each pass finds one more
//! problem and the last one passes. The structs of the format stay ordinary serde structs, those of filters included.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};

use super::decode_error::Error;
use super::finding::{Finding, Place};
use super::tree::{Id, Tree};
use super::value::Value;

/// Most passes over one value: a person mends no more than this at once, and a hostile file costs no more.
const MOST_PASSES: usize = 200;

/// Name by which [`super::placed::At`] asks for a value's place.
pub(super) const AT: &str = "$tidegate::At";
/// Name by which [`super::placed::Raw`] asks for a place only.
pub(super) const RAW: &str = "$tidegate::Raw";

/// Keys that the design knows and this version does not, so that the message can say so.
const LATER: [&str; 10] = [
    "when",
    "on_store_error",
    "additional_routes",
    "custom_page_html",
    "default_template_language",
    "lanes",
    "challenge",
    "fairness",
    "sse",
    "merchant_key",
];

/// Decodes values of one tree and collects what is wrong with them.
pub(super) struct Decoder<'t> {
    pub(super) tree: &'t Tree,
    notes: RefCell<Notes>,
}

#[derive(Default)]
struct Notes {
    findings: Vec<Finding>,
    /// Values that are passed over.
    pruned: HashSet<Id>,
    /// Values with something pruned or filled below them: their own complaints are mere consequences.
    tainted: HashSet<Id>,
    /// Keys made up, by mapping, with the number of the text to try.
    filled: HashMap<Id, Vec<(&'static str, usize)>>,
    /// Unknown keys are found in each pass and recorded in the first.
    unknown: HashSet<Id>,
    failure: Option<(Id, Error)>,
}

impl<'t> Decoder<'t> {
    pub(super) fn new(tree: &'t Tree, broken: &[Id]) -> Self {
        let decoder = Self { tree, notes: RefCell::default() };
        for id in broken {
            decoder.prune(*id);
        }
        decoder
    }

    /// Decodes one value as often as it takes; `None` when nothing usable is left of it.
    pub(super) fn decode<T, E: std::fmt::Display>(
        &self,
        id: Id,
        decode: impl Fn(Value<'_, 't>) -> Result<T, E>,
    ) -> Option<T> {
        for _ in 0..MOST_PASSES {
            if self.is_pruned(id) {
                return None;
            }
            self.notes.borrow_mut().failure = None;
            let error = match decode(Value::new(self, id)) {
                Ok(value) => return Some(value),
                Err(error) => error,
            };
            let failure = self.notes.borrow_mut().failure.take();
            let (at, error) = failure.unwrap_or_else(|| (id, Error::new(error.to_string(), None)));
            self.recover(at, error);
        }
        let message = "there are more problems than are shown; mend these first";
        self.notes.borrow_mut().findings.push(Finding::new(Place::Key(id), message, None));
        None
    }

    /// All that was found wrong.
    pub(super) fn into_findings(self) -> Vec<Finding> {
        self.notes.into_inner().findings
    }

    /// Adds a finding made by somebody else.
    pub(super) fn add(&self, finding: Finding) {
        self.notes.borrow_mut().findings.push(finding);
    }

    pub(super) fn is_pruned(&self, id: Id) -> bool {
        self.notes.borrow().pruned.contains(&id)
    }

    /// Whether something at or below was pruned or made up.
    pub(super) fn is_tainted(&self, id: Id) -> bool {
        let notes = self.notes.borrow();
        notes.pruned.contains(&id) || notes.tainted.contains(&id)
    }

    /// Keys to make up for a mapping.
    pub(super) fn filled(&self, id: Id) -> Vec<(&'static str, usize)> {
        self.notes.borrow().filled.get(&id).cloned().unwrap_or_default()
    }

    /// Keeps the first failure of a pass, which is the deepest: callers further up only pass it on.
    pub(super) fn watch<T>(&self, id: Id, result: Result<T, Error>) -> Result<T, Error> {
        result.map_err(|error| {
            let again = Error::new(error.message.clone(), None);
            let mut notes = self.notes.borrow_mut();
            if notes.failure.is_none() {
                notes.failure = Some((id, error));
            }
            again
        })
    }

    /// Records a key that nobody knows.
    pub(super) fn unknown_key(&self, value: Id, key: &str, fields: &'static [&'static str]) {
        if !self.notes.borrow_mut().unknown.insert(value) {
            return;
        }
        let (message, help) = if LATER.contains(&key) {
            (format!("`{key}` is not in this version"), None)
        } else {
            let help = super::suggest::nearest_or_list(key, fields.iter().copied());
            (format!("unknown key `{key}`"), help)
        };
        self.add(Finding::new(Place::Key(value), message, help));
    }

    fn recover(&self, at: Id, error: Error) {
        if let Some(field) = error.missing {
            // A key that is there and pruned has been reported already.
            let written = self.tree.child(at, field).is_some();
            if !written && !self.filled(at).iter().any(|(name, _)| *name == field) {
                self.add(Finding::new(Place::Key(at), error.message, error.help));
            }
            self.fill(at, field);
        } else {
            if !self.is_tainted(at) {
                self.add(Finding::new(Place::Value(at), error.message, error.help));
            }
            self.prune(at);
        }
    }

    /// Makes a key up, or gives the mapping up when no made-up text has served.
    fn fill(&self, at: Id, field: &'static str) {
        let mut notes = self.notes.borrow_mut();
        let fields = notes.filled.entry(at).or_default();
        let hopeless = match fields.iter_mut().find(|(name, _)| *name == field) {
            Some((_, text)) => {
                *text += 1;
                *text >= super::made_up::TEXTS.len()
            }
            None => {
                fields.push((field, 0));
                false
            }
        };
        drop(notes);
        if hopeless {
            self.prune(at);
        }
        self.taint(Some(at));
    }

    fn prune(&self, id: Id) {
        self.notes.borrow_mut().pruned.insert(id);
        self.taint(self.tree.get(id).and_then(|node| node.parent));
    }

    fn taint(&self, mut from: Option<Id>) {
        let mut notes = self.notes.borrow_mut();
        while let Some(id) = from {
            notes.tainted.insert(id);
            from = self.tree.get(id).and_then(|node| node.parent);
        }
    }
}
