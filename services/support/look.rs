//! A file of another process, or of one that is dead, to look into.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

/// The writer may hold the file for a moment.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection that can only read.
///
/// # Errors
/// When there is no such file, or it is no database.
pub fn look_into(path: &Path) -> rusqlite::Result<Connection> {
    // Not SQLITE_OPEN_READ_ONLY: that cannot recover the shared index of a file left by a crash.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "query_only", true)?;
    Ok(connection)
}
