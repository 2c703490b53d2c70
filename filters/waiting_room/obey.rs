//! What the backend says about a visit is carried out; and a buyer who left to pay comes back.
//!
//! Only answers of an upstream are heard: what clients send under these names never gets as far. A word about a visit needs
//! a pass that came with the request, or a person who is known by name, also where a rule lets the request go by. All may
//! be said again and again: a word that was lost, with a kill maybe, is made good by the next one.
//!
//! A re-entry token stands in an address, so it is good for little: for one visit, while it is held, and only in an
//! address that names its order. It becomes a cookie at once and leaves the address by a redirect.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, response};
use smallvec::SmallVec;

use super::command::{self, Command, Order};
use super::cookie;
use super::gate::{Case, Gate, Inside};
use super::room::Room;
use super::settings::Settings;
use super::token::{Kind, Token};
use crate::engine::{Decision, HeaderEdit, Reply, ReplyBody, RequestContext};

const REENTRY_HEADER: HeaderName = HeaderName::from_static("x-tidegate-reentry");
/// The parameter of an address that carries a re-entry token.
const REENTRY_QUERY: &str = "tgwr=";
/// Parts of an address that are looked at for an order.
const MOST_PARTS: usize = 16;

impl Gate {
    /// Carries out what an answer says, and takes it off.
    pub(super) fn hear(&self, response: &response::Parts, cx: &mut RequestContext) {
        let settings = self.room.settings();
        let theirs = settings.cloudflare && response.headers.contains_key(command::CLOUDFLARE);
        if !theirs && !response.headers.contains_key(command::HEADER) {
            return;
        }
        cx.to_client.push(HeaderEdit::Remove(command::HEADER));
        if settings.cloudflare {
            cx.to_client.push(HeaderEdit::Remove(command::CLOUDFLARE));
        }
        let commands = command::commands(&response.headers, settings.cloudflare);
        for command in commands.into_iter().filter(|command| settings.commands.contains(&command.kind())) {
            if let Command::Stock(left) = command {
                self.room.set_stock(left);
                // Who is refused since nothing is left keeps nothing from those who wait, if something comes back.
                if left != Some(0) || !response.status.is_client_error() {
                    continue;
                }
            }
            if let Some(number) = self.visit_of(&settings, cx) {
                self.obey(&command, &settings, number, cx);
            }
        }
    }

    /// The visit that an answer is about: that of the pass which came with the request, or of a person known by name.
    /// The latter is looked for only where there is something to say.
    fn visit_of(&self, settings: &Settings, cx: &RequestContext) -> Option<u64> {
        let by_pass = cx.recall::<Inside>().map(|inside| inside.number);
        // A pass may be of a visit that is over, and the person inside again.
        by_pass.filter(|number| self.room.visit_began(*number).is_some()).or_else(|| match self.subject(settings, cx) {
            0 => None,
            subject => self.room.number_by(subject),
        })
    }

    fn obey(&self, command: &Command, settings: &Settings, number: u64, cx: &mut RequestContext) {
        let now = self.room.time(cx.now);
        // One that was placed before this visit began says nothing of it.
        let earlier = |order: &Order| {
            let placed = order.age.map(|age| now.saturating_sub(age.saturating_mul(1_000)));
            placed.zip(self.room.visit_began(number)).is_some_and(|(placed, began)| placed < began)
        };
        match command {
            Command::Hold(_, order) | Command::Complete(order) if earlier(order) => (),
            Command::Revoke | Command::Complete(_) => {
                self.room.end(number);
                let secure = cx.recall::<Inside>().map(|inside| inside.secure);
                let gone = secure.and_then(|secure| cookie::set_cookie(settings, secure, "", 0));
                cx.to_client.extend(gone.map(|value| HeaderEdit::Add(header::SET_COOKIE, value)));
            }
            Command::Extend(seconds) => drop(self.room.extend(now, number, Duration::from_secs(*seconds))),
            Command::Hold(seconds, order) => {
                if self.room.hold(now, number, Duration::from_secs(*seconds)).is_none() {
                    return;
                }
                let subject = order.name.as_ref().map_or(0, |order| self.room.subject(order.as_bytes()));
                let token = self.token(Kind::Reentry, number, subject, now, now + seconds * 1_000);
                let value = token.seal(&settings.keys, now / 1_000).and_then(|text| HeaderValue::from_str(&text).ok());
                cx.to_client.extend(value.map(|value| HeaderEdit::Set(REENTRY_HEADER, value)));
            }
            Command::Stock(_) => self.room.settle_visit(number),
        }
    }
}

