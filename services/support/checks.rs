//! Invariants as queries: each answers one row per violation, with what it is about in its first column.

use rusqlite::{Connection, types::ValueRef};

/// Violations listed per check; one is bad enough.
const MAX_LISTED: usize = 20;

/// What is said of a violation, and the query that finds it. The query may use `:before`: what was due before that
/// moment is late.
pub type Check = (&'static str, &'static str);

/// All violations in words, all of one moment; empty when everything adds up.
///
/// # Errors
/// When the file cannot be read.
pub fn violations(connection: &Connection, checks: &[Check], before_ms: i64) -> rusqlite::Result<Vec<String>> {
    // One transaction, so that all checks see the same moment.
    let moment = connection.unchecked_transaction()?;
    let mut found = Vec::new();
    for (name, sql) in checks {
        let mut statement = moment.prepare(sql)?;
        if let Some(before) = statement.parameter_index(":before")? {
            statement.raw_bind_parameter(before, before_ms)?;
        }
        let mut rows = statement.raw_query();
        for _ in 0..MAX_LISTED {
            let Some(row) = rows.next()? else { break };
            let what = match row.get_ref(0)? {
                ValueRef::Integer(id) => id.to_string(),
                other => other.as_str().unwrap_or("?").to_owned(),
            };
            found.push(format!("{name}: {what}"));
        }
    }
    Ok(found)
}
