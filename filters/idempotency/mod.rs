//! A request with an `Idempotency-Key` is carried out once; repeats get the first one's answer.
//!
//! **Stage.** Request, behind limits and queues: what they refuse is never stored. Attempt, to know whether anything was
//! sent. Capture, to have the answer stored before its end goes to the client. Finish, for requests that had none.
//!
//! **Method.** The header is that of draft-ietf-httpapi-idempotency-key-header-07. A record belongs to identity, route,
//! method and key; it knows the request by a SHA-256 over method, path, query, content type and body. The claim is one
//! atomic step, on disk (with a store that has one) before the request goes on. Two at once: the second waits for the first
//! one's answer, then 409. The same key for another request: 422. An answer of the upstream that settles the matter (2xx,
//! 3xx, most 4xx) is given again byte for byte. An answer that says that nothing was done (401, 403, 408, 409, 425, 429),
//! and every failure before anything was sent, frees the key. All else (5xx, a timeout, a cut connection, a crash of the
//! gateway) leaves the outcome unknown, and what is unknown is never carried out again unless the file says that the
//! upstream recognises keys itself. `Idempotency-Fence` tells the upstream which claim a request is of: it only grows.
//!
//! **State.** Flights in this process, records in the store. A reload keeps both; another store begins empty.
//!
//! **Units.** Times as written; the store counts in milliseconds since 1970.
//!
//! **Fails.** `on_store_error`: `deny` (503) unless the file says `allow`. A store that fails behind an answer does not hold
//! the answer back for ever; the record then counts as running, and as unknown when its lease is over.
//!
//! **Wrong for.** Streams and WebSockets; several gateways over one file; a promise to the end: between the upstream's commit
//! and our record there is a window that only the upstream's own unique index closes.

mod counts;
pub(crate) mod key;
mod lead;
mod live;
pub(crate) mod owner;
pub(crate) mod reply;
mod settings;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::sync::watch;
use tokio::time::Instant;

pub use owner::Anonymous;
pub use reply::mismatch;
pub use settings::{Idempotency, OnStoreError};

use crate::engine::{
    Attempt, Captured, Decision, Filter, HeaderEdit, HeldBack, IdentityId, Outcome, Reply, RequestContext, RequestHead,
    Resume, Stages, Verdict, Wait,
};
use crate::store::{Answer, Claimed, End, StoreError, Stored};
use counts::Result as Counted;
use key::Given;
use lead::{Lead, Times};
use live::{Entered, Landing, Live};

const FENCE: HeaderName = HeaderName::from_static("idempotency-fence");
/// A wait for the store ends by itself; this much later the gateway would end it.
const GRACE: Duration = Duration::from_secs(1);
/// Largest head of an answer that is kept.
const LARGEST_HEAD: usize = 16 << 10;

/// The runtime half of `idempotency`.
struct Once {
    live: Arc<Live>,
    settings: Idempotency,
    scope: IdentityId,
    scope_name: Arc<str>,
    times: Times,
    shadow: bool,
}

/// A request's memory that it leads.
struct Leads(Arc<Lead>);

/// What a request with a key is about.
struct Asked {
    key: Vec<u8>,
    principal: [u8; 32],
    id: crate::store::RecordId,
    fingerprint: crate::store::Fingerprint,
}

impl Once {
    /// What the request asks for; `Err` for what is decided already.
    fn read(&self, head: &RequestHead<'_>, cx: &RequestContext) -> Result<Asked, Decision> {
        if !self.settings.methods.iter().any(|method| method == head.method) {
            return Err(Decision::Continue);
        }
        let key = match key::given(head) {
            Given::Key(key) => key,
            Given::Nothing if self.settings.required => return Err(self.refuse(Counted::Refused, reply::missing())),
            Given::Nothing => return Err(Decision::Continue),
            Given::Malformed => return Err(self.refuse(Counted::Refused, reply::malformed())),
        };
        let principal = match (key::principal(self.scope, cx), self.settings.anonymous) {
            (Some(principal), _) => principal,
            (None, Anonymous::Client) => key::address(cx),
            (None, Anonymous::Deny) => return Err(self.refuse(Counted::Refused, reply::anonymous())),
        };
        let principal = key::principal_id(&self.scope_name, &principal);
        if cx.body.is_none() && !self.shadow {
            return Err(Decision::NeedBody { max: usize::try_from(self.settings.max_body.0).unwrap_or(usize::MAX) });
        }
        let route = cx.identity(IdentityId::ROUTE).and_then(|route| route.text.as_deref()).unwrap_or_default();
        let id = key::record_id(&principal, route, head.method, &key);
        let fingerprint = key::fingerprint(head, cx.body.as_deref());
        Ok(Asked { key, principal, id, fingerprint })
    }

