//! All files of deferred requests that are open: a key is known whichever of them has it.
//!
//! A filter that was given another store leaves its records in the old file, and each of them is carried out from there. To
//! ask the new file alone would be to carry out a repeat once more.
//!
//! Fails at a file that cannot be opened: what it knows nobody is asked for.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::rows::Twin;
use super::shelf::Shelf;
use crate::store::StoreError;

/// The open files. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Shelves(Arc<ArcSwap<Vec<Arc<Shelf>>>>);

impl Shelves {
    /// Other files are open from now on.
    pub(crate) fn set(&self, open: impl IntoIterator<Item = Arc<Shelf>>) {
        self.0.store(Arc::new(open.into_iter().collect()));
    }

    /// Whether a record in any of them may have that key.
    pub(super) fn may_know(&self, twin: &[u8; 32]) -> bool {
        self.0.load().iter().any(|shelf| shelf.may_know(twin))
    }

    /// The record that has a key; one in the file `first` before one in another.
    pub(super) async fn twin(&self, first: &Shelf, key: [u8; 32]) -> Result<Option<Twin>, StoreError> {
        if first.may_know(&key)
            && let Some(known) = first.twin(key).await?
        {
            return Ok(Some(known));
        }
        let open = self.0.load_full();
        for shelf in open.iter().filter(|shelf| !std::ptr::eq(Arc::as_ptr(shelf), first) && shelf.may_know(&key)) {
            if let Some(known) = shelf.twin(key).await? {
                return Ok(Some(known));
            }
        }
        Ok(None)
    }
}
