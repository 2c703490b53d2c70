//! A plan in force: what it counts, and which fault a call meets.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::super::pace::Bucket;
use super::fault::{Fault, Step};
use super::kind::Level;
use super::{Plan, dice, moment};

/// What is known about a call when its fault is chosen.
#[derive(Debug, Clone, Copy)]
pub(in crate::channel_simulator) struct Request<'a> {
    /// What is wanted.
    pub(in crate::channel_simulator) step: Step,
    /// The payment's number.
    pub(in crate::channel_simulator) payment_no: &'a str,
    /// The payment's scene, as far as the call says.
    pub(in crate::channel_simulator) scene: Option<&'a str>,
    /// The call decides about a payment, so that money may move.
    pub(in crate::channel_simulator) charges: bool,
    /// It came over HTTP/2.
    pub(in crate::channel_simulator) http2: bool,
}

/// The fault of one call.
#[derive(Debug, Clone)]
pub(in crate::channel_simulator) struct Hit(Arc<Armed>);

impl std::ops::Deref for Hit {
    type Target = Fault;

    fn deref(&self) -> &Fault {
        &self.0.fault
    }
}

#[derive(Debug)]
struct Armed {
    fault: Fault,
    /// For its own throw of the dice, and for the count of faults by place.
    at: usize,
    /// What its other selectors chose.
    seen: AtomicU64,
    fired: AtomicU64,
}

/// A plan in force.
#[derive(Debug)]
pub(in crate::channel_simulator) struct Force {
    pub(in crate::channel_simulator) plan: Plan,
    pub(in crate::channel_simulator) bucket: Option<Mutex<Bucket>>,
    pub(in crate::channel_simulator) places: Option<Arc<Semaphore>>,
    since_ms: i64,
    faults: Vec<Arc<Armed>>,
    connections: AtomicU64,
}

impl Force {
    /// A plan that comes into force at `now_ms` and has counted nothing yet.
    pub(in crate::channel_simulator) fn new(plan: Plan, now_ms: i64) -> Arc<Self> {
        let bucket = plan.capacity.per_second.map(|rate| Mutex::new(Bucket::new(rate, now_ms)));
        let places = plan.capacity.concurrent.map(|most| Arc::new(Semaphore::new(most as usize)));
        let armed = |(at, fault): (usize, &Fault)| {
            Arc::new(Armed { fault: fault.clone(), at, seen: AtomicU64::new(0), fired: AtomicU64::new(0) })
        };
        let faults = plan.faults.iter().enumerate().map(armed).collect();
        Arc::new(Self { plan, bucket, places, since_ms: now_ms, faults, connections: AtomicU64::new(0) })
    }

    /// The fault of a call, if it has one.
    pub(in crate::channel_simulator) fn of_request(&self, request: &Request<'_>, now_ms: i64) -> Option<Hit> {
        let seed = self.plan.seed;
        self.first(Level::Request, now_ms, |one| {
            let fault = &one.fault;
            applies(fault, request)
                && (fault.numbers.is_empty() || fault.numbers.iter().any(|number| number == request.payment_no))
                && fault.scene.as_deref().is_none_or(|scene| request.scene == Some(scene))
                && fault.ratio.is_none_or(|share| dice(seed, &format!("fault {}", one.at), request.payment_no) < share)
        })
    }

    /// The fault of a connection that has just come about, if it has one.
    pub(in crate::channel_simulator) fn of_connection(&self, now_ms: i64) -> Option<Hit> {
        if self.faults.is_empty() {
            return None;
        }
        let number = self.connections.fetch_add(1, Ordering::Relaxed).to_string();
        let seed = self.plan.seed;
        self.first(Level::Connection, now_ms, |one| {
            one.fault.ratio.is_none_or(|share| dice(seed, &format!("fault {}", one.at), &number) < share)
        })
    }

    /// Whether there is or will be anything the matter with the listener.
    pub(in crate::channel_simulator) fn has_doors(&self) -> bool {
        self.faults.iter().any(|one| one.fault.kind.level() == Level::Door)
    }

    /// What is the matter with the listener.
    pub(in crate::channel_simulator) fn of_door(&self, now_ms: i64) -> Option<Hit> {
        self.first(Level::Door, now_ms, |_| true)
    }

    fn first(&self, level: Level, now_ms: i64, chosen: impl Fn(&Armed) -> bool) -> Option<Hit> {
        let hit = self.faults.iter().find(|one| {
            let fault = &one.fault;
            fault.kind.level() == level
                && moment::between(fault.from, fault.to, self.since_ms, now_ms)
                && chosen(one)
                && one.counts()
        });
        hit.map(|one| Hit(Arc::clone(one)))
    }
}

