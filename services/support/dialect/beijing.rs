//! Times as Chinese channels write them: Beijing's, eight hours ahead of UTC, without summer time.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::Offset;

use crate::support::clock::moment;

/// What Beijing's clocks are ahead of UTC.
pub const AHEAD: Offset = Offset::constant(8);

/// `2025-01-31 23:59:59`; fractions of a second are left out.
pub fn plain(unix_ms: i64) -> String {
    let there = AHEAD.to_datetime(moment(unix_ms));
    format!("{} {:.0}", there.date(), there.time())
}

/// `2025-01-31T23:59:59+08:00`.
pub fn rfc3339(unix_ms: i64) -> String {
    format!("{:.0}+08:00", AHEAD.to_datetime(moment(unix_ms)))
}

/// Reads [`plain`]; absent when it is anything else.
pub fn parse_plain(text: &str) -> Option<i64> {
    // The parser knows more forms than this one.
    let marks = [(4, b'-'), (10, b' '), (13, b':'), (16, b':')];
    let alike = text.len() == 19 && marks.iter().all(|&(at, mark)| text.as_bytes()[at] == mark);
    let there: DateTime = text.parse().ok().filter(|_| alike)?;
    AHEAD.to_timestamp(there).ok().map(Timestamp::as_millisecond)
}

/// Reads [`plain`], and a time with any offset as RFC 3339 has it; absent when it is neither.
pub fn parse(text: &str) -> Option<i64> {
    parse_plain(text).or_else(|| text.parse().ok().map(Timestamp::as_millisecond))
}
