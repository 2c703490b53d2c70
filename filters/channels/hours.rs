//! Opening hours: `00:30-23:30 Asia/Shanghai`, several windows with commas, over midnight when the end is the earlier.
//!
//! Zones are those of the IANA database, bundled, so that a container without one knows them, too. Where clocks are put
//! forward or back, the local clock decides.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};

const DAY: u32 = 86_400;

/// When a channel serves, every day alike.
#[derive(Clone, Debug, PartialEq)]
pub struct Hours {
    text: Box<str>,
    /// Beginning and end in seconds of the local day; an end before its beginning is on the next day.
    windows: Box<[(u32, u32)]>,
    zone: TimeZone,
}

impl Hours {
    /// How long it stays closed, at wall time `wall` since 1970; `None`: it is open.
    ///
    /// On the day that a zone puts its clock forward or back the wait may be off by that change.
    #[must_use]
    pub fn closed_for(&self, wall: Duration) -> Option<Duration> {
        let moment = Timestamp::from_second(i64::try_from(wall.as_secs()).ok()?).ok()?;
        let time = self.zone.to_datetime(moment).time();
        let seconds = |part: i8| u32::try_from(part).unwrap_or(0);
        let now = seconds(time.hour()) * 3_600 + seconds(time.minute()) * 60 + seconds(time.second());
        let inside = |(from, to): &(u32, u32)| {
            if from < to { (*from..*to).contains(&now) } else { now >= *from || now < *to }
        };
        if self.windows.iter().any(inside) {
            return None;
        }
        let until = self.windows.iter().map(|(from, _)| (from + DAY - now) % DAY).min()?;
        let wait = Duration::from_secs(u64::from(until));
        Some(wait.saturating_sub(Duration::from_nanos(u64::from(wall.subsec_nanos()))))
    }
}

impl FromStr for Hours {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (windows, zone) = text.trim().rsplit_once(' ').ok_or_else(|| {
            format!("`{text}` has no time zone; write windows and a zone, as in `00:30-23:30 Asia/Shanghai`")
        })?;
        if zone.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b':' | b'-')) {
            return Err(format!(
                "`{text}` has no time zone; write one behind the windows, as in `{text} Asia/Shanghai`"
            ));
        }
        let zone = TimeZone::get(zone)
            .map_err(|_| format!("`{zone}` is no time zone; write a name like `Asia/Shanghai` or `UTC`"))?;
        let windows: Result<Box<[_]>, _> = windows.split(',').map(window).collect();
        Ok(Self { text: text.trim().into(), windows: windows?, zone })
    }
}

fn window(text: &str) -> Result<(u32, u32), String> {
    let text = text.trim();
    let bad = || format!("`{text}` is no window; write it like `00:30-23:30`");
    let (from, to) = text.split_once('-').ok_or_else(bad)?;
    let (from, to) = (clock(from).ok_or_else(bad)?, clock(to).ok_or_else(bad)?);
    if from == to || from == DAY {
        return Err(format!("the window `{text}` is empty; write `00:00-24:00` for a whole day"));
    }
    Ok((from, to))
}

/// `hh:mm` in seconds; `24:00` is the end of a day.
fn clock(text: &str) -> Option<u32> {
    let (hour, minute) = text.trim().split_once(':')?;
    let number = |text: &str| {
        (text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse::<u32>().ok())?
    };
    let (hour, minute) = (number(hour)?, number(minute)?);
    (minute < 60 && (hour < 24 || (hour == 24 && minute == 0))).then_some(hour * 3_600 + minute * 60)
}

impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Hours {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Cow::<'de, str>::deserialize(from)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Hours {
    fn schema_name() -> Cow<'static, str> {
        "Hours".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "examples": ["00:30-23:30 Asia/Shanghai", "09:00-12:00, 22:00-02:00 UTC"] })
    }
}
