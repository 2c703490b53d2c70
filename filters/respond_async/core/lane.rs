//! The way to one upstream: one line, and for each channel a gate with a pace of its own.
//!
//! Which channel a request goes to is found out when it is sent: by failover, by breakers, by what the request is. So nobody
//! waits in the line of a channel. A request leaves the line when some gate's time has come and holds that gate's turn. Its
//! channel is then chosen among those whose time has come or comes within [`LOAN`]; the chosen one's turn is taken, and one
//! that was held for another channel goes back. A channel that cannot be used (its breaker is open, it is closed at this
//! hour) rests for a while: it calls nobody out of the line, and the others go on.

use std::sync::Arc;
use std::time::Duration;

use super::line::Line;
use super::pace::Pace;
use super::release::{Called, Leave, Release};
use super::rules::Rules;

/// A chosen channel's turn may be so much in the future: weights and order of failover are kept between channels whose
/// turns are only milliseconds apart, and no second gets one per cent more than its count.
const LOAN: Duration = Duration::from_millis(10);

/// The pace of one channel, and what is under way there.
pub(super) struct Gate {
    /// Its name; empty: the upstream as a whole, while nobody has said which channels it has.
    pub(super) channel: Arc<str>,
    pub(super) pace: Pace,
    release: Release,
    pub(super) in_flight: usize,
    pub(super) sent: u64,
    /// Whether the running configuration has it.
    pub(super) in_use: bool,
    /// Nothing could be sent when it was looked at last: there is nothing to catch up.
    idle: bool,
}

impl Gate {
    fn new(channel: Arc<str>) -> Self {
        Self {
            channel,
            pace: Pace::new(),
            release: Release::default(),
            in_flight: 0,
            sent: 0,
            in_use: true,
            idle: true,
        }
    }

    /// When it may call the next one; `None` while as many are under way as may be.
    fn next(&self, rules: &Rules, now: Duration) -> Option<Duration> {
        (self.in_use && !self.is_full(rules, now)).then(|| self.pace.next(rules.rate, now))
    }

    /// Whether it has to wait for others: for an answer, or for the disk.
    fn is_full(&self, rules: &Rules, now: Duration) -> bool {
        self.in_flight >= rules.max_in_flight || self.release.is_full(self.pace.interval(rules.rate, now), now)
    }

    fn take(&mut self, rules: &Rules, now: Duration) {
        self.pace.take(rules.rate, now);
        self.in_flight += 1;
        self.sent += 1;
    }

    fn give_back(&mut self, rules: &Rules, now: Duration) {
        self.pace.give_back(rules.rate, now);
        self.in_flight = self.in_flight.saturating_sub(1);
        self.sent -= 1;
    }
}

/// Whether a channel may be asked now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum May {
    /// Its time has come.
    Now,
    /// Its time comes in so long.
    Later(Duration),
    /// It cannot be used, and is asked again in so long.
    Rests(Duration),
}

/// One upstream's line and gates.
pub(super) struct Lane {
    pub(super) upstream: Arc<str>,
    pub(super) line: Line,
    pub(super) gates: Vec<Gate>,
}

impl Lane {
    pub(super) fn new(upstream: &str) -> Self {
        Self { upstream: upstream.into(), line: Line::default(), gates: vec![Gate::new("".into())] }
    }

    /// The upstream's channels of the running configuration; none: they are not known. A gate is kept by its name.
    pub(super) fn set_channels(&mut self, channels: &[Arc<str>]) {
        for gate in &mut self.gates {
            gate.in_use = channels.contains(&gate.channel) || (channels.is_empty() && gate.channel.is_empty());
        }
        for channel in channels {
            if !self.gates.iter().any(|gate| gate.channel == *channel) {
                self.gates.push(Gate::new(channel.clone()));
            }
        }
    }

    /// Something may be sent: each pace counts from now, unless it has counted all the while.
    pub(super) fn begin(&mut self, now: Duration) {
        if self.line.len() > 0 {
            for gate in &mut self.gates {
                if std::mem::take(&mut gate.idle) {
                    gate.pace.begin(now);
                }
            }
        }
    }

    /// Notes which gates could send nothing at this moment.
    pub(super) fn end(&mut self, rules: &Rules, now: Duration) {
        let nobody = self.line.len() == 0;
        for gate in &mut self.gates {
            gate.idle = nobody || gate.is_full(rules, now) || gate.pace.is_paused(now);
        }
    }

