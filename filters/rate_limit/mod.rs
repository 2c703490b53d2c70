//! Token buckets by user, by route and for the whole, taken all together or not at all.
//!
//! **Stage.** Request; before anything that waits, stores or reads a body.
//!
//! **Method.** GCRA, the generic cell rate algorithm (ITU-T I.371, made popular for HTTP by brandur's throttled and the
//! `governor` crate): a bucket is one number, the moment it is full again. A take moves that moment by `cost x interval`
//! and passes when it then lies at most `burst x interval` ahead. No timer refills anything, a refusal writes nothing, and
//! the wait is exact. Counting windows admit twice the limit around their edge (pingap's does in a key's first one), and
//! sketches refuse clients who did nothing. A request's buckets are locked together, in a fixed order, so a refusal by one
//! leaves the others untouched (`take.rs`). The arithmetic is ours and `governor` is its oracle in the property tests:
//! governor welds one limit and its own clock reading into each limiter, so it can neither decide several buckets as one,
//! nor take a limit from the snapshot at each call, nor measure what it remembers by a new one.
//!
//! **State.** Per policy and key one number of nanoseconds, in 32 bytes at 37 to 75 % fill: about 70 bytes a key. A
//! reload keeps it while the policy's name and key rule stay; after a change of rate or burst every bucket keeps the share
//! that is missing of it, so no debt is forgiven and none is invented. Another key rule starts empty. A key is forgotten
//! only once its bucket is full again, which nobody can notice; when there is no room and nothing to forget, new keys
//! share one bucket, so a flood of keys neither grows the memory nor frees anyone who is over a limit.
//!
//! **Units.** `rate` in units per time, `burst` and `cost` in units, waits in nanoseconds, headers in seconds rounded up.
//!
//! **Fails.** Nothing here can: the store is this process's memory. A request without the key is treated as
//! `missing_key` says, never as unlimited. A clock that goes back makes waits longer, never shorter.
//!
//! **Wrong for.** A limit over several gateways (each counts alone here); a bound on requests *at once* (use a queue);
//! a header anyone may invent as the only key (add one keyed by `client`); quotas of a month (use a ledger: memory ends
//! with the process).

mod gcra;
mod reply;
mod settings;
mod shard;
mod state;
mod table;
mod take;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use http::HeaderValue;
use smallvec::SmallVec;

pub use gcra::{LONGEST_FILL, Quota, Standing};
pub use settings::{HeaderKey, HeaderStyle, MissingKey, OnLimit, Override, Policy, PolicyKey, RateLimit, Scope};
pub use state::{BucketView, Buckets, KeyRule};
pub use take::{Claim, Counting, Refusal, Standings, take_all};

use crate::condition::Condition;
use crate::engine::{
    Decision, Filter, HeaderEdit, Identity, IdentityId, Key, KeyHasher, RequestContext, RequestHead, Stages,
};
use reply::{Fragment, Headers, Told};

/// One policy, ready to run.
struct Rule {
    name: Arc<str>,
    key: KeyRule,
    buckets: Arc<Buckets>,
    quotas: Box<[Quota]>,
    max_keys: usize,
    cost: u32,
    shared: bool,
    /// What is told of each limit; the policy's own first.
    lanes: Box<[Fragment]>,
    /// Overrides: the first that holds names the lane.
    conditions: Box<[(Condition, u8)]>,
}

/// The runtime half of `rate_limit`.
struct RateLimiter {
    rules: Box<[Rule]>,
    missing: MissingKey,
    counting: Counting,
    headers: Headers,
    /// `RateLimit-Policy` of a request to which no override applies.
    policy_value: Option<HeaderValue>,
    hasher: KeyHasher,
}

