//! Holds a request until its turn: until one of so many places is free, or until its time in a steady pace has come.
//!
//! **Stage.** Request, behind the limits and before anything that stores. Nobody reads a large body of one who waits, so a
//! client that sends one is held up by its own socket. Finish, to note the wait in the log.
//!
//! **Method.** With `rate` a leaky bucket (what Sentinel calls queueing and nginx a delay): requests leave a fixed interval
//! apart, so the wait is known when one comes. With `max_concurrent` places that come back by `Drop`; there the wait is the
//! number in front times the mean time a place is held. One who would wait longer than `max_wait` is refused at once:
//! that is cheaper for both than to wait in vain. The line has four classes (the route's `priority`); a wait of `ageing`
//! counts as one class more, so nobody waits for ever. Within a class `fair_by` gives each identity its turn (round robin,
//! which is what deficit round robin comes to where all cost the same). `codel` (RFC 8289) sheds the least important when
//! the line does not get short any more.
//!
//! **State.** The line, the places held, the pace. A reload keeps all of it and applies new limits to those who wait
//! already. At most `max_length` wait, about 300 bytes each besides their connections.
//!
//! **Units.** Requests; waits in nanoseconds, told in seconds rounded up.
//!
//! **Fails.** Nothing here can: it is this process's memory. A client that leaves is out of the line as soon as the
//! system knows it, and a place that was just given to it goes to the next. Where its body is larger than the socket takes
//! unread, its end lies behind bytes that are still on its side: then it is out at its deadline.
//! A process that stands still is late for everybody: who has been let into a pace is called all the same, and the pace
//! is kept instead of made up for. Only somebody more important, or of an identity whose turn it is, who comes later can
//! make a wait too long that was not when it began.
//!
//! **Wrong for.** Waits of minutes (use a waiting room, which holds no connection); one line over several gateways; a
//! bound that finds itself.

mod codel;
mod inner;
mod line;
mod pace;
mod settings;
mod state;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use http::StatusCode;

pub use settings::{CoDel, Queue, WarmUpFile};
pub use state::{Queue as QueueState, QueueView};

use crate::engine::{
    Decision, Filter, IdentityId, Key, Outcome, Permit, Reply, RequestContext, RequestHead, Resume, Stages, Verdict,
    Wait,
};
use state::{Entered, Limits, Reason, Refusal, Source, Turn};

/// Note of a request that waited: for how long, in milliseconds.
const QUEUE_WAIT_MS: &str = "queue_wait_ms";
/// A turn that comes at the last moment is not lost to a timer that is a little early.
const GRACE: Duration = Duration::from_millis(50);
/// Behind a process that stood still for this long nobody is waiting any more.
const LONGEST_STALL: Duration = Duration::from_secs(30);

/// The runtime half of `queue`.
struct QueueFilter {
    state: Arc<QueueState>,
    limits: Limits,
    fair_by: Option<IdentityId>,
    shadow: bool,
}

/// A request's memory of its wait in nanoseconds; written by the wait, read at the end.
struct Waited(Arc<AtomicU64>);

/// A place in a line that is only rehearsed; given back with the request.
struct Rehearsed {
    _place: Permit,
}

impl QueueFilter {
    fn flow(&self, cx: &RequestContext) -> Key {
        let identity = |id| cx.identity(id).map(|identity| identity.key);
        let found = self.fair_by.and_then(|id| identity(id).or_else(|| identity(IdentityId::CLIENT)));
        found.unwrap_or(Key(0))
    }

    fn wait(&self, turn: Turn, cx: &mut RequestContext) -> Decision {
        let waited = Arc::new(AtomicU64::new(0));
        cx.remember(Waited(waited.clone()));
        let until = async move {
            let (wait, result) = turn.wait().await;
            waited.store(u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX), Relaxed);
            match result {
                Ok(permit) => Resume { verdict: Verdict::Continue, permit },
                Err(refusal) => Resume { verdict: Verdict::Respond(Box::new(reply(refusal))), permit: None },
            }
        };
        let late = reply(Refusal { reason: Reason::Timeout, wait: self.limits.max_wait });
        let stall = match self.limits.source {
            // A turn in a pace knows itself when it is too late.
            Source::Rate(..) => LONGEST_STALL,
            Source::Concurrency(_) => Duration::ZERO,
        };
        Decision::Wait(Box::new(Wait {
            reason: "line",
            max: self.limits.max_wait + GRACE + stall,
            late: Box::new(late),
            until: Box::pin(until),
            shadow: false,
        }))
    }

    /// Counts what would happen and holds nobody back.
    fn rehearse(&self, cx: &mut RequestContext) -> Decision {
        let (result, place) = self.state.rehearse(cx.now);
        if let Some(place) = place {
            cx.remember(Rehearsed { _place: place });
        }
        match result {
            Ok(()) => Decision::Continue,
            Err(Some(refusal)) => Decision::Respond(Box::new(reply(refusal))),
            Err(None) => Decision::Wait(Box::new(Wait {
                reason: "line",
                max: GRACE,
                late: Box::new(reply(Refusal { reason: Reason::Timeout, wait: self.limits.max_wait })),
                until: Box::pin(std::future::ready(Resume { verdict: Verdict::Continue, permit: None })),
                shadow: true,
            })),
        }
    }
}

fn reply(refusal: Refusal) -> Reply {
    let (code, title) = match refusal.reason {
        Reason::Full => ("queue-full", "Too many requests are waiting already"),
        Reason::Timeout => ("queue-timeout", "The wait would be too long"),
        Reason::Shed => ("queue-timeout", "The wait has been too long for too many"),
    };
    Reply::problem(StatusCode::SERVICE_UNAVAILABLE, code, title).retry_after(refusal.wait)
}

impl Filter for QueueFilter {
    fn stages(&self) -> Stages {
        Stages::REQUEST.and(Stages::FINISH)
    }

    fn activate(&self) {
        self.state.retune(self.limits.clone());
    }

    fn on_request(&self, _: &RequestHead<'_>, cx: &mut RequestContext) -> Decision {
        if self.shadow {
            return self.rehearse(cx);
        }
        match self.state.enter(cx.priority, self.flow(cx), cx.now) {
            Entered::Now(permit) => {
                if let Some(permit) = permit {
                    cx.hold(permit);
                }
                Decision::Continue
            }
            Entered::Refused(refusal) => Decision::Respond(Box::new(reply(refusal))),
            Entered::Waits(turn) => self.wait(turn, cx),
        }
    }

    fn on_finish(&self, _: &Outcome, cx: &mut RequestContext) {
        if let Some(Waited(nanos)) = cx.recall::<Waited>() {
            let wait = nanos.load(Relaxed);
            cx.note(QUEUE_WAIT_MS, wait / 1_000_000);
        }
    }
}
