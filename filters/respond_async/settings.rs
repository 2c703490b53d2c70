//! What a file says about deferring, what is refused in it, and what it becomes.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::core::{Retries, Rules, Shed};
use super::shelves::Shelves;
use super::state::{Deferred, Terms};
use super::{Later, party};
use crate::engine::{
    BuildContext, BuildError, ByteSize, CheckContext, Filter, FilterSpec, IdentityId, Mode, Problems, Rate, Step,
    TimeSpan,
};
use crate::idempotency::Anonymous;
use crate::idempotency::owner;
use crate::rate_limit::Quota;

/// Largest body that is kept: what the gateway can hold and send again.
const LARGEST_BODY: u64 = 64 << 10;
/// Largest answer that a file may ask to be kept.
const LARGEST_ANSWER: u64 = 4 << 20;
/// Most records a file may ask for: about 5 GB of memory.
const MOST_RECORDS: usize = 10_000_000;
/// The kind's name.
pub(super) const KIND: &str = "respond_async";
const DAY: Duration = Duration::from_secs(86_400);

/// Settings of `respond_async`.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RespondAsync {
    /// The store requests are kept in; a name under `stores`, of type `sqlite`. Required.
    pub store: Option<String>,
    /// What is deferred: `prefer` (who asks for it with `Prefer: respond-async`), `overload` (those, and all while too many
    /// are under way) or `always`. Default: `prefer`.
    pub when: When,
    /// What too many are, for `when: overload`.
    pub overload: Overload,
    /// Whether a request without an `Idempotency-Key` is refused (default false: it is deferred, and its repeat is another).
    pub required: bool,
    /// Methods it applies to (default POST and PATCH).
    pub methods: Vec<String>,
    /// Whose requests are kept apart: `user`, `merchant`, `client` or any other identity of the file. Only who has sent a
    /// request may look at it. Default: `user` where the file defines it, else `client`.
    pub scope: Option<String>,
    /// What happens to a request without that identity (default `client`: it belongs to its address).
    pub anonymous: Anonymous,
    /// An identity whose members take turns. Default: `scope`.
    pub fair_by: Option<String>,
    /// Turns in a row for members of `fair_by` that have more than one, by name (1 to 1000).
    pub weights: BTreeMap<String, u32>,
    /// The longest wait for an answer that a client may ask for with `Prefer: wait=n` (default 30s).
    pub max_wait: TimeSpan,
    /// Largest request body (default 64KiB, which is also the most).
    pub max_body: ByteSize,
    /// Largest answer that is kept (default 1MiB, at most 4MiB). Of a larger one status and headers are kept: its client is
    /// told that it was carried out, and where to look if the answer says so. Answers of payment channels: 64KiB.
    pub max_answer: ByteSize,
    /// Requests that are not over, at most (default 100000; each takes about 450 bytes of memory).
    pub max_records: usize,
    /// Bytes of their bodies on the disk, at most (default 1GiB).
    pub max_bytes: ByteSize,
    /// Requests of one identity of `fair_by`, at most (default 10000).
    pub max_per_identity: usize,
    /// Who is refused when there is little room: `reject_new` (everybody, once it is full), `random` (by lot, from four
    /// fifths on) or `lowest_class` (from four fifths on the bulk, from nine tenths on the normal). Default: `reject_new`.
    pub shed: ShedFile,
    /// How fast each channel of an upstream is sent to (default 5000/s). Slower by itself at 429, 503 and slow answers.
    pub rate: Rate,
    /// Requests under way at one channel, at most (default 8000). At least the rate times the time an answer takes.
    pub max_in_flight: usize,
    /// From this on an answer is slow (default 3s).
    pub slow_call: TimeSpan,
    /// Every so much waiting counts as one class of importance more (default 5s).
    pub ageing: TimeSpan,
    /// Quick tries of a request that was surely not carried out.
    pub retry: RetryFile,
    /// Late tries behind the quick ones; then a person decides.
    pub dead_letter: DeadLetterFile,
    /// How long a request may wait before it expires; only what was surely not carried out does (default 15m; 1s to 1d).
    pub ttl: TimeSpan,
    /// How long answers can be fetched (default 24h; 1s to 30d).
    pub keep: TimeSpan,
    /// The upstream recognises keys itself: a request with an unknown outcome may be sent to it again (default false).
    pub backend_idempotent: bool,
    /// How long the store is waited for (default 5s).
    pub store_timeout: TimeSpan,
    /// How often one client may ask at `/.tidegate/async/…` (default 50/s); more often gets 429. Waiting for news with
    /// `Prefer: wait=n` is asking once.
    pub status_rate: Rate,
}