    fn refuse(&self, counted: Counted, reply: Reply) -> Decision {
        self.live.counts.count(counted);
        Decision::Respond(Box::new(reply))
    }

    fn location(&self, key: &[u8]) -> Option<HeaderValue> {
        settings::location(self.settings.location.as_deref()?, key)
    }

    /// Waits for the first one's answer.
    fn follow(&self, twin: watch::Receiver<Option<Landing>>, key: &[u8]) -> Decision {
        let coalesce = self.settings.coalesce.0;
        if coalesce.is_zero() || self.shadow {
            return self.refuse(Counted::Conflict, reply::in_flight());
        }
        let (live, location) = (self.live.clone(), self.location(key));
        let until = async move {
            let landing = tokio::time::timeout(coalesce, landed(twin)).await.unwrap_or(Landing::Nothing);
            let counted = if matches!(landing, Landing::Done(_)) { Counted::Coalesced } else { counted(&landing) };
            live.counts.count(counted);
            Resume { verdict: Verdict::Respond(Box::new(told(&landing, location))), permit: None }
        };
        Decision::Wait(Box::new(Wait {
            reason: "twin",
            max: coalesce + GRACE,
            late: Box::new(reply::in_flight()),
            until: Box::pin(until),
            shadow: false,
        }))
    }

    fn lead(&self, lead: &Arc<Lead>, asked: &Asked, cx: &mut RequestContext) -> Decision {
        let location = self.location(&asked.key);
        match lead.claim(asked.fingerprint, self.settings.backend_idempotent) {
            Answer::Now(answer) => match judge(&self.live, lead, answer, self.settings.on_store_error, location) {
                Verdict::Continue => Decision::Continue,
                Verdict::Respond(reply) => Decision::Respond(reply),
            },
            Answer::Later(answer) => {
                let (live, lead) = (self.live.clone(), lead.clone());
                let (patience, policy) = (self.settings.store_timeout.0, self.settings.on_store_error);
                cx.part = None;
                let until = async move {
                    let began = Instant::now();
                    let late = |_| Err(StoreError::Failed("the store did not answer in time".to_owned()));
                    let answer = tokio::time::timeout(patience, answer).await.unwrap_or_else(late);
                    live.counts.asked(began.elapsed());
                    Resume { verdict: judge(&live, &lead, answer, policy, location), permit: None }
                };
                Decision::Wait(Box::new(Wait {
                    reason: "store",
                    max: patience + GRACE,
                    late: Box::new(reply::store_unavailable()),
                    until: Box::pin(until),
                    shadow: false,
                }))
            }
        }
    }

    /// What an answer of the upstream means.
    fn end(&self, answer: &Captured) -> End {
        match answer.status.as_u16() {
            401 | 403 | 408 | 409 | 425 | 429 => End::Released,
            200..=499 => End::Done(Arc::new(stored(answer))),
            _ => End::Unknown,
        }
    }
}

/// What is kept of an answer.
fn stored(answer: &Captured) -> Stored {
    let headers = kept(&answer.headers);
    let body = answer.body.clone().filter(|_| headers.is_some());
    Stored { status: answer.status, headers: headers.unwrap_or_default(), body }
}

/// The headers worth repeating; `None` when they are too many.
fn kept(headers: &HeaderMap) -> Option<Vec<(HeaderName, HeaderValue)>> {
    let kept = headers.iter().filter(|(name, _)| reply::is_kept(name));
    let kept: Vec<_> = kept.map(|(name, value)| (name.clone(), value.clone())).collect();
    let size: usize = kept.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    (size <= LARGEST_HEAD).then_some(kept)
}

