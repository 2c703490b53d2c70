//! The files of a configuration on disk: what is in them, and where to look for changes.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::config::LARGEST_FILE;

/// Links followed on the way to a file; the kernel's own bound.
const MOST_LINKS: usize = 40;

/// What tells one version of a file from another without reading it; `None` when there is no such file.
///
/// Device, inode, time of the last change of contents, length, permissions: who may write to the file is checked too.
pub(super) type Stamp = Option<(u64, u64, (i64, i64), u64, u32)>;

/// Where the files stand.
pub(super) fn stamps(files: &[PathBuf]) -> Vec<Stamp> {
    let stamp = |file: &PathBuf| {
        let meta = std::fs::metadata(file).ok()?;
        Some((meta.dev(), meta.ino(), (meta.mtime(), meta.mtime_nsec()), meta.len(), meta.mode()))
    };
    files.iter().map(stamp).collect()
}

/// Whether a file is missing or empty, as it is for a moment while it is being saved.
pub(super) fn any_absent(stamps: &[Stamp]) -> bool {
    stamps.iter().any(|stamp| stamp.is_none_or(|(_, _, _, length, _)| length == 0))
}

/// Hashes the files' contents. A file that cannot be read differs from any that can.
pub(super) fn contents(files: &[PathBuf]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for file in files {
        match read(file) {
            Ok(bytes) => {
                hash.update([1]);
                hash.update(bytes.len().to_le_bytes());
                hash.update(bytes);
            }
            Err(_) => hash.update([0]),
        }
    }
    hash.finalize().into()
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // A device or a runaway log in the file's place must not fill the memory.
    File::open(path)?.take(LARGEST_FILE as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The files as they were when they were last taken over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) stamps: Vec<Stamp>,
    pub(super) contents: [u8; 32],
}

impl Seen {
    pub(super) fn of(files: &[PathBuf]) -> Self {
        Self { stamps: stamps(files), contents: contents(files) }
    }
}

/// What to watch: folders, and the paths in them that matter. A folder comes with the inode it had: one that was made
/// anew under its old name has to be watched anew.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sights {
    pub(super) folders: BTreeMap<PathBuf, (u64, u64)>,
    pub(super) paths: BTreeSet<PathBuf>,
}

impl Sights {
    /// The folder of each file and of every link on the way to it: whichever of them is swapped, it is seen. Where
    /// Kubernetes mounts a ConfigMap, that is `..data`.
    pub(super) fn of(files: &[PathBuf]) -> Self {
        let mut sights = Self::default();
        for file in files {
            sights.walk(&std::path::absolute(file).unwrap_or_else(|_| file.clone()));
        }
        sights
    }

    /// Follows `path` name by name, as the kernel does.
    fn walk(&mut self, path: &Path) {
        let names = |path: &Path| -> Vec<OsString> {
            path.components().rev().map(|part| part.as_os_str().to_owned()).collect()
        };
        let (mut ahead, mut here, mut links) = (names(path), PathBuf::from("/"), 0);
        while let Some(name) = ahead.pop() {
            if name == "/" {
                here = PathBuf::from("/");
                continue;
            }
            if name == ".." {
                here.pop();
                continue;
            }
            let next = here.join(&name);
            match std::fs::read_link(&next) {
                Ok(target) => {
                    links += 1;
                    if links > MOST_LINKS {
                        return;
                    }
                    self.see(&here, next);
                    ahead.extend(names(&target).into_iter().filter(|name| name != "."));
                }
                Err(_) => {
                    if ahead.is_empty() {
                        self.see(&here, next.clone());
                    }
                    here = next;
                }
            }
        }
    }

    fn see(&mut self, folder: &Path, path: PathBuf) {
        if let Ok(meta) = std::fs::metadata(folder) {
            self.folders.insert(folder.to_owned(), (meta.dev(), meta.ino()));
            // Its own end is told under its own name.
            self.paths.insert(folder.to_owned());
        }
        self.paths.insert(path);
    }
}
