//! Where changes are looked for.

use std::os::unix::fs::symlink;

use super::super::files::Sights;

#[test]
fn every_link_on_the_way_is_watched() {
    let root = tempfile::tempdir().unwrap();
    // The temporary folder may itself lie behind a link.
    let root = root.path().canonicalize().unwrap();
    for folder in ["mounted", "mounted/..1", "elsewhere", "far", "far/away"] {
        std::fs::create_dir(root.join(folder)).unwrap();
    }
    std::fs::write(root.join("mounted/..1/a.yaml"), "").unwrap();
    symlink("..1", root.join("mounted/..data")).unwrap();
    symlink("..data/a.yaml", root.join("mounted/a.yaml")).unwrap();
    symlink("../../mounted/a.yaml", root.join("far/away/a.yaml")).unwrap();
    symlink(root.join("far/away/a.yaml"), root.join("elsewhere/a.yaml")).unwrap();
    let sights = Sights::of(&[root.join("elsewhere/../elsewhere/./a.yaml")]);
    let folders: Vec<_> = sights.folders.keys().cloned().collect();
    assert_eq!(folders, ["elsewhere", "far/away", "mounted", "mounted/..1"].map(|name| root.join(name)));
    for path in ["elsewhere/a.yaml", "far/away/a.yaml", "mounted/a.yaml", "mounted/..data", "mounted/..1/a.yaml"] {
        assert!(sights.paths.contains(&root.join(path)), "{path} in {sights:?}");
    }
}

#[test]
fn a_loop_of_links_ends() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path().canonicalize().unwrap();
    symlink("b", root.join("a")).unwrap();
    symlink("a", root.join("b")).unwrap();
    assert!(Sights::of(&[root.join("a")]).folders.contains_key(&root));
}

#[test]
fn a_folder_made_anew_is_another() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("etc");
    std::fs::create_dir(&folder).unwrap();
    let files = [folder.join("a.yaml")];
    let before = Sights::of(&files);
    std::fs::rename(&folder, root.path().join("old")).unwrap();
    std::fs::create_dir(&folder).unwrap();
    assert_ne!(Sights::of(&files), before);
}
