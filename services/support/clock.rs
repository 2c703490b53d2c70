//! The one place where the services read the wall clock; everything below takes the time as an argument.

use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;

/// Milliseconds since 1970-01-01 UTC by this machine's clock. A clock before 1970 reads as 0.
pub fn unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// The moment for the calendar; what is further away than ten thousand years is the last or the first one there.
pub fn moment(unix_ms: i64) -> Timestamp {
    let edge = if unix_ms < 0 { Timestamp::MIN } else { Timestamp::MAX };
    Timestamp::from_millisecond(unix_ms).unwrap_or(edge)
}

/// A moment in UTC as RFC 3339 has it, for example `2026-11-11T00:00:00.000Z`.
pub fn rfc3339(unix_ms: i64) -> String {
    format!("{:.3}", moment(unix_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_as_calendars_have_them() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(951_782_399_999), "2000-02-28T23:59:59.999Z");
        assert_eq!(rfc3339(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(rfc3339(1_793_836_800_000), "2026-11-05T00:00:00.000Z");
        assert!(rfc3339(i64::MAX).starts_with("9999-12-30"));
    }
}
