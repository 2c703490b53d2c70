//! The gate on a route: a valid pass goes on, everybody else is told where they stand.
//!
//! **Stage.** Request, among the waits; response, where the backend may give commands.
//!
//! **Cost.** A valid pass costs one HMAC and two atomic loads; no lock, no look-up. Passes that are half over, short, or
//! from before a restart are looked up once and replaced. A number is given to those only who bring a token back or are
//! known by name, so a client without cookies never takes one. A request that is refused is not kept: its sender sends it
//! again with the pass.
//!
//! **Never queued.** What a rule lets pass (payment callbacks), and CORS preflights, to which browsers add no cookie. HEAD,
//! OPTIONS, prefetches and requests for parts of a page are told to wait without taking a number.
//!
//! **Fails.** Without a key to sign with, nobody new is admitted: 503.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode, header, response};
use smallvec::SmallVec;

use super::bypass::Why;
use super::cookie::{self, TICKET_HEADER};
use super::document::{self, Document, Standing};
use super::line::{Admission, Claim, Entry, Reason, State, Visitor};
use super::room::{self, Room};
use super::rules::Method;
use super::settings::{Rendered, Settings};
use super::token::{Kind, Token};
use crate::channels::UpstreamFacts;
use crate::engine::{Decision, Filter, HeaderEdit, Problem, Reply, ReplyBody, RequestContext, RequestHead, Stages};

/// What `Sec-Fetch-Dest` says of a request for a part of a page.
const BESIDE: [&str; 10] =
    ["image", "script", "style", "font", "audio", "video", "track", "manifest", "serviceworker", "worker"];
/// How long a token lasts that only has to be brought back (seconds).
const PRE_LIFE: u64 = 600;

/// The runtime half of `waiting_room`.
pub(super) struct Gate {
    pub(super) room: Arc<Room>,
    /// The upstreams of the routes that it stands in.
    pub(super) upstreams: Box<[Arc<UpstreamFacts>]>,
}

/// Who passed, for the response stage.
#[derive(Clone, Copy)]
pub(super) struct Inside {
    pub(super) number: u64,
    pub(super) secure: bool,
}

/// What is decided about one request.
pub(super) struct Case<'a, 'h> {
    pub(super) gate: &'a Gate,
    pub(super) settings: &'a Settings,
    pub(super) head: &'a RequestHead<'h>,
    /// Room time in milliseconds.
    pub(super) now: u64,
    pub(super) subject: u64,
    /// The request's id.
    pub(super) trace: [u8; 32],
}

impl Filter for Gate {
    fn stages(&self) -> Stages {
        Stages::REQUEST.and(Stages::RESPONSE)
    }

    fn activate(&self) {
        self.room.watch(&self.upstreams);
    }

    fn on_request(&self, head: &RequestHead<'_>, cx: &mut RequestContext) -> Decision {
        let settings = self.room.settings();
        let now = self.room.time(cx.now);
        let trace = cx.request_id;
        if let Some(decision) = (Case { gate: self, settings: &settings, head, now, subject: 0, trace }).reenter() {
            return decision;
        }
        if let Some(why) = self.is_open_to(&settings, head, cx) {
            self.room.bypassed.count(why);
            Case { gate: self, settings: &settings, head, now, subject: 0, trace }.recognise(cx);
            return Decision::Continue;
        }
        let case = Case { gate: self, settings: &settings, head, now, subject: self.subject(&settings, cx), trace };
        case.decide(cx)
    }

    fn keep(&self, cx: &RequestContext) -> Option<Vec<u8>> {
        cx.recall::<Inside>().map(|inside| [&inside.number.to_le_bytes()[..], &[u8::from(inside.secure)]].concat())
    }

    fn recollect(&self, kept: &[u8], cx: &mut RequestContext) {
        if let Some((number, secure)) = kept.split_first_chunk() {
            cx.remember(Inside { number: u64::from_le_bytes(*number), secure: secure == [1] });
        }
    }

    fn on_response(&self, response: &response::Parts, cx: &mut RequestContext) {
        self.hear(response, cx);
    }
}

impl Gate {
    /// Who a visitor is, as the room remembers people; 0 when nobody is known.
    pub(super) fn subject(&self, settings: &Settings, cx: &RequestContext) -> u64 {
        let identity = settings.identity.iter().find_map(|id| cx.identity(*id)?.text.as_deref());
        identity.map_or(0, |text| self.room.subject(text.as_bytes()))
    }

