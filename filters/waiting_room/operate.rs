//! What a room is told from outside: by operators, by the backend, by a new configuration.
//!
//! All of it takes effect at the next tick, once the journal has it; [`Room::settle`] waits for that.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::Guard;

use super::aimd::Health;
use super::line::{Admission, Prediction};
use super::public::Notice;
use super::room::Room;
use super::rules::Rules;
use super::settings::Settings;
use crate::channels::UpstreamFacts;

impl Room {
    /// Begins anew: nobody waits, nobody is inside, tokens from before are good no more. False when that could not be
    /// written down yet; it takes effect as soon as it is. May wait for the disk.
    pub fn reset(&self, clock: impl Fn() -> u64) -> bool {
        let before = self.outlook_now().epoch;
        self.line.lock().reset(clock());
        self.settle(clock);
        self.outlook_now().epoch != before
    }

    /// An operator says whether the sale is over; false also forgets what the backend said.
    pub fn set_sold_out(&self, sold_out: bool) {
        self.line.lock().set_sold_out(sold_out);
    }

    /// An operator empties the room, or opens it again: nobody is let in, no visit is prolonged, places are kept.
    pub fn set_draining(&self, draining: bool) {
        self.line.lock().set_draining(draining);
    }

    /// Tells all who wait something, or nothing any more, once the journal has it.
    pub fn set_notice(&self, notice: Option<Notice>) {
        self.line.lock().set_notice(notice.map(Arc::new));
    }

    /// Ends the visit of this number, or takes it out of the line. False when nobody has it.
    pub fn send_away(&self, now: u64, number: u64) -> bool {
        self.end(number) || self.line.lock().take_out(now, number)
    }

    /// The number under which somebody is inside or in line, by who they are.
    #[must_use]
    pub fn number_of(&self, identity: &[u8]) -> Option<u64> {
        let subject = self.subject(identity);
        self.line.lock().number_of(subject)
    }

    /// The same, by what the room remembers of them.
    pub(super) fn number_by(&self, subject: u64) -> Option<u64> {
        self.line.lock().number_of(subject)
    }

    /// Requests that were not held up, by the rule.
    #[must_use]
    pub fn let_by(&self) -> Vec<(Arc<str>, u64)> {
        self.bypassed.all()
    }

    /// Has what was decided so far written down, and told. False when that could not be done yet; it takes effect as soon
    /// as it can. May wait for the disk.
    pub fn settle(&self, clock: impl Fn() -> u64) -> bool {
        // The first may still be busy with what was decided before.
        self.maintain(&clock);
        self.maintain(clock);
        !self.is_degraded()
    }

    /// The backend says how many pieces are left; `None`: some. It cannot reopen what an operator closed.
    pub fn set_stock(&self, left: Option<u64>) {
        self.line.lock().set_stock(left);
    }

    /// Notes that the visitor of this number looks for nothing any more.
    pub(super) fn settle_visit(&self, number: u64) {
        self.line.lock().settle(number);
    }

    /// Keeps the visit of somebody who goes to pay for at least `span` from now.
    pub fn hold(&self, now: u64, number: u64, span: Duration) -> Option<Admission> {
        self.line.lock().hold(now, number, u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
    }

    /// Lets admissions follow how the backends do, where the settings say so; about ten times a second. `rests` says of a
    /// backend whether a breaker keeps requests away from it.
    pub fn follow_backends(&self, now: u64, rests: &dyn Fn(&UpstreamFacts) -> bool) {
        let (settings, most) = (self.settings(), self.outlook_now().limits.new_users_per_minute);
        let mut backends = self.backends.lock();
        let before = backends.last().map(|(rate, _)| rate);
        let rate = settings.admission.map(|aimd| backends.decide(&aimd, most, now, rests));
        if rate.is_none() {
            backends.stop();
        }
        drop(backends);
        if rate != before {
            self.set_backend_rate(rate);
        }
    }

    pub(super) fn set_backend_rate(&self, per_minute: Option<u32>) {
        self.line.lock().set_health_rate(per_minute);
    }

    /// The rate that the backends allow (admissions a minute), and how they did; `None` where the settings do not ask.
    #[must_use]
    pub fn backends(&self) -> Option<(u32, Health)> {
        self.backends.lock().last()
    }

    pub(super) fn watch(&self, upstreams: &[Arc<UpstreamFacts>]) {
        self.backends.lock().watch(upstreams);
    }

    /// From now on these settings; rules hold from the next tick on, at the latest.
    pub fn apply(&self, settings: &Arc<Settings>) {
        // Whoever uses the room in the new configuration names its backends next.
        self.backends.lock().forget_backends();
        if !Arc::ptr_eq(&self.settings.load(), settings) {
            self.line.lock().set_rules(settings.rules.clone());
            self.bypassed.follow(settings);
            self.settings.store(settings.clone());
        }
    }

    /// What it is configured with.
    pub(super) fn settings(&self) -> Guard<Arc<Settings>> {
        self.settings.load()
    }

    /// What other rules would do to those who wait now.
    #[must_use]
    pub fn predict(&self, rules: &Rules) -> Prediction {
        self.line.lock().predict(rules)
    }
}
