//! Writes a request down, answers 202, and lets it be carried out later at a pace that the upstream can bear.
//!
//! **Stage.** Request, beside `idempotency` (behind it where both stand): what limits and queues refuse is never written
//! down. The filter only decides that a request is to be deferred; when the rest of the chain has let it pass, the gateway
//! writes it onto the [`Shelf`], and from then on works through the [`core::Book`].
//!
//! **Method.** 202 means that the request is on the disk (RFC 9110 §15.3.3 asks for a place to look at, which `Location`
//! is). A client chooses with `Prefer: respond-async, wait=n` (RFC 7240), or the file does: always, or when too many are
//! under way. The line of an upstream has three classes that share by weight, in each a turn for every identity; a leaky
//! bucket for each of its channels paces what goes out and slows down at 429, 503 and slow answers. What surely was not carried out is sent again after
//! 1, 2 and 4 s, then thrice a minute apart, then parked for a person. What may have been carried out is never sent again
//! unless the file says that the upstream recognises keys. The same key is the same record; another request with it is
//! refused with 422.
//!
//! **State.** The book (about 450 bytes a record) and the shelf. A reload keeps both and applies new bounds and paces to
//! what waits. A restart reads the book from the shelf; what was being sent then is unknown. A filter that is taken out of
//! the file or gets another name or store keeps what it has promised: its book stays, is worked off with the settings it
//! had last, and answers whoever asks, until nothing of it is known any more; also behind a restart.
//!
//! **Units.** Requests, bytes of bodies; times in milliseconds since 1970, for they outlive the process.
//!
//! **Fails.** A shelf that cannot be written gives 503: without it nothing is promised. An outcome that cannot be written
//! is kept in memory and written as soon as that is possible.
//!
//! The answer goes through the response stage when it comes, and is kept with what filters change in it.
//!
//! **Wrong for.** What a client reads at once (GET); answers longer than `max_answer`; several gateways over one file;
//! requests without a key to upstreams where twice is worse than never: a 202 lost on its way is sent again by its client.

pub mod core;
mod counts;
mod deferral;
mod letter;
mod orphans;
mod over;
mod prefer;
pub mod reply;
mod rows;
mod settings;
mod shelf;
mod shelves;
mod state;
mod steps;
#[cfg(test)]
mod tests;
mod turn;
mod upkeep;
mod watchers;

use std::sync::Arc;

pub use deferral::{Deferral, Submitted};
pub use letter::{Afterwards, Letter};
pub use orphans::orphans;
pub use prefer::Prefer;
pub use rows::Known;
pub use settings::{Overload, RespondAsync, ShedFile, When};
pub use shelf::Shelf;
pub(crate) use shelves::Shelves;
pub use state::{Deferred, Terms, View, resolved};
pub use turn::Turn;

use crate::engine::{Decision, Filter, IdentityId, Reply, RequestContext, RequestHead, Stages};
use crate::idempotency::Anonymous;
use crate::idempotency::key::{self, Given, Principal};
use crate::idempotency::reply as keys;
use core::{Class, Rules};
use counts::Event;
use deferral::Ask;

/// The runtime half of `respond_async`.
struct Later {
    deferred: Arc<Deferred>,
    /// Where a key may be known; none for a shadow.
    shelves: Shelves,
    settings: RespondAsync,
    rules: Rules,
    terms: Arc<Terms>,
    /// The settings, for the file.
    written: Arc<str>,
    fair_by: Option<IdentityId>,
    shadow: bool,
}

/// A stable number for an identity: outlives the process, so it is no seeded hash.
fn number<const N: usize>(scope: &str, principal: &Principal<'_>) -> [u8; N] {
    let id = key::principal_id(scope, principal);
    *id.first_chunk().expect("invariant: N is at most 32")
}

/// The number that an identity's text has in the book.
pub(crate) fn party(scope: &str, text: &str) -> u64 {
    u64::from_be_bytes(number(scope, &Principal::Identity(text)))
}