impl Room {
    /// What the backend answered when it was asked how much is left. Other commands are about visits, of which there is none.
    pub fn hear_stock(&self, headers: &HeaderMap) {
        for command in command::commands(headers, false) {
            if let Command::Stock(left) = command {
                self.set_stock(left);
            }
        }
    }
}

impl Case<'_, '_> {
    /// Somebody who is let by under a rule: what the backend says about the visit is heard all the same.
    pub(super) fn recognise(&self, cx: &mut RequestContext) {
        if self.settings.commands.is_empty() {
            return;
        }
        let (room, now) = (self.room(), self.now / 1_000);
        let passes = cookie::tokens(self.head, self.settings)
            .filter_map(|text| Token::open(text, room.tag(), &self.settings.keys, now).ok())
            .filter(|token| token.kind == Kind::Pass && token.epoch == room.outlook_now().epoch);
        if let Some(token) = passes.into_iter().find(|token| !room.is_ended(token.number)) {
            self.remember(token.number, cx);
        }
    }

    /// A buyer who comes back from paying, maybe in another browser: the token in the address becomes a cookie.
    pub(super) fn reenter(&self) -> Option<Decision> {
        let query = self.head.query().filter(|_| self.head.method == "GET")?;
        let text = query.split('&').find_map(|pair| pair.strip_prefix(REENTRY_QUERY))?;
        let token = Token::open(text.as_bytes(), self.room().tag(), &self.settings.keys, self.now / 1_000).ok()?;
        let ours = token.kind == Kind::Reentry && token.epoch == self.room().outlook_now().epoch;
        if !ours || !self.is_fresh(&token) || !self.names(u64::from_be_bytes(token.subject)) {
            return None;
        }
        let (issued, expires) = (u64::from(token.issued) * 1_000, u64::from(token.expires) * 1_000);
        let admission = self.room().come_back(self.now, token.number, issued, expires)?;
        let rest: Vec<&str> = query.split('&').filter(|pair| !pair.starts_with(REENTRY_QUERY)).collect();
        let path = self.head.target.split('?').next().unwrap_or("/");
        let target = if rest.is_empty() { path.to_owned() } else { format!("{path}?{}", rest.join("&")) };
        let body =
            ReplyBody::Bytes { content_type: HeaderValue::from_static("text/plain"), bytes: bytes::Bytes::new() };
        let mut reply = Reply { status: StatusCode::SEE_OTHER, retry_after: None, headers: SmallVec::new(), body };
        reply.headers.push((header::LOCATION, HeaderValue::from_str(&target).ok()?));
        reply.headers.push((header::CACHE_CONTROL, HeaderValue::from_static("private, no-store")));
        reply.headers.push((header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")));
        reply.headers.extend(self.pass(admission, 0).into_iter().flatten());
        Some(Decision::Respond(Box::new(reply)))
    }

    /// Whether the address names the order that hashes to this; 0 is no order in particular.
    fn names(&self, order: u64) -> bool {
        let values = self.head.query().into_iter().flat_map(|query| query.split('&'));
        let values = values.filter_map(|pair| pair.split_once('=').map(|(_, value)| value));
        let mut parts = self.head.path.split('/').chain(values).filter(|part| !part.is_empty()).take(MOST_PARTS);
        order == 0 || parts.any(|part| self.room().subject(part.as_bytes()) == order)
    }
}
