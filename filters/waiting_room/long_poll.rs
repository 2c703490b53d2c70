//! Long polls: `GET status` with `Prefer: wait=20` is answered when there is news, not before and not much later.
//!
//! News is the visitor's turn, and what concerns everybody: nothing is left, nobody is let in, an operator's word. What
//! the client knows of the latter is in the entity tag of its last answer, which it sends as `If-None-Match`; so nothing
//! that happens between two polls is missed. The answer is always a whole document, since the place has moved meanwhile.
//!
//! **Cost.** One change wakes all who wait; nobody is woken by a tick. Each looks at their turn twice a second, which sets
//! their own bit and takes no lock, and so they count as present. So many may wait at once, few of them for one number, and
//! whoever is one too many is answered at once, like without the header.
//!
//! **Fails.** Who comes back sooner than asked waits at least until then, unless something has happened since their token
//! was made: a client in a loop costs no more than one that keeps to its time.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, header};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::document::Standing;
use super::gate::{Case, Gate, no_key};
use super::line::Look;
use super::public::News;
use super::room::Room;
use super::token::{Kind, Token};
use super::visitor::Held;
use crate::engine::{Decision, Reply, RequestContext, RequestHead, Resume, Verdict, Wait};
use crate::respond_async::Prefer;

/// How often somebody who waits looks whether it is their turn.
const LOOK: Duration = Duration::from_millis(500);
/// The gateway gives up so much after a wait should have ended.
const SPARE: Duration = Duration::from_secs(2);
const APPLIED: HeaderName = HeaderName::from_static("preference-applied");

impl Room {
    /// How many long polls wait.
    #[must_use]
    pub fn long_polls(&self) -> usize {
        self.public.waiting.taken()
    }
}

/// Shorter waits are looks, and may come too soon like these.
const SHORTEST: Duration = Duration::from_secs(1);

/// Somebody who waits for news.
struct Waiter {
    room: Arc<Room>,
    token: Token,
    secure: bool,
    /// The request's id.
    trace: [u8; 32],
    /// Room time when the request came.
    came: u64,
    /// What the client knows already.
    known: u64,
    news: watch::Receiver<News>,
    /// For how long.
    wait: Duration,
    ends: Instant,
}

/// Begins to wait; `None` where the request does not ask for it, or has to be answered at once.
pub(super) fn begin(room: &Arc<Room>, head: &RequestHead<'_>, cx: &RequestContext, life: Duration) -> Option<Decision> {
    let settings = room.settings();
    let longest = settings.long_polls?;
    let wait =
        Prefer::of(head).wait.filter(|wait| head.method == "GET" && *wait >= SHORTEST)?.min(longest.wait).min(life);
    let (gate, came) = (Gate { room: room.clone(), upstreams: Box::default() }, room.time(cx.now));
    if !settings.keys.can_sign(came / 1_000) {
        return None;
    }
    let case = Case { gate: &gate, settings: &settings, head, now: came, subject: 0, trace: cx.request_id };
    let Held::Token(token) = case.held() else { return None };
    if !matches!(token.kind, Kind::Ticket | Kind::Registration) {
        return None;
    }
    // News first, then the look: nothing is missed in between.
    let news = room.public.news.subscribe();
    let said = head.header_str("if-none-match").and_then(News::known);
    let known = said.unwrap_or_else(|| news.borrow().mark);
    let ends = Instant::now() + wait;
    let (secure, trace) = (head.secure, cx.request_id);
    let mut waiter = Waiter { room: room.clone(), token, secure, trace, came, known, news, wait, ends };
    if waiter.has_news() {
        return Some(Decision::Respond(Box::new(waiter.answer())));
    }
    let seat = room.seat(|public| &public.waiting, waiter.token.number, longest.max_waiting)?;
    let until = Box::pin(async move {
        waiter.wait().await;
        let reply = waiter.answer();
        drop(seat);
        Resume { verdict: Verdict::Respond(Box::new(reply)), permit: None }
    });
    let (max, late) = (wait + SPARE, Box::new(no_key()));
    Some(Decision::Wait(Box::new(Wait { reason: "waiting room", max, late, until, shadow: false })))
}

impl Waiter {
    async fn wait(&mut self) {
        while !self.has_news() {
            let left = self.ends.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            tokio::select! {
                changed = self.news.changed() => if changed.is_err() { return },
                () = sleep(left.min(LOOK)) => (),
            }
        }
    }

    fn now(&self) -> u64 {
        self.room.outlook_now().at.max(self.came)
    }

    /// Whether there is anything that the client does not know.
    fn has_news(&mut self) -> bool {
        let (now, token) = (self.now(), &self.token);
        let (news, made) = (*self.news.borrow_and_update(), u64::from(token.issued));
        let due = now >= token.may_look_at();
        let since = |moment: u64| due || moment / 1_000 >= made;
        let room = &self.room;
        if news.over || token.epoch != room.outlook_now().epoch || (news.mark != self.known && since(news.since)) {
            return true;
        }
        match room.look(now, token.number, u64::from_be_bytes(token.subject)) {
            Look::Wait(number) => number != token.number && token.kind == Kind::Registration,
            Look::Turn(_, until) => since(until.saturating_sub(room.settings().rules.claim_window)),
            Look::Inside(_) | Look::Moved(_) | Look::Gone => true,
        }
    }

    fn answer(&self) -> Reply {
        let (settings, gate) = (self.room.settings(), Gate { room: self.room.clone(), upstreams: Box::default() });
        let head = RequestHead { method: "GET", target: "/", path: "/", host: "", secure: self.secure, headers: &[] };
        let case =
            Case { gate: &gate, settings: &settings, head: &head, now: self.now(), subject: 0, trace: self.trace };
        let mut reply = if self.token.epoch != self.room.outlook_now().epoch {
            case.lacks(&Held::OtherEpoch)
        } else if case.is_out_of_the_way() {
            case.tell(http::StatusCode::OK, Standing::Open, None)
        } else {
            case.seen(case.look(&self.token), &self.token)
        };
        if let Some(applied) = Prefer::applied(false, Some(self.wait)) {
            reply.headers.push((APPLIED, applied));
        }
        reply.headers.push((header::VARY, http::HeaderValue::from_static("Prefer")));
        reply
    }
}