/// What is deferred.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// Everything.
    Always,
    /// What asks for it, and everything while too many are under way.
    Overload,
    /// What asks for it.
    #[default]
    Prefer,
}

/// Who is refused when there is little room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ShedFile {
    /// Everybody, once it is full.
    #[default]
    RejectNew,
    /// By lot, from four fifths on.
    Random,
    /// The least important, from four fifths on.
    LowestClass,
}

/// What too many are.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Overload {
    /// Requests behind this filter that are answered at once (default 100); one more is deferred, and so is everybody
    /// while somebody waits.
    pub max_in_flight: usize,
}

impl Default for Overload {
    fn default() -> Self {
        Self { max_in_flight: 100 }
    }
}

/// Quick tries.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RetryFile {
    /// In all, the first included (default 4).
    pub attempts: u8,
    /// Pause behind the first (default 1s).
    pub initial: TimeSpan,
    /// Each pause is so many times the one before (default 2.0).
    pub factor: f64,
}

impl Default for RetryFile {
    fn default() -> Self {
        Self { attempts: 4, initial: TimeSpan(Duration::from_secs(1)), factor: 2.0 }
    }
}

/// Late tries.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DeadLetterFile {
    /// How many (default 3).
    pub attempts: u8,
    /// Pause before each (default 60s).
    pub every: TimeSpan,
}

impl Default for DeadLetterFile {
    fn default() -> Self {
        Self { attempts: 3, every: TimeSpan(Duration::from_secs(60)) }
    }
}

impl Default for RespondAsync {
    fn default() -> Self {
        let seconds = |count| TimeSpan(Duration::from_secs(count));
        let rate =
            |count| Rate { count: NonZeroU32::new(count).unwrap_or(NonZeroU32::MIN), per: Duration::from_secs(1) };
        Self {
            store: None,
            when: When::Prefer,
            overload: Overload::default(),
            required: false,
            methods: vec!["POST".to_owned(), "PATCH".to_owned()],
            scope: None,
            anonymous: Anonymous::Client,
            fair_by: None,
            weights: BTreeMap::new(),
            max_wait: seconds(30),
            max_body: ByteSize(LARGEST_BODY),
            max_answer: ByteSize(1 << 20),
            max_records: 100_000,
            max_bytes: ByteSize(1 << 30),
            max_per_identity: 10_000,
            shed: ShedFile::RejectNew,
            rate: rate(5_000),
            max_in_flight: 8_000,
            slow_call: seconds(3),
            ageing: seconds(5),
            retry: RetryFile::default(),
            dead_letter: DeadLetterFile::default(),
            ttl: seconds(15 * 60),
            keep: seconds(86_400),
            backend_idempotent: false,
            store_timeout: seconds(5),
            status_rate: rate(50),
        }
    }
}

impl RespondAsync {
    pub(super) fn rules(&self, weighed: &str) -> Rules {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked: 1 to 10")]
        let factor_percent = (self.retry.factor * 100.0).round() as u32;
        Rules {
            max_records: self.max_records,
            max_bytes: self.max_bytes.0,
            max_per_identity: self.max_per_identity,
            shed: match self.shed {
                ShedFile::RejectNew => Shed::RejectNew,
                ShedFile::Random => Shed::Random,
                ShedFile::LowestClass => Shed::LowestClass,
            },
            rate: self.rate,
            max_in_flight: self.max_in_flight,
            slow_call: self.slow_call.0,
            ageing: self.ageing.0,
            retries: Retries {
                quick: self.retry.attempts,
                initial: self.retry.initial.0,
                factor_percent,
                late: self.dead_letter.attempts,
                every: self.dead_letter.every.0,
            },
            idempotent: self.backend_idempotent,
            weights: self
                .weights
                .iter()
                .map(|(name, weight)| (party(weighed, name), *weight))
                .collect::<HashMap<_, _>>(),
        }
    }

    pub(super) fn terms(&self, scope: IdentityId, scope_name: &str) -> Terms {
        Terms {
            keep: self.keep.0,
            ttl: self.ttl.0,
            max_wait: self.max_wait.0,
            max_answer: usize::try_from(self.max_answer.0).unwrap_or(usize::MAX),
            status_quota: Quota::new(self.status_rate, None),
            scope,
            scope_name: scope_name.into(),
        }
    }

    fn check_names(&self, cx: &CheckContext<'_>, problems: &mut Problems) {
        let example = "name one of `stores` of type `sqlite`, as in `store: disk`";
        let known = owner::check_store(self.store.as_ref(), example, cx, problems);
        if known && self.store.as_ref().is_some_and(|name| !cx.durable.contains(name)) {
            let help = "it must outlive the process, and be this gateway's own";
            problems.add_with_help("store", "what was promised is kept in a store of type `sqlite`", help);
        }
        owner::check_scope(self.scope.as_ref(), cx, problems);
        owner::check_identity("fair_by", self.fair_by.as_ref(), cx, problems);
        if self.weights.values().any(|weight| !(1..=1_000).contains(weight)) {
            problems.add("weights", "a weight is between 1 and 1000");
        }
    }

