//! Every way to save a file is one reload, soon.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::*;

/// From a save to the new configuration.
const SOON: Duration = Duration::from_millis(1_500);

fn text(mark: &str) -> String {
    file(&header("mark", mark))
}

async fn until(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < limit, "{what} took longer than {limit:?}");
        sleep(Duration::from_millis(10)).await;
    }
}

/// Watches, saves, and looks for exactly one reload with the mark `new`.
async fn one_reload(name: &str, lay_out: fn(&Path), save: fn(&Path)) {
    let folder = tempfile::tempdir().unwrap();
    lay_out(folder.path());
    let case = Case::on(folder);
    let watching = tokio::spawn(case.reloader.clone().run());
    sleep(Duration::from_millis(300)).await;
    let path = case.folder.path().to_owned();
    tokio::task::spawn_blocking(move || save(&path)).await.unwrap();
    until(name, SOON, || case.gateway.snapshot().redacted.contains("x-mark: new")).await;
    sleep(Duration::from_millis(700)).await;
    assert_eq!(case.generation(), 2, "{name}: one reload");
    assert_eq!(case.reloader.status().last_reload.unwrap().result, "applied", "{name}");
    assert!(!case.metrics().contains("result=\"refused\""), "{name}: {}", case.metrics());
    watching.abort();
}

fn plain(folder: &Path) {
    std::fs::write(folder.join("tidegate.yaml"), text("old")).unwrap();
}

fn pause(milliseconds: u64) {
    std::thread::sleep(Duration::from_millis(milliseconds));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_are_written_or_renamed() {
    let in_place = one_reload("in place", plain, |folder| {
        std::fs::write(folder.join("tidegate.yaml"), text("new")).unwrap();
    });
    let twice = one_reload("twice", plain, |folder| {
        std::fs::write(folder.join("tidegate.yaml"), text("mid")).unwrap();
        pause(80);
        std::fs::write(folder.join("tidegate.yaml"), text("new")).unwrap();
    });
    let emptied = one_reload("emptied first", plain, |folder| {
        let path = folder.join("tidegate.yaml");
        std::fs::write(&path, "").unwrap();
        pause(500);
        std::fs::write(&path, text("new")).unwrap();
    });
    let over = one_reload("renamed over", plain, |folder| {
        std::fs::write(folder.join("next"), text("new")).unwrap();
        std::fs::rename(folder.join("next"), folder.join("tidegate.yaml")).unwrap();
    });
    let editor = one_reload("editor", plain, |folder| {
        std::fs::write(folder.join(".tidegate.yaml.swp"), "x").unwrap();
        std::fs::rename(folder.join("tidegate.yaml"), folder.join("tidegate.yaml~")).unwrap();
        pause(600);
        std::fs::write(folder.join("tidegate.yaml"), text("new")).unwrap();
        std::fs::remove_file(folder.join("tidegate.yaml~")).unwrap();
        std::fs::remove_file(folder.join(".tidegate.yaml.swp")).unwrap();
    });
    tokio::join!(in_place, twice, emptied, over, editor);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn links_that_are_pointed_elsewhere() {
    let link = one_reload(
        "link",
        |folder| {
            std::fs::write(folder.join("a.yaml"), text("old")).unwrap();
            symlink("a.yaml", folder.join("tidegate.yaml")).unwrap();
        },
        |folder| {
            std::fs::write(folder.join("b.yaml"), text("new")).unwrap();
            point(folder, "b.yaml", "tidegate.yaml");
        },
    );
    let target = one_reload(
        "target",
        |folder| {
            std::fs::create_dir(folder.join("real")).unwrap();
            std::fs::write(folder.join("real/a.yaml"), text("old")).unwrap();
            symlink("real/a.yaml", folder.join("tidegate.yaml")).unwrap();
        },
        |folder| std::fs::write(folder.join("real/a.yaml"), text("new")).unwrap(),
    );
    let config_map = one_reload(
        "ConfigMap",
        |folder| {
            std::fs::create_dir(folder.join("..1")).unwrap();
            std::fs::write(folder.join("..1/tidegate.yaml"), text("old")).unwrap();
            symlink("..1", folder.join("..data")).unwrap();
            symlink("..data/tidegate.yaml", folder.join("tidegate.yaml")).unwrap();
        },
        |folder| {
            std::fs::create_dir(folder.join("..2")).unwrap();
            std::fs::write(folder.join("..2/tidegate.yaml"), text("new")).unwrap();
            point(folder, "..2", "..data");
            std::fs::remove_dir_all(folder.join("..1")).unwrap();
        },
    );
    tokio::join!(link, target, config_map);
}

fn point(folder: &Path, target: &str, link: &str) {
    symlink(target, folder.join("tmp")).unwrap();
    std::fs::rename(folder.join("tmp"), folder.join(link)).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_made_anew_is_found_and_watched() {
    let outer = tempfile::tempdir().unwrap();
    std::fs::create_dir(outer.path().join("etc")).unwrap();
    std::fs::write(outer.path().join("etc/tidegate.yaml"), text("old")).unwrap();
    symlink("etc/tidegate.yaml", outer.path().join("tidegate.yaml")).unwrap();
    let case = Case::on(outer);
    let watching = tokio::spawn(case.reloader.clone().run());
    sleep(Duration::from_millis(300)).await;
    let etc = case.folder.path().join("etc");
    std::fs::rename(&etc, case.folder.path().join("gone")).unwrap();
    std::fs::create_dir(&etc).unwrap();
    std::fs::write(etc.join("tidegate.yaml"), text("mid")).unwrap();
    // Nothing tells of this; the contents are compared every five seconds.
    let serves = |mark: &str| case.gateway.snapshot().redacted.contains(&format!("x-mark: {mark}"));
    until("the poll", Duration::from_secs(8), || serves("mid")).await;
    sleep(Duration::from_millis(300)).await;
    std::fs::write(etc.join("tidegate.yaml"), text("new")).unwrap();
    until("an event of the new folder", SOON, || serves("new")).await;
    watching.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_files_of_the_folder_are_nothing() {
    let case = Case::new(&text("old"));
    let watching = tokio::spawn(case.reloader.clone().run());
    sleep(Duration::from_millis(300)).await;
    for number in 0..20 {
        std::fs::write(case.folder.path().join("access.log"), number.to_string()).unwrap();
    }
    sleep(Duration::from_millis(600)).await;
    let metrics = case.metrics();
    assert!(!metrics.contains("tidegate_watch_events_total{"), "{metrics}");
    assert_eq!(case.generation(), 1);
    watching.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_named_is_watched_from_then_on() {
    let key = "identity: {user: [{jwt: {secret_file: key, algorithms: [HS256], claim: sub}}]}\n";
    let case = Case::new(&text("old"));
    let path = case.folder.path().join("key");
    secret(&path);
    let watching = tokio::spawn(case.reloader.clone().run());
    sleep(Duration::from_millis(300)).await;
    case.write(&format!("{}{key}", text("old")));
    until("the file", SOON, || case.generation() == 2).await;
    sleep(Duration::from_millis(300)).await;
    std::fs::write(&path, "another-secret-another-secret-another").unwrap();
    until("the file it names", SOON, || case.generation() == 3).await;
    watching.abort();
}
