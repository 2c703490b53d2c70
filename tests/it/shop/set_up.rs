//! The shipped set-up on free ports: the gateway and each service as a process that can be killed and started again.

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use tempfile::TempDir;

use crate::support::{eventually, free_port};

/// The processes, in the order in which they are started. Each is one that a crash test kills.
pub(super) const PROCESSES: [&str; 6] = ["card-key", "alipay", "wechat", "union", "order", "gateway"];

/// Those of them that are payment channels.
pub(super) const CHANNELS: [&str; 3] = ["alipay", "wechat", "union"];

/// Ports of the shipped configuration, with the name of whoever listens there.
const SHIPPED: [(u16, &str); 8] = [
    (7001, "order"),
    (7002, "card-key"),
    (7101, "alipay"),
    (7102, "wechat"),
    (7103, "union"),
    (8080, "gateway"),
    (8081, "egress"),
    (9901, "admin"),
];

pub(super) struct Shop {
    dir: TempDir,
    ports: BTreeMap<&'static str, u16>,
    impatient: bool,
    running: Mutex<BTreeMap<&'static str, Child>>,
}

fn free_ports() -> BTreeMap<&'static str, u16> {
    SHIPPED.iter().map(|(_, name)| (*name, free_port())).collect()
}

/// The services' binary lies beside the gateway's; `cargo build --workspace` makes both.
fn services_binary() -> PathBuf {
    let beside = PathBuf::from(env!("CARGO_BIN_EXE_tidegate")).with_file_name("tidegate-services");
    assert!(beside.exists(), "{} is missing: run `cargo build --workspace --bins` first", beside.display());
    beside
}

impl Shop {
    /// Starts everything on empty stores with the demo products.
    pub(super) fn start() -> Self {
        Self::start_with(false, |yaml| yaml)
    }

    /// The same, with another configuration made of the shipped one.
    pub(super) fn start_edited(edit: impl FnOnce(String) -> String) -> Self {
        Self::start_with(false, edit)
    }

    /// As [`Shop::start`], for channels that will fail: one that says nothing is waited for two seconds instead of ten,
    /// doubts are looked at sooner, and breakers rest for two seconds.
    pub(super) fn start_faulty() -> Self {
        Self::start_with(true, |yaml| {
            let yaml = yaml.replace("read_timeout: 10s", "read_timeout: 2s").replace("open_for: 30s", "open_for: 2s");
            let sooner = "currency: {json: /currency}, resolve: {unit: 200ms, not_found_min_age: 8s}}";
            yaml.replace("currency: {json: /currency}}", sooner)
        })
    }

    fn start_with(impatient: bool, edit: impl FnOnce(String) -> String) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let ports = free_ports();
        let mut yaml =
            std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/config/tidegate.yaml")).expect("the file");
        for (shipped, name) in SHIPPED {
            yaml = yaml.replace(&format!("127.0.0.1:{shipped}"), &format!("127.0.0.1:{}", ports[name]));
        }
        std::fs::write(dir.path().join("tidegate.yaml"), edit(yaml)).expect("write");
        let shop = Self { dir, ports, impatient, running: Mutex::default() };
        for name in PROCESSES {
            shop.restart(name);
        }
        shop
    }

    pub(super) fn url(&self, name: &str) -> String {
        format!("http://127.0.0.1:{}", self.ports[name])
    }

    /// Starts a process, or starts it again on what it left on disk.
    pub(super) fn restart(&self, name: &'static str) {
        let log = std::fs::File::options().create(true).append(true).open(self.dir.path().join(format!("{name}.log")));
        let log = log.expect("a log file");
        let mut command = self.command(name);
        command.env("RUST_BACKTRACE", "0").env("NO_COLOR", "1").env("RUST_LOG", "warn").stdin(Stdio::null());
        command.stdout(log.try_clone().expect("a log file")).stderr(log);
        let child = command.spawn().expect("start");
        self.running.lock().expect("no poison").insert(name, child);
        let port = self.ports[name];
        let listens = || TcpStream::connect(("127.0.0.1", port)).is_ok();
        eventually(&format!("{name} listens"), Duration::from_secs(30), listens);
    }

    fn command(&self, name: &'static str) -> Command {
        let data = self.dir.path().join("data");
        let listen = format!("127.0.0.1:{}", self.ports[name]);
        if name == "gateway" {
            let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
            command.args(["run", "--access-log", "off", "--config"]).arg(self.dir.path().join("tidegate.yaml"));
            // Its data folder counts from here.
            command.current_dir(self.dir.path());
            return command;
        }
        let mut command = Command::new(services_binary());
        match name {
            "card-key" => command.args(["card-key", "--seed-demo"]),
            "order" => command.args(["order", "--card-key", &self.url("card-key"), "--egress", &self.url("egress")]),
            channel => command.args(["channel-simulator", "--name", channel]),
        };
        if name == "order" {
            command.args(["--public-url", &self.url("gateway")]);
        }
        if name == "order" && self.impatient {
            command.args(["--channel-timeout", "6", "--not-found-min-age", "8", "--retry-unit-ms", "200"]);
        }
        command.args(["--listen", &listen, "--data-dir"]).arg(data);
        command
    }

    /// `kill -9`.
    pub(super) fn kill(&self, name: &str) {
        if let Some(child) = self.running.lock().expect("no poison").get_mut(name) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// What every process has written.
    fn logs(&self) -> String {
        let read = |name: &&str| {
            let text = std::fs::read_to_string(self.dir.path().join(format!("{name}.log"))).unwrap_or_default();
            let last: Vec<&str> = text.lines().rev().take(15).collect();
            format!("--- {name}\n{}\n", last.into_iter().rev().collect::<Vec<_>>().join("\n"))
        };
        PROCESSES.iter().map(read).collect()
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.logs());
        }
        for name in PROCESSES {
            self.kill(name);
        }
    }
}
