//! Every way in which editors, `mv` and Kubernetes change a file is one reload with the right contents.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::support::{Gateway, Origin, eventually, free_port, get, one_route};

struct Case {
    gateway: Gateway,
    origin: Origin,
    folder: tempfile::TempDir,
    ports: [u16; 2],
}

impl Case {
    /// A gateway whose file is `folder/tidegate.yaml`, laid out by `lay_out`, with the mark `0`.
    fn new(lay_out: impl FnOnce(&Path, &str)) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let origin = Origin::ok();
        let ports = [free_port(), free_port()];
        let text = text(&origin, folder.path(), ports, "0");
        lay_out(folder.path(), &text);
        let gateway = Gateway::start_on(&folder.path().join("tidegate.yaml"));
        Self { gateway, origin, folder, ports }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, mark: &str) -> String {
        text(&self.origin, self.folder.path(), self.ports, mark)
    }

    /// Waits until the mark is served, then makes sure that it took one generation.
    fn serves(&self, mark: &str, generation: u64) {
        let served = || get(self.gateway.public(), "/", "").header("x-mark").map(str::to_owned);
        eventually(&format!("mark {mark}"), Duration::from_millis(2500), || served().as_deref() == Some(mark));
        std::thread::sleep(Duration::from_millis(400));
        assert_eq!((served().as_deref(), self.gateway.generation()), (Some(mark), generation));
    }
}

fn text(origin: &Origin, folder: &Path, ports: [u16; 2], mark: &str) -> String {
    let filter = format!("filters: {{mark: {{headers: {{response: {{set: {{x-mark: \"{mark}\"}}}}}}}}}}");
    let yaml = one_route(origin.address, "", "    filters: [mark]", &filter);
    let yaml = yaml.replace("DATA_DIR", &folder.display().to_string());
    ports.iter().fold(yaml, |yaml, port| yaml.replacen("127.0.0.1:0\"", &format!("127.0.0.1:{port}\""), 1))
}

fn plain(folder: &Path, text: &str) {
    std::fs::write(folder.join("tidegate.yaml"), text).expect("write");
}

#[test]
fn writing_in_place_and_twice_in_a_row() {
    let case = Case::new(plain);
    std::fs::write(case.path("tidegate.yaml"), case.text("1")).expect("write");
    case.serves("1", 2);
    std::fs::write(case.path("tidegate.yaml"), case.text("2")).expect("write");
    std::thread::sleep(Duration::from_millis(60));
    std::fs::write(case.path("tidegate.yaml"), case.text("3")).expect("write");
    case.serves("3", 3);
}

#[test]
fn a_half_written_file_is_waited_for() {
    let case = Case::new(plain);
    let whole = case.text("1");
    let (first, second) = whole.split_at(whole.len() / 2);
    std::fs::write(case.path("tidegate.yaml"), first).expect("write");
    std::thread::sleep(Duration::from_millis(100));
    std::fs::write(case.path("tidegate.yaml"), [first, second].concat()).expect("write");
    case.serves("1", 2);
    assert!(case.gateway.metric("tidegate_config_last_reload_successful") > 0.5);
}

#[test]
fn renaming_over_it() {
    let case = Case::new(plain);
    std::fs::write(case.path("next"), case.text("1")).expect("write");
    std::fs::rename(case.path("next"), case.path("tidegate.yaml")).expect("rename");
    case.serves("1", 2);
    // The watch has not gone with the old file.
    std::fs::write(case.path("next"), case.text("2")).expect("write");
    std::fs::rename(case.path("next"), case.path("tidegate.yaml")).expect("rename");
    case.serves("2", 3);
}

#[test]
fn an_editor_that_moves_the_old_file_away_first() {
    let case = Case::new(plain);
    std::fs::rename(case.path("tidegate.yaml"), case.path("tidegate.yaml~")).expect("rename");
    std::thread::sleep(Duration::from_millis(150));
    std::fs::write(case.path(".tidegate.yaml.swp"), "swap").expect("write");
    std::fs::write(case.path("tidegate.yaml"), case.text("1")).expect("write");
    std::fs::remove_file(case.path("tidegate.yaml~")).expect("remove");
    case.serves("1", 2);
    assert!(case.gateway.metric("tidegate_config_last_reload_successful") > 0.5, "its absence was no error");
}

#[test]
fn pointing_a_link_elsewhere() {
    let case = Case::new(|folder, text| {
        std::fs::write(folder.join("a.yaml"), text).expect("write");
        symlink("a.yaml", folder.join("tidegate.yaml")).expect("link");
    });
    std::fs::write(case.path("b.yaml"), case.text("1")).expect("write");
    symlink("b.yaml", case.path("next")).expect("link");
    std::fs::rename(case.path("next"), case.path("tidegate.yaml")).expect("rename");
    case.serves("1", 2);
    // And the file that the link names now is the one that counts.
    std::fs::write(case.path("b.yaml"), case.text("2")).expect("write");
    case.serves("2", 3);
}

#[test]
fn the_swap_of_a_mounted_config_map() {
    let case = Case::new(|folder, text| {
        std::fs::create_dir(folder.join("..2026_1")).expect("folder");
        std::fs::write(folder.join("..2026_1/tidegate.yaml"), text).expect("write");
        symlink("..2026_1", folder.join("..data")).expect("link");
        symlink("..data/tidegate.yaml", folder.join("tidegate.yaml")).expect("link");
    });
    for number in 2..5 {
        let (old, new) = (format!("..2026_{}", number - 1), format!("..2026_{number}"));
        std::fs::create_dir(case.path(&new)).expect("folder");
        std::fs::write(case.path(&new).join("tidegate.yaml"), case.text(&number.to_string())).expect("write");
        symlink(&new, case.path("..data_tmp")).expect("link");
        std::fs::rename(case.path("..data_tmp"), case.path("..data")).expect("rename");
        std::fs::remove_dir_all(case.path(&old)).expect("remove");
        case.serves(&number.to_string(), number);
    }
}

#[test]
fn a_hangup_signal_reloads_and_a_touched_file_is_no_news() {
    let case = Case::new(plain);
    std::fs::write(case.path("tidegate.yaml"), case.text("0")).expect("write");
    case.gateway.signal("HUP");
    std::thread::sleep(Duration::from_millis(800));
    assert_eq!(case.gateway.generation(), 1, "the same text is the same configuration");
    std::fs::write(case.path("tidegate.yaml"), case.text("1")).expect("write");
    case.gateway.signal("HUP");
    case.serves("1", 2);
}

#[test]
fn a_rollback_holds_until_the_file_changes() {
    let case = Case::new(plain);
    std::fs::write(case.path("tidegate.yaml"), case.text("1")).expect("write");
    case.serves("1", 2);
    assert_eq!(case.gateway.admin("POST", "/-/config/rollback?generation=9").status, 404);
    assert_eq!(case.gateway.admin("POST", "/-/config/rollback?generation=1").status, 200);
    case.serves("0", 3);
    // Longer than contents are compared without an event.
    std::thread::sleep(Duration::from_secs(6));
    case.serves("0", 3);
    std::fs::write(case.path("tidegate.yaml"), case.text("2")).expect("write");
    case.serves("2", 4);
}
