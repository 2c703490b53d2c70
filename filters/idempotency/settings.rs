//! What a file says about keys, what is refused in it, and what it becomes.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use schemars::JsonSchema;
use serde::Deserialize;

use super::Once;
use super::lead::Times;
use super::live::Live;
use super::owner::{self, Anonymous};
use crate::engine::{
    BuildContext, BuildError, ByteSize, CheckContext, Filter, FilterSpec, Mode, Problems, Step, TimeSpan,
};
use crate::store::MemoryRecords;

/// Largest body that is compared: what the gateway can hold and send again.
const LARGEST_BODY: u64 = 64 << 10;
/// Largest answer that is kept.
const LARGEST_ANSWER: u64 = 4 << 20;
const SHORTEST_KEEP: Duration = Duration::from_secs(1);
const LONGEST_KEEP: Duration = Duration::from_secs(30 * 86_400);

/// Settings of `idempotency`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Idempotency {
    /// The store records are kept in; a name under `stores`. Required.
    pub store: Option<String>,
    /// Whether a request without the header is refused (default false: it passes as it is).
    pub required: bool,
    /// Methods it applies to (default POST and PATCH).
    pub methods: Vec<String>,
    /// Whose keys are kept apart: `user`, `merchant`, `client` or any other identity of the file. Default: `user` where
    /// the file defines it, else `client`.
    pub scope: Option<String>,
    /// What happens to a request without that identity (default `client`: its keys belong to its address).
    pub anonymous: Anonymous,
    /// How long a second request waits for the first one's answer before it gets 409; 0s never waits (default 2s).
    pub coalesce: TimeSpan,
    /// How long answers are kept (default 24h; 1s to 30d).
    pub keep: TimeSpan,
    /// Without a word for so long a request counts as lost, and its outcome as unknown (default 10m). Longer than any
    /// request on the route may take.
    pub lease: TimeSpan,
    /// Largest request body (default 64KiB, which is also the most).
    pub max_body: ByteSize,
    /// Largest answer that is kept; a larger one is passed through and cannot be given again (default 256KiB).
    pub max_answer: ByteSize,
    /// Requests of one identity that are carried out at once (default 100).
    pub max_in_flight: usize,
    /// Where a client learns what became of a request whose outcome is unknown, as in `/api/orders/by-key/{key}`.
    pub location: Option<String>,
    /// The upstream recognises keys itself: a request whose outcome is unknown is sent again with the same key
    /// (default false).
    pub backend_idempotent: bool,
    /// How long the store may take (default 5s).
    pub store_timeout: TimeSpan,
    /// What happens when the store does not answer: `deny` (503) or `allow` (unprotected). Default: `deny`.
    pub on_store_error: OnStoreError,
}

/// What happens when the store does not answer. One that is full does: new keys are refused then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnStoreError {
    /// The request is refused with 503.
    #[default]
    Deny,
    /// The request goes on as if it had no key.
    Allow,
}

impl Default for Idempotency {
    fn default() -> Self {
        let seconds = |count| TimeSpan(Duration::from_secs(count));
        Self {
            store: None,
            required: false,
            methods: vec!["POST".to_owned(), "PATCH".to_owned()],
            scope: None,
            anonymous: Anonymous::Client,
            coalesce: seconds(2),
            keep: seconds(86_400),
            lease: seconds(600),
            max_body: ByteSize(LARGEST_BODY),
            max_answer: ByteSize(256 << 10),
            max_in_flight: 100,
            location: None,
            backend_idempotent: false,
            store_timeout: seconds(5),
            on_store_error: OnStoreError::Deny,
        }
    }
}

impl Idempotency {
    fn check_numbers(&self, problems: &mut Problems) {
        if !(SHORTEST_KEEP..=LONGEST_KEEP).contains(&self.keep.0) {
            problems.add("keep", "between 1s and 30d");
        }
        if self.lease.0 < Duration::from_secs(1) || self.lease.0 > Duration::from_secs(86_400) {
            problems.add("lease", "between 1s and 1d");
        }
        if self.coalesce.0 > Duration::from_secs(60) {
            problems.add("coalesce", "at most 1m: who waits holds a connection");
        }
        if self.store_timeout.0.is_zero() || self.store_timeout.0 > Duration::from_secs(60) {
            problems.add("store_timeout", "between 1ms and 1m");
        }
        if self.max_body.0 > LARGEST_BODY {
            problems.add("max_body", format!("at most {}", ByteSize(LARGEST_BODY)));
        }
        if self.max_answer.0 > LARGEST_ANSWER {
            problems.add("max_answer", format!("at most {}", ByteSize(LARGEST_ANSWER)));
        }
        if self.max_in_flight == 0 {
            problems.add_with_help("max_in_flight", "0 lets nothing pass", "leave the route out or use `mode: off`");
        }
    }
}

/// The location for a key; the key stands percent-encoded in it.
pub(super) fn location(template: &str, key: &[u8]) -> Option<HeaderValue> {
    let mut encoded = String::with_capacity(key.len());
    for byte in key {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(*byte)),
            other => encoded.push_str(&format!("%{other:02X}")),
        }
    }
    HeaderValue::try_from(template.replace("{key}", &encoded)).ok()
}

impl FilterSpec for Idempotency {
    fn step(&self) -> Step {
        Step::Once
    }

    fn check(&self, cx: &CheckContext<'_>, problems: &mut Problems) {
        let example = "name one of `stores`, as in `store: disk`; `{type: sqlite}` survives a crash";
        owner::check_store(self.store.as_ref(), example, cx, problems);
        owner::check_scope(self.scope.as_ref(), cx, problems);
        owner::check_methods(&self.methods, problems);
        self.check_numbers(problems);
        if self.location.as_ref().is_some_and(|template| {
            !template.starts_with('/') && !template.starts_with("http") || HeaderValue::try_from(template).is_err()
        }) {
            problems.add_with_help("location", "no address", "write a path, as in `/api/orders/by-key/{key}`");
        }
    }

    fn identities(&self) -> Vec<String> {
        vec![self.scope.clone().unwrap_or_else(|| "user".to_owned())]
    }

    fn build(&self, cx: &mut BuildContext<'_>) -> Result<Arc<dyn Filter>, BuildError> {
        let scope_name = owner::scope_name(self.scope.as_deref(), cx);
        let scope = owner::identity(scope_name, cx)?;
        let store_name = self.store.as_deref().unwrap_or_default();
        let shadow = cx.mode == Mode::Shadow;
        let stores = cx.states.stores();
        let store = match shadow {
            // A shadow sees no bodies: what it remembers would be wrong for an enforced filter.
            true => Arc::new(MemoryRecords::default()),
            false => {
                stores.records(store_name).ok_or_else(|| BuildError(format!("no store is named `{store_name}`")))?
            }
        };
        let (epoch, name) = (stores.epoch(), cx.name.clone());
        let live = cx.state("idempotency", None, (store_name, shadow), || Live::new(name, store, epoch));
        Ok(Arc::new(Once {
            live,
            settings: self.clone(),
            scope,
            scope_name: scope_name.into(),
            times: Times { keep: self.keep.0, lease: self.lease.0 },
            shadow,
        }))
    }
}
