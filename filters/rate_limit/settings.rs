//! What a file says about limits, what is refused in it, and what it becomes.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::Deserialize;

use super::gcra::{LONGEST_FILL, Quota};
use super::reply::{Fragment, Headers};
use super::state::{Buckets, KeyRule};
use super::{Counting, RateLimiter, Rule};
use crate::condition::Condition;
use crate::engine::{
    BuildContext, BuildError, CheckContext, Filter, FilterSpec, IdentityId, Mode, Problems, Rate, Step, TimeSpan,
};

/// Policies of one filter at most: each is a lock that is held while the others are taken.
const MOST_POLICIES: usize = 8;
/// Overrides of one filter at most: they are tried one by one.
const MOST_OVERRIDES: usize = 64;
/// Longest name of a policy, which stands in a header of every response.
const LONGEST_NAME: usize = 64;

/// Settings of `rate_limit`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RateLimit {
    /// The limits; a request passes when all of them have room, and only then is any of them charged.
    pub policies: Vec<Policy>,
    /// Where counts are kept: in this process.
    pub scope: Scope,
    /// What happens to a request without the key.
    pub missing_key: MissingKey,
    /// Keys a policy remembers at most; beyond, new keys share one bucket until an old one has refilled.
    pub max_keys: usize,
    /// What happens over the limit.
    pub on_limit: OnLimit,
    /// Other limits for some requests; the first that matches counts.
    pub overrides: Vec<Override>,
    /// Which headers tell a client about its own limits. Limits that all clients share are never told.
    pub headers: HeaderStyle,
    /// Whether a refused request costs as much as one that passed, so that hammering keeps a client out.
    pub count_rejected: bool,
}

impl Default for RateLimit {
    /// A hundred requests in ten minutes for a user, a thousand a second for a route, ten thousand for the whole.
    fn default() -> Self {
        let rate = |count, seconds| Rate {
            count: NonZeroU32::new(count).unwrap_or(NonZeroU32::MIN),
            per: std::time::Duration::from_secs(seconds),
        };
        let policy = |name: &str, key: &str, rate| Policy {
            name: name.to_owned(),
            key: PolicyKey::Identity(key.to_owned()),
            rate,
            burst: None,
            cost: 1,
            window: None,
        };
        Self {
            policies: vec![
                policy("user", "user", rate(100, 600)),
                policy("api", "route", rate(1_000, 1)),
                policy("system", "global", rate(10_000, 1)),
            ],
            scope: Scope::Local,
            missing_key: MissingKey::Client,
            max_keys: 1_000_000,
            on_limit: OnLimit::Reject,
            overrides: Vec::new(),
            headers: HeaderStyle::Draft10,
            count_rejected: false,
        }
    }
}

/// One limit.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Its name, in headers, metrics and the log.
    pub name: String,
    /// Whose bucket a request draws on.
    pub key: PolicyKey,
    /// How fast units come back, as in `100/10m`.
    pub rate: Rate,
    /// Units available at once; absent: the count written in `rate`.
    #[serde(default)]
    pub burst: Option<u32>,
    /// Units a request takes.
    #[serde(default = "one")]
    pub cost: u32,
    /// The window told in `RateLimit-Policy`; absent: the time written in `rate`. Decides nothing.
    #[serde(default)]
    pub window: Option<TimeSpan>,
}

fn one() -> u32 {
    1
}

/// Whose bucket a request draws on: the name of an identity, or a header.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "the name of an identity, or `{header: <name>}`")]
pub enum PolicyKey {
    /// `user`, `client`, `route`, `global`, or any other identity of the file.
    Identity(String),
    /// A request header. Nobody verifies it: a client may send another in each request.
    Header(HeaderKey),
}

/// A key taken from a header.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HeaderKey {
    /// The header's name.
    pub header: String,
}

/// Where counts are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// In this process.
    Local,
}

/// What happens to a request without the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MissingKey {
    /// It draws on the bucket of its address.
    Client,
    /// It is refused with 400.
    Deny,
    /// It draws on a bucket that all such requests share.
    Shared,
    /// This policy does not apply to it.
    Skip,
}

/// What happens over the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnLimit {
    /// The request is refused.
    Reject,
}

/// Which headers tell a client about its limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HeaderStyle {
    /// `RateLimit` and `RateLimit-Policy`.
    Draft10,
    /// `X-RateLimit-Limit`, `-Remaining`, `-Reset`.
    Legacy,
    /// Both kinds.
    Both,
    /// None.
    None,
}

