//! What the page says, in five languages, and which of them a visitor reads.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::LazyLock;

use tidegate_filters::engine::RequestHead;

/// All words as the page's script reads them.
pub(super) const JSON: &str = include_str!("words.json");

static WORDS: LazyLock<BTreeMap<String, BTreeMap<String, String>>> =
    LazyLock::new(|| serde_json::from_str(JSON).expect("invariant: a test reads the words"));

/// A language of the page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Language {
    /// English.
    #[default]
    En,
    /// Chinese in simplified characters.
    ZhCn,
    /// Chinese in traditional characters.
    ZhTw,
    /// Japanese.
    Ja,
    /// Korean.
    Ko,
}

impl Language {
    /// All of them, in the order in which they are offered.
    pub const ALL: [Language; 5] = [Language::ZhCn, Language::ZhTw, Language::En, Language::Ja, Language::Ko];

    /// Its tag (BCP 47).
    #[must_use]
    pub fn tag(self) -> &'static str {
        match self {
            Language::En => "en",
            Language::ZhCn => "zh-CN",
            Language::ZhTw => "zh-TW",
            Language::Ja => "ja",
            Language::Ko => "ko",
        }
    }

    /// The one that serves readers of `tag`; `None` when none does.
    #[must_use]
    pub fn of(tag: &str) -> Option<Self> {
        let tag = tag.trim().to_ascii_lowercase();
        let mut parts = tag.split('-');
        Some(match parts.next()? {
            "en" => Language::En,
            "ja" => Language::Ja,
            "ko" => Language::Ko,
            "zh" if parts.any(|part| matches!(part, "tw" | "hk" | "mo" | "hant")) => Language::ZhTw,
            "zh" => Language::ZhCn,
            _ => return None,
        })
    }

    /// The one this visitor reads: named in the address (`lang=`), else the one their browser prefers, else `default`.
    pub(super) fn for_visitor(head: &RequestHead<'_>, default: Self) -> Self {
        let asked = head.query().unwrap_or("").split('&').find_map(|pair| pair.strip_prefix("lang="));
        if let Some(language) = asked.and_then(Self::of) {
            return language;
        }
        let mut best = (0.0, default);
        for part in head.header_str("accept-language").unwrap_or("").split(',') {
            let (tag, weight) = part.split_once(';').unwrap_or((part, ""));
            let weight = weight.trim().strip_prefix("q=").map_or(1.0, |q| q.trim().parse::<f32>().unwrap_or(0.0));
            if let Some(language) = Self::of(tag).filter(|_| weight > best.0) {
                best = (weight, language);
            }
        }
        best.1
    }

    pub(super) fn index(self) -> usize {
        Self::ALL.iter().position(|other| *other == self).unwrap_or_default()
    }

    /// A word by its name; empty when there is none.
    pub(super) fn word(self, name: &str) -> &'static str {
        WORDS.get(self.tag()).and_then(|words| words.get(name)).map_or("", String::as_str)
    }

    /// A word with something put into it.
    pub(super) fn with(self, name: &str, key: &str, value: &str) -> String {
        self.word(name).replace(&format!("{{{key}}}"), value)
    }

    /// So many of a unit: `s`, `m` or `h`.
    fn unit(self, name: &str, count: u64) -> String {
        let one = Some(format!("{name}1")).filter(|one| count == 1 && !self.word(one).is_empty());
        self.with(one.as_deref().unwrap_or(name), "n", &grouped(count))
    }

    /// A span of time, never finer than what is known.
    pub(super) fn span(self, seconds: u64) -> String {
        if seconds < 60 {
            return self.unit("s", seconds.div_ceil(5).max(1) * 5);
        }
        let minutes = seconds.div_ceil(60);
        if minutes < 90 {
            return self.unit("m", minutes);
        }
        let rest = Some(minutes % 60).filter(|rest| *rest > 0).map(|rest| self.unit("m", rest));
        let rest = rest.map_or_else(String::new, |rest| format!("{}{rest}", self.word("join")));
        format!("{}{rest}", self.unit("h", minutes / 60))
    }
}

/// Whether there is a word of that name.
pub(super) fn is_word(name: &str) -> bool {
    WORDS.values().all(|words| words.contains_key(name))
}

/// A number as people of all five languages write it: in groups of three.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Text as it stands in HTML, in an element or a quoted attribute.
pub(super) fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(['&', '<', '>', '"', '\'']) {
        return text.into();
    }
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    text.replace('"', "&quot;").replace('\'', "&#39;").into()
}