    fn is_open_to(&self, settings: &Settings, head: &RequestHead<'_>, cx: &RequestContext) -> Option<Why> {
        let limits = self.room.outlook_now().limits;
        if limits.suspended {
            return Some(Why::Suspended);
        }
        if limits.method == Method::Passthrough {
            return Some(Why::Passthrough);
        }
        if head.method == "OPTIONS" && head.header("access-control-request-method").is_some() {
            return Some(Why::Preflight);
        }
        let folded = settings.fold_paths.then(|| head.path.to_ascii_lowercase());
        let head = folded_head(folded.as_deref(), head);
        settings.bypass.iter().position(|rule| rule.condition.holds(&head, cx)).map(Why::Rule)
    }

    pub(super) fn token(&self, kind: Kind, number: u64, subject: u64, now: u64, until: u64) -> Token {
        let seconds = |millis: u64| u32::try_from(millis / 1_000).unwrap_or(u32::MAX);
        Token {
            kind,
            flags: 0,
            room: self.room.tag(),
            epoch: self.room.outlook_now().epoch,
            number,
            issued: seconds(now),
            expires: seconds(until),
            lane: 0,
            node: 0,
            session: if number == 0 { self.room.fresh_session() } else { self.room.session(number) },
            subject: subject.to_be_bytes(),
        }
    }
}

/// The head as rules see it, where capitals make no difference.
fn folded_head<'a>(folded: Option<&'a str>, head: &'a RequestHead<'a>) -> RequestHead<'a> {
    RequestHead { path: folded.unwrap_or(head.path), ..*head }
}

impl Case<'_, '_> {
    pub(super) fn room(&self) -> &Room {
        &self.gate.room
    }

    fn decide(&self, cx: &mut RequestContext) -> Decision {
        let mut steady = self.subject != 0;
        for text in cookie::tokens(self.head, self.settings) {
            let Ok(token) = Token::open(text, self.room().tag(), &self.settings.keys, self.now / 1_000) else {
                continue;
            };
            if token.epoch != self.room().outlook_now().epoch {
                continue;
            }
            let subject = if self.subject == 0 { u64::from_be_bytes(token.subject) } else { self.subject };
            match token.kind {
                Kind::Pass => {
                    if let Some(decision) = self.inside(&token, subject, cx) {
                        return decision;
                    }
                    steady = true;
                }
                Kind::Ticket | Kind::Registration if self.is_fresh(&token) => {
                    return self.in_line(&token, subject, cx);
                }
                Kind::Pre if self.is_fresh(&token) => steady = true,
                Kind::Ticket | Kind::Registration | Kind::Pre | Kind::Provisional | Kind::Reentry => (),
            }
        }
        self.newcomer(steady, cx)
    }

    pub(super) fn is_fresh(&self, token: &Token) -> bool {
        u64::from(token.expires) * 1_000 > self.now
    }

    /// Somebody with a pass. `None` when the visit is over.
    fn inside(&self, token: &Token, subject: u64, cx: &mut RequestContext) -> Option<Decision> {
        let (issued, expires) = (u64::from(token.issued) * 1_000, u64::from(token.expires) * 1_000);
        let limits = self.room().outlook_now().limits;
        let plenty = if limits.renewal { limits.session / 2 } else { 0 };
        let plain = token.flags & Token::SHORT == 0 && issued > self.room().began();
        if plain && self.now + plenty < expires && !self.room().is_ended(token.number) {
            self.remember(token.number, cx);
            return Some(Decision::Continue);
        }
        let admission = self.room().visit(self.now, token.number, subject, issued, expires)?;
        if admission.until / 1_000 != u64::from(token.expires) || !plain {
            self.hand_out(admission, subject, cx);
        }
        self.remember(token.number, cx);
        Some(Decision::Continue)
    }

