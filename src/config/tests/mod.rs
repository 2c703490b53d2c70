//! Tests of the configuration file: golden reports, secrets, files around it, and texts nobody would write.

mod files;
mod golden;
mod kinds;
mod nonsense;
mod shipped;

use std::path::{Path, PathBuf};

use super::{Loaded, Report, load_text};

/// A value that must show nowhere; long enough for HS256.
const CANARY: &str = "canary-7f3b9a-canary-7f3b9a-canary-7f3b9a";

/// A file with all that is required and nothing else.
const SMALL: &str = r#"version: 1
server: {listeners: [{name: public, address: "127.0.0.1:8080"}]}
upstreams: {shop: {channels: [{name: shop, endpoints: ["127.0.0.1:7001"]}]}}
routes: [{name: all, upstream: shop}]
"#;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn environment(name: &str) -> Option<String> {
    match name {
        "CANARY" => Some(CANARY.to_owned()),
        "ROOM_KEY" => Some("ca".repeat(32)),
        "SHORT" => Some("canary-short".to_owned()),
        "EMPTY" => Some(String::new()),
        _ => None,
    }
}

fn load_small(text: &str) -> Result<Loaded, Report> {
    load_text(text, "t.yaml", Path::new(""), &kinds::test_kinds(), &environment)
}

/// Whether tests rewrite what they would compare with.
fn update() -> bool {
    std::env::var_os("UPDATE").is_some()
}
