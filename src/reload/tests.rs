use std::os::unix::fs::symlink;

use super::watch::folders;

#[test]
fn every_link_on_the_way_is_watched() {
    let root = tempfile::tempdir().expect("a folder");
    // The temporary folder may itself lie behind a link.
    let root = root.path().canonicalize().expect("a path");
    for folder in ["mounted", "mounted/..1", "elsewhere"] {
        std::fs::create_dir(root.join(folder)).expect("folder");
    }
    std::fs::write(root.join("mounted/..1/a.yaml"), "").expect("write");
    symlink("..1", root.join("mounted/..data")).expect("link");
    symlink("..data/a.yaml", root.join("mounted/a.yaml")).expect("link");
    symlink(root.join("mounted/a.yaml"), root.join("elsewhere/a.yaml")).expect("link");
    let found = folders(&root.join("elsewhere/a.yaml"));
    for folder in ["elsewhere", "mounted", "mounted/..1"] {
        assert!(found.contains(&root.join(folder)), "{folder} in {found:?}");
    }
}

#[test]
fn a_loop_of_links_ends() {
    let root = tempfile::tempdir().expect("a folder");
    symlink("b", root.path().join("a")).expect("link");
    symlink("a", root.path().join("b")).expect("link");
    assert!(folders(&root.path().join("a")).contains(root.path()));
}
