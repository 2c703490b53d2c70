//! A room's journal as a file: lines appended and synced, replaced as a whole now and then.
//!
//! **Fails.** An append that did not succeed may have left part of a line; the file is cut back to what was acknowledged
//! before anything else is written, so a later line never stands behind a torn one.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use tidegate_filters::waiting_room::{History, Journal};

/// Only the gateway reads what visitors' identities are hashed to.
const MODE: u32 = 0o600;

/// A journal in a file.
pub(super) struct FileJournal {
    path: PathBuf,
    file: File,
    /// Bytes that were acknowledged.
    length: u64,
    torn: bool,
}

impl FileJournal {
    /// Opens or makes the file, and reads what it kept.
    pub(super) fn open(path: PathBuf) -> io::Result<(Self, History)> {
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(MODE).open(&path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let history = History::read(&bytes);
        let torn = history.length < bytes.len();
        // The last line may have been cut short by a crash. One in the middle was acknowledged, and so was all behind it.
        let unread = &bytes[history.length..];
        if unread.iter().position(|byte| *byte == b'\n').is_some_and(|end| end + 1 < unread.len()) {
            let line = bytes[..history.length].iter().filter(|byte| **byte == b'\n').count() + 1;
            let why = format!("{}: line {line} cannot be read; set the file aside to begin anew", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        sync_folder(&path)?;
        Ok((Self { path, file, length: history.length as u64, torn }, history))
    }

    fn mend(&mut self) -> io::Result<()> {
        if self.torn {
            self.file.set_len(self.length)?;
            self.torn = false;
        }
        self.file.seek(SeekFrom::Start(self.length)).map(drop)
    }
}

impl Journal for FileJournal {
    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        self.mend()?;
        self.torn = true;
        self.file.write_all(line)?;
        self.file.sync_data()?;
        self.torn = false;
        self.length += line.len() as u64;
        Ok(())
    }

    fn replace(&mut self, line: &[u8]) -> io::Result<()> {
        let fresh = self.path.with_extension("new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(MODE).open(&fresh)?;
        file.write_all(line)?;
        file.sync_all()?;
        std::fs::rename(&fresh, &self.path)?;
        // From here on the new file is the journal, whether or not the folder's entry is on disk yet.
        (self.file, self.length, self.torn) = (file, line.len() as u64, false);
        sync_folder(&self.path)
    }
}

/// A secret of 32 bytes that is made once and kept in a file.
pub(super) fn kept_secret(path: &Path) -> io::Result<[u8; 32]> {
    if let Some(secret) = read_secret(path)? {
        return Ok(secret);
    }
    let secret: [u8; 32] = rand::random();
    let fresh = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(MODE).open(&fresh)?;
    file.write_all(&secret)?;
    file.sync_all()?;
    std::fs::rename(&fresh, path)?;
    sync_folder(path)?;
    Ok(secret)
}

fn read_secret(path: &Path) -> io::Result<Option<[u8; 32]>> {
    match std::fs::read(path) {
        Ok(bytes) => bytes.try_into().map(Some).map_err(|_| io::Error::other("not the 32 bytes that were kept here")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// What can be said of a room's files without making or changing any: the secret, made up where there is none yet.
pub(super) fn rehearse(secret: &Path, journal: &Path) -> io::Result<[u8; 32]> {
    let secret = read_secret(secret)?;
    match File::open(journal).and_then(|mut file| file.read(&mut [0; 1])) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(secret.unwrap_or_else(rand::random)),
    }
}

fn sync_folder(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_acknowledged_is_read_again_and_a_torn_line_is_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("drop.journal");
        let (mut journal, history) = FileJournal::open(path.clone()).unwrap();
        assert_eq!(history.length, 0);
        journal.append(b"{\"at\":1}\n").unwrap();
        journal.append(b"{\"at\":2}\n").unwrap();
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"at\":3").unwrap();
        let (mut journal, history) = FileJournal::open(path.clone()).unwrap();
        assert_eq!(history.length, 18);
        journal.append(b"{\"at\":4}\n").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"{\"at\":1}\n{\"at\":2}\n{\"at\":4}\n");
        journal.replace(b"{\"at\":5}\n").unwrap();
        journal.append(b"{\"at\":6}\n").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"{\"at\":5}\n{\"at\":6}\n");
    }

    #[test]
    fn a_line_that_cannot_be_read_is_an_error_and_what_follows_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("drop.journal");
        let damaged = b"{\"at\":1}\n{\"at\":\"two\"}\n{\"at\":3}\n";
        std::fs::write(&path, damaged).unwrap();
        let error = FileJournal::open(path.clone()).err().unwrap().to_string();
        assert!(error.contains("line 2 cannot be read"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), damaged);
    }

    #[test]
    fn a_secret_is_made_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("drop.secret");
        let secret = kept_secret(&path).unwrap();
        assert_eq!(kept_secret(&path).unwrap(), secret);
        std::fs::write(&path, b"short").unwrap();
        assert!(kept_secret(&path).is_err());
    }

    #[test]
    fn a_rehearsal_finds_what_would_fail_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let (secret, journal) = (folder.path().join("drop.secret"), folder.path().join("drop.journal"));
        rehearse(&secret, &journal).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        let kept = kept_secret(&secret).unwrap();
        assert_eq!(rehearse(&secret, &journal).unwrap(), kept);
        std::fs::create_dir(&journal).unwrap();
        assert!(rehearse(&secret, &journal).is_err(), "a folder is no journal");
        std::fs::remove_dir(&journal).unwrap();
        std::fs::write(&secret, b"short").unwrap();
        assert!(rehearse(&secret, &journal).is_err());
    }
}
