//! Conditions on a request, written in CEL and compiled when a file is loaded.
//!
//! **Method.** The common shapes (`identity.user == "a"`, `request.path.startsWith("/v1/")`, `in [..]`, and `&&`, `||`, `!`
//! of them) become plain comparisons; everything else runs in the interpreter of the `cel` crate with only the variables
//! bound that the text names, since building a context costs more than most evaluations.
//!
//! **Variables.** `identity.<name>` (text of a verified identity), `request.method`, `request.path`,
//! `request.headers["name"]` (lower case, first value), `client.ip`, `route`.
//!
//! **Fails.** An unknown variable or function, a syntax error or a text above 4 KiB is refused when the file is loaded.
//! What is absent from a request is an error inside CEL, as in `identity.user` of a stranger; a condition that ends in an
//! error does not hold. In `a || b` and `a && b` an error on one side is healed by the other, as CEL defines it.
//!
//! **Wrong for.** Anything with the body or the response: those are not there yet.

mod lower;
mod names;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use cel::{Context, Program, Value};

use crate::engine::{IdentityId, RequestContext, RequestHead};
use lower::Test;
use names::Names;

/// Longest text of a condition, in bytes: the parser's time grows with it.
pub const LONGEST: usize = 4_096;

/// A compiled condition.
#[derive(Debug)]
pub struct Condition(Form);

#[derive(Debug)]
enum Form {
    Native(Test),
    Interpreted { program: Program, names: Names },
}

impl Condition {
    /// Compiles `text`; `identity` knows the numbers of identities by name.
    ///
    /// # Errors
    /// What is wrong with the text, in one line.
    pub fn compile(text: &str, identity: impl Fn(&str) -> Option<IdentityId>) -> Result<Self, String> {
        if text.len() > LONGEST {
            return Err(format!("a condition may have at most {LONGEST} bytes"));
        }
        let program = Program::compile(text).map_err(|errors| {
            let first = errors.errors.first().map_or("it cannot be read", |error| error.msg.as_str());
            format!("not a CEL expression: {first}")
        })?;
        let names = Names::of(program.expression(), &identity)?;
        Ok(Self(match lower::lower(program.expression(), &identity) {
            Some(test) => Form::Native(test),
            None => Form::Interpreted { program, names },
        }))
    }

    /// Names of the identities that `text` speaks of, known or not; none where it cannot be read.
    #[must_use]
    pub fn identities(text: &str) -> Vec<String> {
        let read = Program::compile(text).ok().filter(|_| text.len() <= LONGEST);
        let names = read.and_then(|program| Names::of(program.expression(), &|_| Some(IdentityId::CLIENT)).ok());
        names.map(|names| names.identities.into_iter().map(|(name, _)| name).collect()).unwrap_or_default()
    }

    /// Whether it holds for this request.
    #[must_use]
    pub fn holds(&self, head: &RequestHead<'_>, cx: &RequestContext) -> bool {
        match &self.0 {
            Form::Native(test) => test.run(head, cx) == Some(true),
            Form::Interpreted { program, names } => {
                matches!(program.execute(&bind(names, head, cx)), Ok(Value::Bool(true)))
            }
        }
    }

    /// Whether it runs without the interpreter.
    #[must_use]
    pub fn is_native(&self) -> bool {
        matches!(self.0, Form::Native(_))
    }
}

fn bind<'c>(names: &Names, head: &RequestHead<'_>, cx: &RequestContext) -> Context<'c, 'c> {
    let mut context = Context::default();
    let text = |id: IdentityId| cx.identity(id).and_then(|identity| identity.text.as_deref()).map(str::to_owned);
    if !names.identities.is_empty() {
        let known = names.identities.iter().filter_map(|(name, id)| Some((name.clone(), text(*id)?)));
        context.add_variable_from_value("identity", known.collect::<HashMap<String, String>>());
    }
    if names.request {
        let mut request: HashMap<String, Value> = HashMap::new();
        request.insert("method".into(), head.method.into());
        request.insert("path".into(), head.path.into());
        if names.headers {
            let mut headers: HashMap<String, String> = HashMap::new();
            for (name, value) in head.headers {
                let (Ok(name), Ok(value)) = (std::str::from_utf8(name), std::str::from_utf8(value)) else { continue };
                headers.entry(name.to_ascii_lowercase()).or_insert_with(|| value.to_owned());
            }
            request.insert("headers".into(), headers.into());
        }
        context.add_variable_from_value("request", request);
    }
    if names.client {
        context.add_variable_from_value("client", HashMap::from([("ip".to_owned(), cx.client.to_string())]));
    }
    if let Some(route) = names.route.then(|| text(IdentityId::ROUTE)).flatten() {
        context.add_variable_from_value("route", route);
    }
    context
}
