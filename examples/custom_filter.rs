//! A gateway with a filter of its own, written outside the tree: `block_agents` turns away programs that give
//! themselves away by their `User-Agent`.
//!
//! ```yaml
//! filters:
//!   no_scripts:
//!     block_agents: {words: [python-requests, scrapy]}
//! routes:
//!   - name: create-order
//!     match: {path: /api/orders, methods: [POST]}
//!     filters: [no_scripts, limits]
//!     upstream: orders
//! ```
//!
//! It is a complete gateway: `cargo run --example custom_filter -- run -c your.yaml`. Checks with line numbers, the
//! JSON Schema, reloads, shadow mode and the access log come from the engine. How a filter is built up is told in
//! `filters/lib.rs`.

use std::process::ExitCode;
use std::sync::Arc;

use http::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;
use tidegate_filters::engine::{
    BuildContext, BuildError, CheckContext, Decision, Filter, FilterSpec, Kinds, Problems, Reply, RequestContext,
    RequestHead, Stages,
};

/// Settings of `block_agents`: what the file says.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct BlockAgents {
    /// Parts of a `User-Agent`, in upper or lower case, that are not welcome.
    words: Vec<String>,
}

impl FilterSpec for BlockAgents {
    fn check(&self, _: &CheckContext<'_>, problems: &mut Problems) {
        if self.words.is_empty() {
            problems.add_with_help("words", "nothing to block", "name at least one word, as in `[scrapy]`");
        }
        for (at, _) in self.words.iter().enumerate().filter(|(_, word)| word.trim().is_empty()) {
            problems.add(format!("words[{at}]"), "an empty word would block everybody");
        }
    }

    fn build(&self, _: &mut BuildContext<'_>) -> Result<Arc<dyn Filter>, BuildError> {
        Ok(Arc::new(Blocker { words: self.words.iter().map(|word| word.to_lowercase().into()).collect() }))
    }
}

/// The runtime half: one for all requests of a configuration.
struct Blocker {
    words: Box<[Arc<str>]>,
}

impl Filter for Blocker {
    fn stages(&self) -> Stages {
        Stages::REQUEST
    }

    fn on_request(&self, head: &RequestHead<'_>, cx: &mut RequestContext) -> Decision {
        // Every header of that name, and bytes that are no text too: a second or a broken one is no way around it.
        for agent in head.headers_named("user-agent") {
            let agent = String::from_utf8_lossy(agent).to_lowercase();
            if let Some(word) = self.words.iter().find(|word| agent.contains(&***word)) {
                // The access log then says which word it was.
                cx.part = Some(word.clone());
                let title = "This shop serves people; please ask us for an interface for programs";
                return Decision::Respond(Box::new(Reply::problem(StatusCode::FORBIDDEN, "agent-blocked", title)));
            }
        }
        Decision::Continue
    }
}

/// What is built in, and one kind more.
pub(crate) fn kinds() -> Kinds {
    Kinds::builtin().register::<BlockAgents>("block_agents")
}

fn main() -> ExitCode {
    tidegate::cli::main(&kinds())
}
