//! What a backend may tell the room in a response's header: `X-Tidegate-Waiting-Room: hold=900; order=8c1f; age=12`.
//!
//! What is said of an order may be said in every answer about it, so that a word that was lost is made good by the next.
//! `age` says how many seconds ago the order was placed: one that is older than the visit was placed in an earlier one,
//! and says nothing of this.

use http::{HeaderMap, HeaderName};

use super::settings::CommandKind;

/// The header of commands; it never reaches the client.
pub const HEADER: HeaderName = HeaderName::from_static("x-tidegate-waiting-room");
/// Cloudflare's name for it, which knows `revoke` only.
pub const CLOUDFLARE: HeaderName = HeaderName::from_static("cf-waiting-room-command");
/// Longest hold or extension: a token that comes back in an address lives no longer (seconds).
pub const LONGEST_HOLD: u64 = 7_200;

/// A command with its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Ends the visit.
    Revoke,
    /// Makes it last at least so many seconds more.
    Extend(u64),
    /// Keeps it so many seconds for a payment.
    Hold(u64, Order),
    /// The visitor is done.
    Complete(Order),
    /// So many pieces are left: none for `sold_out`, some for `available`, 37 for `available=37`.
    Stock(Option<u64>),
}

/// What a command says of the order that it is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Order {
    /// Its name.
    pub name: Option<String>,
    /// Seconds since it was placed, rounded down.
    pub age: Option<u64>,
}

impl Order {
    fn read<'a>(parts: impl Iterator<Item = &'a str>) -> Self {
        let mut order = Self::default();
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            match name {
                "order" if (1..=LONGEST_ORDER).contains(&value.len()) => order.name = Some(value.to_owned()),
                "age" => order.age = value.parse().ok(),
                _ => (),
            }
        }
        order
    }
}

/// Longest order number.
const LONGEST_ORDER: usize = 128;

/// Reads one command; `None` when it is none.
#[must_use]
pub fn parse(text: &str) -> Option<Command> {
    let mut parts = text.split(';').map(str::trim);
    let first = parts.next()?;
    let (word, value) = match first.split_once('=') {
        Some((word, value)) => (word.trim_end(), value.trim_start().parse::<u64>().ok()),
        None => (first, None),
    };
    if word == "available" {
        return Some(Command::Stock(value));
    }
    let (_, kind) = CommandKind::ALL.into_iter().find(|(name, _)| *name == word)?;
    Some(match kind {
        CommandKind::Revoke => Command::Revoke,
        CommandKind::Complete => Command::Complete(Order::read(parts)),
        CommandKind::SoldOut => Command::Stock(Some(0)),
        CommandKind::Extend => Command::Extend(value?.min(LONGEST_HOLD)),
        CommandKind::Hold => Command::Hold(value?.min(LONGEST_HOLD), Order::read(parts)),
    })
}

impl Command {
    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> CommandKind {
        match self {
            Command::Revoke => CommandKind::Revoke,
            Command::Extend(_) => CommandKind::Extend,
            Command::Hold(..) => CommandKind::Hold,
            Command::Complete(_) => CommandKind::Complete,
            Command::Stock(_) => CommandKind::SoldOut,
        }
    }
}

/// The commands of a response.
pub(super) fn commands(headers: &HeaderMap, cloudflare: bool) -> Vec<Command> {
    let all = headers.get_all(HEADER).into_iter().chain(headers.get_all(CLOUDFLARE).into_iter().filter(|_| cloudflare));
    all.filter_map(|value| parse(value.to_str().ok()?)).collect()
}
