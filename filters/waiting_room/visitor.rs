//! What one visitor is told at the desk: where they stand, and what becomes of what they ask for.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use http::{HeaderValue, StatusCode, header};
use smallvec::{SmallVec, smallvec};

use super::cookie;
use super::desk::empty;
use super::document::Standing;
use super::events::{Events, Rhythm};
use super::gate::Case;
use super::line::{Admission, Claim, Entry, Look, Reason, Visitor};
use super::room::Room;
use super::rules::Method;
use super::token::{Kind, Token};
use crate::engine::{Problem, Reply, ReplyBody, RequestContext};

/// Told to those who listen in vain: look again after this.
const POLL_INSTEAD: Duration = Duration::from_secs(5);

/// A visitor's token, as far as it is good.
pub(super) enum Held {
    Token(Token),
    Nothing,
    /// Not of this room, or forged.
    Bad,
    /// Made before the room was reset.
    OtherEpoch,
    /// It says who somebody was.
    Expired(Token),
}

impl Case<'_, '_> {
    pub(super) fn held(&self) -> Held {
        let mut held = Held::Nothing;
        for text in cookie::tokens(self.head, self.settings) {
            let Ok(token) = Token::open(text, self.room().tag(), &self.settings.keys, self.now / 1_000) else {
                held = Held::Bad;
                continue;
            };
            let useful = matches!(token.kind, Kind::Pass | Kind::Ticket | Kind::Registration | Kind::Pre);
            if token.epoch != self.room().outlook_now().epoch {
                held = Held::OtherEpoch;
            } else if !useful {
                held = Held::Bad;
            } else if !self.is_fresh(&token) || (token.kind == Kind::Pass && self.room().is_ended(token.number)) {
                held = Held::Expired(token);
            } else {
                return Held::Token(token);
            }
        }
        held
    }

    pub(super) fn is_out_of_the_way(&self) -> bool {
        let limits = self.room().outlook_now().limits;
        limits.suspended || limits.method == Method::Passthrough
    }

    pub(super) fn status(&self) -> Reply {
        let token = match self.held() {
            Held::Token(token) => token,
            other => return self.lacks(&other),
        };
        if token.kind != Kind::Pass && self.is_out_of_the_way() {
            return self.tell(StatusCode::OK, Standing::Open, None);
        }
        match token.kind {
            Kind::Pass => {
                let standing = Standing::Admitted(token.number, u64::from(token.expires) * 1_000);
                self.tell(StatusCode::OK, standing, None)
            }
            Kind::Pre => self.tell(StatusCode::OK, Standing::Pre, None),
            _ if self.now < token.may_look_at() => self.too_soon(&token),
            _ => self.seen(self.look(&token), &token),
        }
    }

    fn too_soon(&self, token: &Token) -> Reply {
        self.room().counts.too_soon.fetch_add(1, Relaxed);
        let wait = Duration::from_millis(token.may_look_at() - self.now);
        let mut problem = Problem::new("poll-too-soon", "Look again later; your place is kept");
        problem.members.push(("pollAfterMs", wait.as_millis().to_string()));
        let body = ReplyBody::Problem(problem);
        let headers = smallvec![(header::CACHE_CONTROL, HeaderValue::from_static("private, no-store"))];
        Reply { status: StatusCode::TOO_MANY_REQUESTS, retry_after: Some(wait), headers, body }
    }

    pub(super) fn look(&self, token: &Token) -> Look {
        self.room().look(self.now, token.number, u64::from_be_bytes(token.subject))
    }

    /// What somebody in line is told who has looked.
    pub(super) fn seen(&self, look: Look, token: &Token) -> Reply {
        let subject = u64::from_be_bytes(token.subject);
        let kind = token.kind;
        let ticket = |number| Some((Kind::Ticket, number, subject));
        match look {
            Look::Inside(admission) => self.welcome(admission, subject),
            Look::Turn(number, until) => self.tell(StatusCode::OK, Standing::Ready(number, until), ticket(number)),
            Look::Wait(number) if kind == Kind::Registration && number == token.number => {
                self.tell(StatusCode::OK, Standing::Registered(number), Some((kind, number, subject)))
            }
            Look::Wait(number) | Look::Moved(number) => {
                self.tell(StatusCode::OK, Standing::Waiting(number), ticket(number))
            }
            Look::Gone => self.tell(StatusCode::OK, Standing::Expired, None),
        }
    }

