//! A page's template: HTML with placeholders in double braces, and the policy under which its scripts run.
//!
//! | placeholder | stands for |
//! | --- | --- |
//! | `{{lang}}` | the visitor's language, as a tag |
//! | `{{t.NAME}}` | one of the gateway's own words in that language, by its name in `words.json` |
//! | `{{title}}` `{{headline}}` `{{detail}}` | what the page is called and says |
//! | `{{room}}` `{{state}}` `{{message}}` | the room's name, the visitor's state, the operator's word |
//! | `{{ahead}}` `{{unit}}` `{{wait}}` | people before the visitor, and the wait, in words |
//! | `{{number}}` `{{serving}}` `{{pace}}` | the visitor's number, the one turns have come to, people let in a minute |
//! | `{{hidden}}` | the attribute `hidden` where there is no place in line |
//! | `{{refresh}}` | the element that loads the page again; for `<noscript>` in the head |
//! | `{{without_script}}` | what a visitor without scripts can do; for `<noscript>` in the body |
//! | `{{languages}}` | links to the other languages |
//! | `{{document}}` | what the visitor's program reads, as JSON for a `<script type="application/json">` |
//! | `{{style}}` `{{script}}` `{{words}}` | the gateway's own style sheet, script and words |
//!
//! What scripts and styles a page runs is known when it is read: their hashes are its policy, and nothing else runs.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use super::words::{Language, is_word};

/// The gateway's own page.
pub const BUILT_IN: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");
/// Stands in for what is not known yet while a policy is worked out.
const UNKNOWN: char = '\u{fffc}';

macro_rules! slots {
    ($($slot:ident $name:literal),+ $(,)?) => {
        /// What differs from visitor to visitor.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Slot { $($slot),+ }

        const SLOTS: &[(&str, Slot)] = &[$(($name, Slot::$slot)),+];
    };
}

slots!(
    Title "title",
    Room "room",
    State "state",
    Headline "headline",
    Detail "detail",
    Message "message",
    Ahead "ahead",
    Unit "unit",
    Wait "wait",
    Number "number",
    Serving "serving",
    Pace "pace",
    Hidden "hidden",
    Refresh "refresh",
    WithoutScript "without_script",
    Languages "languages",
    Document "document",
);

/// A part of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Text(String),
    Slot(Slot),
}

/// A template that was read and found right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    source: String,
    /// The value of `Content-Security-Policy`.
    pub(super) policy: String,
}

/// Reads a template.
///
/// # Errors
/// What is wrong with it, with its line.
pub fn read(source: &str) -> Result<Template, String> {
    each(source, |line, name| match name {
        Some(name) if !is_known(name) => Err(format!("line {line}: {}", unknown(name))),
        Some(_) => Ok(()),
        None => Err(format!("line {line}: `{{{{` without `}}}}`")),
    })?;
    let whole = expand(source, Language::En).into_iter().map(|part| match part {
        Part::Text(text) => text,
        Part::Slot(_) => UNKNOWN.to_string(),
    });
    let policy = policy(&whole.collect::<String>())?;
    Ok(Template { source: source.to_owned(), policy })
}

impl Template {
    /// Its parts for readers of a language; neighbours that never change are one.
    pub(super) fn parts(&self, language: Language) -> Vec<Part> {
        expand(&self.source, language)
    }
}

fn is_known(name: &str) -> bool {
    let word = name.strip_prefix("t.").is_some_and(is_word);
    word || matches!(name, "lang" | "style" | "script" | "words") || slot(name).is_some()
}

fn unknown(name: &str) -> String {
    let names = SLOTS.iter().map(|(name, _)| *name).chain(["lang", "style", "script", "words"]);
    let near = names.map(|known| (strsim::damerau_levenshtein(known, name), known)).min();
    match near {
        Some((distance, near)) if distance <= 2 => {
            format!("`{{{{{name}}}}}` stands for nothing; did you mean `{{{{{near}}}}}`?")
        }
        _ => format!("`{{{{{name}}}}}` stands for nothing"),
    }
}

fn slot(name: &str) -> Option<Slot> {
    SLOTS.iter().find(|(known, _)| *known == name).map(|(_, slot)| *slot)
}

/// Calls `placeholder` with the line and name of each one; without a name where the braces do not close.
fn each(source: &str, mut placeholder: impl FnMut(usize, Option<&str>) -> Result<(), String>) -> Result<(), String> {
    let mut at = 0;
    while let Some(open) = source[at..].find("{{").map(|found| at + found) {
        let line = source[..open].matches('\n').count() + 1;
        let name = source[open + 2..].split_once("}}").map(|(name, _)| name).filter(|name| !name.contains('\n'));
        placeholder(line, name.map(str::trim))?;
        at = open + 2 + name.map_or(0, |name| name.len() + 2);
    }
    Ok(())
}

fn expand(source: &str, language: Language) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut text = String::new();
    let mut rest = source;
    while let Some((before, after)) = rest.split_once("{{") {
        text.push_str(before);
        let Some((name, behind)) = after.split_once("}}") else { break };
        rest = behind;
        let name = name.trim();
        match name {
            "lang" => text.push_str(language.tag()),
            "style" => text.push_str(STYLE),
            "script" => text.push_str(SCRIPT),
            "words" => text.push_str(&compact(super::words::JSON)),
            _ => match slot(name) {
                Some(slot) => {
                    parts.extend([Part::Text(std::mem::take(&mut text)), Part::Slot(slot)]);
                }
                None => text.push_str(&super::words::escaped(language.word(name.trim_start_matches("t.")))),
            },
        }
    }
    text.push_str(rest);
    parts.push(Part::Text(text));
    parts
}

/// JSON on one line, and safe within a script element.
fn compact(json: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(json).unwrap_or_default();
    value.to_string().replace('<', "\\u003c")
}

/// The policy under which a page runs its own scripts and styles and nothing else.
fn policy(page: &str) -> Result<String, String> {
    let scripts = hashes(page, "script")?;
    let styles = hashes(page, "style")?;
    let or_none = |list: String| if list.is_empty() { "'none'".to_owned() } else { list };
    Ok(format!(
        "default-src 'none'; script-src {}; style-src {}; img-src 'self' data:; font-src 'self' data:; connect-src 'self'; \
         form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
        or_none(scripts),
        or_none(styles),
    ))
}

/// The hashes of what stands in all elements of this name, as a policy lists them.
fn hashes(page: &str, element: &str) -> Result<String, String> {
    let lower = page.to_ascii_lowercase();
    let (open, close) = (format!("<{element}"), format!("</{element}"));
    let mut list = Vec::new();
    let mut at = 0;
    while let Some(start) = lower[at..].find(&open).map(|found| at + found) {
        at = start + open.len();
        if !lower[at..].starts_with([' ', '>', '\n', '\t']) {
            continue;
        }
        let none = || format!("a `<{element}>` that does not end");
        let inside = at + lower[at..].find('>').ok_or_else(none)? + 1;
        let end = inside + lower[inside..].find(&close).ok_or_else(none)?;
        let attributes = &lower[at..inside];
        at = end;
        if attributes.contains("application/json") {
            continue;
        }
        if attributes.contains("src=") {
            return Err("a script from elsewhere: put it into the page, nothing else is let run".to_owned());
        }
        if page[inside..end].contains(UNKNOWN) {
            return Err(format!(
                "a placeholder in a `<{element}>`: what differs from visitor to visitor cannot be let run"
            ));
        }
        list.push(format!("'sha256-{}'", STANDARD.encode(Sha256::digest(&page[inside..end]))));
    }
    list.dedup();
    Ok(list.join(" "))
}
