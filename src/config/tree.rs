//! The document as a tree that knows where everything stands.
//!
//! Serde sees values without places. This tree keeps a place for each value and each key, so that a problem found late
//! (a name that nobody defines) still points at its line.

use std::fmt::Write as _;
use std::ops::Range;

/// A place in the text: line and column from 1, the column in characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Mark {
    pub(super) line: usize,
    pub(super) column: usize,
}

/// A node's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Id(pub(super) usize);

impl Id {
    /// Stands for a value the file does not hold: a default.
    pub(super) const ABSENT: Id = Id(usize::MAX);
    /// Stands for a value made up so that decoding could go on; nothing is ever said about it.
    pub(super) const FILLED: Id = Id(usize::MAX - 1);
}

/// A scalar as written, escapes and `${ENV}` resolved.
#[derive(Clone, Debug, Default)]
pub(super) struct Scalar {
    pub(super) text: String,
    /// Written without quotes: may be a number, a truth value or nothing.
    pub(super) plain: bool,
    /// Variables whose values are part of the text.
    pub(super) env: Vec<EnvUse>,
    /// Some of the text was written into the file, outside of `${…}`.
    pub(super) literal: bool,
}

/// One `${NAME}` in a scalar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EnvUse {
    pub(super) name: String,
    pub(super) value: String,
    /// The variable was not set and the text behind `:-` was taken.
    pub(super) by_default: bool,
}

/// What a node is.
#[derive(Clone, Debug)]
pub(super) enum Content {
    Scalar(Scalar),
    Seq(Vec<Id>),
    Map(Vec<Pair>),
}

/// A key and its value.
#[derive(Clone, Debug)]
pub(super) struct Pair {
    pub(super) key: String,
    pub(super) mark: Mark,
    pub(super) value: Id,
}

/// A value with its place.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) content: Content,
    pub(super) mark: Mark,
    /// Bytes of the text this value was written in (those of the anchor, when it came by an alias).
    pub(super) bytes: Range<usize>,
    pub(super) parent: Option<Id>,
    /// Where in its parent it was put; a hint, since merging moves pairs.
    pub(super) slot: usize,
}

/// All nodes of a document; the root is the first.
#[derive(Debug, Default)]
pub(super) struct Tree {
    pub(super) nodes: Vec<Node>,
}

impl Tree {
    pub(super) const ROOT: Id = Id(0);

    /// The node of that number; `None` for values that the file does not hold.
    pub(super) fn get(&self, id: Id) -> Option<&Node> {
        self.nodes.get(id.0)
    }

    pub(super) fn scalar(&self, id: Id) -> Option<&Scalar> {
        match &self.get(id)?.content {
            Content::Scalar(scalar) => Some(scalar),
            _ => None,
        }
    }

    pub(super) fn pairs(&self, id: Id) -> &[Pair] {
        match self.get(id).map(|node| &node.content) {
            Some(Content::Map(pairs)) => pairs,
            _ => &[],
        }
    }

    pub(super) fn items(&self, id: Id) -> &[Id] {
        match self.get(id).map(|node| &node.content) {
            Some(Content::Seq(items)) => items,
            _ => &[],
        }
    }

    /// The value of a key of a mapping.
    pub(super) fn child(&self, id: Id, key: &str) -> Option<Id> {
        self.pairs(id).iter().find(|pair| pair.key == key).map(|pair| pair.value)
    }

    /// The value at the end of a path of keys from the root.
    pub(super) fn at(&self, keys: &[&str]) -> Option<Id> {
        keys.iter().try_fold(Self::ROOT, |id, key| self.child(id, key))
    }

    pub(super) fn mark(&self, id: Id) -> Option<Mark> {
        self.get(id).map(|node| node.mark)
    }

    /// The pair whose value this is, when it stands in a mapping.
    pub(super) fn pair_of(&self, id: Id) -> Option<&Pair> {
        let node = self.get(id)?;
        let pairs = self.pairs(node.parent?);
        let hinted = pairs.get(node.slot).filter(|pair| pair.value == id);
        hinted.or_else(|| pairs.iter().find(|pair| pair.value == id))
    }

    /// The nearest key above a node, itself included: `secret` for each item of a list at `secret`.
    pub(super) fn nearest_key(&self, mut id: Id) -> Option<&str> {
        loop {
            if let Some(pair) = self.pair_of(id) {
                return Some(&pair.key);
            }
            id = self.get(id)?.parent?;
        }
    }

    /// The path of a node, as in `routes[2].match.path`; empty for the root.
    pub(super) fn path(&self, id: Id) -> String {
        let mut steps = Vec::new();
        let mut at = id;
        while let Some(parent) = self.get(at).and_then(|node| node.parent) {
            let step = match &self.nodes[parent.0].content {
                Content::Seq(items) => items.iter().position(|item| *item == at).map(|i| format!("[{i}]")),
                Content::Map(_) => self.pair_of(at).map(|pair| format!(".{}", pair.key)),
                Content::Scalar(_) => None,
            };
            steps.extend(step);
            at = parent;
        }
        let mut path = String::new();
        for step in steps.iter().rev() {
            let _ = write!(path, "{step}");
        }
        path.strip_prefix('.').map_or(path.clone(), str::to_owned)
    }
}
