//! Days as channels count them: those of China Standard Time, eight hours before UTC, without a summer time.

use std::fmt;
use std::str::FromStr;

use jiff::civil::{Date, Time};
use jiff::{Timestamp, ToSpan};

use crate::support::dialect::beijing::AHEAD;
pub use crate::support::dialect::beijing::{parse_plain as moment, plain as text};
use crate::support::moment as timestamp;

/// Milliseconds of a day.
pub const DAY_MS: i64 = 86_400_000;

/// A day in China Standard Time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(Date);

impl Day {
    /// The day of a moment.
    pub fn of(at_ms: i64) -> Self {
        Self(AHEAD.to_datetime(timestamp(at_ms)).date())
    }

    /// Its first millisecond.
    pub fn begin_ms(self) -> i64 {
        let begin = AHEAD.to_timestamp(self.0.to_datetime(Time::midnight()));
        // Only the first day of the calendar begins before the first moment.
        begin.unwrap_or(Timestamp::MIN).as_millisecond()
    }

    /// The first millisecond of the next one.
    pub fn end_ms(self) -> i64 {
        self.begin_ms() + DAY_MS
    }

    /// The day before.
    #[must_use]
    pub fn before(self) -> Self {
        Self(self.0.saturating_sub(1.day()))
    }

    /// The day after.
    #[must_use]
    pub fn after(self) -> Self {
        Self(self.0.saturating_add(1.day()))
    }
}

impl FromStr for Day {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // The parser knows more forms than this one.
        let alike = text.len() == 10 && text.as_bytes()[4] == b'-';
        let date = text.parse().ok().filter(|_| alike);
        date.map(Self).ok_or_else(|| "a date is written as 2026-11-20".to_owned())
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_moments_are_those_of_china() {
        let day: Day = "2026-11-20".parse().expect("a date");
        assert_eq!(day.begin_ms(), 1_795_104_000_000, "16:00 of the day before in UTC");
        assert_eq!(moment("2026-11-20 00:00:00"), Some(day.begin_ms()));
        assert_eq!(moment("2026-11-20 23:59:59"), Some(day.end_ms() - 1_000));
        assert_eq!(Day::of(day.end_ms() - 1), day);
        assert_eq!(Day::of(day.end_ms()), day.after());
        assert_eq!(text(day.end_ms() - 1), "2026-11-20 23:59:59");
    }

    #[test]
    fn every_day_of_some_centuries_comes_back() {
        let (mut day, last) = (Day::of(-200_000 * DAY_MS), Day::of(200_000 * DAY_MS));
        while day < last {
            assert_eq!(day.to_string().parse(), Ok(day));
            assert_eq!((day.after().before(), Day::of(day.begin_ms())), (day, day));
            day = Day::of(day.begin_ms() + 13 * DAY_MS);
        }
        for wrong in ["2026-02-29", "2026-13-01", "2026-00-10", "2026-1-01", "20261120", "2026-11-20 ", "二〇二六"]
        {
            assert!(wrong.parse::<Day>().is_err(), "{wrong}");
        }
        for wrong in ["2026-11-20", "2026-11-20 24:00:00", "2026-11-20 1:00:00", "2026-11-20T01:00:00"] {
            assert_eq!(moment(wrong), None, "{wrong}");
        }
    }
}
