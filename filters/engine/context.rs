//! What one request carries through its chain.

use std::any::Any;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use smallvec::SmallVec;

use super::{ChannelId, Identity, IdentityId, Nanos, Permit, UpstreamId};
use crate::channels::{Considered, PaymentFacts};
use crate::respond_async::Deferral;

/// How important a request is, from the route. The order is the order of importance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Exports, crawlers.
    Bulk,
    /// Queries.
    #[default]
    Normal,
    /// Creating orders and payments.
    High,
    /// Payment callbacks, captures.
    Critical,
}

impl Priority {
    /// The word used in files and headers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Priority::Bulk => "bulk",
            Priority::Normal => "normal",
            Priority::High => "high",
            Priority::Critical => "critical",
        }
    }
}

/// A change to a header on its way through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderEdit {
    /// Replaces all headers of that name.
    Set(HeaderName, HeaderValue),
    /// Adds one more header of that name.
    Add(HeaderName, HeaderValue),
    /// Removes all headers of that name.
    Remove(HeaderName),
}

/// Who decided about a request, for the access log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decider {
    /// The filter's name.
    pub filter: Arc<str>,
    /// The part of it that decided (a policy of a limit), if it has parts.
    pub part: Option<Arc<str>>,
}

/// What one request carries: the clock, its verified identities, header edits, notes for the log, and what it holds.
pub struct RequestContext {
    /// Set by the gateway before each stage; the only clock a filter has.
    pub now: Nanos,
    /// Reads the clock in the middle of a stage; set for the few requests whose filters are timed, only for metrics.
    pub stopwatch: Option<fn() -> Nanos>,
    /// Wall time since 1970, of the same moment as `now`; for opening hours only. Zero where nobody set it.
    pub wall: Duration,
    /// The client's address, after trusted proxies were taken off.
    pub client: IpAddr,
    /// The request's id, as in `X-Request-Id` and in the trace: 32 hexadecimal digits. Zeros where nobody set it.
    pub request_id: [u8; 32],
    /// Importance, from the route.
    pub priority: Priority,
    /// The body, once a filter asked for it.
    pub body: Option<Bytes>,
    /// The upstream of its route.
    pub upstream: UpstreamId,
    /// The channel in use, once one was chosen.
    pub channel: Option<ChannelId>,
    /// What is known about a payment, if this is one.
    pub payment: PaymentFacts,
    /// Whether the choice of a channel shall be explained in `considered`. Off: explaining costs.
    pub explain: bool,
    /// Why each channel was or was not chosen at the latest choice; filled when `explain` is on.
    pub considered: Vec<Considered>,
    /// Edits to the request head on its way to the upstream, in order.
    pub to_upstream: Vec<HeaderEdit>,
    /// Edits to the response head on its way to the client, in order.
    pub to_client: Vec<HeaderEdit>,
    /// Bytes of the upstream's answer that a filter wants to see whole, before its end goes to the client; `None` when
    /// none does. See [`super::Filter::on_captured`].
    pub capture: Option<usize>,
    /// A filter wants it answered now and carried out later: done when the chain has let it pass.
    pub deferral: Option<Box<Deferral>>,
    /// Who stopped the request, if anyone did.
    pub decider: Option<Decider>,
    /// The part of a filter that is deciding; read by the chain when the filter stops the request.
    pub part: Option<Arc<str>>,
    identities: SmallVec<[(IdentityId, Identity); 4]>,
    notes: Vec<(&'static str, u64)>,
    permits: SmallVec<[Permit; 1]>,
    memos: Vec<(u8, Box<dyn Any + Send + Sync>)>,
    tokens: SmallVec<[(u8, u64); 1]>,
    pub(super) slot: u8,
    pub(super) cursor: u8,
}

impl RequestContext {
    /// A context without identities.
    #[must_use]
    pub fn new(now: Nanos, client: IpAddr) -> Self {
        Self {
            now,
            stopwatch: None,
            wall: Duration::ZERO,
            client,
            request_id: [b'0'; 32],
            priority: Priority::default(),
            body: None,
            upstream: UpstreamId::default(),
            channel: None,
            payment: PaymentFacts::default(),
            explain: false,
            considered: Vec::new(),
            to_upstream: Vec::new(),
            to_client: Vec::new(),
            capture: None,
            deferral: None,
            decider: None,
            part: None,
            identities: SmallVec::new(),
            notes: Vec::new(),
            permits: SmallVec::new(),
            memos: Vec::new(),
            tokens: SmallVec::new(),
            slot: 0,
            cursor: 0,
        }
    }

