//! The file on disk and the files it names: sizes, modes, hashes, what is watched.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::super::{IdentitySource, JwtKey, LARGEST_FILE, Loaded, Report, load, restart_required};
use super::{CANARY, SMALL, environment, kinds, load_small};

fn load_file(path: &Path) -> Result<Loaded, Report> {
    load(path, &kinds::test_kinds(), &environment)
}

fn messages(report: &Report) -> String {
    report.problems.iter().map(|problem| problem.message.as_str()).collect::<Vec<_>>().join("\n")
}

fn write(path: &Path, text: &str, mode: u32) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_file_larger_than_four_mebibytes_is_refused_unread() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.yaml");
    write(&path, &format!("{SMALL}# {}", "x".repeat(LARGEST_FILE + (1 << 20))), 0o600);
    assert_eq!(messages(&load_file(&path).unwrap_err()), "the file is larger than 4MiB");
}

#[test]
fn a_file_that_anybody_may_write_is_refused_with_its_other_problems() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("open.yaml");
    write(&path, &SMALL.replace("upstream: shop", "upstream: shp"), 0o666);
    let report = load_file(&path).unwrap_err();
    assert_eq!(report.problems.len(), 2, "{report}");
    assert_eq!(report.problems[0].message, "anybody may write to the file");
}

#[test]
fn a_missing_file_and_a_folder_are_problems_without_a_place() {
    let folder = tempfile::tempdir().unwrap();
    for path in [folder.path().join("none.yaml"), folder.path().to_owned()] {
        let report = load_file(&path).unwrap_err();
        assert!(messages(&report).starts_with("the file cannot be read"), "{report}");
        assert_eq!(report.problems[0].line, 0);
    }
}

#[test]
fn a_secret_file_is_read_watched_and_part_of_the_hash() {
    let folder = tempfile::tempdir().unwrap();
    let (path, secret) = (folder.path().join("c.yaml"), folder.path().join("secret"));
    let text = format!("{SMALL}identity: {{user: [{{jwt: {{secret_file: secret}}}}]}}\n");
    write(&path, &text, 0o600);
    write(&secret, &format!("{CANARY}\n"), 0o640);
    let first = load_file(&path).unwrap();
    assert_eq!(first.files, [path.clone(), secret.clone()]);
    let IdentitySource::Jwt(jwt) = &first.config.identity[0].1[0] else { panic!("no token") };
    assert!(matches!(&jwt.key, JwtKey::Secret(secret) if secret.matches(CANARY.as_bytes())));
    assert!(!format!("{first:?}").contains("canary"));
    assert_eq!(load_file(&path).unwrap().hash, first.hash);
    write(&secret, &format!("{CANARY}x\n"), 0o640);
    assert_ne!(load_file(&path).unwrap().hash, first.hash);
}

#[test]
fn a_secret_file_that_others_may_read_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (path, secret) = (folder.path().join("c.yaml"), folder.path().join("secret"));
    write(&path, &format!("{SMALL}admin: {{token_file: secret}}\n"), 0o600);
    for (mode, fine) in [(0o600, true), (0o640, true), (0o400, true), (0o644, false), (0o660, false), (0o604, false)] {
        write(&secret, CANARY, 0o600);
        fs::set_permissions(&secret, Permissions::from_mode(mode)).unwrap();
        assert_eq!(load_file(&path).is_ok(), fine, "{mode:o}");
    }
}

#[test]
fn a_variable_is_part_of_the_hash_and_a_comment_too() {
    let text = format!("{SMALL}admin: {{token: \"${{T}}\"}}\n");
    let hash = |value: &str, text: &str| {
        let env = |_: &str| Some(value.to_owned());
        super::load_text(text, "t", Path::new(""), &kinds::test_kinds(), &env).unwrap().hash
    };
    assert_eq!(hash("a", &text), hash("a", &text));
    assert_ne!(hash("a", &text), hash("b", &text));
    assert_ne!(hash("a", &text), hash("a", &format!("{text}#\n")));
    assert_eq!(hash("a", &text).len(), 64);
}

#[test]
fn the_shown_text_keeps_references_and_hides_literals() {
    let text = format!("{SMALL}admin: {{token: \"${{UNSET:-{CANARY}}}\"}} # text\n");
    let loaded = load_small(&text).unwrap();
    assert_eq!(loaded.redacted, format!("{SMALL}admin: {{token: \"${{UNSET}}\"}} # text\n"));
    assert_eq!(loaded.warnings.len(), 1);
}

#[test]
fn what_a_reload_cannot_change_is_named() {
    let old = load_small(SMALL).unwrap().config;
    assert!(restart_required(&old, &old).is_empty());
    let text = SMALL.replace(":8080", ":8090").replace("server: {", "server: {threads: 3, data_dir: x, ")
        + "admin: {address: \"127.0.0.1:1\"}\n";
    let new = load_small(&text).unwrap().config;
    let names = ["server.listeners", "server.threads", "server.data_dir", "admin.address"];
    assert_eq!(restart_required(&old, &new), names);
}

#[test]
fn defaults_are_those_of_the_reference() {
    let config = load_small(SMALL).unwrap().config;
    let limits = &config.server.limits;
    assert_eq!((limits.max_connections, limits.max_connections_per_client, limits.max_headers), (20_000, 5_000, 100));
    assert_eq!(config.admin.address, "127.0.0.1:9901");
    assert_eq!(config.routes[0].listener, "public");
    assert!(config.routes[0].websocket && config.server.listeners[0].h1 && !config.server.listeners[0].h2c);
    for (all, each) in [(40, 40), (100, 64), (256, 64), (1000, 250)] {
        let text = SMALL.replace("server: {", &format!("server: {{limits: {{max_connections: {all}}}, "));
        assert_eq!(load_small(&text).unwrap().config.server.limits.max_connections_per_client, each);
    }
}

#[test]
fn inline_filters_are_named_after_their_route_and_defaults_come_first() {
    let text = SMALL
        .replace("upstream: shop}", "upstream: shop, filters: [{mode: shadow, headers: {}}, {headers: {}}]}")
        + "filters: {a: {headers: {}}}\ndefaults: {filters: [a]}\n";
    let config = load_small(&text).unwrap().config;
    let chain: Vec<&str> = config.routes[0].filters.iter().map(|name| &**name).collect();
    assert_eq!(chain, ["a", "all/headers", "all/headers-2"]);
    let entries: Vec<&str> = config.filters.iter().map(|entry| &*entry.name).collect();
    assert_eq!(entries, chain);
    assert_eq!(config.filters[1].mode.as_str(), "shadow");
    assert_eq!(config.filters[1].fingerprint, config.filters[2].fingerprint);
    assert_eq!(config.filters[1].line, 4);
}

#[test]
fn a_fingerprint_ignores_order_and_blanks_and_sees_values() {
    let print = |settings: &str| {
        let text = format!("{SMALL}filters: {{f: {{rate_limit: {settings}}}}}\n");
        load_small(&text).unwrap().config.filters[0].fingerprint
    };
    let one = print("{policies: [{name: a, rate: 1/s}]}");
    assert_eq!(one, print("{policies: [ {rate:   1/s, name: a} ]}"));
    assert_ne!(one, print("{policies: [{name: a, rate: 2/s}]}"));
}
