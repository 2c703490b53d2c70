//! Every spelling of a path is one path, or none.

use std::borrow::Cow;

use proptest::prelude::*;

use super::{BadPath, fold_case, normalise, upstream_target};

fn normal(target: &str) -> Result<String, BadPath> {
    normalise(target).map(Cow::into_owned)
}

#[test]
fn a_normal_path_is_borrowed() {
    for target in [
        "/",
        "/api/orders",
        "/.well-known/x",
        "/a...b/..c/d..",
        "/a;b=c",
        "/%E4%BD%A0%20x",
        "/a/",
        "*",
        "/a:@!$&'()*+,=",
    ] {
        assert!(matches!(normalise(target), Ok(Cow::Borrowed(path)) if path == target), "{target}");
    }
    assert!(matches!(normalise("/api/orders?a=/../b%zz"), Ok(Cow::Borrowed("/api/orders"))));
}

#[test]
fn no_spelling_of_a_path_slips_past_its_route() {
    for target in [
        "/api/orders",
        "//api/orders",
        "/api//orders",
        "/api/./orders",
        "/./api/orders",
        "/%61pi/orders",
        "/api/%6Frders",
        "/api/%6frders",
        "/x/../api/orders",
        "/x/%2e%2E/api/orders",
        "/x/.%2e/api/orders",
        "/api/%2e/orders",
        "///x//..//api/orders?x=1",
    ] {
        assert_eq!(normal(target).as_deref(), Ok("/api/orders"), "{target}");
    }
    assert_eq!(fold_case(&normal("/API/Orders").expect("is a path")), "/api/orders");
}

#[test]
fn directories_keep_their_slash() {
    for (target, path) in [
        ("/a/b/..", "/a/"),
        ("/a/.", "/a/"),
        ("/a//", "/a/"),
        ("/a/..", "/"),
        ("//", "/"),
        ("/.", "/"),
        ("/a//..", "/"),
    ] {
        assert_eq!(normal(target).as_deref(), Ok(path), "{target}");
    }
}

#[test]
fn escapes_have_one_spelling() {
    for (target, path) in [
        ("/%e4%bd%a0", "/%E4%BD%A0"),
        ("/你", "/%E4%BD%A0"),
        ("/a%20b", "/a%20b"),
        ("/a%3Ab%40", "/a:b@"),
        ("/a%2bb%3bc", "/a%2Bb%3Bc"),
        ("/%2561", "/%2561"),
        ("/{a}|\"<>^`[0]", "/%7Ba%7D%7C%22%3C%3E%5E%60%5B0%5D"),
        ("/%7Ba%7d", "/%7Ba%7D"),
        ("/a%3fb%23", "/a%3Fb%23"),
    ] {
        assert_eq!(normal(target).as_deref(), Ok(path), "{target}");
    }
}

#[test]
fn what_servers_read_differently_is_refused() {
    use BadPath::{AboveRoot, Character, DotParameters, Escape, NotAPath};
    for (target, why) in [
        ("", NotAPath),
        ("api", NotAPath),
        ("*x", NotAPath),
        ("http://a/b", NotAPath),
        ("/a%2fb", Character),
        ("/a%2Fb", Character),
        ("/a%5cb", Character),
        ("/a\\b", Character),
        ("/a%00", Character),
        ("/a%0d%0ab", Character),
        ("/a%1F", Character),
        ("/a%7f", Character),
        ("/a b", Character),
        ("/a#b", Character),
        ("/a\tb", Character),
        ("/a%", Escape),
        ("/a%4", Escape),
        ("/a%zz", Escape),
        ("/a%/b", Escape),
        ("/a%4?1", Escape),
        ("/a%+1", Escape),
        ("/..", AboveRoot),
        ("/a/../../b", AboveRoot),
        ("/%2e%2e/b", AboveRoot),
        ("//../b", AboveRoot),
        ("/a/..;/b", DotParameters),
        ("/a/..;x=1/b", DotParameters),
        ("/a/.;/b", DotParameters),
        ("/a/%2e%2e;/b", DotParameters),
        ("/a/..%3b/b", DotParameters),
    ] {
        assert_eq!(normal(target), Err(why), "{target}");
    }
}

#[test]
fn the_upstream_gets_the_path_that_was_matched_with_the_query_as_sent() {
    assert_eq!(upstream_target("/api/orders?a=%61", "/api/orders"), None);
    assert_eq!(upstream_target("*", "*"), None);
    assert_eq!(upstream_target("//api/%6Frders?a=%61//", "/api/orders").as_deref(), Some("/api/orders?a=%61//"));
    assert_eq!(upstream_target("/api/./x", "/api/x").as_deref(), Some("/api/x"));
    assert_eq!(upstream_target("/a/..?", "/").as_deref(), Some("/?"));
}

/// Targets made of the pieces that matter, so that they meet often.
fn target() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "/", "/", "/", ".", "..", "a", "B", "%2e", "%2E", "%2f", "%61", "%e4", "%25", "%", "%zz", ";", "%3b", "?",
        "\\", "{", "é", "+", "%2B", " ",
    ]);
    prop::collection::vec(pieces, 0..12).prop_map(|pieces| format!("/{}", pieces.concat()))
}

proptest! {
    #[test]
    fn the_normal_form_is_its_own_normal_form(target in target()) {
        if let Ok(path) = normalise(&target) {
            let again = normalise(&path);
            prop_assert_eq!(again.as_ref(), Ok(&path));
            prop_assert!(path.is_ascii() && path.starts_with('/') && !path.contains("//"));
            prop_assert!(path.split('/').all(|segment| segment != "." && segment != ".."));
            let sent = upstream_target(&target, &path).unwrap_or(target.clone());
            prop_assert_eq!(normalise(&sent), Ok(path));
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..64), text in "\\PC*") {
        let _ = normalise(&text);
        let _ = normalise(&String::from_utf8_lossy(&bytes));
        let _ = normalise(&format!("/{text}"));
        let _ = normalise(&format!("/{}", String::from_utf8_lossy(&bytes)));
    }
}