/// What a request is about to take, and by which of the rules.
#[derive(Default)]
struct Asked<'a> {
    rules: SmallVec<[&'a Rule; 4]>,
    claims: SmallVec<[Claim<'a>; 4]>,
}

/// Whose bucket.
enum Whose {
    Key(Key),
    Nobodys,
    Refused,
}

impl RateLimiter {
    fn whose(&self, rule: &Rule, head: &RequestHead<'_>, cx: &RequestContext) -> Whose {
        let found = match &rule.key {
            KeyRule::Identity { id, .. } => cx.identity(*id).map(|identity| identity.key),
            KeyRule::Header(name) => {
                let value = head.header(name).filter(|value| !value.is_empty());
                value.map(|value| KeyRule::header_key(&self.hasher, value))
            }
        };
        match (found, self.missing) {
            (Some(key), _) => Whose::Key(key),
            (None, MissingKey::Client) => Whose::Key(self.client(cx)),
            (None, MissingKey::Shared) => Whose::Key(KeyRule::shared_key(&self.hasher)),
            (None, MissingKey::Skip) => Whose::Nobodys,
            (None, MissingKey::Deny) => Whose::Refused,
        }
    }

    fn client(&self, cx: &RequestContext) -> Key {
        let known = cx.identity(IdentityId::CLIENT).map(|identity| identity.key);
        known.unwrap_or_else(|| Identity::new(&self.hasher, IdentityId::CLIENT, &cx.client.to_string()).key)
    }

    fn told<'a>(&self, asked: &Asked<'a>, standings: &[Standing]) -> SmallVec<[Told<'a>; 4]> {
        let all = asked.rules.iter().zip(&asked.claims).zip(standings);
        all.filter(|((rule, _), _)| !rule.shared)
            .map(|((rule, claim), standing)| (&rule.lanes[usize::from(claim.lane)], *standing))
            .collect()
    }

    /// The prepared value, where it says what is true of this request.
    fn ready(&self, asked: &Asked<'_>) -> Option<&HeaderValue> {
        let plain = asked.rules.len() == self.rules.len() && asked.claims.iter().all(|claim| claim.lane == 0);
        self.policy_value.as_ref().filter(|_| plain)
    }

    fn refuse(&self, asked: &Asked<'_>, refusal: Refusal, cx: &mut RequestContext) -> Decision {
        let (rule, claim) = (asked.rules[refusal.claim], &asked.claims[refusal.claim]);
        cx.part = Some(rule.name.clone());
        if rule.shared {
            return Decision::Respond(Box::new(reply::reduced_capacity(refusal.wait)));
        }
        let mut reply = Box::new(reply::quota_exceeded(refusal.wait));
        let told = [(&rule.lanes[usize::from(claim.lane)], refusal.standing)];
        self.headers.tell(&told, None, |name, value| reply.headers.push((name, value)));
        Decision::Respond(reply)
    }
}

impl Rule {
    fn lane(&self, head: &RequestHead<'_>, cx: &RequestContext) -> u8 {
        let mut holding = self.conditions.iter().filter(|(condition, _)| condition.holds(head, cx));
        holding.next().map_or(0, |(_, lane)| *lane)
    }
}

impl Filter for RateLimiter {
    fn stages(&self) -> Stages {
        Stages::REQUEST
    }

    fn activate(&self) {
        for rule in &self.rules {
            rule.buckets.retune(&rule.quotas, rule.max_keys);
        }
    }

    fn on_request(&self, head: &RequestHead<'_>, cx: &mut RequestContext) -> Decision {
        let mut asked = Asked::default();
        for rule in &self.rules {
            let key = match self.whose(rule, head, cx) {
                Whose::Key(key) => key,
                Whose::Nobodys => continue,
                Whose::Refused => {
                    cx.part = Some(rule.name.clone());
                    return Decision::Respond(Box::new(reply::key_missing()));
                }
            };
            let claim = Claim { buckets: &rule.buckets, key, cost: rule.cost, lane: rule.lane(head, cx) };
            asked.rules.push(rule);
            asked.claims.push(claim);
        }
        let standings = match take_all(&asked.claims, self.counting, cx.now) {
            Ok(standings) => standings,
            Err(refusal) => return self.refuse(&asked, refusal, cx),
        };
        if self.headers.any() {
            let told = self.told(&asked, &standings);
            if !told.is_empty() {
                let put = |name, value| cx.to_client.push(HeaderEdit::Set(name, value));
                self.headers.tell(&told, self.ready(&asked), put);
            }
        }
        Decision::Continue
    }
}
