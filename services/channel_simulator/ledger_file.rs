//! The ledger as a file of lines beside the data file, for programs that read files.
//!
//! The truth is in the store; this is a copy that follows it. After a crash a torn last line is cut off and what is
//! missing is added, so that the file is at any time the beginning of the ledger, and soon all of it.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::Deserialize;

use super::channel::Channel;
use super::truth;
use crate::support::{StartError, Stop};

/// Entries copied at a time.
const PAGE: u32 = 1_000;

/// Under load the file is written to at most once in this time.
const PACE: Duration = Duration::from_millis(20);

/// Pause after something failed.
const PAUSE: Duration = Duration::from_secs(1);

/// The file, and what is in it.
pub(super) struct LedgerFile {
    file: File,
    last: i64,
    resets: u64,
}

#[derive(Deserialize)]
struct Line {
    seq: i64,
}

impl LedgerFile {
    /// Opens or makes the file.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub(super) fn open(path: &Path) -> Result<Self, StartError> {
        let failed = |error: io::Error| StartError::Setup(format!("{}: {error}", path.display()));
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path).map_err(failed)?;
        let last = last_whole_line(&mut file).map_err(failed)?;
        Ok(Self { file, last, resets: 0 })
    }

    /// Follows the ledger until the service stops.
    pub(super) async fn run(mut self, channel: Arc<Channel>, stop: Stop) {
        loop {
            let stopping = tokio::select! {
                () = stop.requested() => true,
                () = channel.moved.notified() => { tokio::time::sleep(PACE).await; false }
            };
            while let Err(error) = self.follow(&channel).await {
                tracing::warn!(channel = channel.name, %error, "the file of the ledger could not be written");
                if stopping {
                    return;
                }
                tokio::time::sleep(PAUSE).await;
            }
            if stopping {
                return;
            }
        }
    }

    /// Adds what is missing.
    ///
    /// # Errors
    /// When the ledger cannot be read or the file cannot be written.
    pub(super) async fn follow(&mut self, channel: &Channel) -> io::Result<()> {
        let resets = channel.resets.load(Ordering::Relaxed);
        let newest = channel.store.read(truth::last_seq).await.map_err(io::Error::other)?;
        // Another data file, or an emptied one.
        if resets != self.resets || newest < self.last {
            self.file.set_len(0)?;
            (self.last, self.resets) = (0, resets);
        }
        while self.last < newest {
            let after = self.last;
            let page = channel.store.read(move |connection| truth::page(connection, after, newest, PAGE)).await;
            let page = page.map_err(io::Error::other)?;
            let Some(last) = page.last().map(|entry| entry.seq) else {
                return Ok(());
            };
            // A page is a few hundred kilobytes: not worth a thread of its own.
            self.file.write_all(&truth::lines(&page)?)?;
            self.last = last;
        }
        Ok(())
    }
}

/// Cuts off a torn last line; answers the number of the last whole one, 0 when there is none.
fn last_whole_line(file: &mut File) -> io::Result<i64> {
    let (mut last, mut whole) = (0, 0);
    file.seek(SeekFrom::Start(0))?;
    let mut reader = BufReader::new(&*file);
    let mut line = Vec::new();
    loop {
        line.clear();
        let count = reader.read_until(b'\n', &mut line)?;
        match serde_json::from_slice::<Line>(&line) {
            Ok(entry) if line.ends_with(b"\n") => (last, whole) = (entry.seq, whole + count as u64),
            _ => break,
        }
    }
    file.set_len(whole)?;
    Ok(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_last_line_is_cut_off() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("ledger.ndjson");
        std::fs::write(&path, "{\"seq\":1}\n{\"seq\":2}\n{\"seq\":3").expect("a file");
        assert_eq!(LedgerFile::open(&path).expect("the file opens").last, 2);
        assert_eq!(std::fs::read_to_string(&path).expect("text"), "{\"seq\":1}\n{\"seq\":2}\n");
    }
}
