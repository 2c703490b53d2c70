//! From text to tree: YAML events in, nodes with places out.
//!
//! The event parser that serde-saphyr stands on is used directly: its deserializer stops at the first duplicate key and
//! forgets how a scalar was written, and a report must show both places of a duplicate and go on. What a hostile file
//! could blow up is bounded here: depth, number of values, and values that come by aliases.

use std::collections::{HashMap, HashSet};

use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle, Span};

use super::environment;
use super::finding::{Finding, Place};
use super::tree::{Content, Id, Mark, Node, Pair, Scalar, Tree};

/// Deepest nesting. A real file needs about ten levels; the recursion over the tree must stay far from the stack's end.
const DEEPEST: usize = 64;
/// Most values of a file: a large fleet's file has some thousands.
const MOST_VALUES: usize = 200_000;
/// Most values that aliases may add.
const MOST_ALIASED: usize = 20_000;

/// What a text turned out to be.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) tree: Tree,
    /// Problems that did not keep the tree from being built.
    pub(super) findings: Vec<Finding>,
    /// Values already reported (a variable that is not set): they are passed over from here on.
    pub(super) broken: Vec<Id>,
}

/// Builds the tree of a text.
///
/// # Errors
/// The one problem that kept it from being built: bad syntax, a bound passed, an empty file.
pub(super) fn parse(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Parsed, Finding> {
    let parsed = Parsed { tree: Tree::default(), findings: Vec::new(), broken: Vec::new() };
    let mut builder = Builder { parsed, env, open: Vec::new(), anchors: HashMap::new(), aliased: 0, documents: 0 };
    for next in Parser::new_from_str(text) {
        match next {
            Ok((event, span)) => builder.event(event, &span)?,
            Err(error) => {
                let mark = Mark { line: error.marker().line(), column: error.marker().col() + 1 };
                return Err(syntax_error(text, mark, &error.kind().to_string()));
            }
        }
    }
    if builder.parsed.tree.nodes.is_empty() {
        let help = "a file begins with `version: 1`; config/reference.yaml shows every key";
        return Err(Finding::new(Place::File, "the file is empty", Some(help.to_owned())));
    }
    Ok(builder.parsed)
}

fn syntax_error(text: &str, mark: Mark, message: &str) -> Finding {
    let line = text.lines().nth(mark.line.saturating_sub(1)).unwrap_or_default();
    let indent = &line[..line.len() - line.trim_start().len()];
    let tab = indent.contains('\t');
    let help = if tab { Some("indent with spaces; YAML takes no tabs for that".to_owned()) } else { None };
    Finding::new(Place::Mark(mark), format!("not valid YAML: {message}"), help)
}

struct Open {
    id: Id,
    /// The key that waits for its value.
    key: Option<(String, Mark)>,
    /// Where keys were written, to show both places of a duplicate.
    seen: HashMap<String, Mark>,
    /// Keys that came by `<<` and give way to written ones.
    merged: HashSet<String>,
}

struct Builder<'e> {
    parsed: Parsed,
    env: &'e dyn Fn(&str) -> Option<String>,
    open: Vec<Open>,
    anchors: HashMap<usize, Id>,
    aliased: usize,
    documents: usize,
}

