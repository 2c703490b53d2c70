//! A moment in a plan: so many milliseconds after it came into force, or a time of day.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, Serializer};

/// Time of day is Beijing's, where these channels and their maintenance windows are. It has no summer time.
const BEIJING_MS: i64 = 8 * 3_600_000;

/// Milliseconds of a day.
const DAY_MS: i64 = 86_400_000;

/// A moment as it is written: a number, or `"HH:MM"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::channel_simulator) enum Moment {
    /// Milliseconds since the plan came into force.
    After(i64),
    /// Milliseconds since midnight in Beijing.
    Daily(i64),
}

impl Moment {
    fn parse(text: &str) -> Option<Self> {
        let (hours, minutes) = text.split_once(':')?;
        let number = |text: &str, below: i64| {
            let digits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse::<i64>().ok().filter(|number| digits && *number < below)
        };
        Some(Self::Daily((number(hours, 24)? * 60 + number(minutes, 60)?) * 60_000))
    }
}

/// Whether `now_ms` lies between the two moments, the first one included; an absent one is no bound. A daily window may
/// contain midnight.
pub(super) fn between(from: Option<Moment>, to: Option<Moment>, since_ms: i64, now_ms: i64) -> bool {
    let of_day = (now_ms + BEIJING_MS).rem_euclid(DAY_MS);
    match (from, to) {
        (Some(Moment::Daily(from)), Some(Moment::Daily(to))) if from > to => of_day >= from || of_day < to,
        (from, to) => {
            let reached = |moment: Moment| match moment {
                Moment::After(ms) => now_ms - since_ms >= ms,
                Moment::Daily(ms) => of_day >= ms,
            };
            from.is_none_or(reached) && !to.is_some_and(reached)
        }
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::After(ms) => serializer.serialize_i64(*ms),
            Self::Daily(ms) => serializer.collect_str(&format_args!("{:02}:{:02}", ms / 3_600_000, ms / 60_000 % 60)),
        }
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Written;
        impl Visitor<'_> for Written {
            type Value = Moment;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("milliseconds since the plan came into force, or a time of day in Beijing as \"HH:MM\"")
            }

            fn visit_u64<E: de::Error>(self, ms: u64) -> Result<Moment, E> {
                let ms = i64::try_from(ms).ok().filter(|ms| *ms <= 366 * DAY_MS);
                ms.map(Moment::After).ok_or_else(|| E::custom("a moment must lie within a year"))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Moment, E> {
                Moment::parse(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(Written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn daily(text: &str) -> Option<Moment> {
        Some(Moment::parse(text).expect("a time of day"))
    }

    #[test]
    fn a_daily_window_is_beijings_and_may_contain_midnight() {
        // 1970-01-01 00:00 UTC is 08:00 in Beijing.
        let at = |hours: i64| (hours - 8) * 3_600_000;
        let night = |now| between(daily("23:00"), daily("01:00"), 0, now);
        assert!(!night(at(22)) && night(at(23)) && night(at(24)) && !night(at(25)));
        let noon = |now| between(daily("12:00"), daily("13:00"), 0, now);
        assert!(!noon(at(11)) && noon(at(12)) && !noon(at(13)) && noon(at(36)));
    }

    #[test]
    fn a_moment_after_the_start_counts_from_there() {
        let window = |now| between(Some(Moment::After(100)), Some(Moment::After(200)), 1_000, now);
        assert!(!window(1_099) && window(1_100) && window(1_199) && !window(1_200));
        assert!(between(None, None, 0, 5) && !between(None, Some(Moment::After(5)), 0, 5));
    }

    #[test]
    fn what_is_no_moment_is_refused() {
        for text in ["\"24:00\"", "\"1:00\"", "\"01:60\"", "\"+1:00\"", "\"noon\"", "-1", "1.5", "null"] {
            assert!(serde_json::from_str::<Moment>(text).is_err(), "{text}");
        }
        let back = serde_json::to_string(&daily("07:05")).expect("JSON");
        assert_eq!(back, "\"07:05\"");
    }
}
