//! One run: a bill, a day, a report.
//!
//! The id of a run is its day, its channel and the hash of its bill. A run that is done is a document: asked for again,
//! it is handed out as it is. Another bill for the same day is another run.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tidegate_durable::{Options, Store, WriteError};

use super::bill;
use super::day::Day;
use super::join::join;
use super::judge::{Frame, Judge};
use super::model::{Carried, Channel};
use super::orders::Orders;
use super::ours::Ours;
use super::report::{self, About, ItemWriter, OurTotals, Tally};
use super::store::{self, Found};
use super::{RunError, sort};
use crate::support::{StartError, hex, unix_ms};

/// How a run compares.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// How close to midnight something may be missing without being a difference yet.
    pub window: Duration,
    /// The agreed fee in hundredths of a percent; absent when fees are not compared.
    pub fee_basis_points: Option<u32>,
}

impl Default for Rules {
    fn default() -> Self {
        Self { window: Duration::from_secs(30 * 60), fee_basis_points: None }
    }
}

/// What is to be compared.
#[derive(Debug, Clone)]
pub struct Job {
    /// Whose bill.
    pub channel: Channel,
    /// The day it is about.
    pub day: Day,
    /// Where it lies.
    pub bill: PathBuf,
    /// How.
    pub rules: Rules,
}

impl Job {
    fn frame(&self) -> Frame {
        let window_ms = i64::try_from(self.rules.window.as_millis()).unwrap_or(i64::MAX);
        Frame { day: self.day, window_ms, fee_basis_points: self.rules.fee_basis_points }
    }
}

/// A run that is done.
#[derive(Debug, Clone)]
pub struct Done {
    /// Its id.
    pub id: String,
    /// The report as JSON text.
    pub report: String,
    /// How many differences it has; what is carried over is none.
    pub differences: u64,
}

/// The runs of one data folder.
#[derive(Debug, Clone)]
pub struct Runs {
    folder: PathBuf,
    pub(super) store: Store,
}

impl Runs {
    /// Opens the file of runs in the data folder of the order service, making it when absent.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn open(folder: &Path) -> Result<Self, StartError> {
        let store = Store::open(&folder.join(store::FILE), store::MIGRATIONS, Options::default())?;
        Ok(Self { folder: folder.to_owned(), store })
    }

    /// The id a run has.
    ///
    /// # Errors
    /// When the bill cannot be read.
    pub async fn id(&self, job: &Job) -> Result<String, RunError> {
        let bill = job.bill.clone();
        let hash = blocking(move || Ok(hash(&bill)?)).await?;
        Ok(id(job, &hash))
    }

    /// Compares a bill with the order service's books, or hands out what was found before.
    ///
    /// # Errors
    /// [`RunError`] when the bill is not to be believed, or either side cannot be read. Nothing is kept then.
    pub async fn run(&self, job: Job) -> Result<Done, RunError> {
        let frame = job.frame();
        let (from_ms, to_ms) = (frame.day.begin_ms() - frame.window_ms, frame.day.end_ms() + frame.window_ms);
        let (books, channel) = (self.folder.clone(), job.channel);
        self.run_with(job, move || Ok(Orders::open(&books, channel, from_ms, to_ms)?)).await
    }

    /// The same with other books, which `open` opens when they are needed.
    ///
    /// # Errors
    /// As [`Runs::run`].
    pub async fn run_with<O: Ours>(
        &self,
        job: Job,
        open: impl FnOnce() -> Result<O, RunError> + Send + 'static,
    ) -> Result<Done, RunError> {
        let bill = job.bill.clone();
        let hash = blocking(move || Ok(hash(&bill)?)).await?;
        let id = id(&job, &hash);
        let (known, channel, day) = (id.clone(), job.channel, job.day);
        if let Some(report) = self.store.read(move |connection| store::report(connection, &known)).await? {
            return done(id, report);
        }
        let carried = self.store.read(move |connection| store::carried_before(connection, channel, day)).await?;
        let (folder, number) = (self.folder.clone(), id.clone());
        let found = blocking(move || compare(&job, number, &hash, carried, open()?, &folder)).await?;
        let now_ms = unix_ms();
        let report = self.store.write(move |connection| store::save(connection, found, now_ms)).await;
        let report = report.map_err(|error| match error {
            WriteError::Op(error) => error,
            WriteError::Store(error) => error.into(),
        })?;
        done(id, report)
    }

    /// Writes the items of a run as CSV.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub async fn write_items(&self, id: &str, path: &Path) -> Result<(), RunError> {
        let (id, path) = (id.to_owned(), path.to_owned());
        // The pool knows SQLite's errors only; ours travel inside.
        let written = self.store.read(move |connection| {
            Ok(File::create(path)
                .map_err(RunError::from)
                .and_then(|file| store::write_items(connection, &id, BufWriter::new(file))))
        });
        written.await?
    }
}

