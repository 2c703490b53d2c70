//! `${NAME}` and `${NAME:-default}` in texts.

use super::tree::{EnvUse, Scalar};

/// Resolves the variables of one text.
///
/// `${NAME}` takes a variable, `${NAME:-text}` takes the text when the variable is not set or empty, as a shell does;
/// `$${` writes a plain `${`.
///
/// # Errors
/// What is wrong and, if known, what to write: a variable that is not set, or a `${` that is no reference. Values of
/// variables are in no message.
pub(super) fn resolve(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Scalar, (String, Option<String>)> {
    let mut out = Scalar::default();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if at > 0 && rest.as_bytes()[at - 1] == b'$' {
            out.text.push_str(&rest[..at - 1]);
            out.text.push_str("${");
            out.literal = true;
            rest = &rest[at + 2..];
            continue;
        }
        out.literal |= at > 0;
        out.text.push_str(&rest[..at]);
        let Some(end) = rest[at..].find('}') else {
            let help = "write `$${` for a plain `${`".to_owned();
            return Err(("`${` without a closing `}`".to_owned(), Some(help)));
        };
        let used = variable(&rest[at + 2..at + end], env)?;
        out.text.push_str(&used.value);
        out.env.push(used);
        rest = &rest[at + end + 1..];
    }
    out.literal |= !rest.is_empty();
    out.text.push_str(rest);
    Ok(out)
}

fn variable(inside: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<EnvUse, (String, Option<String>)> {
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    let letters = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || !name.chars().all(letters) || name.starts_with(|c: char| c.is_ascii_digit()) {
        let help = "write `${NAME}` or `${NAME:-default}`, and `$${` for a plain `${`".to_owned();
        return Err(("`${…}` holds no name of an environment variable".to_owned(), Some(help)));
    }
    let found = env(name).filter(|value| default.is_none() || !value.is_empty());
    let by_default = found.is_none();
    match found.or_else(|| default.map(str::to_owned)) {
        Some(value) => Ok(EnvUse { name: name.to_owned(), value, by_default }),
        None => {
            let help = format!("set it, or give it a default: `${{{name}:-…}}`");
            Err((format!("the environment variable `{name}` is not set"), Some(help)))
        }
    }
}