/// Another limit for some requests.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Override {
    /// CEL over `identity`, `request`, `client.ip` and `route`; absent values make it false.
    #[serde(rename = "match")]
    pub matches: String,
    /// Which policy it changes; may be left out where there is only one.
    #[serde(default)]
    pub policy: Option<String>,
    /// Instead of the policy's rate.
    pub rate: Rate,
    /// Units available at once; absent: the count written in `rate`.
    #[serde(default)]
    pub burst: Option<u32>,
}

impl RateLimit {
    fn check_policy(&self, at: usize, cx: &CheckContext<'_>, problems: &mut Problems) {
        let policy = &self.policies[at];
        let path = |field: &str| format!("policies[{at}].{field}");
        let good = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
        if policy.name.is_empty() || policy.name.len() > LONGEST_NAME || !policy.name.chars().all(good) {
            let message =
                format!("`{}` is no name: write 1 to {LONGEST_NAME} letters, digits, `_`, `-`, `.`", policy.name);
            problems.add(path("name"), message);
        }
        if self.policies[..at].iter().any(|other| other.name == policy.name) {
            let message = format!("two policies are named `{}`", policy.name);
            problems.add_with_help(path("name"), message, "a name is a policy's memory; give each its own");
        }
        match &policy.key {
            PolicyKey::Identity(name) if !cx.identities.contains(name) => {
                let message = format!("no identity is named `{name}`");
                let help = format!("there are: {}; or write `{{header: <name>}}`", cx.identities.join(", "));
                problems.add_with_help(path("key"), message, help);
            }
            PolicyKey::Header(key) if HeaderName::try_from(&key.header).is_err() => {
                problems.add(path("key.header"), format!("`{}` is no header name", key.header));
            }
            PolicyKey::Identity(_) | PolicyKey::Header(_) => (),
        }
        check_numbers(policy.rate, policy.burst, policy.cost, &path, problems);
        if policy.cost == 0 {
            problems.add_with_help(path("cost"), "a cost of 0 limits nothing", "leave the policy out, or `mode: off`");
        }
        if policy.window.is_some_and(|window| window.0.as_secs() == 0) {
            problems.add(path("window"), "a window is told in whole seconds; write at least `1s`");
        }
    }

    fn check_override(&self, at: usize, cx: &CheckContext<'_>, problems: &mut Problems) {
        let other = &self.overrides[at];
        let path = |field: &str| format!("overrides[{at}].{field}");
        let known = |name: &str| cx.identities.iter().any(|id| id == name).then_some(IdentityId::CLIENT);
        if let Err(message) = Condition::compile(&other.matches, known) {
            problems.add(path("match"), message);
        }
        let names = || self.policies.iter().map(|policy| policy.name.as_str()).collect::<Vec<_>>().join(", ");
        match &other.policy {
            None if self.policies.len() > 1 => {
                let message = "there are several policies, and an override changes one";
                problems.add_with_help(path("policy"), message, format!("name one of: {}", names()));
            }
            Some(name) if !self.policies.iter().any(|policy| policy.name == *name) => {
                let message = format!("no policy is named `{name}`");
                problems.add_with_help(path("policy"), message, format!("there are: {}", names()));
            }
            None | Some(_) => (),
        }
        let cost = self.policies.iter().find(|policy| other.changes(policy)).map_or(1, |policy| policy.cost);
        check_numbers(other.rate, other.burst, cost, &path, problems);
    }

    fn rule(&self, policy: &Policy, cx: &mut BuildContext<'_>) -> Result<Rule, BuildError> {
        let key = match &policy.key {
            PolicyKey::Identity(name) => KeyRule::Identity { name: name.clone(), id: cx.identity(name)? },
            PolicyKey::Header(key) => KeyRule::Header(key.header.to_ascii_lowercase()),
        };
        let failed = |why: String| BuildError(format!("policy `{}`: {why}", policy.name));
        let mut lanes = vec![(policy.rate, policy.burst)];
        let mut conditions = Vec::new();
        for other in self.overrides.iter().filter(|other| other.changes(policy)) {
            let condition = Condition::compile(&other.matches, |name| cx.identities.get(name).copied());
            conditions.push((condition.map_err(failed)?, lanes.len() as u8));
            lanes.push((other.rate, other.burst));
        }
        let quota = |(rate, burst): &(Rate, Option<u32>)| Quota::new(*rate, burst.and_then(NonZeroU32::new));
        let quotas: Option<Vec<Quota>> = lanes.iter().map(quota).collect();
        let quotas = quotas.ok_or_else(|| failed("its bucket takes longer than a year to fill".to_owned()))?;
        let texts = lanes.iter().map(|(rate, _)| Fragment::new(&policy.name, *rate, policy.window.map(|w| w.0)));
        let name: Arc<str> = policy.name.as_str().into();
        let (filter, max_keys) = (cx.name.clone(), self.max_keys);
        let make = || Buckets::new(filter, name.clone(), key.clone(), quotas.clone(), max_keys);
        let buckets = cx.state("rate_limit", Some(&policy.name), &key, make);
        let shared = key.shared();
        let (lanes, conditions) = (texts.collect(), conditions.into());
        Ok(Rule { name, key, buckets, quotas: quotas.into(), max_keys, cost: policy.cost, shared, lanes, conditions })
    }
}

