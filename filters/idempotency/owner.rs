//! Whose a request is, and which requests are meant: what a file says about that for every filter that recognises repeats.

use http::Method;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::engine::{BuildContext, BuildError, CheckContext, IdentityId, Problems};

/// What happens to a request without the identity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Anonymous {
    /// It belongs to its address.
    #[default]
    Client,
    /// It is refused with 400.
    Deny,
}

fn there_are(what: &str, known: &[String]) -> String {
    if known.is_empty() { format!("the file defines no {what}") } else { format!("there are: {}", known.join(", ")) }
}

/// Whether there is such a store; true when there is. `example`: what to write.
pub(crate) fn check_store(
    store: Option<&String>,
    example: &str,
    cx: &CheckContext<'_>,
    problems: &mut Problems,
) -> bool {
    match store {
        None => problems.add_with_help("", "`store` is missing", example),
        Some(name) if !cx.stores.contains(name) => {
            let help = there_are("store", cx.stores);
            problems.add_with_help("store", format!("no store is named `{name}`"), help);
        }
        Some(_) => return true,
    }
    false
}

/// Whether there is such an identity. `path`: where it is named.
pub(crate) fn check_identity(path: &str, name: Option<&String>, cx: &CheckContext<'_>, problems: &mut Problems) {
    if let Some(name) = name.filter(|name| !cx.identities.contains(name)) {
        let help = there_are("identity", cx.identities);
        problems.add_with_help(path, format!("no identity is named `{name}`"), help);
    }
}

/// Whether requests can be kept apart by it.
pub(crate) fn check_scope(scope: Option<&String>, cx: &CheckContext<'_>, problems: &mut Problems) {
    check_identity("scope", scope, cx, problems);
    if scope.is_some_and(|name| matches!(name.as_str(), "route" | "global")) {
        let help = "clients would read each other's answers; use `user`, `merchant` or `client`";
        problems.add_with_help("scope", "everybody shares this identity", help);
    }
}

/// Whether these are methods.
pub(crate) fn check_methods(methods: &[String], problems: &mut Problems) {
    if methods.is_empty() {
        problems.add("methods", "without a method it applies to nothing");
    }
    for (at, method) in methods.iter().enumerate() {
        let known = Method::from_bytes(method.as_bytes()).is_ok_and(|known| known.as_str() == method.to_uppercase());
        if !known {
            let message = format!("`{method}` is no method");
            problems.add_with_help(format!("methods[{at}]"), message, "methods are written in capitals");
        }
    }
}

/// An identity by its name; the address of a client is known without the file.
pub(crate) fn identity(name: &str, cx: &BuildContext<'_>) -> Result<IdentityId, BuildError> {
    if name == "client" { Ok(IdentityId::CLIENT) } else { cx.identity(name) }
}

/// The name of the identity that requests are kept apart by: `user` where the file defines it, else `client`.
pub(crate) fn scope_name<'a>(said: Option<&'a str>, cx: &BuildContext<'_>) -> &'a str {
    match said {
        Some(name) => name,
        None if cx.identities.contains_key("user") => "user",
        None => "client",
    }
}
