//! Import: a stream of text, one key a line, any length, in bounded memory. After a tab a line may have a second part,
//! the preview: what a buyer sees of the key before he chooses it.
//!
//! Lines are gathered into chunks, a chunk is sealed away from the runtime's threads and written as one operation.
//! Between two chunks of an import the writer serves buyers. What a chunk has imported stays imported, whatever
//! happens later: an import that was cut off, or that met a duplicate with `dedupe=reject`, has done all chunks
//! before that point and none after it, and its last report says how many keys that were. Sending the same file again
//! with `dedupe=skip` completes it.

use std::fmt::Display;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use serde::Serialize;
use tidegate_durable::{StoreError, WriteError};
use tokio::sync::mpsc;

use super::catalogue::{self, Dedupe, Incoming, Inserted, Shelf};
use super::pace::Pace;
use super::refusal::Refusal;
use super::shop::Shop;
use crate::support::unix_ms;

/// Longest key and longest preview in bytes.
pub(super) const MAX_KEY: usize = 1_024;
const MAX_PREVIEW: usize = 200;

/// Faults of single lines that are reported one by one; beyond it they are only counted.
const MAX_REPORTED: usize = 100;

/// Pause before a batch is tried again when the writer's queue is full: buyers go first.
pub(super) const BUSY_PAUSE: Duration = Duration::from_millis(20);

/// A line that was not imported.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Fault {
    /// Number of the line, from 1.
    pub(super) line: u64,
    /// `DUPLICATE_KEY`, `TOO_LONG` or `NOT_TEXT`. The key itself is never repeated.
    pub(super) code: &'static str,
}

/// How far an import has come; one line of the answer. All figures since its start.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Progress {
    /// Lines dealt with, empty ones included.
    pub(super) lines: u64,
    /// Keys imported, durably.
    pub(super) imported: u64,
    /// Keys left out because the shop has them already, under this SKU or another.
    pub(super) duplicates: u64,
    /// Lines that hold no usable key.
    pub(super) invalid: u64,
    /// This is the last report.
    pub(super) done: bool,
    /// Why the import ended early; absent when it did not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) aborted: Option<&'static str>,
    /// The first 100 faults of single lines, in the last report only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) errors: Vec<Fault>,
}

/// A line that holds a key, with its number.
struct Line {
    number: u64,
    key: String,
    preview: Option<String>,
}

/// Imports the whole stream. Reports go to `reports`: a slow or absent reader misses some, but not the last one.
pub(super) async fn run<E: Display>(
    shop: Arc<Shop>,
    shelf: Shelf,
    dedupe: Dedupe,
    mut body: impl Stream<Item = Result<Bytes, E>> + Unpin,
    reports: mpsc::Sender<Progress>,
) {
    let shelf = Arc::new(shelf);
    let (pace, progress) = (Pace::default(), Progress::default());
    let mut import = Import { shop, shelf, dedupe, pace, progress, faults: Vec::new() };
    let outcome = import.all(&mut body, &reports).await;
    let Import { mut progress, faults, .. } = import;
    progress.done = true;
    progress.aborted = outcome.err();
    progress.errors = faults;
    // A client that hung up does not want to know.
    let _ = reports.send(progress).await;
}

struct Import {
    shop: Arc<Shop>,
    shelf: Arc<Shelf>,
    dedupe: Dedupe,
    pace: Pace,
    progress: Progress,
    faults: Vec<Fault>,
}

