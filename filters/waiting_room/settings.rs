//! All that a room is configured with: its rules, its keys, and how it speaks HTTP.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use smallvec::SmallVec;

use super::aimd::Aimd;
use super::bypass::Bypass;
use super::document::Document;
use super::keys::Keyring;
use super::rules::Rules;
use crate::condition::Condition;
use crate::engine::{IdentityId, RequestHead};

/// When cookies are marked `Secure`, and named so that a browser insists on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Secure {
    /// Where the client's connection is encrypted.
    #[default]
    Auto,
    /// In any case: a proxy in front of the gateway ends TLS.
    Always,
    /// Never.
    Never,
}

/// `SameSite` of cookies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SameSite {
    /// `Lax`.
    #[default]
    Lax,
    /// `Strict`.
    Strict,
    /// `None`, which browsers take only with `Secure`.
    None,
}

impl SameSite {
    /// The word of the cookie's attribute.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            SameSite::Lax => "Lax",
            SameSite::Strict => "Strict",
            SameSite::None => "None",
        }
    }
}

/// A command that the backend may give in a response's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandKind {
    /// Ends the visit.
    Revoke,
    /// Prolongs it.
    Extend,
    /// Keeps it for a payment.
    Hold,
    /// The visitor is done.
    Complete,
    /// Nothing is left, or something is `available` again.
    SoldOut,
}

impl CommandKind {
    /// All commands with the words of the header.
    pub const ALL: [(&'static str, CommandKind); 5] = [
        ("revoke", CommandKind::Revoke),
        ("extend", CommandKind::Extend),
        ("hold", CommandKind::Hold),
        ("complete", CommandKind::Complete),
        ("sold_out", CommandKind::SoldOut),
    ];
}

/// A page as sent.
pub struct Rendered {
    /// Headers that go with it: its type, encoding, language, policy.
    pub headers: SmallVec<[(HeaderName, HeaderValue); 4]>,
    /// Its bytes.
    pub bytes: Bytes,
}

/// Makes the page that a person waits on; what a program gets is in `document`.
pub trait Page: Send + Sync {
    /// The page for a visitor who stands so.
    fn render(&self, head: &RequestHead<'_>, document: &Document) -> Rendered;
}

/// To whom events are offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Events {
    /// Who has fewer people before them.
    pub below_position: u64,
    /// Connections at once.
    pub max_connections: usize,
}

/// Who may wait for news instead of looking again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LongPolls {
    /// For how long, at most.
    pub wait: Duration,
    /// Connections at once.
    pub max_waiting: usize,
}

/// All that a room is configured with.
pub struct Settings {
    /// What the line does.
    pub rules: Arc<Rules>,
    /// What tokens are signed with.
    pub keys: Arc<Keyring>,
    /// Status of the answer to somebody who waits; `None`: 200 for a page, 503 for a program.
    pub status: Option<StatusCode>,
    /// Last part of the cookie's name.
    pub cookie: String,
    /// When cookies are `Secure`.
    pub secure: Secure,
    /// Their `SameSite`.
    pub same_site: SameSite,
    /// Who a visitor is: the first of these that a request has. One person has one place.
    pub identity: Vec<IdentityId>,
    /// Requests for which one of these holds pass, and are not counted.
    pub bypass: Vec<Bypass>,
    /// Whether paths are routed whatever their case: rules then see them in lower case, or `/SALE` would go by.
    pub fold_paths: bool,
    /// Commands that the backend may give.
    pub commands: Vec<CommandKind>,
    /// Whether answers also carry the object that Cloudflare's clients read, and its command header is understood.
    pub cloudflare: bool,
    /// Whether a program is told how it stands, not only when to come back.
    pub json: bool,
    /// How admissions follow the backends; `None`: not at all.
    pub admission: Option<Aimd>,
    /// Where the public side of the room is: a path without a slash at its end.
    pub base: Arc<str>,
    /// To whom events are offered; `None`: to nobody.
    pub events: Option<Events>,
    /// Who may wait for news; `None`: nobody.
    pub long_polls: Option<LongPolls>,
    /// Who may have a place; `None`: everybody.
    pub eligible: Option<Condition>,
    /// Makes pages for people; `None`: the gateway's plain one.
    pub page: Option<Arc<dyn Page>>,
}

impl Settings {
    /// Settings with these rules and keys, and everything else as it is when a file does not say it.
    #[must_use]
    pub fn new(name: &str, rules: Rules, keys: Arc<Keyring>) -> Self {
        Self {
            rules: Arc::new(rules),
            keys,
            status: None,
            cookie: name.to_owned(),
            secure: Secure::Auto,
            same_site: SameSite::Lax,
            identity: Vec::new(),
            bypass: Vec::new(),
            fold_paths: false,
            commands: Vec::new(),
            cloudflare: false,
            json: true,
            admission: None,
            base: format!("/.tidegate/wr/{name}").into(),
            events: Some(Events { below_position: 5_000, max_connections: 5_000 }),
            long_polls: Some(LongPolls { wait: Duration::from_secs(25), max_waiting: 10_000 }),
            eligible: None,
            page: None,
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").field("rules", &self.rules).field("keys", &self.keys).finish_non_exhaustive()
    }
}
