//! Changes of the file that operators ask for over the admin side: written down, then taken over like any other.
//!
//! The new text is checked and compiled before the file is touched, and put in its place whole. The file stays what the
//! gateway runs on: nothing is lost by a restart, and nothing is true that does not stand in it. What went well in the
//! rehearsal may still fail in earnest (a name that does not resolve any more, a full disk): the old text is put back then.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::Path;

use super::{Attempt, Change, ReloadError, Reloader, Source};
use crate::config::{self, Loaded, RoomEdit};

/// What a change would come to.
#[derive(Debug)]
pub struct Plan {
    before: String,
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
        let before = self.read()?;
        let text = config::edit_room(&before, edit, &*self.env).map_err(ReloadError::Edit)?;
        let (name, base) = (self.file.display().to_string(), self.file.parent().unwrap_or(Path::new("")));
        let load = |text: &str| config::load_text(text, &name, base, &self.kinds, &*self.env);
        // What a rollback or a refusal left behind in the file would come along.
        if !load(&before).is_ok_and(|loaded| loaded.hash == self.gateway.snapshot().hash) {
            let why = "what stands in it is not what the gateway runs on; reload it or put it right first";
            return Err(ReloadError::NotWritten(why.to_owned()));
        }
        let loaded = load(&text).map_err(ReloadError::Problems)?;
        let changes = self.rehearse(&loaded, &self.gateway.snapshot())?;
        Ok(Plan { before, text, loaded, changes })
    }

    fn read(&self) -> Result<String, ReloadError> {
        std::fs::read_to_string(&self.file).map_err(|error| ReloadError::NotWritten(error.to_string()))
    }

    /// Changes the file so and takes it over. Blocks on files and on name lookups.
    ///
    /// # Errors
    /// What it is refused for; the file is as it was then.
    pub fn edit(&self, edit: &RoomEdit) -> Result<Attempt, ReloadError> {
        self.edit_through(edit, &|folder| File::open(folder)?.sync_all())
    }

    /// The same; `sync` brings a folder to the disk. Where that fails the change holds, and the attempt says that a power
    /// cut may undo it.
    pub(super) fn edit_through(&self, edit: &RoomEdit, sync: Sync<'_>) -> Result<Attempt, ReloadError> {
        let _turn = self.turn.lock();
        let plan = self.plan(edit)?;
        // Looking up names takes its time, and others may write to it, too.
        if self.read()? != plan.before {
            return Err(ReloadError::NotWritten("somebody has changed it meanwhile; ask again".to_owned()));
        }
        let kept = self.replace(&plan.text, sync)?;
        let result = self.take_file(Source::Admin).map_err(|error| self.put_back(&plan, error, sync));
        let mut attempt = self.conclude(Source::Admin, result)?;
        if let Err(error) = kept {
            let why = format!(
                "the file is changed; its folder could not be brought to the disk, so a power cut may undo it: {error}"
            );
            tracing::warn!(target: "tidegate::reload", "{why}");
            attempt.warning = Some(why);
            self.memory.lock().last = Some(attempt.clone());
        }
        Ok(attempt)
    }

    fn replace(&self, text: &str, sync: Sync<'_>) -> Result<io::Result<()>, ReloadError> {
        replace(&self.file, text.as_bytes(), sync).map_err(|error| ReloadError::NotWritten(error.to_string()))
    }

    /// The file as it was, unless somebody has written something else since.
    fn put_back(&self, plan: &Plan, why: ReloadError, sync: Sync<'_>) -> ReloadError {
        let put = self.read().and_then(|text| match text == plan.text {
            true => self.replace(&plan.before, sync),
            false => Err(ReloadError::NotWritten("somebody has changed it meanwhile".to_owned())),
        });
        match put {
            Ok(synced) => {
                if let Err(error) = synced {
                    tracing::warn!(%error, "the file is as it was, and its folder not on the disk yet");
                }
                self.memory.lock().refused = false;
                why
            }
            Err(left) => ReloadError::NotWritten(format!("{why}; and the text before could not be put back: {left}")),
        }
    }
}

/// Brings a folder to the disk.
type Sync<'a> = &'a dyn Fn(&Path) -> io::Result<()>;

/// Puts `text` in a file's place, at once or not at all. Where the path is a link, what it points to is replaced. In its
/// place it is what everybody reads, whether or not it survives a power cut: that is what the answer within says.
fn replace(path: &Path, text: &[u8], sync: Sync<'_>) -> io::Result<io::Result<()>> {
    let path = std::fs::canonicalize(path)?;
    let fresh = path.with_extension("edited");
    // Left behind by a kill, if at all.
    let _ = std::fs::remove_file(&fresh);
    let put = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
        let before = std::fs::metadata(&path)?;
        // Whoever owns the file keeps it; a gateway that may not give files away is its owner.
        let _ = fchown(&file, Some(before.uid()), Some(before.gid()));
        file.set_permissions(before.permissions())?;
        file.write_all(text)?;
        file.sync_all()?;
        std::fs::rename(&fresh, &path)
    };
    // A copy of the configuration is not left lying about.
    put().inspect_err(|_| drop(std::fs::remove_file(&fresh)))?;
    Ok(path.parent().map_or(Ok(()), sync))
}
