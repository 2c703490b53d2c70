//! How well a client reads its answer. Each write waits in its own time; all of them together never would, and what fills
//! the system's buffers says nothing about the client.

use std::time::{Duration, Instant};

use super::body_allowance;

/// The account of one answer.
#[derive(Default)]
pub(super) struct Reader {
    /// Since when not a byte was taken.
    stuck: Option<Instant>,
    /// How long it was stuck before.
    spent: Duration,
    /// Bytes written when it was stuck first.
    from: Option<u64>,
}

impl Reader {
    /// A write was tried when `written` bytes were out.
    pub(super) fn note(&mut self, pending: bool, written: u64) {
        match (pending, self.stuck) {
            (true, None) => {
                self.stuck = Some(Instant::now());
                self.from.get_or_insert(written);
            }
            (false, Some(since)) => {
                self.spent += since.elapsed();
                self.stuck = None;
            }
            _ => (),
        }
    }

    /// When a client that takes nothing now will have had its time; `None` while it reads.
    pub(super) fn deadline(&self, timeout: Duration, written: u64) -> Option<Instant> {
        let taken = written.saturating_sub(self.from.unwrap_or_default());
        Some(self.stuck? + body_allowance(timeout, taken).saturating_sub(self.spent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(30);

    #[test]
    fn only_what_is_taken_after_the_first_wait_buys_time() {
        let mut reader = Reader::default();
        reader.note(false, 4_000_000);
        assert_eq!(reader.deadline(TIMEOUT, 4_000_000), None);
        let before = Instant::now();
        reader.note(true, 4_000_000);
        let first = reader.deadline(TIMEOUT, 4_000_000).expect("it is stuck");
        assert!(first - before < TIMEOUT + Duration::from_secs(1));
        reader.note(false, 4_000_000);
        reader.note(true, 4_001_000);
        let second = reader.deadline(TIMEOUT, 4_001_000).expect("it is stuck again");
        assert!(second > first && second - first < Duration::from_secs(3), "{:?}", second - first);
    }
}