    /// The gate that calls next, and when; `None` while all have as much under way as may be.
    pub(super) fn next(&self, rules: &Rules, now: Duration) -> Option<(usize, Duration)> {
        let times = self.gates.iter().enumerate().filter_map(|(at, gate)| Some((at, gate.next(rules, now)?)));
        times.min_by_key(|(_, next)| *next)
    }

    /// Takes a turn of the gate.
    pub(super) fn take(&mut self, gate: usize, rules: &Rules, now: Duration) {
        if let Some(gate) = self.gates.get_mut(gate) {
            gate.take(rules, now);
        }
    }

    /// One was called by the gate, the lane's number `lane`, and is written down now.
    pub(super) fn called(&mut self, (lane, gate): (usize, usize)) -> Option<Called> {
        let alone = self.line.len() == 0;
        let way = self.gates.get_mut(gate)?;
        let pace = way.release.call();
        Some(Called::new((lane, gate), way.pace.slot(), alone, pace))
    }

    /// One that was called is on the disk: when it leaves; `None`: it goes back into the line.
    pub(super) fn leaves_at(&mut self, called: &mut Called, rules: &Rules, now: Duration) -> Option<Duration> {
        let Some(gate) = self.gates.get_mut(called.gate) else { return Some(now) };
        let interval = gate.pace.interval(rules.rate, now);
        gate.release.at(called, interval, now)
    }

    /// The moment of one to leave has come.
    pub(super) fn leave(&mut self, called: &mut Called, rules: &Rules, now: Duration) -> Leave {
        let Some(gate) = self.gates.get_mut(called.gate) else { return Leave::Now };
        let interval = gate.pace.interval(rules.rate, now);
        gate.release.leave(called, interval, now)
    }

    /// One that was called does not leave.
    pub(super) fn stays(&mut self, called: Called) {
        if let Some(gate) = self.gates.get_mut(called.gate) {
            gate.release.give_up(called);
        }
    }

    /// The rate is lower from now on.
    pub(super) fn slow_down(&mut self) {
        self.gates.iter_mut().for_each(|gate| gate.release.slow_down());
    }

    fn gate(&self, channel: &str) -> Option<usize> {
        self.gates.iter().position(|gate| *gate.channel == *channel && gate.in_use)
    }

    /// Whether one who holds a turn of the gate `held` may go to the channel. A channel that this lane does not know (the
    /// route leads elsewhere since) costs the turn that is held.
    pub(super) fn may(&self, held: usize, channel: &str, rules: &Rules, now: Duration) -> May {
        let Some(at) = self.gate(channel).filter(|at| *at != held) else { return May::Now };
        let gate = &self.gates[at];
        if gate.pace.is_paused(now) {
            return May::Rests(gate.pace.paused_until().saturating_sub(now));
        }
        match gate.next(rules, now) {
            Some(next) if next <= now + LOAN => May::Now,
            Some(next) => May::Later(next.saturating_sub(now)),
            // Whoever comes back makes room; when, nobody knows.
            None => May::Later(rules.rate.interval().max(LOAN)),
        }
    }

    /// Takes a turn of that channel's instead of the one that is held; the gate that is held then. `None`: somebody else
    /// was quicker.
    pub(super) fn charge(&mut self, held: usize, channel: &str, rules: &Rules, now: Duration) -> Option<usize> {
        if self.may(held, channel, rules, now) != May::Now {
            return None;
        }
        let Some(at) = self.gate(channel).filter(|at| *at != held) else { return Some(held) };
        if let Some(gate) = self.gates.get_mut(held) {
            gate.give_back(rules, now);
        }
        self.take(at, rules, now);
        Some(at)
    }

    /// The gate of that channel; the one that is held where this lane does not know it.
    pub(super) fn pace_of(&mut self, held: usize, channel: &str) -> Option<&mut Pace> {
        let at = self.gate(channel).unwrap_or(held);
        self.gates.get_mut(at).map(|gate| &mut gate.pace)
    }

    /// A try has ended. `sent`: something was.
    pub(super) fn ended(&mut self, held: usize, sent: bool) {
        if let Some(gate) = self.gates.get_mut(held) {
            gate.in_flight = gate.in_flight.saturating_sub(1);
            gate.sent -= u64::from(!sent);
        }
    }

    /// Nobody may be asked until then.
    pub(super) fn pause(&mut self, until: Duration) {
        self.gates.iter_mut().for_each(|gate| gate.pace.pause(until));
    }
}
