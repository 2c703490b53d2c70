//! Opening connections: pragmas, and the migrations that bring a file up to date.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use crate::{StoreError, Synchronous};

/// Another process (a backup, an administrator's shell) may hold the file for a moment; this long is waited for it.
const BUSY_TIMEOUT: Duration = Duration::from_millis(5_000);

/// Page cache of one connection, in KiB (SQLite reads a negative figure that way).
const CACHE_KIB: i64 = 16 * 1024;

/// Opens the connection that writes, and migrates the file.
pub(crate) fn writer(path: &Path, migrations: &[&str], synchronous: Synchronous) -> Result<Connection, StoreError> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder)?;
    }
    let mut connection = Connection::open(path)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // SQLite answers with the mode it could take and reports no error.
    let mode: String = connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    if !mode.eq_ignore_ascii_case("wal") {
        return Err(StoreError::NoLog(mode));
    }
    connection.pragma_update(None, "synchronous", synchronous.as_pragma())?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    connection.set_prepared_statement_cache_capacity(256);
    migrate(&mut connection, migrations)?;
    Ok(connection)
}

/// Opens the connection that moves the log to the file. The file must exist already.
pub(crate) fn mover(path: &Path, synchronous: Synchronous) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // Decides whether the file is synced before the log may begin anew.
    connection.pragma_update(None, "synchronous", synchronous.as_pragma())?;
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    Ok(connection)
}

/// Opens a connection that can only read. The file must exist already.
pub(crate) fn reader(path: &Path) -> Result<Connection, StoreError> {
    // Not SQLITE_OPEN_READ_ONLY: a read-only handle cannot recover the shared index of a WAL file left by a crash.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "query_only", true)?;
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    connection.set_prepared_statement_cache_capacity(128);
    Ok(connection)
}

/// Runs the scripts the file has not had yet, each in a transaction of its own together with the new version number.
fn migrate(connection: &mut Connection, migrations: &[&str]) -> Result<(), StoreError> {
    let known = migrations.len();
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    // A negative version is none of ours either.
    let found = usize::try_from(found).unwrap_or(usize::MAX);
    if found > known {
        return Err(StoreError::NewerSchema { found, known });
    }
    for (index, script) in migrations.iter().enumerate().skip(found) {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(script)?;
        let version = i64::try_from(index + 1).unwrap_or(i64::MAX);
        transaction.pragma_update(None, "user_version", version)?;
        transaction.commit()?;
    }
    Ok(())
}