/// How many differences a report speaks of.
fn done(id: String, report: String) -> Result<Done, RunError> {
    let value: serde_json::Value = serde_json::from_str(&report).map_err(std::io::Error::other)?;
    let differences = value["differences"].as_u64().unwrap_or(0);
    Ok(Done { id, report, differences })
}

fn id(job: &Job, hash: &str) -> String {
    format!("{}-{}-{}", job.day, job.channel, &hash[..16])
}

/// SHA-256 of a file, in hexadecimal digits.
fn hash(path: &Path) -> std::io::Result<String> {
    let mut file = BufReader::with_capacity(64 * 1024, File::open(path)?);
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(hex(&hash.finalize()));
        }
        hash.update(&buffer[..read]);
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RunError> + Send + 'static,
) -> Result<T, RunError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(std::io::Error::other(error).into()))
}

/// Compares, and finds what is to be kept.
fn compare(
    job: &Job,
    id: String,
    hash: &str,
    carried: Vec<Carried>,
    ours: impl Ours,
    folder: &Path,
) -> Result<Found, RunError> {
    let frame = job.frame();
    let (mut tally, carried_in) = (Tally::default(), carried.len());
    let mut misplaced = None;
    let sorted = sort::sort(bill::open(job.channel, &job.bill)?, folder, |entry| {
        // A refund may carry the time of its payment.
        if entry.kind == bill::Kind::Payment && Day::of(entry.at_ms) != job.day {
            misplaced.get_or_insert((entry.line, Day::of(entry.at_ms)));
        }
        tally.bill.add(entry);
    })?;
    if let Some((line, day)) = misplaced {
        let what = format!("is about {day}, not {}: another day's bill", job.day);
        return Err(bill::BillError::Line { line, what }.into());
    }
    let mut items = ItemWriter::new(BufWriter::new(tempfile::tempfile_in(folder)?))?;
    let (mut judge, mut failure) = (Judge::new(frame), None);
    let mut our_totals = OurTotals::default();
    join(sorted, ours, carried, &mut judge, |payment| our_totals.add(payment, &frame), &mut |item| {
        let n = tally.add_item(&item);
        if let Err(error) = items.write(n, &item) {
            failure.get_or_insert(error);
        }
    })?;
    if let Some(error) = failure {
        return Err(error.into());
    }
    let items = items.finish()?.into_inner().map_err(std::io::IntoInnerError::into_error)?;
    let Judge { matched, mut carry, .. } = judge;
    carry.sort();
    carry.dedup_by(|a, b| (&a.out_trade_no, a.why) == (&b.out_trade_no, b.why));
    let about = About { id: &id, channel: job.channel, bill_sha256: hash, frame, carried_in, carried_out: carry.len() };
    let report = format!("{:#}\n", report::report(&about, &tally, &our_totals, &matched));
    Ok(Found { id, channel: job.channel, day: job.day, report, items, carried: carry })
}
