//! Path patterns: exact, or a prefix written with `/**`.
//!
//! A pattern must be written the way request paths look once they are normalised, or it could never match: no dot
//! segments, no empty segments, no escapes.

use super::types::PathMatch;

/// Reads a pattern; `fold` brings ASCII letters to lower case.
///
/// # Errors
/// What is wrong, and the pattern to write instead if that is clear.
pub(super) fn pattern(text: &str, fold: bool) -> Result<PathMatch, (String, Option<String>)> {
    let instead = |text: String| Some(format!("write `{text}`"));
    if !text.starts_with('/') {
        return Err(("a path begins with `/`".to_owned(), instead(format!("/{text}"))));
    }
    if let Some(at) = text.find(['?', '#']) {
        return Err(("a path has no query and no fragment".to_owned(), instead(text[..at].to_owned())));
    }
    if text.contains('%') {
        let help = Some("write the character itself; escapes are resolved before routes are matched".to_owned());
        return Err(("an escape (`%`) in a path".to_owned(), help));
    }
    if text.chars().any(|c| c.is_control() || c == '\\' || c == ' ') {
        return Err(("a path holds no blanks, backslashes or control characters".to_owned(), None));
    }
    let normal = normalised(text);
    if normal != text {
        return Err(("this is not how a normalised path looks, so it would never match".to_owned(), instead(normal)));
    }
    let (stem, prefix) = match text.strip_suffix("/**") {
        Some(stem) => (stem, true),
        None => (text, false),
    };
    if stem.contains('*') {
        let help = stem.split_once('*').map(|(before, _)| {
            let whole = before.rfind('/').map_or("", |at| &before[..at]);
            format!("write `{whole}/**` for all paths below")
        });
        return Err(("`*` stands only at the end, as `/**`".to_owned(), help));
    }
    let stem = if fold { stem.to_ascii_lowercase() } else { stem.to_owned() };
    Ok(if prefix { PathMatch::Prefix(stem) } else { PathMatch::Exact(stem) })
}

/// The path without dot segments and empty segments; a slash at the end stays.
fn normalised(text: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let segments: Vec<&str> = text.split('/').skip(1).collect();
    for (at, segment) in segments.iter().enumerate() {
        let last = at + 1 == segments.len();
        match *segment {
            "" if !last => (),
            "." | ".." => {
                if *segment == ".." {
                    kept.pop();
                }
                if last {
                    kept.push("");
                }
            }
            segment => kept.push(segment),
        }
    }
    format!("/{}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_exact_or_prefixes() {
        assert_eq!(pattern("/", false), Ok(PathMatch::Exact("/".into())));
        assert_eq!(pattern("/**", false), Ok(PathMatch::Prefix(String::new())));
        assert_eq!(pattern("/Api/**", true), Ok(PathMatch::Prefix("/api".into())));
        assert_eq!(pattern("/a/", false), Ok(PathMatch::Exact("/a/".into())));
    }

    #[test]
    fn what_could_never_match_is_refused_with_what_would() {
        let cases = [
            ("api", "/api"),
            ("/a//b", "/a/b"),
            ("/a/./b", "/a/b"),
            ("/a/../b", "/b"),
            ("/a?b=1", "/a"),
            ("/a/*", "/a/**"),
            ("/a/*/b", "/a/**"),
            ("/a**", "/**"),
            ("/a/**/b", "/a/**"),
            ("/..", "/"),
        ];
        for (text, better) in cases {
            let (_, help) = pattern(text, false).unwrap_err();
            assert!(help.as_deref().is_some_and(|help| help.contains(&format!("`{better}`"))), "{text}: {help:?}");
        }
        for text in ["/a%20b", "/a b", "/a\\b", "/\u{7}"] {
            assert!(pattern(text, false).is_err(), "{text}");
        }
    }
}
