//! Sets, adds and removes headers on the way to the upstream and on the way back.
//!
//! **Stage.** Request, for both directions: edits wait in the context until the gateway writes the head they are for, so
//! a response header also stands on answers that the gateway gives itself.
//!
//! **Method.** A list of edits built once when the file is loaded; a request copies counted references. First `remove`,
//! then `set`, then `add`, as in most gateways, so that a name may stand in several.
//!
//! **State.** None.
//!
//! **Units.** None.
//!
//! **Fails.** Nothing can. What a proxy must own itself is refused when the file is loaded: hop-by-hop headers (RFC 9110
//! §7.6.1), framing, `host`, and the gateway's own names.
//!
//! **Wrong for.** Values that depend on the request (use a script), and secrets of upstreams that differ by channel.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::engine::{
    BuildContext, BuildError, CheckContext, Decision, Filter, FilterSpec, HeaderEdit, Problems, RequestContext,
    RequestHead, Stages,
};

/// Settings of `headers`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Headers {
    /// Changes to the request on its way to the upstream.
    pub request: Changes,
    /// Changes to the response on its way to the client.
    pub response: Changes,
}

/// Changes in one direction: `remove` first, then `set`, then `add`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Changes {
    /// Replaces all headers of a name.
    pub set: BTreeMap<String, String>,
    /// Adds one more header of a name.
    pub add: BTreeMap<String, String>,
    /// Removes all headers of a name.
    pub remove: Vec<String>,
}

/// Headers that describe one connection or the framing of one message: whoever changes them breaks the next hop.
const FRAMING: [&str; 10] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "content-length",
];

impl Changes {
    fn check(&self, direction: &str, problems: &mut Problems) {
        for (verb, pairs) in [("set", &self.set), ("add", &self.add)] {
            for (name, value) in pairs {
                check_name(&format!("{direction}.{verb}.{name}"), name, problems);
                if HeaderValue::try_from(value).is_err() {
                    let message = format!("the value of `{name}` has characters that no header may have");
                    let help = "leave out line ends and other control characters";
                    problems.add_with_help(format!("{direction}.{verb}.{name}"), message, help);
                }
            }
        }
        for (at, name) in self.remove.iter().enumerate() {
            check_name(&format!("{direction}.remove[{at}]"), name, problems);
        }
    }

    fn edits(&self) -> Result<Box<[HeaderEdit]>, BuildError> {
        let name = |text: &String| HeaderName::try_from(text).map_err(|_| BuildError(format!("`{text}` is no name")));
        let pair = |(text, value): (&String, &String)| {
            let bad = |_| BuildError(format!("the value of `{text}` is no header value"));
            Ok((name(text)?, HeaderValue::try_from(value).map_err(bad)?))
        };
        let removed = self.remove.iter().map(|text| name(text).map(HeaderEdit::Remove));
        let set = self.set.iter().map(|both| pair(both).map(|(name, value)| HeaderEdit::Set(name, value)));
        let added = self.add.iter().map(|both| pair(both).map(|(name, value)| HeaderEdit::Add(name, value)));
        removed.chain(set).chain(added).collect()
    }

    fn is_empty(&self) -> bool {
        self.set.is_empty() && self.add.is_empty() && self.remove.is_empty()
    }
}

fn check_name(path: &str, name: &str, problems: &mut Problems) {
    let lower = name.to_ascii_lowercase();
    if HeaderName::try_from(name).is_err() {
        problems.add(path, format!("`{name}` is no header name"));
    } else if FRAMING.contains(&lower.as_str()) {
        problems.add(path, format!("`{name}` belongs to the connection, which the gateway manages itself"));
    } else if lower == "host" {
        problems.add(path, "`host` decides where a request goes, so it is not a header to edit");
    } else if lower.starts_with("x-tidegate-") || lower.starts_with("tidegate-") {
        problems.add(path, format!("`{name}` is a name of the gateway itself; upstreams trust what it says"));
    }
}

impl FilterSpec for Headers {
    fn check(&self, _: &CheckContext<'_>, problems: &mut Problems) {
        if self.request.is_empty() && self.response.is_empty() {
            problems.add_with_help("", "nothing to change", "write `request:` or `response:` with set, add or remove");
        }
        self.request.check("request", problems);
        self.response.check("response", problems);
    }

    fn build(&self, _: &mut BuildContext<'_>) -> Result<Arc<dyn Filter>, BuildError> {
        Ok(Arc::new(HeaderChanges { request: self.request.edits()?, response: self.response.edits()? }))
    }
}

/// The runtime half of `headers`.
struct HeaderChanges {
    request: Box<[HeaderEdit]>,
    response: Box<[HeaderEdit]>,
}

impl Filter for HeaderChanges {
    fn stages(&self) -> Stages {
        Stages::REQUEST
    }

    fn on_request(&self, _: &RequestHead<'_>, cx: &mut RequestContext) -> Decision {
        cx.to_upstream.extend(self.request.iter().cloned());
        cx.to_client.extend(self.response.iter().cloned());
        Decision::Continue
    }
}