    fn in_line(&self, token: &Token, subject: u64, cx: &mut RequestContext) -> Decision {
        if self.takes_nothing() {
            return self.wait(Standing::Waiting(token.number), None);
        }
        let claim = if token.kind == Kind::Registration {
            Some(self.room().claim(self.now, token.number, subject))
        } else {
            self.room().poll(self.now, token.number, subject)
        };
        match claim {
            Some(Claim::Pass(admission)) => self.admit(admission, subject, cx),
            Some(Claim::Gone) => self.newcomer(true, cx),
            Some(Claim::Moved(number)) => self.wait(Standing::Waiting(number), Some((Kind::Ticket, number, subject))),
            Some(Claim::Wait(number)) if number == token.number && token.kind == Kind::Registration => {
                self.wait(Standing::Registered(number), Some((Kind::Registration, number, subject)))
            }
            Some(Claim::Wait(number)) => self.wait(Standing::Waiting(number), Some((Kind::Ticket, number, subject))),
            None => self.wait(Standing::Waiting(token.number), Some((Kind::Ticket, token.number, subject))),
        }
    }

    fn newcomer(&self, steady: bool, cx: &mut RequestContext) -> Decision {
        if self.takes_nothing() {
            return self.wait(Standing::Pre, None);
        }
        if !self.is_eligible(cx) {
            self.room().counts.rejected[Reason::Ineligible.index()].fetch_add(1, Relaxed);
            return self.wait(Standing::Rejected(Reason::Ineligible), None);
        }
        match self.room().enter(self.now, Visitor { subject: self.subject, steady }) {
            Entry::Pass(admission) => self.admit(admission, self.subject, cx),
            Entry::Place(number) => self.wait(Standing::Waiting(number), Some((Kind::Ticket, number, self.subject))),
            Entry::Registered(number) => {
                self.wait(Standing::Registered(number), Some((Kind::Registration, number, self.subject)))
            }
            Entry::Pre | Entry::Busy => self.wait(Standing::Pre, Some((Kind::Pre, 0, 0))),
            Entry::Rejected(reason) => self.wait(Standing::Rejected(reason), None),
        }
    }

    /// Whether this visitor may have a place at all.
    pub(super) fn is_eligible(&self, cx: &RequestContext) -> bool {
        let folded = self.settings.fold_paths.then(|| self.head.path.to_ascii_lowercase());
        let head = folded_head(folded.as_deref(), self.head);
        self.settings.eligible.as_ref().is_none_or(|condition| condition.holds(&head, cx))
    }

    /// Requests that neither take a number nor a place: what a browser asks for on its own, beside the page that it shows.
    fn takes_nothing(&self) -> bool {
        let purpose = self.head.header("sec-purpose").or_else(|| self.head.header("purpose"));
        let beside = self.head.header_str("sec-fetch-dest").is_some_and(|dest| BESIDE.contains(&dest));
        matches!(self.head.method, "HEAD" | "OPTIONS")
            || matches!(self.head.path, "/favicon.ico" | "/robots.txt")
            || beside
            || purpose.is_some_and(|value| value.starts_with(b"prefetch"))
    }

    pub(super) fn remember(&self, number: u64, cx: &mut RequestContext) {
        if !self.settings.commands.is_empty() {
            cx.remember(Inside { number, secure: self.head.secure });
        }
    }

    fn admit(&self, admission: Admission, subject: u64, cx: &mut RequestContext) -> Decision {
        if !self.settings.keys.can_sign(self.now / 1_000) {
            return Decision::Respond(Box::new(no_key()));
        }
        self.hand_out(admission, subject, cx);
        self.remember(admission.number, cx);
        Decision::Continue
    }

    fn hand_out(&self, admission: Admission, subject: u64, cx: &mut RequestContext) {
        for (name, value) in self.pass(admission, subject).into_iter().flatten() {
            cx.to_client.push(HeaderEdit::Add(name, value));
        }
    }

    pub(super) fn pass(&self, admission: Admission, subject: u64) -> [Option<(HeaderName, HeaderValue)>; 3] {
        let mut token = self.gate.token(Kind::Pass, admission.number, subject, self.now, admission.until);
        token.flags = if admission.short { Token::SHORT } else { 0 };
        // The cookie outlives the pass: an ended pass still proves that its bearer keeps cookies.
        self.carry(&token, self.settings.rules.ticket_life() / 1_000)
    }

    /// The headers that carry a token, for browsers and for programs.
    pub(super) fn carry(&self, token: &Token, life: u64) -> [Option<(HeaderName, HeaderValue)>; 3] {
        let Some(text) = token.seal(&self.settings.keys, self.now / 1_000) else { return [None, None, None] };
        let cookie = cookie::set_cookie(self.settings, self.head.secure, &text, life);
        let expose = HeaderValue::from_static("X-Tidegate-Ticket");
        [
            cookie.map(|value| (header::SET_COOKIE, value)),
            HeaderValue::from_str(&text).ok().map(|value| (TICKET_HEADER, value)),
            Some((header::ACCESS_CONTROL_EXPOSE_HEADERS, expose)),
        ]
    }

