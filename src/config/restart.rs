//! What a running gateway cannot change.

use super::types::Config;

/// Names of settings that differ and take effect only after a restart, as they are written in the file; empty when a
/// reload can do everything.
#[must_use]
pub fn restart_required(old: &Config, new: &Config) -> Vec<&'static str> {
    let differs = [
        ("server.listeners", old.server.listeners != new.server.listeners),
        ("server.threads", old.server.threads != new.server.threads),
        ("server.data_dir", old.server.data_dir != new.server.data_dir),
        ("admin.address", old.admin.address != new.admin.address),
    ];
    differs.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
}
