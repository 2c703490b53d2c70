//! The real binary as a child process.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};

const BINARY: &str = env!("CARGO_BIN_EXE_tidegate-services");

/// A running service; killed when dropped.
pub(crate) struct Process {
    child: Child,
    /// Where it listens: `http://` and the address.
    pub(crate) base: String,
}

impl Process {
    /// Starts `service` on port 0 with its data in `folder` and waits until it has announced its address.
    pub(crate) fn start(service: &str, folder: &Path, more: &[&str]) -> Self {
        Self::launch(service, "127.0.0.1:0", folder, more, &[])
    }

    /// The same at a certain address, where a process was before.
    pub(crate) fn start_at(service: &str, listen: &str, folder: &Path, more: &[&str]) -> Self {
        Self::launch(service, listen, folder, more, &[])
    }

    /// The same with variables in its environment.
    pub(crate) fn start_with(service: &str, folder: &Path, variables: &[(&str, &str)]) -> Self {
        Self::launch(service, "127.0.0.1:0", folder, &[], variables)
    }

    fn launch(service: &str, listen: &str, folder: &Path, more: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut child = Command::new(BINARY)
            .args([service, "--listen", listen, "--data-dir"])
            .arg(folder)
            .args(more)
            .env("RUST_LOG", "error")
            .envs(variables.iter().copied())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let mut line = String::new();
        let output = child.stdout.as_mut().expect("a pipe");
        BufReader::new(output).read_line(&mut line).expect("the binary announces itself");
        let (name, base) = line.trim().split_once(" listening on ").expect("name and address");
        assert_eq!(name, service);
        Self { base: base.to_owned(), child }
    }

    /// Starts a command that announces nothing and goes on until it is dropped.
    pub(crate) fn background(arguments: &[&str]) -> Self {
        let mut command = Command::new(BINARY);
        let child = command.args(arguments).env("RUST_LOG", "error").spawn().expect("the binary starts");
        Self { child, base: String::new() }
    }

    /// Runs a command of the binary to its end.
    pub(crate) fn run(arguments: &[&str]) -> Output {
        Command::new(BINARY).args(arguments).output().expect("the binary runs")
    }

    /// SIGKILL: no chance to finish anything.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("the child is killed");
        self.child.wait().expect("the child is gone");
    }

    /// SIGTERM; answers how it ended.
    pub(crate) fn terminate(mut self) -> ExitStatus {
        let id = self.child.id().to_string();
        Command::new("kill").args(["-TERM", &id]).status().expect("the signal is sent");
        self.child.wait().expect("the child ends")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Fails when it has ended already, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
