//! Days and times as channels count them: China Standard Time, eight hours before UTC, without a summer time.
//!
//! The civil calendar follows Howard Hinnant's *chrono-Compatible Low-Level Date Algorithms*.

use std::fmt;
use std::str::FromStr;

/// China Standard Time, in milliseconds before UTC.
const OFFSET_MS: i64 = 8 * 3_600_000;

/// Milliseconds of a day.
pub const DAY_MS: i64 = 86_400_000;

/// A day in China Standard Time: days since 1970-01-01.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(i64);

impl Day {
    /// The day of a moment.
    pub fn of(at_ms: i64) -> Self {
        Self((at_ms + OFFSET_MS).div_euclid(DAY_MS))
    }

    /// Its first millisecond.
    pub fn begin_ms(self) -> i64 {
        self.0 * DAY_MS - OFFSET_MS
    }

    /// The first millisecond of the next one.
    pub fn end_ms(self) -> i64 {
        self.begin_ms() + DAY_MS
    }

    /// The day before.
    #[must_use]
    pub fn before(self) -> Self {
        Self(self.0 - 1)
    }

    /// The day after.
    #[must_use]
    pub fn after(self) -> Self {
        Self(self.0 + 1)
    }

    /// Year, month, day of month.
    fn civil(self) -> (i64, i64, i64) {
        let days = self.0 + 719_468;
        let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
        let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
        let of_year = day - (365 * year + year / 4 - year / 100);
        let month = (5 * of_year + 2) / 153;
        let (day, month) = (of_year - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
        (year + era * 400 + i64::from(month <= 2), month, day)
    }

    fn from_civil(year: i64, month: i64, day: i64) -> Option<Self> {
        let shifted = year - i64::from(month <= 2);
        let (era, of_era) = (shifted.div_euclid(400), shifted.rem_euclid(400));
        let of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
        let found = Self(era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468);
        // The thirtieth of February is some other day.
        (found.civil() == (year, month, day)).then_some(found)
    }
}

impl FromStr for Day {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let read = || {
            let &[y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = text.as_bytes() else { return None };
            Self::from_civil(number(&[y1, y2, y3, y4])?, number(&[m1, m2])?, number(&[d1, d2])?)
        };
        read().ok_or_else(|| "a date is written as 2026-11-20".to_owned())
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = self.civil();
        write!(f, "{year:04}-{month:02}-{day:02}")
    }
}

/// The moment of `2026-11-20 09:05:01`; absent for anything else.
pub fn moment(text: &str) -> Option<i64> {
    let (day, time) = text.split_once(' ')?;
    let &[h1, h2, b':', m1, m2, b':', s1, s2] = time.as_bytes() else { return None };
    let (hour, minute, second) = (number(&[h1, h2])?, number(&[m1, m2])?, number(&[s1, s2])?);
    let plausible = hour < 24 && minute < 60 && second < 60;
    let day: Day = day.parse().ok()?;
    plausible.then(|| day.begin_ms() + ((hour * 60 + minute) * 60 + second) * 1_000)
}

/// A moment as `2026-11-20 09:05:01`; fractions of a second are left out.
pub fn text(at_ms: i64) -> String {
    let day = Day::of(at_ms);
    let seconds = (at_ms - day.begin_ms()) / 1_000;
    format!("{day} {:02}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60)
}

fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0, |value, digit| digit.is_ascii_digit().then(|| value * 10 + i64::from(digit - b'0')))
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
        let mut day = Day(-200_000);
        while day < Day(200_000) {
            assert_eq!(day.to_string().parse(), Ok(day));
            day = Day(day.0 + 13);
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