    /// The same request without what it holds and what filters remember of it: for answering while a task that outlives
    /// the request has the rest.
    #[must_use]
    pub fn without_memory(&self) -> Self {
        Self {
            request_id: self.request_id,
            priority: self.priority,
            channel: self.channel,
            to_client: self.to_client.clone(),
            decider: self.decider.clone(),
            identities: self.identities.clone(),
            notes: self.notes.clone(),
            slot: self.slot,
            cursor: self.cursor,
            ..Self::new(self.now, self.client)
        }
    }

    /// Sets a verified identity. Only the gateway calls this, before the chain runs.
    pub fn set_identity(&mut self, id: IdentityId, identity: Identity) {
        match self.identities.iter_mut().find(|(known, _)| *known == id) {
            Some((_, known)) => *known = identity,
            None => self.identities.push((id, identity)),
        }
    }

    /// The verified identity of that kind; `None` when the request has none.
    #[must_use]
    pub fn identity(&self, id: IdentityId) -> Option<&Identity> {
        self.identities.iter().find(|(known, _)| *known == id).map(|(_, identity)| identity)
    }

    /// Keeps `permit` until the request is over. Any number may be held.
    pub fn hold(&mut self, permit: Permit) {
        self.permits.push(permit);
    }

    /// Gives everything back now.
    pub fn release_all(&mut self) {
        self.permits.clear();
    }

    /// How many permits are held.
    #[must_use]
    pub fn held(&self) -> usize {
        self.permits.len()
    }

    /// A fact for the access log.
    pub fn note(&mut self, name: &'static str, value: u64) {
        self.notes.push((name, value));
    }

    /// All notes so far.
    #[must_use]
    pub fn notes(&self) -> &[(&'static str, u64)] {
        &self.notes
    }

    /// The running filter's own memory of this request (allocates; most filters need none).
    pub fn remember<T: Any + Send + Sync>(&mut self, value: T) {
        let slot = self.slot;
        self.memos.retain(|(at, memo)| *at != slot || !memo.is::<T>());
        self.memos.push((slot, Box::new(value)));
    }

    /// What the running filter remembered of this request.
    #[must_use]
    pub fn recall<T: Any>(&self) -> Option<&T> {
        self.memos.iter().filter(|(at, _)| *at == self.slot).find_map(|(_, memo)| memo.downcast_ref())
    }

    /// One number the running filter keeps of this request: a memory that costs no allocation.
    pub fn set_token(&mut self, token: u64) {
        match self.tokens.iter_mut().find(|(at, _)| *at == self.slot) {
            Some((_, kept)) => *kept = token,
            None => self.tokens.push((self.slot, token)),
        }
    }

    /// The number the running filter keeps; `None` when it kept none or took it.
    #[must_use]
    pub fn token(&self) -> Option<u64> {
        self.tokens.iter().find(|(at, _)| *at == self.slot).map(|(_, token)| *token)
    }

    /// Takes the running filter's number away.
    pub fn take_token(&mut self) -> Option<u64> {
        let at = self.tokens.iter().position(|(at, _)| *at == self.slot)?;
        Some(self.tokens.swap_remove(at).1)
    }

    /// Notes why a channel was or was not chosen, if anybody wants to know. The first word about a channel stands.
    pub fn consider(&mut self, considered: impl FnOnce() -> Considered) {
        if self.explain {
            let considered = considered();
            if !self.considered.iter().any(|known| known.channel == considered.channel) {
                self.considered.push(considered);
            }
        }
    }

    pub(super) fn marks(&self) -> Marks {
        Marks { up: self.to_upstream.len(), down: self.to_client.len(), permits: self.permits.len() }
    }

    /// Undoes what a shadowed filter did since `marks` were taken: it may count, it may not change anything.
    pub(super) fn undo(&mut self, marks: &Marks) {
        self.to_upstream.truncate(marks.up);
        self.to_client.truncate(marks.down);
        self.permits.truncate(marks.permits);
    }
}

pub(super) struct Marks {
    up: usize,
    down: usize,
    permits: usize,
}
