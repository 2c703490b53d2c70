//! A problem before it has a text around it: found anywhere in the tree, rendered at the end.

use super::problem::Problem;
use super::source::{Mask, Source};
use super::tree::{Content, Id, Mark, Scalar, Tree};

/// Shortest environment value that is looked for in every message; shorter ones would hide ordinary words.
const TELLING: usize = 6;

/// Where something was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// At a value.
    Value(Id),
    /// At the key of a value.
    Key(Id),
    /// At a place in the text that is no value.
    Mark(Mark),
    /// In the file as a whole.
    File,
}

/// Something found wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) place: Place,
    pub(super) message: String,
    pub(super) help: Option<String>,
}

impl Finding {
    pub(super) fn new(place: Place, message: impl Into<String>, help: Option<String>) -> Self {
        Self { place, message: message.into(), help }
    }

    /// Puts text around a finding, without any secret.
    pub(super) fn render(&self, tree: &Tree, source: &Source<'_>) -> Problem {
        let (mark, path, here) = match self.place {
            Place::Value(id) => (tree.mark(id), tree.path(id), tree.scalar(id)),
            Place::Key(id) => (tree.pair_of(id).map(|pair| pair.mark).or(tree.mark(id)), tree.path(id), None),
            Place::Mark(mark) => (Some(mark), String::new(), None),
            Place::File => (None, String::new(), None),
        };
        let clean = |text: &str| clean(text, tree, here);
        source.problem(mark, clean(&self.message), self.help.as_deref().map(clean), path)
    }
}

/// The text with values of the environment and literals at secret keys replaced.
fn clean(text: &str, tree: &Tree, here: Option<&Scalar>) -> String {
    let mut out = text.to_owned();
    for used in here.iter().flat_map(|scalar| &scalar.env).filter(|used| !used.value.is_empty()) {
        out = out.replace(&used.value, &format!("${{{}}}", used.name));
    }
    for (at, node) in tree.nodes.iter().enumerate() {
        let Content::Scalar(scalar) = &node.content else { continue };
        for used in scalar.env.iter().filter(|used| used.value.len() >= TELLING) {
            if !out.contains(&used.value) {
                continue;
            }
            out = out.replace(&used.value, &format!("${{{}}}", used.name));
        }
        if scalar.text.len() >= TELLING && out.contains(&scalar.text) && is_secret(tree, Id(at)) {
            out = out.replace(&scalar.text, "***");
        }
    }
    out
}

/// Whether a key announces a secret. `…_file` keys name a file, which is none.
pub(super) fn is_secret_key(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    let words = ["secret", "token", "password", "passwd", "passphrase", "private_key", "api_key", "apikey"];
    words.iter().any(|word| key == *word || key.strip_suffix(word).is_some_and(|rest| rest.ends_with(['_', '-'])))
}

/// Whether a scalar stands at a key that announces a secret.
pub(super) fn is_secret(tree: &Tree, id: Id) -> bool {
    tree.nearest_key(id).is_some_and(is_secret_key)
}

/// What of the text must not be shown: literals at secret keys. References to the environment stay.
pub(super) fn masks(tree: &Tree) -> Vec<Mask> {
    let mut masks = Vec::new();
    for (at, node) in tree.nodes.iter().enumerate() {
        let Content::Scalar(scalar) = &node.content else { continue };
        let defaulted = scalar.env.iter().any(|used| used.by_default && !used.value.is_empty());
        if (scalar.literal && !scalar.text.is_empty() || defaulted) && is_secret(tree, Id(at)) {
            let names: String = scalar.env.iter().map(|used| format!("${{{}}}", used.name)).collect();
            let with = if names.is_empty() { "***".to_owned() } else { format!("\"{names}\"") };
            masks.push(Mask { bytes: node.bytes.clone(), with });
        }
    }
    masks
}

/// Masks for comments: a secret that was commented out is still one.
pub(super) fn masks_of_comments(text: &str) -> Vec<Mask> {
    let mut masks = Vec::new();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let shown = line.trim_end();
        if shown.trim_start().starts_with('#')
            && let Some(behind) = behind_secret_key(shown)
        {
            masks.push(Mask { bytes: start + behind..start + shown.len(), with: " ***".to_owned() });
        }
        start += line.len();
    }
    masks.retain(|mask| !mask.bytes.is_empty());
    masks
}

/// Masks for a text that could not be parsed, made from its lines alone: everything behind a secret key, the deeper
/// lines under one, and all lines to the end of a quoted text that begins there.
pub(super) fn masks_of_lines(text: &str) -> Vec<Mask> {
    let mut masks = Vec::new();
    let mut under: Option<usize> = None;
    let mut quote: Option<char> = None;
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let shown = line.trim_end();
        let indent = shown.len() - shown.trim_start().len();
        if quote.is_some() || under.is_some_and(|depth| indent > depth) {
            masks.push(Mask { bytes: start + indent..start + shown.len(), with: "***".to_owned() });
            quote = quote.filter(|quote| !shown.contains(*quote));
        } else {
            under = None;
            if let Some(behind) = behind_secret_key(shown) {
                under = Some(indent);
                masks.push(Mask { bytes: start + behind..start + shown.len(), with: " ***".to_owned() });
                let value = shown[behind..].trim_start();
                let opened = value.chars().next().filter(|first| matches!(first, '"' | '\''));
                quote = opened.filter(|quote| value.matches(*quote).count() == 1);
            }
        }
        start += line.len();
    }
    masks.retain(|mask| !mask.bytes.is_empty());
    masks
}

/// Where the value of the first secret key of a line begins.
fn behind_secret_key(line: &str) -> Option<usize> {
    let mut from = 0;
    while let Some(at) = line[from..].find(':') {
        let colon = from + at;
        let key = line[..colon].trim_end_matches(['"', '\'', ' ']);
        let word = key.rfind(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '-').map_or(0, |at| at + 1);
        if key.get(word..).is_some_and(is_secret_key) {
            return Some(colon + 1);
        }
        from = colon + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_a_file_is_no_secret_and_a_compound_one_is() {
        for key in ["secret", "token", "admin_token", "client-secret", "Password"] {
            assert!(is_secret_key(key), "{key}");
        }
        for key in ["secret_file", "tokens", "secretary", "key", "claim"] {
            assert!(!is_secret_key(key), "{key}");
        }
    }

    #[test]
    fn a_broken_text_hides_what_stands_behind_secret_keys() {
        let text = "a: {secret: abc, b: [\ntoken: |\n  def\n  ghi\nnext: jkl\n";
        let mut source = Source::new("t", text);
        source.hide(masks_of_lines(text));
        assert_eq!(source.redacted(), "a: {secret: ***\ntoken: ***\n  ***\n  ***\nnext: jkl\n");
    }
}
