//! `tidegate-services`: the bundled backends on the command line, a subcommand each.

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tidegate_services::support::{log_to_stderr, run_until_signal};
use tidegate_services::{all, card_key, channel_simulator, check, order, reconciliation};

/// What can go wrong between the command line and the end; each error brings its own sentence.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The backends bundled with tidegate.
#[derive(Debug, Parser)]
#[command(name = "tidegate-services", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the card-key service: products, reservations, keys.
    CardKey(card_key::cli::Args),
    /// Run a payment channel that charges, declines, calls back and misbehaves as told.
    ChannelSimulator(channel_simulator::cli::Args),
    /// Run all of them in one process.
    All(all::Args),
    /// Run the order service: orders, payments, the shop page.
    Order(order::cli::Args),
    /// Send a file of card keys, one a line, to a running card-key service.
    Import(card_key::cli::ImportArgs),
    /// Look into the files of all services and say which promises were not kept.
    Check(check::Args),
    /// Compare a payment channel's bill of a day with the order service's books.
    Reconcile(reconciliation::cli::Args),
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    log_to_stderr();
    match run(cli.command).await {
        Ok(code) => code,
        Err(error) => {
            // Nobody is left to tell when stderr is closed.
            let _ = writeln!(std::io::stderr(), "tidegate-services: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> Result<ExitCode, Failure> {
    let services = match command {
        Command::CardKey(args) => vec![card_key::start(args.into_settings()).await?],
        Command::ChannelSimulator(args) => vec![channel_simulator::start(args.into_settings()).await?],
        Command::All(args) => all::start(args).await?,
        Command::Order(args) => vec![order::start(args.into_settings()).await?],
        Command::Import(args) => {
            card_key::cli::import(args).await?;
            return Ok(ExitCode::SUCCESS);
        }
        Command::Check(args) => return check::run(args).await,
        Command::Reconcile(args) => return reconciliation::cli::run(args).await,
    };
    run_until_signal(services).await?;
    Ok(ExitCode::SUCCESS)
}
