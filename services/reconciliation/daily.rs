//! Every day: our own invariants at night, the channels' bills when they are there.
//!
//! Channels build the bill of a day on the next morning and advise to take it from ten o'clock on, so a comparison at
//! two at night would find no bill. What can be checked without one is checked then.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::cli::Failure;
use super::day::{DAY_MS, Day};
use super::model::Channel;
use super::repair::repair;
use super::run::{Job, Rules, Runs};
use crate::order::Bills;
use crate::reconciliation::cli::OrderService;
use crate::support::unix_ms;

/// How often a bill that is late is looked for, and how often the clock is read: it may be set.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// A time of day in China Standard Time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TimeOfDay {
    /// Milliseconds since midnight.
    ms: i64,
}

impl std::str::FromStr for TimeOfDay {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let read = || {
            let (hour, minute) = text.split_once(':')?;
            let plain = |part: &str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
            let (hour, minute): (i64, i64) =
                if plain(hour) && plain(minute) { (hour.parse().ok()?, minute.parse().ok()?) } else { return None };
            (hour < 24 && minute < 60).then_some(Self { ms: (hour * 60 + minute) * 60_000 })
        };
        read().ok_or_else(|| "a time of day is written as 10:30".to_owned())
    }
}

/// What is done every day.
pub(super) struct Plan {
    pub(super) internal_at: TimeOfDay,
    pub(super) channel_at: TimeOfDay,
    pub(super) bills: PathBuf,
    /// Where bills are fetched that are not there.
    pub(super) source: Option<Bills>,
    pub(super) rules: Rules,
    pub(super) apply: bool,
}

/// The last day whose time `at` is over at `now_ms`.
pub(super) fn last_due(now_ms: i64, at: TimeOfDay) -> Day {
    let today = Day::of(now_ms);
    if now_ms - today.begin_ms() >= at.ms { today } else { today.before() }
}

/// The bill of a channel for a day under one of its usual names; absent while it is not there.
pub(super) fn find_bill(folder: &Path, channel: Channel, day: Day) -> Option<PathBuf> {
    let endings: &[&str] = match channel {
        Channel::Alipay => &["zip", "csv"],
        Channel::Wechat => &["csv", "csv.gz"],
    };
    endings.iter().map(|ending| folder.join(format!("{channel}-{day}.{ending}"))).find(|path| path.is_file())
}

/// Works until the process is ended. What was due before the start is not made up for.
pub(super) async fn every_day(runs: &Runs, plan: &Plan, service: &OrderService) -> Failure {
    let now_ms = unix_ms();
    let mut checked = last_due(now_ms, plan.internal_at);
    // A bill that came while nobody was looking is still of use: the run is the same if it was made before.
    let mut compared: Vec<(Channel, Day)> = Channel::ALL
        .into_iter()
        .map(|channel| (channel, last_due(now_ms, plan.channel_at).before().before()))
        .collect();
    loop {
        let now_ms = unix_ms();
        let due = last_due(now_ms, plan.internal_at);
        if due > checked {
            checked = due;
            match service.check().await {
                Ok(violations) if violations.is_empty() => tracing::info!(%due, "our own books add up"),
                Ok(violations) => tracing::error!(%due, ?violations, "our own books do not add up"),
                Err(error) => tracing::error!(%due, %error, "our own books could not be checked"),
            }
        }
        for (channel, done) in &mut compared {
            // The bill is about the day before.
            let wanted = done.after();
            if wanted <= last_due(now_ms, plan.channel_at).before()
                && let Some(bill) = bill_of(plan, *channel, wanted).await
            {
                *done = wanted;
                compare(runs, plan, service, Job { channel: *channel, day: wanted, bill, rules: plan.rules }).await;
            }
        }
        report_late(plan, &compared, now_ms);
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// The bill of a channel for a day, fetched if it can be.
async fn bill_of(plan: &Plan, channel: Channel, day: Day) -> Option<PathBuf> {
    let there = find_bill(&plan.bills, channel, day);
    let (None, Some(source)) = (&there, &plan.source) else {
        return there;
    };
    let fetched = source.fetch(channel, day, &plan.bills).await;
    fetched.inspect_err(|error| tracing::warn!(%channel, %day, error, "a bill could not be fetched")).ok()
}

/// Says once an hour which bills are missing.
fn report_late(plan: &Plan, compared: &[(Channel, Day)], now_ms: i64) {
    let step = i64::try_from(LOOK_EVERY.as_millis()).unwrap_or(DAY_MS);
    if now_ms.rem_euclid(3_600_000) >= step {
        return;
    }
    for (channel, done) in compared {
        if done.after() <= last_due(now_ms, plan.channel_at).before() {
            tracing::warn!(%channel, day = %done.after(), folder = %plan.bills.display(), "a bill is late");
        }
    }
}

async fn compare(runs: &Runs, plan: &Plan, service: &OrderService, job: Job) {
    let (channel, day) = (job.channel, job.day);
    match runs.run(job).await {
        Err(error) => tracing::error!(%channel, %day, %error, "a bill could not be compared"),
        Ok(done) if done.differences == 0 => tracing::info!(id = done.id, "the bill and our books agree"),
        Ok(done) => {
            tracing::error!(id = done.id, differences = done.differences, "the bill and our books differ");
            if plan.apply {
                match repair(runs, &done.id, service).await {
                    Ok(repaired) => tracing::info!(id = done.id, ?repaired, "differences were repaired"),
                    Err(error) => tracing::error!(id = done.id, %error, "differences could not be repaired"),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_of_day_is_due_from_its_minute_on() {
        let at: TimeOfDay = "10:30".parse().expect("a time");
        let day: Day = "2026-11-20".parse().expect("a day");
        let half_past_ten = day.begin_ms() + 630 * 60_000;
        assert_eq!(last_due(half_past_ten - 1, at), day.before());
        assert_eq!(last_due(half_past_ten, at), day);
        assert_eq!(last_due(day.end_ms() - 1, at), day);
        for wrong in ["24:00", "10:60", "1:30", "10", "10:3", "+1:00", "10:30:00"] {
            assert!(wrong.parse::<TimeOfDay>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn bills_are_found_by_their_usual_names() {
        let folder = tempfile::tempdir().expect("a folder");
        let day: Day = "2026-11-20".parse().expect("a day");
        assert_eq!(find_bill(folder.path(), Channel::Wechat, day), None);
        for name in ["wechat-2026-11-20.csv.gz", "alipay-2026-11-20.zip"] {
            std::fs::write(folder.path().join(name), "").expect("written");
        }
        let found = |channel| find_bill(folder.path(), channel, day).expect("a bill");
        assert!(found(Channel::Wechat).ends_with("wechat-2026-11-20.csv.gz"));
        assert!(found(Channel::Alipay).ends_with("alipay-2026-11-20.zip"));
    }
}