    pub(super) fn join(&self, cx: &RequestContext) -> Reply {
        let mut steady = self.subject != 0;
        match self.held() {
            Held::Token(token) if token.kind == Kind::Pre => steady = true,
            Held::Token(token) if token.kind == Kind::Pass => {
                let standing = Standing::Admitted(token.number, u64::from(token.expires) * 1_000);
                return self.tell(StatusCode::OK, standing, None);
            }
            // Who has a place keeps it, and has shown to keep cookies.
            Held::Token(token) => match self.look(&token) {
                Look::Gone => steady = true,
                look => return self.seen(look, &token),
            },
            Held::Expired(_) => steady = true,
            Held::Nothing | Held::Bad | Held::OtherEpoch => (),
        }
        if self.is_out_of_the_way() {
            return self.tell(StatusCode::OK, Standing::Open, None);
        }
        if !self.is_eligible(cx) {
            self.room().counts.rejected[Reason::Ineligible.index()].fetch_add(1, Relaxed);
            return self.tell(StatusCode::FORBIDDEN, Standing::Rejected(Reason::Ineligible), None);
        }
        let subject = self.subject;
        match self.room().enter(self.now, Visitor { subject, steady }) {
            Entry::Pass(admission) => self.welcome(admission, subject),
            Entry::Place(number) => {
                self.tell(StatusCode::OK, Standing::Waiting(number), Some((Kind::Ticket, number, subject)))
            }
            Entry::Registered(number) => {
                self.tell(StatusCode::OK, Standing::Registered(number), Some((Kind::Registration, number, subject)))
            }
            Entry::Pre | Entry::Busy => self.tell(StatusCode::ACCEPTED, Standing::Pre, Some((Kind::Pre, 0, 0))),
            Entry::Rejected(reason) => self.tell(StatusCode::SERVICE_UNAVAILABLE, Standing::Rejected(reason), None),
        }
    }

    pub(super) fn claim(&self) -> Reply {
        let token = match self.held() {
            Held::Token(token) if token.kind != Kind::Pre => token,
            Held::Token(_) => return self.lacks(&Held::Nothing),
            other => return self.lacks(&other),
        };
        let subject = if self.subject == 0 { u64::from_be_bytes(token.subject) } else { self.subject };
        if token.kind == Kind::Pass {
            let (issued, expires) = (u64::from(token.issued) * 1_000, u64::from(token.expires) * 1_000);
            return match self.room().visit(self.now, token.number, subject, issued, expires) {
                Some(admission) => self.welcome(admission, subject),
                None => self.lacks(&Held::Expired(token)),
            };
        }
        if self.is_out_of_the_way() {
            return self.tell(StatusCode::OK, Standing::Open, None);
        }
        match self.room().claim(self.now, token.number, subject) {
            Claim::Pass(admission) => self.welcome(admission, subject),
            Claim::Wait(number) if token.kind == Kind::Registration && number == token.number => {
                self.tell(StatusCode::ACCEPTED, Standing::Registered(number), Some((token.kind, number, subject)))
            }
            Claim::Wait(number) | Claim::Moved(number) => {
                self.tell(StatusCode::ACCEPTED, Standing::Waiting(number), Some((Kind::Ticket, number, subject)))
            }
            Claim::Gone => self.lacks(&Held::Expired(token)),
        }
    }

    pub(super) fn leave(&self) -> Reply {
        match self.held() {
            Held::Token(token) | Held::Expired(token) if token.kind != Kind::Pre => {
                self.room().leave(self.now, token.number);
                self.room().counts.left.fetch_add(1, Relaxed);
            }
            Held::Token(_) | Held::Expired(_) | Held::OtherEpoch => (),
            other => return self.lacks(&other),
        }
        let mut reply = self.tell(StatusCode::OK, Standing::Left, None);
        let gone = cookie::set_cookie(self.settings, self.head.secure, "", 0);
        reply.headers.extend(gone.map(|value| (header::SET_COOKIE, value)));
        reply
    }

