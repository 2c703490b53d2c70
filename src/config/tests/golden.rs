//! Each file of `tests/config_cases` against the report it is known to get. `UPDATE=1` rewrites the reports.

use std::fmt::Write as _;

use super::super::load;
use super::{CANARY, environment, kinds, root, update};

#[test]
fn every_case_gets_the_report_it_is_known_for() {
    let folder = root().join("tests/config_cases");
    let prefix = format!("{}/", folder.display());
    let mut wrong = Vec::new();
    let mut cases: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    cases.sort();
    assert!(cases.len() > 30, "the cases are gone");
    for case in cases {
        let mut shown = String::new();
        let debug = match load(&case, &kinds::test_kinds(), &environment) {
            Ok(loaded) => {
                for warning in &loaded.warnings {
                    writeln!(shown, "{warning}\n").unwrap();
                }
                writeln!(shown, "fine").unwrap();
                assert!(!loaded.redacted.contains("canary"), "{}: {}", case.display(), loaded.redacted);
                format!("{loaded:?}")
            }
            Err(report) => {
                writeln!(shown, "{report}").unwrap();
                serde_json::to_string(&report).unwrap()
            }
        };
        assert!(!shown.contains("canary"), "{}: {shown}", case.display());
        assert!(!debug.contains(CANARY) && !debug.contains("canary"), "{}: {debug}", case.display());
        let shown = shown.replace(&prefix, "");
        let expected = case.with_extension("txt");
        if update() {
            std::fs::write(&expected, &shown).unwrap();
        } else if std::fs::read_to_string(&expected).unwrap_or_default() != shown {
            wrong.push(format!("{}:\n{shown}", case.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
