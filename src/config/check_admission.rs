//! `admission_control` of a waiting room: shares that are shares.

use std::time::Duration;

use tidegate_filters::waiting_room::Aimd;

use super::check::Checker;
use super::file_admission::AdmissionFile;
use super::placed::At;
use super::tree::Id;

impl Checker<'_, '_> {
    /// `most`: what the room admits in a minute.
    pub(super) fn admission(&mut self, file: &At<AdmissionFile>, most: u32) -> Aimd {
        let (at, file) = (file.at, &file.value);
        let min = self.count(&file.min_per_minute, at, 1, u64::from(u32::MAX));
        if min > most as usize {
            let help = Some("it never falls then".to_owned());
            self.warn(file.min_per_minute.or(at), "the least is above `new_users_per_minute`", help);
        }
        let target = self.span(&file.p95_target, at, Duration::from_millis(1), Duration::from_secs(3_600));
        self.share(&file.max_error_ratio, at, "between 0 and 1", |share| (0.0..=1.0).contains(&share));
        self.share(&file.increase, at, "above 0 and at most 1", |share| share > 0.0 && share <= 1.0);
        self.share(&file.decrease, at, "above 0 and below 1", |share| share > 0.0 && share < 1.0);
        Aimd {
            min_per_minute: u32::try_from(min).unwrap_or(u32::MAX),
            p95_target: u64::try_from(target.as_millis()).unwrap_or(u64::MAX),
            max_error_ratio: file.max_error_ratio.value,
            increase: file.increase.value,
            decrease: file.decrease.value,
        }
    }

    fn share(&self, share: &At<f64>, holder: Id, range: &str, fits: impl Fn(f64) -> bool) {
        if !fits(share.value) {
            self.wrong(share.or(holder), format!("must be {range}"));
        }
    }
}
