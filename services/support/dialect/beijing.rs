//! Times as Chinese channels write them: Beijing's, eight hours ahead of UTC, without summer time.

/// Milliseconds that Beijing is ahead.
const AHEAD_MS: i64 = 8 * 3_600_000;

/// Milliseconds of a day.
const DAY_MS: i64 = 86_400_000;

/// `2025-01-31 23:59:59`.
pub fn plain(unix_ms: i64) -> String {
    written(unix_ms, ' ')
}

/// `2025-01-31T23:59:59+08:00`.
pub fn rfc3339(unix_ms: i64) -> String {
    format!("{}+08:00", written(unix_ms, 'T'))
}

/// Reads [`plain`], and [`rfc3339`] with any offset; absent when it is neither.
pub fn parse(text: &str) -> Option<i64> {
    let number = |from: usize, to: usize| {
        let digits = text.get(from..to)?;
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse::<i64>().ok())?
    };
    let mark = |at: usize, marks: &[u8]| text.as_bytes().get(at).is_some_and(|byte| marks.contains(byte));
    let marks = [(4, "-"), (7, "-"), (10, " T"), (13, ":"), (16, ":")];
    if !marks.iter().all(|(at, marks_there)| mark(*at, marks_there.as_bytes())) {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let in_range = (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second < 60;
    let ahead_ms = match text.get(19..)? {
        "" => AHEAD_MS,
        "Z" => 0,
        offset if offset.len() == 6 && mark(22, b":") => {
            let minutes = number(20, 22)? * 60 + number(23, 25)?;
            let sign = if mark(19, b"+") {
                1
            } else if mark(19, b"-") {
                -1
            } else {
                return None;
            };
            sign * minutes * 60_000
        }
        _ => return None,
    };
    let seconds = (hour * 60 + minute) * 60 + second;
    in_range.then(|| days(year, month, day) * DAY_MS + seconds * 1_000 - ahead_ms)
}

fn written(unix_ms: i64, between: char) -> String {
    let local = unix_ms + AHEAD_MS;
    let (year, month, day) = date(local.div_euclid(DAY_MS));
    let seconds = local.rem_euclid(DAY_MS) / 1_000;
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}{between}{hour:02}:{minute:02}:{second:02}")
}

/// Days since 1970-01-01 in the Gregorian calendar. The year begins in March, so that the leap day is its last one
/// (Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let of_era = (year - era * 400) * 365 + (year - era * 400) / 4 - (year - era * 400) / 100 + of_year;
    era * 146_097 + of_era - 719_468
}

/// Year, month and day of the same.
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}