    /// From 0 to 1, another for each visitor and look. Who has a number touches nothing for it that is shared.
    pub(super) fn spread(&self, standing: Standing) -> f64 {
        standing.number().map_or_else(|| self.room().spread(), |number| room::spread(number.wrapping_add(self.now)))
    }

    pub(super) fn document(&self, standing: Standing) -> Document {
        let trace_id = std::str::from_utf8(&self.trace).ok().map(str::to_owned);
        Document { trace_id, ..document::status(self.room(), standing, self.spread(standing)) }
    }

    /// The answer to somebody who waits, with the token they are to bring back.
    fn wait(&self, standing: Standing, token: Option<(Kind, u64, u64)>) -> Decision {
        if !self.settings.keys.can_sign(self.now / 1_000) {
            return Decision::Respond(Box::new(no_key()));
        }
        let document = self.document(standing);
        let person = self.settings.page.as_ref().filter(|_| self.is_person());
        let mut reply = match person {
            Some(page) => {
                let Rendered { headers, bytes } = page.render(self.head, &document);
                Reply { status: StatusCode::OK, retry_after: None, headers, body: ReplyBody::Whole(bytes) }
            }
            None => self.problem(standing, &document),
        };
        let ineligible = standing == Standing::Rejected(Reason::Ineligible);
        if ineligible {
            reply.status = StatusCode::FORBIDDEN;
        } else if !matches!(self.head.method, "GET" | "HEAD" | "OPTIONS") {
            reply.status = StatusCode::TOO_MANY_REQUESTS;
        } else if let Some(configured) = self.settings.status {
            reply.status = configured;
        }
        reply.headers.push((header::CACHE_CONTROL, HeaderValue::from_static("private, no-store")));
        reply
            .headers
            .push((header::VARY, HeaderValue::from_static("Accept, Accept-Encoding, Accept-Language, Cookie")));
        reply.headers.push((HeaderName::from_static("x-robots-tag"), HeaderValue::from_static("noindex")));
        if let Some(token) = token {
            reply.headers.extend(self.ticket(token, document.poll_after_ms).into_iter().flatten());
        }
        reply.retry_after = Some(Duration::from_millis(document.poll_after_ms)).filter(|_| !ineligible);
        Decision::Respond(Box::new(reply))
    }

    /// The headers that carry a token of this kind, number and subject to somebody who was asked to look again after
    /// `poll_after` milliseconds.
    pub(super) fn ticket(
        &self,
        (kind, number, subject): (Kind, u64, u64),
        poll_after: u64,
    ) -> [Option<(HeaderName, HeaderValue)>; 3] {
        let life = if kind == Kind::Pre { PRE_LIFE } else { self.settings.rules.ticket_life() / 1_000 };
        let mut token = self.gate.token(kind, number, subject, self.now, self.now + life * 1_000);
        token.flags = if kind == Kind::Pre { 0 } else { Token::pause(poll_after) };
        self.carry(&token, life)
    }

    fn problem(&self, standing: Standing, document: &Document) -> Reply {
        let title = match (standing, self.room().outlook_now().state) {
            (Standing::Rejected(Reason::Ineligible), _) => "This is not open to everybody",
            (Standing::Rejected(_), State::SoldOut) => "Nothing is left",
            (Standing::Rejected(_), _) => "There is no place in line",
            _ => "Please wait for your turn",
        };
        let mut problem = Problem::new("waiting-room", title);
        if self.settings.json {
            problem.members.extend(document.members());
        }
        let body = ReplyBody::Problem(problem);
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Reply { status, retry_after: None, headers: SmallVec::new(), body }
    }

    fn is_person(&self) -> bool {
        let accept = self.head.header_str("accept").unwrap_or("");
        let page = accept.find("text/html");
        self.head.method == "GET" && page.is_some_and(|page| accept.find("json").is_none_or(|json| page < json))
    }
}

pub(super) fn no_key() -> Reply {
    let wait = Duration::from_secs(5);
    let title = "The waiting room cannot sign";
    Reply::problem(StatusCode::SERVICE_UNAVAILABLE, "temporary-reduced-capacity", title).retry_after(wait)
}
