//! The bundled set-up as processes that can be killed: the gateway and each service, on free ports and in a folder of their
//! own, with the configuration that is shipped.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::Failure;
use crate::ports::free_port;

/// In the order in which they are started.
pub(crate) const PROCESSES: [&str; 6] = ["card-key", "alipay", "wechat", "union", "order", "gateway"];

/// Those of them that are payment channels.
pub(crate) const CHANNELS: [&str; 3] = ["alipay", "wechat", "union"];

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

/// Longest a process may take to listen, and to end when it is asked to.
const PATIENCE: Duration = Duration::from_secs(30);

/// How it is to be started.
pub(crate) struct Setup<'a> {
    /// Where the two programs are.
    pub(crate) binaries: &'a Path,
    /// The gateway's shipped configuration.
    pub(crate) config: &'a Path,
    /// Changes of it. Each text must be found in it.
    pub(crate) edits: &'a [(&'a str, &'a str)],
    /// Arguments of the services, beside those that all set-ups have.
    pub(crate) arguments: BTreeMap<&'static str, Vec<String>>,
}

/// What runs, and where.
pub(crate) struct Processes {
    folder: PathBuf,
    binaries: PathBuf,
    arguments: BTreeMap<&'static str, Vec<String>>,
    ports: BTreeMap<&'static str, u16>,
    running: Mutex<BTreeMap<&'static str, Child>>,
}

impl Processes {
    /// Starts everything with empty stores in a folder.
    ///
    /// # Errors
    /// When a program is missing or does not listen.
    pub(crate) fn start(folder: &Path, setup: Setup<'_>) -> Result<Self, Failure> {
        let Setup { binaries, config, edits, arguments } = setup;
        let ports: BTreeMap<_, _> = SHIPPED.iter().map(|(_, name)| (*name, free_port())).collect();
        let mut yaml = std::fs::read_to_string(config).map_err(|error| format!("{}: {error}", config.display()))?;
        for (shipped, name) in SHIPPED {
            yaml = yaml.replace(&format!("127.0.0.1:{shipped}"), &format!("127.0.0.1:{}", ports[name]));
        }
        for (shipped, wanted) in edits {
            if !yaml.contains(shipped) {
                return Err(format!("{}: `{shipped}` is not there any more", config.display()).into());
            }
            yaml = yaml.replace(shipped, wanted);
        }
        std::fs::write(folder.join("tidegate.yaml"), yaml)?;
        let (folder, binaries) = (folder.to_owned(), binaries.to_owned());
        let processes = Self { folder, binaries, arguments, ports, running: Mutex::default() };
        for name in PROCESSES {
            processes.restart(name)?;
        }
        Ok(processes)
    }

    pub(crate) fn url(&self, name: &str) -> String {
        format!("http://127.0.0.1:{}", self.ports[name])
    }

    /// Where all of them keep their files.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// One of the two programs.
    pub(crate) fn program(&self, name: &str) -> Command {
        Command::new(self.binaries.join(name))
    }

    /// Starts a process, or starts it again on what it left on disk.
    ///
    /// # Errors
    /// When it does not listen.
    pub(crate) fn restart(&self, name: &'static str) -> Result<(), Failure> {
        let log = self.folder.join(format!("{name}.log"));
        let mut command = self.command(name);
        let out = File::options().create(true).append(true).open(&log)?;
        command.env("RUST_LOG", "warn").env("NO_COLOR", "1").stdin(Stdio::null());
        command.stdout(out.try_clone()?).stderr(out);
        let child = command.spawn().map_err(|error| format!("{name} cannot be started: {error}"))?;
        std::fs::write(self.folder.join(format!("{name}.pid")), child.id().to_string())?;
        self.running().insert(name, child);
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.ports[name])).is_err() {
            if begun.elapsed() > PATIENCE {
                return Err(format!("{name} does not listen; see {}", log.display()).into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn command(&self, name: &'static str) -> Command {
        if name == "gateway" {
            let mut command = self.program("tidegate");
            command.args(["run", "--access-log", "off", "--config", "tidegate.yaml"]);
            // Its data folder counts from here.
            command.current_dir(&self.folder);
            return command;
        }
        let mut command = self.program("tidegate-services");
        match name {
            "card-key" => command.args(["card-key", "--seed-demo"]),
            "order" => command.args(["order", "--card-key", &self.url("card-key"), "--egress", &self.url("egress")]),
            channel => command.args(["channel-simulator", "--name", channel]),
        };
        if name == "order" {
            command.args(["--public-url", &self.url("gateway")]);
        }
        command.args(self.arguments.get(name).into_iter().flatten());
        command.args(["--listen", &format!("127.0.0.1:{}", self.ports[name]), "--data-dir"]).arg(self.data());
        command
    }

    /// `kill -9`.
    pub(crate) fn kill(&self, name: &str) {
        if let Some(child) = self.running().get_mut(name) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    fn running(&self) -> std::sync::MutexGuard<'_, BTreeMap<&'static str, Child>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for name in PROCESSES {
            self.kill(name);
        }
    }
}
