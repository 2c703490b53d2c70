//! What differs from visitor to visitor. The page's script paints the same when it runs.

use std::fmt::Write as _;

use tidegate_filters::engine::RequestHead;
use tidegate_filters::waiting_room::document::Document;

use super::template::Slot;
use super::words::{Language, escaped, grouped};

/// Seconds until a visitor without scripts, who has only to bring a token back, does so.
const BRING_BACK: u64 = 2;

/// One visitor.
pub(super) struct Visitor<'a> {
    pub(super) head: &'a RequestHead<'a>,
    pub(super) document: &'a Document,
    pub(super) language: Language,
}

/// What is shown: words for headline and detail, and whether there is a place in line.
struct View(&'static str, &'static str, bool);

impl Visitor<'_> {
    fn view(&self) -> View {
        let document = self.document;
        match (document.state, document.reason) {
            ("READY", _) => View("turn", "turnDetail", false),
            (_, Some("sold_out")) => View("soldOut", "soldOutDetail", false),
            _ if document.common.sold_out => View("soldOut", "soldOutDetail", false),
            ("PREQUEUED", _) => View("before", "beforeDetail", false),
            ("EXPIRED", _) => View("missed", "missedDetail", false),
            (_, Some("queue_full")) => View("full", "fullDetail", false),
            (_, Some(_)) => View("rejected", "rejectedDetail", false),
            _ if document.common.paused => View("paused", "pausedDetail", true),
            _ => View("waiting", "calm", true),
        }
    }

    /// Puts into `out` what stands at a place, as HTML.
    pub(super) fn fill(&self, slot: Slot, out: &mut String) {
        let (document, language) = (self.document, self.language);
        let View(headline, detail, place) = self.view();
        let ahead = document.position_ahead.filter(|_| document.state != "PRE");
        let known = |number: Option<u64>| number.map_or_else(|| "–".to_owned(), grouped);
        let text = match slot {
            Slot::Room => document.common.room.clone(),
            Slot::State => if headline == "soldOut" { "SOLD_OUT" } else { document.state }.to_owned(),
            Slot::Headline => language.word(headline).to_owned(),
            Slot::Detail => language.word(detail).to_owned(),
            Slot::Message => document.common.message.clone().unwrap_or_default(),
            Slot::Title => match ahead.filter(|ahead| place && *ahead > 0) {
                Some(ahead) => format!("{} · {}", grouped(ahead), language.word("title")),
                None => language.word(if place { "title" } else { headline }).to_owned(),
            },
            Slot::Ahead => {
                if ahead == Some(0) {
                    String::new()
                } else {
                    known(ahead)
                }
            }
            Slot::Unit => ahead.map_or("", |ahead| self.unit(ahead)).to_owned(),
            Slot::Wait => match document.wait_time_seconds {
                _ if document.common.paused => String::new(),
                Some(seconds) => language.with("eta", "t", &language.span(seconds)),
                None => language.word("etaUnknown").to_owned(),
            },
            Slot::Number => known(document.ticket_number),
            Slot::Serving => grouped(document.common.serving_number),
            Slot::Pace => known(document.common.rate_per_minute.map(|rate| rate.round() as u64)),
            Slot::Hidden => if place { "" } else { "hidden" }.to_owned(),
            Slot::Refresh => return self.refresh(out),
            Slot::WithoutScript => return self.without_script(out),
            Slot::Languages => return self.languages(out),
            Slot::Document => {
                out.push_str(&document.to_json().replace('<', "\\u003c"));
                return;
            }
        };
        out.push_str(&escaped(&text));
    }

    fn unit(&self, ahead: u64) -> &'static str {
        match ahead {
            0 => self.language.word("next"),
            1 if !self.language.word("ahead1").is_empty() => self.language.word("ahead1"),
            _ => self.language.word("ahead"),
        }
    }

    fn is_over(&self) -> bool {
        self.document.reason.is_some()
    }

    fn refreshes(&self) -> bool {
        let query = self.head.query().unwrap_or("");
        !self.is_over() && !query.split('&').any(|pair| pair == "refresh=off")
    }

    /// Seconds after which a page without scripts looks again.
    fn every(&self) -> u64 {
        if self.document.state == "PRE" { BRING_BACK } else { self.document.common.refresh }
    }

    fn refresh(&self, out: &mut String) {
        if self.refreshes() {
            let _ = write!(out, "<meta http-equiv=\"refresh\" content=\"{}\">", self.every());
        }
    }

    /// A visitor without scripts decides whether the page loads itself again, and can do so by hand.
    fn without_script(&self, out: &mut String) {
        if self.is_over() {
            return;
        }
        let language = self.language;
        out.push_str("<p class=\"aside\">");
        if self.refreshes() {
            let every = language.with("noscript", "n", &self.every().to_string());
            let stop = self.address("refresh", "refresh=off");
            let _ = write!(out, "{} <a href=\"{}\">{}</a>", escaped(&every), escaped(&stop), language.word("stop"));
        } else {
            let _ = write!(out, "<a class=\"button\" href=\"\">{}</a>", escaped(language.word("again")));
        }
        out.push_str("</p>");
    }

    fn languages(&self, out: &mut String) {
        for language in Language::ALL {
            let tag = language.tag();
            let here = if language == self.language { " aria-current=\"true\"" } else { "" };
            let address = self.address("lang", &format!("lang={tag}"));
            let address = escaped(&address);
            let _ = write!(out, "<a lang=\"{tag}\" href=\"{address}\"{here}>{}</a>", language.word("_"));
        }
    }

    /// The query of this address with one parameter more or replaced.
    fn address(&self, name: &str, pair: &str) -> String {
        let query = self.head.query().unwrap_or("");
        let other = |pair: &&str| !pair.is_empty() && pair.split('=').next() != Some(name);
        let kept: Vec<&str> = query.split('&').filter(other).chain([pair]).collect();
        format!("?{}", kept.join("&"))
    }
}
