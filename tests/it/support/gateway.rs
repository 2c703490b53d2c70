//! The gateway under test: the real binary, its own process, free ports.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::{Answer, eventually, exchange};

/// A running gateway. Killed when dropped.
pub(crate) struct Gateway {
    child: Child,
    dir: TempDir,
    file: PathBuf,
    addresses: HashMap<String, SocketAddr>,
    ports: Vec<u16>,
}

impl Gateway {
    /// Starts the built binary on this configuration; its listeners have port 0.
    pub(crate) fn start(yaml: &str) -> Self {
        Self::start_binary(env!("CARGO_BIN_EXE_tidegate").as_ref(), yaml)
    }

    /// Starts another binary that has the same command line.
    pub(crate) fn start_binary(binary: &Path, yaml: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let file = dir.path().join("tidegate.yaml");
        let (yaml, ports) = with_ports(yaml, &[]);
        std::fs::write(&file, yaml.replace("DATA_DIR", &dir.path().display().to_string())).expect("write the file");
        Self::spawn(binary, dir, file, ports)
    }

    /// Starts the built binary on a file that is there already.
    pub(crate) fn start_on(file: &Path) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        Self::spawn(env!("CARGO_BIN_EXE_tidegate").as_ref(), dir, file.to_owned(), Vec::new())
    }

    fn spawn(binary: &Path, dir: TempDir, file: PathBuf, ports: Vec<u16>) -> Self {
        let (child, addresses) = launch(binary, dir.path(), &file);
        let gateway = Self { child, dir, file, addresses, ports };
        gateway.wait_until_it_listens();
        gateway
    }

    fn wait_until_it_listens(&self) {
        assert!(self.addresses.contains_key("admin"), "the gateway did not start:\n{}", self.stderr());
        // It has said where it listens just before it does.
        let connects = || self.addresses.values().all(|address| std::net::TcpStream::connect(address).is_ok());
        eventually("the gateway listens", Duration::from_secs(10), connects);
    }

    /// Kills it without warning and starts it again on the same file and the same ports.
    pub(crate) fn kill_and_start(&mut self) {
        self.child.kill().expect("kill the gateway");
        self.child.wait().expect("its end");
        (self.child, self.addresses) = launch(env!("CARGO_BIN_EXE_tidegate").as_ref(), self.dir.path(), &self.file);
        self.wait_until_it_listens();
    }

    /// Where its file, its logs and its data are.
    pub(crate) fn folder(&self) -> &Path {
        self.dir.path()
    }

    /// Where a listener listens.
    pub(crate) fn address(&self, listener: &str) -> SocketAddr {
        *self.addresses.get(listener).unwrap_or_else(|| panic!("no listener {listener}; stderr:\n{}", self.stderr()))
    }

    /// Where clients go.
    pub(crate) fn public(&self) -> SocketAddr {
        self.address("public")
    }

    /// Kills it without a word and starts it anew, with the same file, data and ports.
    pub(crate) fn crash_and_restart(&mut self) {
        self.signal("KILL");
        assert!(self.ended_within(Duration::from_secs(5)).is_some(), "still there");
        let dir = std::mem::replace(&mut self.dir, tempfile::tempdir().expect("a temporary folder"));
        let (file, ports) = (self.file.clone(), self.ports.clone());
        *self = Self::spawn(env!("CARGO_BIN_EXE_tidegate").as_ref(), dir, file, ports);
    }

    /// Where its data lies.
    pub(crate) fn data_dir(&self) -> &Path {
        self.dir.path()
    }

    /// Writes the configuration file anew, in place.
    pub(crate) fn write_config(&self, yaml: &str) {
        let (yaml, _) = with_ports(yaml, &self.ports);
        let text = yaml.replace("DATA_DIR", &self.dir.path().display().to_string());
        std::fs::write(&self.file, text).expect("write the file");
    }

    /// Writes the file anew and waits until the gateway serves it.
    pub(crate) fn reload(&self, yaml: &str) {
        let before = self.generation();
        self.write_config(yaml);
        eventually("the new file is served", Duration::from_secs(10), || self.generation() > before);
    }

    /// Asks the admin listener.
    pub(crate) fn admin(&self, method: &str, target: &str) -> Answer {
        exchange(
            self.address("admin"),
            &format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"),
        )
    }

    /// The number of the running configuration.
    pub(crate) fn generation(&self) -> u64 {
        let status: Value = serde_json::from_slice(&self.admin("GET", "/-/config/status").body).expect("JSON");
        status["generation"].as_u64().expect("a generation")
    }

    /// The sum of all metric lines that start like this.
    pub(crate) fn metric(&self, prefix: &str) -> f64 {
        let text = self.admin("GET", "/metrics").text();
        let matching = text.lines().filter(|line| line.starts_with(prefix));
        matching.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Resident memory in KiB.
    pub(crate) fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("its status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line VmRSS");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    /// What it has written to stderr.
    pub(crate) fn stderr(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("stderr")).unwrap_or_default()
    }

    /// The access log's lines so far; `at_least` so many are waited for.
    pub(crate) fn access_log(&self, at_least: usize) -> Vec<Value> {
        let read = || {
            let text = std::fs::read_to_string(self.dir.path().join("access.log")).unwrap_or_default();
            text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect::<Vec<Value>>()
        };
        eventually("lines in the access log", Duration::from_secs(10), || read().len() >= at_least);
        read()
    }

    /// The process's number.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal by name.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status();
        assert!(sent.expect("run kill").success());
    }

    /// Waits for its end; `None` when it has not ended within the limit.
    pub(crate) fn ended_within(&mut self, limit: Duration) -> Option<std::process::ExitStatus> {
        let start = std::time::Instant::now();
        while start.elapsed() < limit {
            if let Some(status) = self.child.try_wait().expect("wait") {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        None
    }

    /// Whether it is still running.
    pub(crate) fn alive(&mut self) -> bool {
        self.child.try_wait().expect("wait").is_none()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the gateway's stderr:\n{}", self.stderr());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts the process and reads where it listens.
fn launch(binary: &Path, dir: &Path, file: &Path) -> (Child, HashMap<String, SocketAddr>) {
    let stderr = std::fs::File::create(dir.join("stderr")).expect("a file for stderr");
    let mut child = Command::new(binary)
        .args(["run", "--log-format", "text", "--access-log"])
        .arg(dir.join("access.log"))
        .arg("--config")
        .arg(file)
        .env("RUST_BACKTRACE", "0")
        .env("NO_COLOR", "1")
        .stdout(Stdio::piped())
        .stderr(stderr)
        .spawn()
        .expect("start the gateway");
    let stdout = BufReader::new(child.stdout.take().expect("stdout is a pipe"));
    let mut addresses = HashMap::new();
    for line in stdout.lines() {
        let line = line.expect("a line of text");
        let Some((name, address)) =
            line.strip_prefix("tidegate ").and_then(|rest| rest.split_once(" listening on http://"))
        else {
            continue;
        };
        addresses.insert(name.to_owned(), address.parse().expect("an address"));
        if name == "admin" {
            break;
        }
    }
    (child, addresses)
}

/// Fills in every port 0, in order, with the ports of an earlier call or new ones; returns the ports, too.
fn with_ports(yaml: &str, earlier: &[u16]) -> (String, Vec<u16>) {
    let mut parts = yaml.split("127.0.0.1:0\"");
    let mut text = parts.next().unwrap_or_default().to_owned();
    let mut ports = Vec::new();
    for (number, part) in parts.enumerate() {
        let port = earlier.get(number).copied().unwrap_or_else(super::free_port);
        ports.push(port);
        text.push_str(&format!("127.0.0.1:{port}\"{part}"));
    }
    (text, ports)
}

/// A file with one route for every path to one origin. `more` is put behind it at top level, `route` within the route,
/// each indented as YAML asks.
pub(crate) fn one_route(origin: SocketAddr, limits: &str, route: &str, more: &str) -> String {
    format!(
        "version: 1
server:
  data_dir: DATA_DIR
  listeners:
    - {{name: public, address: \"127.0.0.1:0\", protocols: [h1, h2c]}}
{limits}
admin:
  address: \"127.0.0.1:0\"
upstreams:
  origin:
    read_timeout: 2s
    channels:
      - {{name: origin, endpoints: [\"{origin}\"]}}
routes:
  - name: all
    match: {{path: \"/**\"}}
    upstream: origin
{route}
{more}
"
    )
}
