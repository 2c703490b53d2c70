//! The files that come with the gateway, with the kinds it comes with.

use tidegate_filters::engine::Kinds;

use super::super::{PathMatch, load, schema};
use super::{root, update};

#[test]
fn the_bundled_file_and_the_reference_load() {
    for name in ["tidegate.yaml", "reference.yaml"] {
        // Default secrets are warned of; in the bundled file that of the channels, too.
        let secrets = if name == "tidegate.yaml" { 3 } else { 2 };
        match load(&root().join("config").join(name), &Kinds::builtin(), &|_| None) {
            Ok(loaded) => assert_eq!(loaded.warnings.len(), secrets, "{name}: {:?}", loaded.warnings),
            Err(report) => panic!("{report}"),
        }
    }
}

#[test]
fn in_the_bundled_file_polling_pages_never_eat_the_quota_for_buying() {
    let config = load(&root().join("config/tidegate.yaml"), &Kinds::builtin(), &|_| None).unwrap().config;
    for route in &config.routes {
        let buys = route.matches.methods == [http::Method::POST];
        let limited = route.filters.iter().any(|name| &**name == "limits");
        assert_eq!(buys, limited, "{}", route.name);
        let shop = matches!(&route.matches.path, PathMatch::Exact(path) if path == "/");
        assert!(!shop || route.filters.iter().any(|name| &**name == "reads"));
    }
}

#[test]
fn the_schema_in_the_tree_is_the_one_the_code_makes() {
    let path = root().join("config/schema.json");
    let made = format!("{}\n", serde_json::to_string_pretty(&schema(&Kinds::builtin())).unwrap());
    if update() {
        std::fs::write(&path, &made).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(kept, made, "config/schema.json is old: run this test with UPDATE=1");
}

#[test]
fn the_schema_says_that_a_filter_is_of_one_kind_and_points_nowhere_empty() {
    let schema = schema(&Kinds::builtin());
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    let kinds = schema["$defs"]["Filter"]["oneOf"].as_array().unwrap();
    assert_eq!(kinds.len(), Kinds::builtin().iter().count());
    let text = schema.to_string();
    for reference in text.split("\"$ref\":\"#/$defs/").skip(1) {
        let name = reference.split('"').next().unwrap();
        assert!(schema["$defs"].get(name).is_some(), "{name}");
    }
}