    pub(super) fn events(&self, room: &Arc<Room>, life: Duration) -> Reply {
        let token = match self.held() {
            Held::Token(token) if matches!(token.kind, Kind::Ticket | Kind::Registration) => token,
            Held::Token(_) => return self.lacks(&Held::Nothing),
            other => return self.lacks(&other),
        };
        let near =
            |events: &super::settings::Events| room.ahead(&room.outlook_now(), token.number) < events.below_position;
        let seat =
            self.settings.events.filter(near).and_then(|events| room.listen(token.number, events.max_connections));
        let Some(seat) = seat else {
            let mut problem = Problem::new("poll-instead", "Events are for those near the front; look at the status");
            problem.members.push(("pollAfterMs", POLL_INSTEAD.as_millis().to_string()));
            let (status, body) = (StatusCode::SERVICE_UNAVAILABLE, ReplyBody::Problem(problem));
            return Reply { status, retry_after: Some(POLL_INSTEAD), headers: SmallVec::new(), body };
        };
        let who = (token.number, u64::from_be_bytes(token.subject));
        let stream = Events::new(room, seat, who, Rhythm::lasting(life), self.head.header_str("last-event-id"));
        let content_type = HeaderValue::from_static("text/event-stream");
        let body = ReplyBody::Stream { content_type, pieces: Box::new(stream) };
        let headers = smallvec![(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
        Reply { status: StatusCode::OK, retry_after: None, headers, body }
    }

    /// Somebody is in: their pass, and until when it is good.
    fn welcome(&self, admission: Admission, subject: u64) -> Reply {
        let mut reply = self.tell(StatusCode::OK, Standing::Admitted(admission.number, admission.until), None);
        reply.headers.extend(self.pass(admission, subject).into_iter().flatten());
        reply
    }

    /// How a visitor stands, with the token they are to bring next time.
    pub(super) fn tell(&self, status: StatusCode, standing: Standing, token: Option<(Kind, u64, u64)>) -> Reply {
        let document = self.document(standing);
        let mut reply = empty(status);
        reply.body = ReplyBody::Whole(document.to_line().into());
        reply.headers.push((header::CONTENT_TYPE, HeaderValue::from_static("application/json")));
        if let Some(token) = token {
            reply.headers.extend(self.ticket(token, document.poll_after_ms).into_iter().flatten());
        }
        if let Ok(tag) = HeaderValue::try_from(&document.common.tag) {
            reply.headers.push((header::ETAG, tag));
        }
        let again = matches!(standing, Standing::Rejected(reason) if reason != Reason::Ineligible);
        if again || status == StatusCode::ACCEPTED {
            reply.retry_after = Some(Duration::from_millis(document.poll_after_ms));
        }
        reply
    }

    /// Why a token does not do.
    pub(super) fn lacks(&self, held: &Held) -> Reply {
        let (status, code, title) = match held {
            Held::Token(_) | Held::Nothing => {
                (StatusCode::BAD_REQUEST, "no-ticket", "There is no place without a ticket")
            }
            Held::Bad => (StatusCode::FORBIDDEN, "bad-ticket", "This is no ticket of this room"),
            Held::OtherEpoch => (StatusCode::CONFLICT, "room-was-reset", "The room has begun anew since"),
            Held::Expired(_) => (StatusCode::GONE, "ticket-expired", "The ticket is good no more"),
        };
        let join = serde_json::Value::from(format!("{}/join", self.settings.base)).to_string();
        let mut problem = Problem::new(code, title);
        problem.members.push(("joinUrl", join));
        let headers = smallvec![(header::CACHE_CONTROL, HeaderValue::from_static("private, no-store"))];
        Reply { status, retry_after: None, headers, body: ReplyBody::Problem(problem) }
    }
}