impl Import {
    /// # Errors
    /// The code of what ended the import early.
    async fn all<E: Display>(
        &mut self,
        body: &mut (impl Stream<Item = Result<Bytes, E>> + Unpin),
        reports: &mpsc::Sender<Progress>,
    ) -> Result<(), &'static str> {
        let mut lines = Lines::default();
        let mut keys = Vec::new();
        while let Some(chunk) = body.next().await {
            let chunk = chunk.map_err(|error| {
                tracing::warn!(%error, "an import was cut off");
                "CUT_OFF"
            })?;
            for piece in chunk.split_inclusive(|byte| *byte == b'\n') {
                if lines.push(piece) {
                    self.take(&mut lines, &mut keys);
                }
                if keys.len() >= self.pace.size() {
                    self.commit(std::mem::take(&mut keys), lines.number).await?;
                    let _ = reports.try_send(self.progress.clone());
                }
            }
        }
        if lines.finish() {
            self.take(&mut lines, &mut keys);
        }
        self.commit(keys, lines.number).await
    }

    /// Takes the finished line, if it holds something.
    fn take(&mut self, lines: &mut Lines, keys: &mut Vec<Line>) {
        match lines.take() {
            Ok((key, _)) if key.is_empty() => {}
            Ok((key, preview)) => keys.push(Line { number: lines.number, key, preview }),
            Err(code) => {
                self.progress.invalid += 1;
                self.fault(lines.number, code);
            }
        }
    }

    fn fault(&mut self, line: u64, code: &'static str) {
        if self.faults.len() < MAX_REPORTED {
            self.faults.push(Fault { line, code });
        }
    }

    /// Seals and writes one batch; `line` is the last line it covers.
    async fn commit(&mut self, keys: Vec<Line>, line: u64) -> Result<(), &'static str> {
        let sealed = Arc::new(self.seal(keys).await?);
        let started = Instant::now();
        let inserted = self.insert(&sealed).await;
        let pause = self.pace.learn(started.elapsed(), self.shop.counters.by_buyers());
        let inserted = match inserted {
            Ok(inserted) => inserted,
            Err(WriteError::Op(Refusal::Duplicate(line))) => {
                self.progress.duplicates += 1;
                self.fault(line, "DUPLICATE_KEY");
                return Err("DUPLICATE_KEY");
            }
            Err(error) => {
                tracing::error!(%error, "a batch of an import was not written");
                return Err("STORE_UNAVAILABLE");
            }
        };
        self.shop.stock.of(&self.shelf.sku).add(&inserted.ids);
        self.shop.counters.imported.add(inserted.ids.len() as u64);
        self.progress.imported += inserted.ids.len() as u64;
        self.progress.duplicates += inserted.duplicates.len() as u64;
        self.progress.lines = line;
        for line in inserted.duplicates {
            self.fault(line, "DUPLICATE_KEY");
        }
        tokio::time::sleep(pause).await;
        Ok(())
    }

    async fn seal(&self, lines: Vec<Line>) -> Result<Vec<Incoming>, &'static str> {
        let (shop, shelf) = (Arc::clone(&self.shop), Arc::clone(&self.shelf));
        let seal = move |line: Line| {
            let key = shop.keyring.seal(&shelf.sku, &line.key)?;
            Some(Incoming { line: line.number, key, preview: line.preview })
        };
        let sealed = tokio::task::spawn_blocking(move || lines.into_iter().map(seal).collect());
        sealed.await.ok().flatten().ok_or("INTERNAL")
    }

    async fn insert(&self, sealed: &Arc<Vec<Incoming>>) -> Result<Inserted, WriteError<Refusal>> {
        loop {
            let (sealed, shelf, dedupe) = (Arc::clone(sealed), Arc::clone(&self.shelf), self.dedupe);
            let insert = move |connection: &rusqlite::Connection| {
                catalogue::insert_keys(connection, &shelf, dedupe, &sealed, unix_ms())
            };
            match self.shop.store.write(insert).await {
                Err(WriteError::Store(StoreError::Full)) => tokio::time::sleep(BUSY_PAUSE).await,
                outcome => return outcome,
            }
        }
    }
}

/// Puts lines together from pieces as the network delivers them, and holds no more of one than a key may have.
#[derive(Debug, Default)]
pub(super) struct Lines {
    line: Vec<u8>,
    too_long: bool,
    started: bool,
    /// Number of the line finished last, from 1.
    pub(super) number: u64,
}

impl Lines {
    /// Adds a piece that ends with a line feed or lies inside a line. `true` when a line is finished.
    pub(super) fn push(&mut self, piece: &[u8]) -> bool {
        let (text, ended) = piece.strip_suffix(b"\n").map_or((piece, false), |text| (text, true));
        self.started = true;
        // White space around the key is allowed some room before it is cut off.
        if self.line.len() + text.len() > MAX_KEY + MAX_PREVIEW + 64 {
            self.too_long = true;
        } else {
            self.line.extend_from_slice(text);
        }
        ended && self.finish()
    }

    /// Ends the line under way; `false` when there is none.
    pub(super) fn finish(&mut self) -> bool {
        self.number += u64::from(self.started);
        std::mem::take(&mut self.started)
    }

    /// Key and preview of the line finished last, without white space around them.
    ///
    /// # Errors
    /// `TOO_LONG` or `NOT_TEXT`.
    pub(super) fn take(&mut self) -> Result<(String, Option<String>), &'static str> {
        let line = std::mem::take(&mut self.line);
        if std::mem::take(&mut self.too_long) {
            return Err("TOO_LONG");
        }
        let text = std::str::from_utf8(&line).map_err(|_| "NOT_TEXT")?.trim_matches(BLANK);
        let (key, preview) = text.split_once('\t').map_or((text, None), |(key, preview)| (key, Some(preview)));
        let (key, preview) = (key.trim_matches(BLANK), preview.map(|preview| preview.trim_matches(BLANK)));
        if key.len() > MAX_KEY || preview.is_some_and(|preview| preview.len() > MAX_PREVIEW) {
            return Err("TOO_LONG");
        }
        if key.chars().chain(preview.unwrap_or("").chars()).any(char::is_control) {
            return Err("NOT_TEXT");
        }
        Ok((key.to_owned(), preview.map(str::to_owned)))
    }
}

/// What may stand around a key: blanks, the end of a line from another system, a byte order mark.
const BLANK: [char; 4] = [' ', '\t', '\r', '\u{feff}'];
