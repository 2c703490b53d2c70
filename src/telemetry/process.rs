//! The process as the kernel sees it.

use std::fs;

/// Clock ticks a second in `/proc`; a constant of the Linux ABI.
const TICKS: f64 = 100.0;

/// Resident memory in bytes, open file descriptors, CPU seconds; zero where `/proc` does not say.
pub(super) fn figures() -> (f64, f64, f64) {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse().ok());
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The command's name may hold blanks; the fields behind its closing bracket do not.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    #[expect(clippy::cast_precision_loss, reason = "a metric is a double by definition")]
    let fds = fs::read_dir("/proc/self/fd").map_or(0.0, |dir| dir.count() as f64);
    (resident.unwrap_or(0.0) * 1_024.0, fds, (ticks(11) + ticks(12)) / TICKS)
}