/// What the store's answer means for the request that asked.
fn judge(
    live: &Live,
    lead: &Lead,
    answer: Result<Claimed, StoreError>,
    policy: OnStoreError,
    location: Option<HeaderValue>,
) -> Verdict {
    match (answer, policy) {
        (Ok(claimed), _) => match lead.claimed(&claimed) {
            None => {
                live.counts.count(Counted::New);
                Verdict::Continue
            }
            Some(landing) => {
                live.counts.count(counted(&landing));
                Verdict::Respond(Box::new(told(&landing, location)))
            }
        },
        (Err(error), policy) => {
            lead.give_up();
            live.counts.count(Counted::StoreError);
            match policy {
                // Anybody can invent keys until a store is full; that must not take away everybody's protection.
                OnStoreError::Allow if !matches!(error, StoreError::Full) => Verdict::Continue,
                OnStoreError::Allow | OnStoreError::Deny => Verdict::Respond(Box::new(reply::store_unavailable())),
            }
        }
    }
}

async fn landed(mut twin: watch::Receiver<Option<Landing>>) -> Landing {
    match twin.wait_for(Option::is_some).await {
        Ok(landing) => landing.clone().unwrap_or(Landing::Nothing),
        Err(_) => Landing::Nothing,
    }
}

fn counted(landing: &Landing) -> Counted {
    match landing {
        Landing::Done(_) => Counted::Replay,
        Landing::Unknown => Counted::Unknown,
        Landing::Nothing => Counted::Conflict,
        Landing::Mismatch => Counted::Mismatch,
    }
}

fn told(landing: &Landing, location: Option<HeaderValue>) -> Reply {
    match landing {
        Landing::Done(stored) => reply::replay(stored, location),
        Landing::Unknown => reply::unknown(location),
        Landing::Nothing => reply::in_flight(),
        Landing::Mismatch => reply::mismatch(),
    }
}

impl Filter for Once {
    fn stages(&self) -> Stages {
        Stages::REQUEST.and(Stages::ATTEMPT).and(Stages::CAPTURE).and(Stages::FINISH)
    }

    fn on_request(&self, head: &RequestHead<'_>, cx: &mut RequestContext) -> Decision {
        let asked = match self.read(head, cx) {
            Ok(asked) => asked,
            Err(decision) => {
                // A fence that a client made up is none.
                cx.to_upstream.push(HeaderEdit::Remove(FENCE));
                return decision;
            }
        };
        match self.live.enter(asked.id, asked.fingerprint, asked.principal, self.settings.max_in_flight) {
            Entered::Twin(twin) => self.follow(twin, &asked.key),
            Entered::Crowd => self.refuse(Counted::Conflict, reply::in_flight()),
            Entered::Mismatch => self.refuse(Counted::Mismatch, reply::mismatch()),
            Entered::TooMany => self.refuse(Counted::Refused, reply::too_many()),
            Entered::Leads(flight) => {
                let live = self.live.clone();
                let lead = Arc::new(Lead::new(live, flight, asked.id, asked.principal, cx.now, self.times));
                cx.remember(Leads(lead.clone()));
                cx.to_upstream.push(HeaderEdit::Remove(FENCE));
                self.lead(&lead, &asked, cx)
            }
        }
    }

    fn on_attempt(&self, _: &mut Attempt, cx: &mut RequestContext) -> Verdict {
        if let Some(Leads(lead)) = cx.recall::<Leads>()
            && let Some(fence) = lead.sends()
        {
            cx.to_upstream.push(HeaderEdit::Set(FENCE, HeaderValue::from(fence)));
            let room = if self.shadow { 0 } else { self.settings.max_answer.0 };
            let room = usize::try_from(room).unwrap_or(usize::MAX);
            cx.capture = Some(cx.capture.map_or(room, |other| other.max(room)));
        }
        Verdict::Continue
    }

    fn on_captured(&self, answer: &Captured, cx: &mut RequestContext) -> Option<HeldBack> {
        let Leads(lead) = cx.recall::<Leads>()?;
        let mut end = self.end(answer);
        // Another filter may have asked for more.
        if let End::Done(stored) = &mut end
            && stored.body.as_ref().is_some_and(|body| body.len() as u64 > self.settings.max_answer.0)
        {
            Arc::make_mut(stored).body = None;
        }
        lead.answered(end, cx.now)
    }

    fn on_finish(&self, outcome: &Outcome, cx: &mut RequestContext) {
        if let Some(Leads(lead)) = cx.recall::<Leads>() {
            lead.finish(outcome.known);
        }
    }
}
