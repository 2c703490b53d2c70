//! The files that come with the gateway.

use super::super::load;
use super::{kinds, root};

#[test]
fn the_bundled_file_and_the_reference_load() {
    for name in ["tidegate.yaml", "reference.yaml"] {
        let loaded = load(&root().join("config").join(name), &kinds::test_kinds(), &|_| None);
        match loaded {
            Ok(loaded) => assert_eq!(loaded.warnings.len(), 1, "{name}: the default secret is warned of"),
            Err(report) => panic!("{report}"),
        }
    }
}