    fn check_numbers(&self, problems: &mut Problems) {
        let second = Duration::from_secs(1);
        let mut within = |path: &str, time: TimeSpan, from: Duration, to: Duration| {
            if time.0 < from || time.0 > to {
                problems.add(path, format!("between {} and {}", TimeSpan(from), TimeSpan(to)));
            }
        };
        within("ttl", self.ttl, second, DAY);
        within("keep", self.keep, second, DAY * 30);
        within("store_timeout", self.store_timeout, Duration::from_millis(1), second * 60);
        within("max_wait", self.max_wait, Duration::ZERO, second * 300);
        within("slow_call", self.slow_call, Duration::from_millis(1), DAY);
        within("ageing", self.ageing, Duration::from_millis(1), DAY);
        within("retry.initial", self.retry.initial, Duration::from_millis(1), second * 3_600);
        within("dead_letter.every", self.dead_letter.every, Duration::from_millis(1), DAY);
        if !(1.0..=10.0).contains(&self.retry.factor) {
            problems.add("retry.factor", "between 1 and 10");
        }
        if self.retry.attempts == 0 {
            problems.add_with_help("retry.attempts", "0 sends nothing", "1 is one try and no retry");
        }
        if self.max_body.0 > LARGEST_BODY {
            problems.add("max_body", format!("at most {}", ByteSize(LARGEST_BODY)));
        }
        if self.max_answer.0 > LARGEST_ANSWER {
            problems.add("max_answer", format!("at most {}", ByteSize(LARGEST_ANSWER)));
        }
        if Quota::new(self.status_rate, None).is_none() {
            problems.add("status_rate", "too slow: nobody would ask a second time");
        }
        if self.max_records == 0 || self.max_records > MOST_RECORDS {
            problems.add("max_records", format!("between 1 and {MOST_RECORDS}"));
        }
        for (path, number) in [("max_per_identity", self.max_per_identity), ("max_in_flight", self.max_in_flight)] {
            if number == 0 {
                problems.add_with_help(path, "0 lets nothing pass", "leave the filter out or use `mode: off`");
            }
        }
    }
}

impl FilterSpec for RespondAsync {
    fn step(&self) -> Step {
        Step::Once
    }

    fn check(&self, cx: &CheckContext<'_>, problems: &mut Problems) {
        self.check_names(cx, problems);
        self.check_numbers(problems);
        owner::check_methods(&self.methods, problems);
        for (at, method) in self.methods.iter().enumerate() {
            if matches!(method.as_str(), "GET" | "HEAD" | "OPTIONS" | "TRACE") {
                let message = "what only reads is not deferred";
                problems.add_with_help(format!("methods[{at}]"), message, "defer what changes something");
            }
        }
    }

    fn identities(&self) -> Vec<String> {
        let scope = self.scope.clone().unwrap_or_else(|| "user".to_owned());
        self.fair_by.iter().cloned().chain([scope]).collect()
    }

    fn build(&self, cx: &mut BuildContext<'_>) -> Result<Arc<dyn Filter>, BuildError> {
        let scope_name = owner::scope_name(self.scope.as_deref(), cx);
        let scope = owner::identity(scope_name, cx)?;
        let fair_by = self.fair_by.as_deref().map(|name| owner::identity(name, cx)).transpose()?;
        let rules = self.rules(self.fair_by.as_deref().unwrap_or(scope_name));
        let store = self.store.as_deref().unwrap_or_default();
        let shadow = cx.mode == Mode::Shadow;
        let stores = cx.states.stores();
        let failed = |error| BuildError(format!("{error}"));
        let shelves = if shadow { Shelves::default() } else { stores.open_shelves().clone() };
        let shelf = if shadow { None } else { stores.deferred(store).map_err(failed)? };
        let (epoch, name) = (stores.epoch(), cx.name.clone());
        let deferred = cx.state(KIND, None, (store, shadow), || Deferred::open(name, shelf, rules.clone(), epoch));
        if let Some(error) = deferred.broken() {
            return Err(BuildError(format!("{error}; start the gateway anew when that is mended")));
        }
        let terms = Arc::new(self.terms(scope, scope_name));
        let named = RespondAsync { scope: Some(scope_name.to_owned()), ..self.clone() };
        let written = serde_json::to_string(&named).unwrap_or_default().into();
        Ok(Arc::new(Later { deferred, shelves, settings: self.clone(), rules, terms, written, fair_by, shadow }))
    }
}