impl Later {
    /// Whether a request that does not ask for it is deferred.
    fn overloaded(&self) -> bool {
        match self.settings.when {
            When::Always => true,
            When::Prefer => false,
            // Whoever comes while others wait would overtake them.
            When::Overload => {
                self.deferred.passing() >= self.settings.overload.max_in_flight || self.deferred.book.lock().depth() > 0
            }
        }
    }

    fn ask(&self, head: &RequestHead<'_>, given: Option<&[u8]>, cx: &RequestContext) -> Ask {
        let principal = |scope| key::principal(scope, cx).unwrap_or_else(|| key::address(cx));
        let (scope, scope_name) = (principal(self.terms.scope), &*self.terms.scope_name);
        let id = key::principal_id(scope_name, &scope);
        let route = cx.identity(IdentityId::ROUTE).and_then(|route| route.text.as_deref()).unwrap_or_default();
        let twin = given.map(|given| key::record_id(&id, route, head.method, given).0);
        let party = match self.fair_by {
            Some(fair_by) => {
                let name = self.settings.fair_by.as_deref().unwrap_or_default();
                u64::from_be_bytes(number(name, &principal(fair_by)))
            }
            None => u64::from_be_bytes(number(scope_name, &scope)),
        };
        let fingerprint = key::fingerprint(head, cx.body.as_deref()).0;
        Ask { twin, fingerprint, owner: self.terms.owner(self.terms.scope, cx), party, class: Class::of(cx.priority) }
    }

    /// Lets it through and counts it as under way.
    fn pass(&self, cx: &mut RequestContext) -> Decision {
        self.deferred.pass(cx, self.settings.when == When::Overload);
        Decision::Continue
    }

    fn refuse(&self, reply: Reply) -> Decision {
        Decision::Respond(Box::new(reply))
    }
}

impl Filter for Later {
    fn stages(&self) -> Stages {
        Stages::REQUEST
    }

    fn activate(&self) {
        if !self.shadow {
            self.deferred.retune(self.rules.clone(), self.terms.clone(), &self.written);
        }
    }

    fn on_request(&self, head: &RequestHead<'_>, cx: &mut RequestContext) -> Decision {
        if !self.settings.methods.iter().any(|method| method == head.method) {
            return Decision::Continue;
        }
        let prefer = Prefer::of(head);
        let defers = prefer.respond_async || self.overloaded();
        let given = match key::given(head) {
            Given::Key(given) => Some(given),
            Given::Nothing => None,
            Given::Malformed if defers => return self.refuse(keys::malformed()),
            Given::Malformed => return self.pass(cx),
        };
        if given.is_none() && !defers {
            return self.pass(cx);
        }
        if defers && given.is_none() && self.settings.required {
            return self.refuse(keys::missing());
        }
        if key::principal(self.terms.scope, cx).is_none() && self.settings.anonymous == Anonymous::Deny {
            return if defers { self.refuse(keys::anonymous()) } else { self.pass(cx) };
        }
        let ask = self.ask(head, given.as_deref(), cx);
        // Most requests that are not deferred have a key that no deferred one had; those are not looked up.
        let known = ask.twin.as_ref().is_some_and(|twin| self.shelves.may_know(twin));
        if !defers && !known {
            return self.pass(cx);
        }
        if self.shadow {
            self.deferred.counts.count(Event::Accepted);
            return Decision::Continue;
        }
        if defers
            && !known
            && let Err(refused) = self.deferred.room(ask.class, ask.party, cx.now)
        {
            // Cheap, before anybody reads a body. A preference is none where there is no room for it.
            return if self.overloaded() { self.refuse(self.deferred.refusal(refused)) } else { self.pass(cx) };
        }
        if cx.body.is_none() {
            return Decision::NeedBody { max: usize::try_from(self.settings.max_body.0).unwrap_or(usize::MAX) };
        }
        cx.deferral = Some(Box::new(Deferral {
            deferred: self.deferred.clone(),
            prefer,
            wait: prefer.wait.map(|wait| wait.min(self.settings.max_wait.0)),
            patience: self.settings.store_timeout.0,
            ask,
            shelves: self.shelves.clone(),
            ttl: self.settings.ttl.0,
            only_known: !defers,
            counts_passing: self.settings.when == When::Overload,
        }));
        Decision::Continue
    }
}
