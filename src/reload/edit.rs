//! Changes of the file that operators ask for over the admin side: written down, then taken over like any other.
//!
//! The new text is checked and compiled before the file is touched, and put in its place whole. The file stays what the
//! gateway runs on: nothing is lost by a restart, and nothing is true that does not stand in it.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::{Attempt, Change, ReloadError, Reloader, Source};
use crate::config::{self, Loaded, RoomEdit};

/// What a change would come to.
#[derive(Debug)]
pub struct Plan {
    text: String,
    /// The configuration as it would be.
    pub loaded: Loaded,
    /// What would become of each filter.
    pub changes: Vec<Change>,
}

impl Reloader {
    /// What this change of the file would do. Nothing is changed.
    ///
    /// # Errors
    /// What the change would be refused for.
    pub fn plan(&self, edit: &RoomEdit) -> Result<Plan, ReloadError> {
        let text = std::fs::read_to_string(&self.file).map_err(|error| ReloadError::NotWritten(error.to_string()))?;
        let text = config::edit_room(&text, edit, &*self.env).map_err(ReloadError::Edit)?;
        let (name, base) = (self.file.display().to_string(), self.file.parent().unwrap_or(Path::new("")));
        let loaded = config::load_text(&text, &name, base, &self.kinds, &*self.env).map_err(ReloadError::Problems)?;
        let changes = self.rehearse(&loaded, &self.gateway.snapshot())?;
        Ok(Plan { text, loaded, changes })
    }

    /// Changes the file so and takes it over. Blocks on files and on name lookups.
    ///
    /// # Errors
    /// What it is refused for; the file is as it was then.
    pub fn edit(&self, edit: &RoomEdit) -> Result<Attempt, ReloadError> {
        let _turn = self.turn.lock();
        let plan = self.plan(edit)?;
        replace(&self.file, plan.text.as_bytes()).map_err(|error| ReloadError::NotWritten(error.to_string()))?;
        let result = self.take_file(Source::Admin);
        self.conclude(Source::Admin, result)
    }
}

/// Puts `text` in a file's place, at once or not at all. Where the path is a link, what it points to is replaced.
fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let path = std::fs::canonicalize(path)?;
    let fresh = path.with_extension("edited");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    file.set_permissions(std::fs::metadata(&path)?.permissions())?;
    file.write_all(text)?;
    file.sync_all()?;
    std::fs::rename(&fresh, &path)?;
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}
