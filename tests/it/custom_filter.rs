//! `examples/custom_filter.rs`: a kind from outside the tree is checked and run like those that are built in.

use std::path::PathBuf;
use std::process::Command;

use crate::support::{Gateway, Origin, get, one_route};

/// The example as it was built beside this test. Cargo builds examples along with all tests, not for one chosen test.
fn example() -> PathBuf {
    let this = std::env::current_exe().expect("the path of this test");
    let profile = this.parent().and_then(|deps| deps.parent()).expect("target/<profile>/deps");
    let binary = profile.join("examples/custom_filter");
    if !binary.exists() {
        let built = Command::new(env!("CARGO")).args(["build", "--quiet", "--example", "custom_filter"]).status();
        assert!(built.is_ok_and(|status| status.success()), "the example cannot be built");
    }
    assert!(binary.exists(), "{} is missing: cargo build --examples", binary.display());
    binary
}

fn file(origin: &Origin, settings: &str) -> String {
    let filter = format!("filters:\n  no_scripts:\n    block_agents: {settings}\n");
    one_route(origin.address, "", "    filters: [no_scripts]", &filter)
}

#[test]
fn a_filter_from_outside_the_tree_refuses_and_lets_pass() {
    let origin = Origin::ok();
    let gateway = Gateway::start_binary(&example(), &file(&origin, "{words: [Scrapy, python-requests]}"));
    let status = |headers: &str| get(gateway.public(), "/", headers).status;
    assert_eq!(status("User-Agent: Mozilla/5.0\r\n"), 200);
    assert_eq!(status(""), 200);
    let refused = get(gateway.public(), "/", "User-Agent: SCRAPY/2.11 (+https://example.com)\r\n");
    assert_eq!(refused.status, 403);
    assert!(refused.text().contains("\"code\":\"agent-blocked\""), "{}", refused.text());
    assert_eq!(status("User-Agent: Mozilla/5.0\r\nUser-Agent: python-requests/2\r\n"), 403, "a second header");
}

#[test]
fn its_settings_are_checked_with_their_place_in_the_file() {
    let origin = Origin::ok();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("tidegate.yaml");
    let check = |settings: &str| {
        std::fs::write(&path, file(&origin, settings)).expect("write the file");
        let output = Command::new(example()).arg("check").arg(&path).output().expect("run the example");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert_eq!(check("{words: [scrapy]}").0, Some(0));
    let wrong = [
        ("{words: []}", "nothing to block"),
        ("{words: [scrapy, \" \"]}", "an empty word would block everybody"),
        ("{word: [scrapy]}", "word"),
        ("{}", "words"),
    ];
    for (settings, why) in wrong {
        let (code, complaint) = check(settings);
        assert_eq!(code, Some(78), "{settings}: {complaint}");
        assert!(complaint.contains(why) && complaint.contains("tidegate.yaml:"), "{settings}: {complaint}");
    }
}
