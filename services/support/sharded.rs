//! Opening the files over which a service has spread its rows.

use std::path::Path;

use rusqlite::Connection;
use tidegate_durable::{Options, Store, WriteError};

use super::{Files, StartError, unix_ms};

/// Opens all files of a service, making what is not there. In each, `recover` makes due at once what a crash left behind.
///
/// # Errors
/// When a file cannot be opened, or when the folder holds files of another number of shards.
pub async fn open_sharded(
    folder: &Path,
    service: &str,
    files: Files,
    migrations: &[&str],
    options: &Options,
    recover: fn(&Connection, i64) -> rusqlite::Result<()>,
) -> Result<Vec<Store>, StartError> {
    files.refuse_other_layout(folder, service)?;
    let mut stores = Vec::with_capacity(files.count());
    for name in files.names(service) {
        let store = Store::open(&folder.join(name), migrations, options.clone())?;
        let now_ms = unix_ms();
        let recovered = store.write(move |connection| recover(connection, now_ms)).await;
        recovered.map_err(|error| match error {
            WriteError::Op(error) => StartError::Store(error.into()),
            WriteError::Store(error) => StartError::Store(error),
        })?;
        stores.push(store);
    }
    Ok(stores)
}
