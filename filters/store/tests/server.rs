//! A Postgres server for one test: a cluster of its own in a temporary folder, on a free port. It does not run as root, so
//! there it is given to the user `postgres`, whom the package makes.

use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

/// Where Debian keeps the programs, a folder for each version.
const VERSIONS: &str = "/usr/lib/postgresql";

/// A running server; killed when dropped.
pub(crate) struct Server {
    folder: TempDir,
    port: u16,
    running: Option<Child>,
}

impl Server {
    /// Makes a cluster and starts it.
    pub(crate) fn start() -> Self {
        let folder = TempDir::new().expect("a folder");
        if is_root() {
            let owned = Command::new("chown").arg("postgres").arg(folder.path()).status();
            assert!(owned.is_ok_and(|status| status.success()), "the folder cannot be given to the user postgres");
        }
        let made = program("initdb")
            .args(["--auth", "trust", "--username", "tidegate", "--no-locale", "--encoding", "UTF8", "--pgdata"])
            .arg(folder.path().join("data"))
            .current_dir(folder.path())
            .output()
            .expect("initdb starts");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let port = TcpListener::bind("127.0.0.1:0").and_then(|probe| probe.local_addr()).expect("a port").port();
        let mut server = Self { folder, port, running: None };
        server.again();
        server
    }

    /// Starts it on what is on the disk.
    pub(crate) fn again(&mut self) {
        let folder: &Path = self.folder.path();
        let mut command = program("postgres");
        command.arg("-D").arg(folder.join("data")).arg("-k").arg(folder).args(["-p", &self.port.to_string()]);
        command.args(["-c", "listen_addresses=127.0.0.1", "-c", "shared_buffers=8MB"]).current_dir(folder);
        // A group of its own: the server's children end with it.
        command.stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        self.running = Some(command.spawn().expect("postgres starts"));
        for _ in 0..600 {
            let asked = program("psql").args(["-XAtqc", "SELECT 1", &self.url()]).stderr(Stdio::null()).output();
            if asked.is_ok_and(|answer| answer.status.success()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("the server does not answer");
    }

    /// `kill -9` for it and all its children.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.running.take() {
            let group = format!("-{}", child.id());
            let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
            let _ = child.wait();
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("postgres://tidegate@127.0.0.1:{}/postgres", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

/// One of the newest version's programs, by a user who may run it.
fn program(name: &str) -> Command {
    let versions = std::fs::read_dir(VERSIONS).expect("Debian's package `postgresql` is not installed");
    let mut found: Vec<PathBuf> = versions.filter_map(|entry| Some(entry.ok()?.path())).collect();
    found.sort();
    let path = found.pop().expect("a version").join("bin").join(name);
    if !is_root() {
        return Command::new(path);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "postgres", "--regid", "postgres", "--clear-groups"]).arg(path);
    command
}
