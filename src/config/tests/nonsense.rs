//! Texts nobody would write: whatever comes, the answer is a configuration or a report, soon and without a panic.

use proptest::prelude::*;

use super::{CANARY, load_small};

const SEED: &str = r#"version: 1
server:
  listeners:
    - &l {name: public, address: "127.0.0.1:8080", protocols: [h1, h2c]}
  threads: auto
  limits: {max_connections: 100, header_timeout: 10s, max_header_size: 32KiB}
admin: {address: "127.0.0.1:9901", token: "${CANARY}"}
identity:
  user:
    - jwt: {secret: "${CANARY}", algorithms: [HS256]}
    - {trusted_header: x-user, from: ["10.0.0.0/8"]}
upstreams:
  shop: &s
    channels: [{name: shop, endpoints: ["127.0.0.1:7001"]}]
  other: {<<: *s, read_timeout: 5s}
filters:
  limits:
    mode: shadow
    rate_limit:
      policies:
        - {name: user, key: user, rate: 100/10m, burst: 200}
routes:
  - name: all
    match: {path: "/**", methods: [GET], headers: {x-a: b, x-c: }}
    filters: [limits, {headers: {}}]
    upstream: shop
"#;

/// Pieces that mean something to YAML, to variables or to units.
const PIECES: [&str; 24] = [
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "&a ",
    "*s",
    "*l",
    "<<: *s",
    "- ",
    "\n",
    "\t",
    "\"",
    "'",
    "#",
    "|\n",
    "${",
    "${CANARY}",
    "null",
    "-1",
    "99999999999999999999",
    "é",
    "!!str ",
];

#[derive(Clone, Debug)]
enum Change {
    Put(usize, usize),
    Cut(usize, usize),
    Repeat(usize, usize),
    Swap(usize, usize),
}

fn apply(text: &str, change: &Change) -> String {
    let chars: Vec<char> = text.chars().collect();
    let at = |from: usize| from % (chars.len() + 1);
    let whole = |part: &[char]| part.iter().collect::<String>();
    match *change {
        Change::Put(from, piece) => {
            let from = at(from);
            format!("{}{}{}", whole(&chars[..from]), PIECES[piece % PIECES.len()], whole(&chars[from..]))
        }
        Change::Cut(from, length) => {
            let from = at(from);
            format!("{}{}", whole(&chars[..from]), whole(&chars[(from + length).min(chars.len())..]))
        }
        Change::Repeat(from, length) => {
            let from = at(from);
            let to = (from + length).min(chars.len());
            format!("{}{}", whole(&chars[..to]), whole(&chars[from..]))
        }
        Change::Swap(one, other) => {
            let mut lines: Vec<&str> = text.lines().collect();
            let count = lines.len().max(1);
            if !lines.is_empty() {
                lines.swap(one % count, other % count);
            }
            lines.join("\n")
        }
    }
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        (0usize..2000, 0usize..100).prop_map(|(a, b)| Change::Put(a, b)),
        (0usize..2000, 1usize..20).prop_map(|(a, b)| Change::Cut(a, b)),
        (0usize..2000, 1usize..40).prop_map(|(a, b)| Change::Repeat(a, b)),
        (0usize..50, 0usize..50).prop_map(|(a, b)| Change::Swap(a, b)),
    ]
}

#[test]
fn the_seed_of_the_mutations_is_right() {
    if let Err(report) = load_small(SEED) {
        panic!("{report}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_mutated_file_is_loaded_or_reported_and_never_leaks(changes in prop::collection::vec(change(), 1..8)) {
        let text = changes.iter().fold(SEED.to_owned(), |text, change| apply(&text, change));
        let shown = match load_small(&text) {
            Ok(loaded) => loaded.redacted,
            Err(report) => {
                prop_assert!(!report.problems.is_empty());
                format!("{report}")
            }
        };
        prop_assert!(!shown.contains(CANARY));
    }

    #[test]
    fn any_text_is_reported(text in "[ -~\n\t]{0,80}") {
        prop_assert!(load_small(&text).is_err());
    }
}