impl Armed {
    fn counts(&self) -> bool {
        let nth = self.seen.fetch_add(1, Ordering::Relaxed) + 1;
        if self.fault.nth.is_some_and(|wanted| wanted != nth) {
            return false;
        }
        let most = self.fault.times.unwrap_or(u64::MAX);
        let next = |fired| (fired < most).then_some(fired + 1);
        self.fired.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
    }
}

/// Whether this kind of fault can happen to this kind of call.
fn applies(fault: &Fault, request: &Request<'_>) -> bool {
    let step = fault.on.unwrap_or(Step::Any);
    if step != Step::Any && step != request.step {
        return false;
    }
    let kind = fault.kind;
    // A refund moves money too, but whoever writes "charge" without a step means payments.
    let moves = request.charges || (step == Step::Refund && kind.charges());
    // What only exists in HTTP/2 does not happen, and is not used up, elsewhere.
    (moves || !(kind.charges() || kind.decides())) && (request.http2 || !kind.needs_http2())
}

#[cfg(test)]
mod tests {
    use super::super::Kind;
    use super::*;

    fn force(json: &str) -> Arc<Force> {
        Force::new(Plan::parse(json.as_bytes()).expect("a plan"), 1_000)
    }

    fn create(payment_no: &str) -> Request<'_> {
        Request { step: Step::Create, payment_no, scene: None, charges: true, http2: false }
    }

    fn hits<'a>(force: &Force, requests: impl IntoIterator<Item = Request<'a>>) -> Vec<bool> {
        requests.into_iter().map(|request| force.of_request(&request, 1_000).is_some()).collect()
    }

    #[test]
    fn the_nth_of_those_chosen_is_hit_and_no_other() {
        let force = force(r#"{"faults":[{"kind":"charge_then_hang","nth":2,"on":"create"}]}"#);
        let query = Request { step: Step::Query, charges: false, ..create("p") };
        assert_eq!(hits(&force, [create("a"), query, create("b"), create("c")]), [false, false, true, false]);
    }

    #[test]
    fn a_fault_is_used_up_and_the_next_one_takes_over() {
        let force = force(r#"{"faults":[{"kind":"503","times":2},{"kind":"429","numbers":["p"]}]}"#);
        let kinds: Vec<_> = ["p", "p", "p", "q"]
            .iter()
            .map(|number| force.of_request(&create(number), 1_000).map(|hit| hit.kind))
            .collect();
        assert_eq!(kinds, [Some(Kind::Unavailable), Some(Kind::Unavailable), Some(Kind::TooMany), None]);
    }

    #[test]
    fn a_share_chooses_the_same_payments_in_any_order() {
        let json = r#"{"seed":5,"faults":[{"kind":"charge_then_500","ratio":0.3}]}"#;
        let numbers: Vec<String> = (0..300).map(|n| format!("p{n}")).collect();
        let forward = hits(&force(json), numbers.iter().map(|number| create(number)));
        let mut backward = hits(&force(json), numbers.iter().rev().map(|number| create(number)));
        backward.reverse();
        assert_eq!(forward, backward);
        let count = forward.iter().filter(|hit| **hit).count();
        assert!((60..120).contains(&count), "{count}");
    }

    #[test]
    fn money_faults_need_a_step_that_moves_money_and_http2_faults_http2() {
        let charge = force(r#"{"faults":[{"kind":"charge_then_rst"}]}"#);
        let unpaid = Request { charges: false, ..create("p") };
        let refund = Request { step: Step::Refund, ..unpaid };
        assert_eq!(hits(&charge, [unpaid, refund, create("p")]), [false, false, true]);
        let refunds = force(r#"{"faults":[{"kind":"charge_then_rst","on":"refund"}]}"#);
        assert_eq!(hits(&refunds, [create("p"), refund]), [false, true]);
        let refused = force(r#"{"faults":[{"kind":"refused_stream","times":1}]}"#);
        let http2 = Request { http2: true, ..create("p") };
        assert_eq!(hits(&refused, [create("p"), http2, http2]), [false, true, false]);
    }

    #[test]
    fn a_fault_begins_and_ends_with_its_window() {
        let force = force(r#"{"faults":[{"kind":"503","from":100,"to":200}]}"#);
        let at = |now_ms| force.of_request(&create("p"), now_ms).is_some();
        assert_eq!([1_099, 1_100, 1_199, 1_200].map(at), [false, true, true, false]);
    }

    #[test]
    fn connections_are_counted_and_doors_are_not_asked() {
        let force = force(r#"{"faults":[{"kind":"rst_before_read","nth":2},{"kind":"refuse","to":50}]}"#);
        let mut hits = Vec::new();
        for _ in 0..3 {
            hits.push(force.of_connection(1_000).is_some());
        }
        assert_eq!(hits, [false, true, false]);
        assert_eq!(force.of_door(1_049).map(|hit| hit.kind), Some(Kind::Refuse));
        assert!(force.of_door(1_050).is_none() && force.of_request(&create("p"), 1_000).is_none());
    }
}
