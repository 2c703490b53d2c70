//! What a room writes down so that a kill loses no place, gives no number twice and lets nobody in too many.
//!
//! One line of JSON for each tick in which anything changed, appended and synced before what it says takes effect: a turn
//! is told to its waiter only once it is written, a walk-in draws on places that are written down as spoken for. So what
//! is on disk is never less than what visitors were promised. Now and then all lines are replaced by one that says it all.
//!
//! **Fails.** When a line cannot be written, nobody further is admitted; those inside stay, those in line keep their
//! places, and the same line is tried again. A last line that was cut off was not acknowledged and is left out.

use serde::{Deserialize, Serialize};

use super::public::Notice;

/// Where a room's lines are kept.
pub trait Journal: Send {
    /// Adds a line (which ends in a newline). On return it survives a kill and a power cut.
    ///
    /// # Errors
    /// When that cannot be promised; the line is then tried again.
    fn append(&mut self, line: &[u8]) -> std::io::Result<()>;

    /// Replaces all lines by this one, at once or not at all.
    ///
    /// # Errors
    /// When it could not be done; the lines before are then still there.
    fn replace(&mut self, line: &[u8]) -> std::io::Result<()>;
}

/// A journal that keeps nothing: for simulations, and for rooms that may begin anew after a restart.
#[derive(Clone, Copy, Debug, Default)]
pub struct Forgetful;

impl Journal for Forgetful {
    fn append(&mut self, _line: &[u8]) -> std::io::Result<()> {
        Ok(())
    }

    fn replace(&mut self, _line: &[u8]) -> std::io::Result<()> {
        Ok(())
    }
}

/// A visit in a line: number, beginning, end, subject.
pub(super) type Visit = (u64, u64, u64, u64);

fn is_false(value: &bool) -> bool {
    !value
}

/// What changed in one tick, or with `whole` everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Delta {
    /// Room time, in milliseconds since 1970.
    pub(super) at: u64,
    /// Counts up when a room is reset.
    pub(super) epoch: u32,
    /// Numbers below this one were given.
    pub(super) tail: u64,
    /// Numbers below this one may be given.
    pub(super) reserved: u64,
    /// The frontier.
    pub(super) frontier: u64,
    /// Places spoken for by walk-ins to come.
    pub(super) credit: u32,
    /// Admissions in all.
    pub(super) admitted: u64,
    /// Whether an operator says that nothing is left.
    pub(super) sold_out: bool,
    /// Whether the backend does.
    pub(super) gone: bool,
    /// How many pieces it says are left.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) stock: Option<u64>,
    /// Whether an operator empties the room.
    #[serde(skip_serializing_if = "is_false")]
    pub(super) draining: bool,
    /// Places that earlier kills left in doubt, and until when.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) doubt: Vec<(u64, u64)>,
    /// What an operator says to all who wait from now on; an empty text: nothing any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) notice: Option<Notice>,
    /// First number of those who register for a draw, while they do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) collecting: Option<u64>,
    /// Numbers that a kill left in doubt, from and up to: some may have been given right before it, most were not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) gaps: Vec<(u64, u64)>,
    /// Draws that were made: first number, count, first number after the draw.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) draws: Vec<(u64, u32, u64)>,
    /// New numbers of those who missed a turn: the old one, the new one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) moved: Vec<(u64, u64)>,
    /// Admissions by the moment.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) admissions: Vec<(u64, u32)>,
    /// Numbers whose turn begins; true for a second chance.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) turns: Vec<(u64, bool)>,
    /// Turns that a kill left in doubt, since when they were open, and until when they are kept for those who may have
    /// taken them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) doubtful: Vec<(u64, u64, u64)>,
    /// Numbers whose turn is over unused.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) missed: Vec<u64>,
    /// Visits that began or were prolonged.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) visits: Vec<Visit>,
    /// Visits of those who look for nothing any more.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) settled: Vec<u64>,
    /// Numbers of those who are known by name, each with a hash of that.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) names: Vec<(u64, u64)>,
    /// Visits that ended before their time, with the moment until which a pass may exist.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) ended: Vec<(u64, u64)>,
    /// Numbers that were used up without a visit.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) spent: Vec<u64>,
    /// Numbers whose turn came out of order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) picked: Vec<u64>,
    /// All used-up bits, by chunk: only where all is said.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) marks: Vec<(u64, String)>,
}

impl Delta {
    /// Only its counts.
    pub(super) fn counts(&self) -> Delta {
        let Delta { at, epoch, tail, reserved, frontier, credit, admitted, sold_out, gone, stock, collecting, .. } =
            *self;
        let counts = Delta { at, epoch, tail, reserved, frontier, credit, admitted, ..Delta::default() };
        Delta { sold_out, gone, stock, collecting, draining: self.draining, doubt: self.doubt.clone(), ..counts }
    }

    /// Whether it says nothing but the time to somebody who knows the counts of the line before.
    pub(super) fn says_nothing_after(&self, last: &Delta) -> bool {
        self.lists_nothing() && Delta { at: last.at, ..self.counts() } == *last
    }

    fn lists_nothing(&self) -> bool {
        let Delta {
            gaps,
            draws,
            moved,
            admissions,
            turns,
            doubtful,
            missed,
            visits,
            settled,
            names,
            ended,
            spent,
            picked,
            marks,
            notice,
            ..
        } = self;
        let numbers = missed.is_empty() && spent.is_empty() && picked.is_empty() && marks.is_empty();
        numbers
            && notice.is_none()
            && gaps.is_empty()
            && draws.is_empty()
            && moved.is_empty()
            && admissions.is_empty()
            && turns.is_empty()
            && doubtful.is_empty()
            && visits.is_empty()
            && settled.is_empty()
            && names.is_empty()
            && ended.is_empty()
    }

    pub(super) fn to_line(&self) -> Vec<u8> {
        let mut line = serde_json::to_vec(self).expect("invariant: numbers and text are always JSON");
        line.push(b'\n');
        line
    }
}

/// Lines as a journal kept them, read up to the first that is not whole.
#[derive(Debug, Default)]
pub struct History {
    pub(super) lines: Vec<Delta>,
    /// Bytes that were read as whole lines.
    pub length: usize,
}

impl History {
    /// Reads a journal's contents.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Self {
        let mut history = Self::default();
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let Some(text) = line.strip_suffix(b"\n") else { break };
            let Ok(delta) = serde_json::from_slice(text) else { break };
            history.lines.push(delta);
            history.length += line.len();
        }
        history
    }
}
