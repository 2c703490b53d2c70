//! The command line: run, check, schema.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use tidegate_filters::engine::Kinds;

use crate::config;
use crate::server::{self, RunOptions};
use crate::telemetry::{self, AccessLogTarget, LogFormat};
use crate::waiting_room::simulate::{self, Tool};

/// Exit code for a file with problems, as `sysexits.h` has it.
const EX_CONFIG: u8 = 78;

#[derive(Parser)]
#[command(
    name = "tidegate",
    version,
    about = "Programmable API gateway and rate-limiting reverse proxy for payment backends"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the gateway; edits to the file take effect while it runs.
    Run {
        /// The configuration file.
        #[arg(short, long, default_value = "config/tidegate.yaml")]
        config: PathBuf,
        /// Where the line of each request goes: `off`, `stdout`, or a file.
        #[arg(long, default_value = "stdout")]
        access_log: String,
        /// Form of the log on standard error.
        #[arg(long, value_enum, default_value_t = Format::Json)]
        log_format: Format,
    },
    /// Check a configuration file and print everything that is wrong with it.
    Check {
        /// The file.
        file: PathBuf,
    },
    /// Print the JSON Schema of the configuration file.
    Schema,
    /// Tools for waiting rooms.
    #[command(subcommand)]
    WaitingRoom(Tool),
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Json,
    Text,
}

/// Runs the command with these kinds of filters; a binary with filters of its own calls this with a longer list.
#[must_use]
pub fn main(kinds: &Kinds) -> ExitCode {
    match Arguments::parse().command {
        Command::Run { config, access_log, log_format } => run(config, &access_log, log_format, kinds.clone()),
        Command::Check { file } => check(&file, kinds),
        Command::Schema => schema(kinds),
        Command::WaitingRoom(tool) => waiting_room(&tool, kinds),
    }
}

fn run(file: PathBuf, access_log: &str, format: Format, kinds: Kinds) -> ExitCode {
    telemetry::init_tracing(match format {
        Format::Json => LogFormat::Json,
        Format::Text => LogFormat::Text,
    });
    let access_log = match access_log {
        "off" => AccessLogTarget::Off,
        "stdout" | "-" => AccessLogTarget::Stdout,
        path => AccessLogTarget::File(path.into()),
    };
    match server::run(RunOptions { file, access_log, kinds }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error.to_string());
            ExitCode::from(if matches!(error, server::RunError::Config(_)) { EX_CONFIG } else { 1 })
        }
    }
}

fn check(file: &std::path::Path, kinds: &Kinds) -> ExitCode {
    match config::load(file, kinds, &|name| std::env::var(name).ok()) {
        Ok(loaded) => {
            for warning in &loaded.warnings {
                complain(&warning.to_string());
            }
            let config = &loaded.config;
            say(&format!("{}: ok ({} routes, {} filters)", file.display(), config.routes.len(), config.filters.len()))
        }
        Err(report) => {
            complain(&report.to_string());
            ExitCode::from(EX_CONFIG)
        }
    }
}

fn waiting_room(tool: &Tool, kinds: &Kinds) -> ExitCode {
    match simulate::run(tool, kinds) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

fn schema(kinds: &Kinds) -> ExitCode {
    match serde_json::to_string_pretty(&config::schema(kinds)) {
        Ok(text) => say(&text),
        Err(error) => {
            complain(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

fn say(text: &str) -> ExitCode {
    let written = writeln!(std::io::stdout(), "{text}");
    if written.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn complain(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