impl Override {
    fn changes(&self, policy: &Policy) -> bool {
        self.policy.as_ref().is_none_or(|name| *name == policy.name)
    }
}

fn check_numbers(rate: Rate, burst: Option<u32>, cost: u32, path: &dyn Fn(&str) -> String, problems: &mut Problems) {
    if burst == Some(0) {
        problems.add_with_help(path("burst"), "a burst of 0 lets nothing pass", "leave it out, or write at least 1");
        return;
    }
    let units = burst.unwrap_or(rate.count.get());
    if cost > units {
        let message = format!("a request costs {cost} and the bucket holds {units}: none would ever pass");
        problems.add(path(if burst.is_some() { "burst" } else { "rate" }), message);
    }
    if Quota::new(rate, NonZeroU32::new(units)).is_none() {
        let days = LONGEST_FILL.as_secs() / 86_400;
        problems.add(path("rate"), format!("a bucket of {units} at {rate} takes longer than {days} days to fill"));
    }
}

impl FilterSpec for RateLimit {
    fn step(&self) -> Step {
        Step::Limit
    }

    fn check(&self, cx: &CheckContext<'_>, problems: &mut Problems) {
        if self.policies.is_empty() {
            problems.add("policies", "no policies: the filter would limit nothing");
        }
        if self.policies.len() > MOST_POLICIES {
            let help = "spread them over two filters";
            problems.add_with_help("policies", format!("more than {MOST_POLICIES} policies"), help);
        }
        if self.overrides.len() > MOST_OVERRIDES {
            problems.add("overrides", format!("more than {MOST_OVERRIDES} overrides"));
        }
        if self.max_keys == 0 {
            problems.add_with_help("max_keys", "with room for no key all would share one bucket", "write at least 1");
        }
        (0..self.policies.len()).for_each(|at| self.check_policy(at, cx, problems));
        (0..self.overrides.len()).for_each(|at| self.check_override(at, cx, problems));
    }

    fn identities(&self) -> Vec<String> {
        let keys = self.policies.iter().filter_map(|policy| match &policy.key {
            PolicyKey::Identity(name) => Some(name.clone()),
            PolicyKey::Header(_) => None,
        });
        let named = self.overrides.iter().flat_map(|other| Condition::identities(&other.matches));
        let all: BTreeSet<String> = keys.chain(named).collect();
        all.into_iter().collect()
    }

    fn build(&self, cx: &mut BuildContext<'_>) -> Result<Arc<dyn Filter>, BuildError> {
        if self.policies.is_empty() || self.policies.len() > MOST_POLICIES || self.overrides.len() > MOST_OVERRIDES {
            return Err(BuildError(format!("1 to {MOST_POLICIES} policies and at most {MOST_OVERRIDES} overrides")));
        }
        let rules: Result<Box<[Rule]>, _> = self.policies.iter().map(|policy| self.rule(policy, cx)).collect();
        let rules = rules?;
        let counting = Counting { shadow: cx.mode == Mode::Shadow, rejected: self.count_rejected };
        let headers = Headers::new(self.headers);
        let own = || rules.iter().filter(|rule| !rule.shared).map(|rule| rule.lanes[0].policy.as_str());
        let policy_value = HeaderValue::try_from(own().collect::<Vec<_>>().join(", ")).ok().filter(|v| !v.is_empty());
        let (missing, hasher) = (self.missing_key, cx.hasher.clone());
        Ok(Arc::new(RateLimiter { rules, missing, counting, headers, policy_value, hasher }))
    }
}
