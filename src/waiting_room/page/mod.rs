//! The page that a person waits on: put together when a configuration is read, filled in for each visitor.
//!
//! One answer of a few kilobytes, complete in itself: no image, font or script from anywhere else, and a policy that
//! would not let one in. It works without JavaScript; with it, the place moves by itself and the turn is pushed.
//!
//! **Fails.** Nothing at run time: a template that is wrong is refused when it is read.

mod fill;
mod gzip;
mod template;
#[cfg(test)]
mod tests;
mod words;

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, header};
use smallvec::smallvec;
use tidegate_filters::engine::RequestHead;
use tidegate_filters::waiting_room::document::Document;
use tidegate_filters::waiting_room::settings::{Page, Rendered};

use fill::Visitor;
use gzip::{Gzip, Packed};
use template::{Part, Slot};

pub use template::{BUILT_IN as TEMPLATE, Template, read};
pub use words::Language;

const NOSNIFF: HeaderName = HeaderName::from_static("x-content-type-options");
const REFERRER_POLICY: HeaderName = HeaderName::from_static("referrer-policy");
/// Texts that are shorter are not worth blocks of their own.
const WORTH_PACKING: usize = 256;

/// A room's page.
pub(crate) struct RoomPage {
    assembled: Arc<Assembled>,
    default: Language,
}

/// A template in all languages.
struct Assembled {
    policy: HeaderValue,
    /// By [`Language::index`].
    languages: Vec<Vec<Piece>>,
}

enum Piece {
    Text(Bytes, Option<Packed>),
    Slot(Slot),
}

static BUILT_IN: LazyLock<Arc<Assembled>> = LazyLock::new(|| {
    let template = read(TEMPLATE).expect("invariant: a test reads the gateway's own page");
    Arc::new(Assembled::new(&template))
});

impl Assembled {
    fn new(template: &Template) -> Self {
        let piece = |part| match part {
            Part::Slot(slot) => Piece::Slot(slot),
            Part::Text(text) => {
                let packed = (text.len() >= WORTH_PACKING).then(|| Packed::new(text.as_bytes()));
                Piece::Text(text.into(), packed)
            }
        };
        let pieces = |language: &Language| template.parts(*language).into_iter().map(piece).collect();
        Self {
            policy: HeaderValue::from_str(&template.policy).unwrap_or(HeaderValue::from_static("default-src 'none'")),
            languages: Language::ALL.iter().map(pieces).collect(),
        }
    }
}

impl RoomPage {
    /// The page of a room: from its own template, or the gateway's own.
    pub(crate) fn new(template: Option<&Template>, default: Language) -> Self {
        let assembled = template.map_or_else(|| BUILT_IN.clone(), |template| Arc::new(Assembled::new(template)));
        Self { assembled, default }
    }
}

impl Page for RoomPage {
    fn render(&self, head: &RequestHead<'_>, document: &Document) -> Rendered {
        let language = Language::for_visitor(head, self.default);
        let visitor = Visitor { head, document, language };
        let pieces = &self.assembled.languages[language.index()];
        let packs = accepts_gzip(head);
        let bytes = if packs { packed(pieces, &visitor) } else { plain(pieces, &visitor) };
        let mut headers = smallvec![
            (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
            (header::CONTENT_SECURITY_POLICY, self.assembled.policy.clone()),
            (header::CONTENT_LANGUAGE, HeaderValue::from_static(language.tag())),
            (NOSNIFF, HeaderValue::from_static("nosniff")),
            (REFERRER_POLICY, HeaderValue::from_static("same-origin")),
        ];
        if packs {
            headers.push((header::CONTENT_ENCODING, HeaderValue::from_static("gzip")));
        }
        Rendered { headers, bytes: bytes.into() }
    }
}

fn plain(pieces: &[Piece], visitor: &Visitor<'_>) -> Vec<u8> {
    let mut out = String::with_capacity(32 * 1_024);
    let mut bytes = Vec::with_capacity(32 * 1_024);
    for piece in pieces {
        match piece {
            Piece::Text(text, _) => bytes.extend_from_slice(text),
            Piece::Slot(slot) => {
                out.clear();
                visitor.fill(*slot, &mut out);
                bytes.extend_from_slice(out.as_bytes());
            }
        }
    }
    bytes
}

fn packed(pieces: &[Piece], visitor: &Visitor<'_>) -> Vec<u8> {
    let mut gzip = Gzip::new(16 * 1_024);
    // What differs and the short texts between are gathered into one block.
    let mut loose = Vec::with_capacity(4 * 1_024);
    let mut out = String::new();
    for piece in pieces {
        match piece {
            Piece::Text(_, Some(packed)) => {
                gzip.stored(&loose);
                loose.clear();
                gzip.packed(packed);
            }
            Piece::Text(text, None) => loose.extend_from_slice(text),
            Piece::Slot(slot) => {
                out.clear();
                visitor.fill(*slot, &mut out);
                loose.extend_from_slice(out.as_bytes());
            }
        }
    }
    gzip.stored(&loose);
    gzip.finish()
}

/// Whether the client reads gzip (RFC 9110 §12.5.3).
fn accepts_gzip(head: &RequestHead<'_>) -> bool {
    let accepted = head.header_str("accept-encoding").unwrap_or("");
    accepted.split(',').any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        let refused = weight.trim().strip_prefix("q=").is_some_and(|q| q.trim().parse::<f32>() == Ok(0.0));
        matches!(name.trim(), "gzip" | "*") && !refused
    })
}
