//! One timer for a connection's whole life.
//!
//! A timer that is made and dropped for every wait costs more than the wait. This one is only moved when it stands too
//! late; when it goes off too early, which on a busy connection is once in half a minute, it is set anew.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::time::{Instant, Sleep, sleep_until};

/// A timer that is asked for one deadline after another.
pub(crate) struct Alarm {
    sleep: Pin<Box<Sleep>>,
    /// Whether somebody waits for it: one that nobody has polled wakes nobody.
    armed: bool,
}

impl Alarm {
    /// An alarm that first stands at `deadline`.
    pub(crate) fn new(deadline: Instant) -> Self {
        Self { sleep: Box::pin(sleep_until(deadline)), armed: false }
    }

    /// Whether the task that polled it last is woken no later than at `deadline` anyhow.
    pub(crate) fn stands(&self, deadline: Instant) -> bool {
        self.armed && self.sleep.deadline() <= deadline && !self.sleep.is_elapsed()
    }

    /// Ready once `deadline` is over.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        if self.sleep.deadline() > deadline {
            self.sleep.as_mut().reset(deadline);
        }
        while self.sleep.as_mut().poll(cx).is_ready() {
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            self.sleep.as_mut().reset(deadline);
        }
        self.armed = true;
        Poll::Pending
    }

    /// Waits until `deadline`.
    pub(crate) async fn until(&mut self, deadline: Instant) {
        poll_fn(|cx| self.poll(cx, deadline)).await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn later_and_earlier_deadlines_are_kept() {
        let begun = Instant::now();
        let mut alarm = Alarm::new(begun + Duration::from_millis(10));
        for millis in [40, 41, 80] {
            let deadline = begun + Duration::from_millis(millis);
            alarm.until(deadline).await;
            assert!(Instant::now() >= deadline, "before its time");
        }
        // Stands at a late hour, and is asked for an early one.
        let far = Instant::now() + Duration::from_secs(100);
        assert!(tokio::time::timeout(Duration::from_millis(20), alarm.until(far)).await.is_err());
        let near = Instant::now() + Duration::from_millis(20);
        alarm.until(near).await;
        assert!(Instant::now() >= near && near.elapsed() < Duration::from_secs(10), "{:?}", near.elapsed());
    }

    #[tokio::test]
    async fn it_wakes_whom_it_was_told_to_and_nobody_before() {
        let near = Instant::now() + Duration::from_millis(20);
        let (later, earlier) = (near + Duration::from_secs(1), near - Duration::from_millis(10));
        let mut alarm = Alarm::new(near);
        assert!(!alarm.stands(later), "nobody has asked it");
        assert!(tokio::time::timeout(Duration::ZERO, alarm.until(later)).await.is_err());
        assert!(alarm.stands(later) && !alarm.stands(earlier));
        tokio::time::sleep_until(near + Duration::from_millis(20)).await;
        assert!(!alarm.stands(later), "it has gone off");
    }

    #[tokio::test]
    async fn a_deadline_that_is_over_does_not_wait() {
        let begun = Instant::now();
        tokio::time::sleep(Duration::from_millis(5)).await;
        let mut alarm = Alarm::new(begun + Duration::from_secs(100));
        alarm.until(begun).await;
        assert!(begun.elapsed() < Duration::from_secs(10));
    }
}
