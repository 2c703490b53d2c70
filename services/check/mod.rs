//! `check DIR`: do everybody's books agree? Reads the files of all services in a folder, whether they run or are dead.
//!
//! | | Must hold | Read from |
//! | --- | --- | --- |
//! | I1 | nothing is sold that is not there | card keys |
//! | I2 | who has paid gets his keys or his money, and nobody else gets keys | orders, card keys |
//! | I3 | a key is one buyer's, an order has exactly its number | card keys, orders |
//! | I4 | no money appears or disappears | accounts |
//! | I5 | nobody pays twice, by the channels' own ledgers | orders, channels, the gateway's journal |
//! | I6 | what was acknowledged is there | orders, and a client's list of them |
//! | I7 | each effect happens once | orders, card keys |
//! | I8 | no second channel is tried while the outcome at the first is open | orders, the gateway's journal, channels |
//! | I9 | every transfer ends the same on both sides | accounts |
//! | I10 | everything ends, or somebody has been called | orders, the gateway's journal |
//!
//! What is within one file is asked by its service's own checks, which running services answer, too. What spans files is
//! here. Files of running services are not read at the same moment, so only files that rest are proof: under load an
//! order may be seen before its keys. `GET /admin/invariants` of the order service looks twice for that.
//!
//! *Late* is measured by the newest entry in the files and not by the clock: nobody is late while nobody runs.

mod across;
mod journal;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use rusqlite::Connection;

use crate::accounts::{self, Bank};
use crate::support::{Files, look_into};
use crate::{card_key, order};

/// Exit code when a promise was not kept.
const VIOLATED: u8 = 2;

/// What is half done is done by then.
const PAUSE: Duration = Duration::from_secs(2);

/// Exit code's reason when it could not be found out.
type Error = Box<dyn std::error::Error + Send + Sync>;

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder with the files of the services.
    folder: PathBuf,
    /// File with the numbers of orders that clients were told, one a line: each must be there.
    #[arg(long)]
    acknowledged: Option<PathBuf>,
}

/// Prints every violation in a line of its own, and what was looked at. Code 0: there is none; 2: there are some; 1: it
/// cannot be said.
///
/// # Errors
/// When a file cannot be read, or when there is none.
pub async fn run(args: Args) -> Result<ExitCode, Error> {
    let told = args.acknowledged.as_deref().map(std::fs::read_to_string).transpose()?;
    let told: Vec<String> = told.iter().flat_map(|text| text.lines()).map(|line| line.trim().to_owned()).collect();
    let found = check(&args.folder, &told).await?;
    let mut out = std::io::stdout().lock();
    for violation in &found.violations {
        writeln!(out, "{violation}")?;
    }
    let (seen, violations) = (found.seen.join(", "), found.violations.len());
    writeln!(out, "{violations} violations in {seen}")?;
    Ok(if violations == 0 { ExitCode::SUCCESS } else { ExitCode::from(VIOLATED) })
}

/// What was found.
#[derive(Debug, Default)]
pub struct Found {
    /// In words, each beginning with its invariant.
    pub violations: Vec<String>,
    /// The files that were read.
    pub seen: Vec<String>,
}

/// The same while services write: what is found twice, a moment apart. What was seen half-way is gone by then.
///
/// # Errors
/// As [`check`].
pub async fn check_in_use(folder: &Path) -> Result<Found, Error> {
    let first = check(folder, &[]).await?;
    if first.violations.is_empty() {
        return Ok(first);
    }
    tokio::time::sleep(PAUSE).await;
    let second = check(folder, &[]).await?;
    let lasting = second.violations.into_iter().filter(|one| first.violations.contains(one)).collect();
    Ok(Found { violations: lasting, seen: second.seen })
}

/// The files of a folder, opened. The gateway's journal is there when it has the same data folder.
struct Books {
    files: Files,
    orders: Vec<Connection>,
    card_keys: Option<Connection>,
    /// By the channel's name.
    channels: Vec<(String, Connection)>,
    journal: Option<Connection>,
}

/// Looks at everything in a folder; `told` are orders that clients were told of.
///
/// # Errors
/// When a file cannot be read, or when there is none.
pub async fn check(folder: &Path, told: &[String]) -> Result<Found, Error> {
    let mut found = Found::default();
    if let Some(bank) = Bank::look(folder)? {
        found.violations.extend(accounts::violations(&bank).await?);
        found.seen.push("accounts".to_owned());
    }
    let books = open(folder, &mut found.seen)?;
    let told = told.to_vec();
    let violations = tokio::task::spawn_blocking(move || look(&books, &told)).await??;
    found.violations.extend(violations);
    if found.seen.is_empty() {
        return Err(format!("{}: there are no files of the services", folder.display()).into());
    }
    Ok(found)
}

fn open(folder: &Path, seen: &mut Vec<String>) -> Result<Books, Error> {
    let mut at = |name: &str| {
        seen.push(name.to_owned());
        look_into(&folder.join(name)).map_err(|error| format!("{name}: {error}"))
    };
    let files = Files::found(folder, order::SERVICE);
    let mut orders = Vec::new();
    for name in files.iter().flat_map(|files| files.names(order::SERVICE)) {
        orders.push(at(&name)?);
    }
    let card_keys = folder.join(card_key::DATA_FILE).exists();
    let card_keys = card_keys.then(|| at(card_key::DATA_FILE)).transpose()?;
    let mut names: Vec<String> =
        std::fs::read_dir(folder)?.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.retain(|name| name.starts_with("channel-") && name.ends_with(".sqlite"));
    names.sort();
    let mut channels = Vec::new();
    for file in names {
        let name = file.trim_start_matches("channel-").trim_end_matches(".sqlite").to_owned();
        channels.push((name, at(&file)?));
    }
    let journal = folder.join(journal::FILE).exists();
    let journal = journal.then(|| at(journal::FILE)).transpose()?;
    let files = files.or(Files::new(1)).ok_or("one file is allowed")?;
    Ok(Books { files, orders, card_keys, channels, journal })
}

fn look(books: &Books, told: &[String]) -> rusqlite::Result<Vec<String>> {
    let mut found = Vec::new();
    let mut newest_ms = 0;
    for file in &books.orders {
        let newest = "SELECT coalesce(max(at_ms), 0) FROM order_events";
        newest_ms = newest_ms.max(file.query_row(newest, [], |row| row.get(0))?);
    }
    for file in &books.orders {
        found.extend(order::inspect::violations(file, newest_ms)?);
    }
    if let Some(file) = &books.card_keys {
        found.extend(card_key::inspect::check_rows(file)?);
    }
    if let Some(file) = &books.journal {
        found.extend(journal::violations(file, books, newest_ms)?);
    }
    found.extend(across::violations(books, told)?);
    Ok(found)
}
