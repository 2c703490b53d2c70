//! The text of a file: its lines, and what of it may be shown.

use std::ops::Range;

use super::problem::Problem;
use super::tree::Mark;

/// Longest piece of a line that a report shows, in characters: one terminal line.
const WIDTH: usize = 110;

/// Bytes that must not be shown, and what stands there instead.
#[derive(Debug, Clone)]
pub(super) struct Mask {
    pub(super) bytes: Range<usize>,
    pub(super) with: String,
}

/// A text under a name.
pub(super) struct Source<'t> {
    name: &'t str,
    text: &'t str,
    lines: Vec<Range<usize>>,
    /// In order and apart from one another.
    masks: Vec<Mask>,
}

impl<'t> Source<'t> {
    pub(super) fn new(name: &'t str, text: &'t str) -> Self {
        let mut lines = Vec::new();
        let mut start = 0;
        for line in text.split_inclusive('\n') {
            let shown = line.trim_end_matches(['\n', '\r']).len();
            lines.push(start..start + shown);
            start += line.len();
        }
        Self { name, text, lines, masks: Vec::new() }
    }

    /// Hides pieces of the text from all that is shown from now on.
    pub(super) fn hide(&mut self, mut masks: Vec<Mask>) {
        masks.retain(|mask| self.text.get(mask.bytes.clone()).is_some());
        masks.sort_by_key(|mask| (mask.bytes.start, mask.bytes.end));
        self.masks.clear();
        for mask in masks {
            match self.masks.last_mut().filter(|last| last.bytes.end > mask.bytes.start) {
                Some(last) => last.bytes.end = last.bytes.end.max(mask.bytes.end),
                None => self.masks.push(mask),
            }
        }
    }

    /// The whole text with the masks in place.
    pub(super) fn redacted(&self) -> String {
        self.shown(0..self.text.len())
    }

    /// The place of a byte.
    pub(super) fn mark_of(&self, byte: usize) -> Mark {
        let line = self.lines.partition_point(|line| line.start <= byte).max(1);
        let start = self.lines.get(line - 1).map_or(0, |line| line.start);
        let column = self.text.get(start..byte).map_or(1, |before| before.chars().count() + 1);
        Mark { line, column }
    }

    /// A problem at a place; `None` for the file as a whole.
    pub(super) fn problem(&self, at: Option<Mark>, message: String, help: Option<String>, path: String) -> Problem {
        let mark = at.unwrap_or_default();
        let (snippet, caret) = at.map_or_else(Default::default, |mark| self.snippet(mark));
        let (line, column) = (mark.line, mark.column);
        Problem { file: self.name.to_owned(), line, column, snippet, message, help, path, caret }
    }

    fn snippet(&self, mark: Mark) -> (String, usize) {
        let Some(line) = mark.line.checked_sub(1).and_then(|at| self.lines.get(at)).cloned() else {
            return Default::default();
        };
        let before: usize =
            self.text[line.clone()].chars().take(mark.column.saturating_sub(1)).map(char::len_utf8).sum();
        let caret = self.shown(line.start..line.start + before).chars().count();
        let whole: Vec<char> = self.shown(line).chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let caret = caret.min(whole.len());
        if whole.len() <= WIDTH {
            return (whole.into_iter().collect(), caret);
        }
        let start = caret.saturating_sub(WIDTH / 2).min(whole.len() - WIDTH);
        (whole[start..start + WIDTH].iter().collect(), caret - start)
    }

    /// A piece of the text with the masks in place. A mask that began before the piece leaves `***`.
    fn shown(&self, piece: Range<usize>) -> String {
        let mut out = String::new();
        let mut at = piece.start;
        for mask in &self.masks {
            if mask.bytes.end <= at || mask.bytes.start >= piece.end {
                continue;
            }
            out.push_str(self.text.get(at..mask.bytes.start).unwrap_or_default());
            out.push_str(if mask.bytes.start >= piece.start { &mask.with } else { "***" });
            at = mask.bytes.end.min(piece.end);
        }
        out.push_str(self.text.get(at..piece.end).unwrap_or_default());
        out
    }
}
