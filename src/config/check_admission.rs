//! `admission_control` of a waiting room: shares that are shares.

use std::time::Duration;

use tidegate_filters::waiting_room::Aimd;

use super::check::Checker;
use super::check_rooms::MOST;
use super::file_admission::{AdmissionFile, CapFile, StockProbeFile};
use super::file_rooms::CommandFile;
use super::placed::At;
use super::tree::Id;
use super::types::StockProbe;

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

    /// The most admissions in all, and how many may be inside for each piece that is left.
    pub(super) fn cap(&self, cap: &At<CapFile>, commands: &[CommandFile]) -> (Option<u64>, u64) {
        let CapFile { inventory, multiplier, probe } = &cap.value;
        let each = self.count(multiplier, cap.at, 1, 1_000) as u64;
        if inventory.is_none() && probe.is_none() && !commands.contains(&CommandFile::SoldOut) {
            let help = Some("say `inventory`, or `probe`, or allow `sold_out` in `enabled_origin_commands`".to_owned());
            self.wrong_with_help(cap.at, "nothing says how much there is to sell", help);
        }
        let all = inventory.as_ref().map(|inventory| self.count(inventory, cap.at, 1, MOST) as u64);
        (all.map(|all| all.saturating_mul(each)), each)
    }

    pub(super) fn stock_probe(&self, probe: &At<StockProbeFile>) -> StockProbe {
        let StockProbeFile { upstream, path, interval } = &probe.value;
        let upstreams = self.names("upstreams");
        if !upstreams.contains(&upstream.value.as_str()) {
            self.unresolved(upstream.at, "upstream", &upstream.value, &upstreams);
        }
        self.probe_path(path, probe.at);
        let interval = self.span(interval, probe.at, Duration::from_millis(100), Duration::from_secs(3_600));
        StockProbe { upstream: upstream.value.clone(), path: path.value.clone(), interval }
    }

    /// The path of a question that the gateway asks by itself.
    pub(super) fn probe_path(&self, path: &At<String>, holder: Id) {
        let plain = path.value.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
        if !path.value.starts_with('/') || !plain {
            let help = Some("write a path, as in `/healthz`".to_owned());
            self.wrong_with_help(path.or(holder), "a path begins with `/` and has no blanks", help);
        }
    }

    fn share(&self, share: &At<f64>, holder: Id, range: &str, fits: impl Fn(f64) -> bool) {
        if !fits(share.value) {
            self.wrong(share.or(holder), format!("must be {range}"));
        }
    }
}
