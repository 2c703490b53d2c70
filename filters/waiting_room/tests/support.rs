//! A room on a journal in memory that can be killed, and visitors that remember what they were told.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;

use crate::engine::Nanos;
use crate::waiting_room::keys::{KeySpec, Keyring};
use crate::waiting_room::rules::Rules;
use crate::waiting_room::settings::Settings;
use crate::waiting_room::{History, Journal, Opening, Room};

/// The start of every test, in milliseconds since 1970.
pub(super) const START: u64 = 1_800_000_000_000;

#[derive(Clone, Default)]
pub(super) struct Disk {
    pub(super) bytes: Arc<Mutex<Vec<u8>>>,
    pub(super) broken: Arc<AtomicBool>,
}

impl Disk {
    fn check(&self) -> std::io::Result<()> {
        if self.broken.load(Relaxed) { Err(std::io::Error::other("the disk is full")) } else { Ok(()) }
    }
}

impl Journal for Disk {
    fn append(&mut self, line: &[u8]) -> std::io::Result<()> {
        self.check()?;
        self.bytes.lock().extend_from_slice(line);
        Ok(())
    }

    fn replace(&mut self, line: &[u8]) -> std::io::Result<()> {
        self.check()?;
        *self.bytes.lock() = line.to_vec();
        Ok(())
    }
}

/// A room under a clock that a test moves.
pub(super) struct Bench {
    pub(super) room: Arc<Room>,
    pub(super) disk: Disk,
    pub(super) now: u64,
    settings: Arc<Settings>,
}

/// Settings with these rules and one key.
pub(super) fn settings(rules: Rules) -> Settings {
    let key = KeySpec { kid: 1, secret: [9; 32], not_before: 0, not_after: u64::MAX };
    Settings::new("demo", rules, Arc::new(Keyring::new(&[key])))
}

impl Bench {
    pub(super) fn new(rules: Rules) -> Self {
        Self::with(settings(rules))
    }

    pub(super) fn with(settings: Settings) -> Self {
        Self::on(Disk::default(), Arc::new(settings), START)
    }

    fn on(disk: Disk, settings: Arc<Settings>, wall: u64) -> Self {
        let history = History::read(&disk.bytes.lock());
        let room = Room::open(Opening {
            name: "demo".into(),
            seed: [7; 32],
            settings: settings.clone(),
            journal: Box::new(disk.clone()),
            history,
            epoch: Duration::from_millis(wall),
            now: Nanos(0),
        });
        let now = room.time(Nanos(0));
        Self { room: Arc::new(room), disk, now, settings }
    }

    /// The process is killed, and begins again at another wall time.
    pub(super) fn kill(self, wall: u64) -> Self {
        self.disk.broken.store(false, Relaxed);
        Self::on(self.disk, self.settings, wall)
    }

    pub(super) fn set_rules(&mut self, rules: Rules) {
        self.settings = Arc::new(settings(rules));
        self.room.apply(&self.settings);
    }

    /// Time passes in ticks: ten a second, fewer over a long time.
    pub(super) fn pass(&mut self, span: u64) {
        let end = self.now + span;
        let tick = (span / 100).max(100);
        while self.now < end {
            self.now = (self.now + tick).min(end);
            self.room.maintain(|| self.now);
        }
    }
}