impl Builder<'_> {
    fn event(&mut self, event: Event<'_>, span: &Span) -> Result<(), Finding> {
        let mark = Mark { line: span.start.line(), column: span.start.col() + 1 };
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err(Finding::new(
                        Place::Mark(mark),
                        "a file holds one document, and here begins another",
                        None,
                    ));
                }
                Ok(())
            }
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain && tag.is_none();
                if tag.is_some_and(|tag| !tag.is_yaml_core_schema()) {
                    self.no_tags(mark);
                }
                if self.takes_key() {
                    return self.key(text.into_owned(), mark);
                }
                self.scalar(&text, plain, anchor, span, mark)
            }
            Event::SequenceStart(_, anchor, tag) | Event::MappingStart(_, anchor, tag)
                if tag.as_ref().is_some_and(|tag| !tag.is_yaml_core_schema()) =>
            {
                let _ = anchor;
                Err(Finding::new(Place::Mark(mark), "tags (`!…`) mean nothing in this file", None))
            }
            Event::SequenceStart(_, anchor, _) => self.begin(Content::Seq(Vec::new()), anchor, span, mark),
            Event::MappingStart(_, anchor, _) => self.begin(Content::Map(Vec::new()), anchor, span, mark),
            Event::SequenceEnd | Event::MappingEnd => {
                self.end();
                Ok(())
            }
            Event::Alias(anchor) => self.alias(anchor, mark),
            _ => Ok(()),
        }
    }

    fn no_tags(&mut self, mark: Mark) {
        self.parsed.findings.push(Finding::new(Place::Mark(mark), "tags (`!…`) mean nothing in this file", None));
    }

    fn takes_key(&self) -> bool {
        let Some(open) = self.open.last() else { return false };
        open.key.is_none() && matches!(self.parsed.tree.nodes[open.id.0].content, Content::Map(_))
    }

    fn key(&mut self, key: String, mark: Mark) -> Result<(), Finding> {
        if let Some(open) = self.open.last_mut() {
            open.key = Some((key, mark));
        }
        Ok(())
    }

    fn scalar(&mut self, text: &str, plain: bool, anchor: usize, span: &Span, mark: Mark) -> Result<(), Finding> {
        let (scalar, problem) = match environment::resolve(text, self.env) {
            Ok(scalar) => (Scalar { plain, ..scalar }, None),
            Err(problem) => {
                // More than one bare reference may hold a piece of a secret: it is masked like any other literal.
                let bare = text.starts_with("${") && text.find(['}', ':']) == Some(text.len() - 1);
                (Scalar { text: text.to_owned(), plain, literal: !bare, env: Vec::new() }, Some(problem))
            }
        };
        let id = self.add(Content::Scalar(scalar), span, mark)?;
        if let Some((message, help)) = problem {
            self.parsed.findings.push(Finding::new(Place::Value(id), message, help));
            self.parsed.broken.push(id);
        }
        self.anchors.insert(anchor, id);
        self.attach(id);
        Ok(())
    }

    fn begin(&mut self, content: Content, anchor: usize, span: &Span, mark: Mark) -> Result<(), Finding> {
        if self.takes_key() {
            return Err(Finding::new(Place::Mark(mark), "a key must be a plain text", None));
        }
        if self.open.len() >= DEEPEST {
            return Err(Finding::new(Place::Mark(mark), format!("nested deeper than {DEEPEST} levels"), None));
        }
        let id = self.add(content, span, mark)?;
        self.anchors.insert(anchor, id);
        self.attach(id);
        self.open.push(Open { id, key: None, seen: HashMap::new(), merged: HashSet::new() });
        Ok(())
    }

    fn end(&mut self) {
        self.open.pop();
    }

    fn alias(&mut self, anchor: usize, mark: Mark) -> Result<(), Finding> {
        let refuse = |message: &str| Err(Finding::new(Place::Mark(mark), message, None));
        if self.takes_key() {
            return refuse("a key must be a plain text");
        }
        let Some(&target) = self.anchors.get(&anchor) else {
            return refuse("an alias (`*…`) without its anchor (`&…`)");
        };
        if self.open.iter().any(|open| open.id == target) {
            return refuse("an alias (`*…`) stands inside of what it refers to");
        }
        let merges = self.open.last().and_then(|open| open.key.as_ref()).is_some_and(|(key, _)| key == "<<");
        let id = self.copy(target, self.open.len(), mark)?;
        if merges {
            self.merge(id, mark)
        } else {
            self.attach(id)
        }
        Ok(())
    }

    /// Copies a value that an alias repeats.
    fn copy(&mut self, target: Id, depth: usize, mark: Mark) -> Result<Id, Finding> {
        self.aliased += 1;
        if self.aliased > MOST_ALIASED {
            let message = format!("aliases (`*…`) repeat more than {MOST_ALIASED} values");
            return Err(Finding::new(Place::Mark(mark), message, None));
        }
        if depth > DEEPEST {
            return Err(Finding::new(Place::Mark(mark), format!("nested deeper than {DEEPEST} levels"), None));
        }
        let id = Id(self.parsed.tree.nodes.len());
        let node = Node { parent: None, ..self.parsed.tree.nodes[target.0].clone() };
        self.parsed.tree.nodes.push(node.clone());
        if self.parsed.broken.contains(&target) {
            self.parsed.broken.push(id);
        }
        let content = match node.content {
            Content::Scalar(_) => return Ok(id),
            Content::Seq(items) => {
                let mut copies = Vec::with_capacity(items.len());
                for item in items {
                    copies.push(self.copy(item, depth + 1, mark)?);
                }
                copies.iter().for_each(|copy| self.parsed.tree.nodes[copy.0].parent = Some(id));
                Content::Seq(copies)
            }
            Content::Map(pairs) => {
                let mut copies = Vec::with_capacity(pairs.len());
                for (slot, pair) in pairs.into_iter().enumerate() {
                    let value = self.copy(pair.value, depth + 1, mark)?;
                    let node = &mut self.parsed.tree.nodes[value.0];
                    (node.parent, node.slot) = (Some(id), slot);
                    copies.push(Pair { value, ..pair });
                }
                Content::Map(copies)
            }
        };
        self.parsed.tree.nodes[id.0].content = content;
        Ok(id)
    }

    /// Puts the pairs of a mapping behind those of the open one, which win.
    fn merge(&mut self, from: Id, mark: Mark) {
        let Some(open) = self.open.last_mut() else { return };
        open.key = None;
        let into = open.id;
        let Content::Map(pairs) = self.parsed.tree.nodes[from.0].content.clone() else {
            let message = "`<<` takes an alias of a mapping";
            return self.parsed.findings.push(Finding::new(Place::Mark(mark), message, None));
        };
        for pair in &pairs {
            self.parsed.tree.nodes[pair.value.0].parent = Some(into);
        }
        if let Content::Map(own) = &mut self.parsed.tree.nodes[into.0].content {
            for pair in pairs {
                if !open.seen.contains_key(&pair.key) && open.merged.insert(pair.key.clone()) {
                    own.push(pair);
                }
            }
        }
    }

    fn add(&mut self, content: Content, span: &Span, mark: Mark) -> Result<Id, Finding> {
        if self.parsed.tree.nodes.len() >= MOST_VALUES {
            return Err(Finding::new(Place::Mark(mark), format!("more than {MOST_VALUES} values"), None));
        }
        let id = Id(self.parsed.tree.nodes.len());
        let bytes = span.byte_range().unwrap_or(0..0);
        self.parsed.tree.nodes.push(Node { content, mark, bytes, parent: None, slot: 0 });
        Ok(id)
    }

    /// Puts a value into what is open: under the key that waits, or at the end of the list.
    fn attach(&mut self, id: Id) {
        let Some(open) = self.open.last_mut() else { return };
        let parent = open.id;
        let key = open.key.take();
        let first = key.as_ref().and_then(|(key, mark)| open.seen.insert(key.clone(), *mark));
        let mut slot = 0;
        match (&mut self.parsed.tree.nodes[parent.0].content, key) {
            (Content::Seq(items), _) => items.push(id),
            (Content::Map(pairs), Some((key, mark))) => {
                if let Some(first) = first {
                    let (line, column) = (first.line, first.column);
                    let message = format!("key `{key}` is written twice; first in line {line}, column {column}");
                    self.parsed.findings.push(Finding::new(Place::Mark(mark), message, None));
                    // The first counts; the second keeps its place in the tree, so that a secret in it is masked.
                    self.parsed.broken.push(id);
                } else if open.merged.remove(&key) {
                    pairs.retain(|pair| pair.key != key);
                }
                slot = pairs.len();
                pairs.push(Pair { key, mark, value: id });
            }
            _ => (),
        }
        let node = &mut self.parsed.tree.nodes[id.0];
        (node.parent, node.slot) = (Some(parent), slot);
    }
}
