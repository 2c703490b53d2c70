//! What the engine promises, on made-up times.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode};

use super::*;

fn context() -> RequestContext {
    RequestContext::new(Nanos(0), IpAddr::V4(Ipv4Addr::LOCALHOST))
}

fn head() -> RequestHead<'static> {
    RequestHead { method: "GET", target: "/", path: "/", host: "shop", secure: false, headers: &[] }
}

struct Script(fn(&mut RequestContext) -> Decision);

impl Filter for Script {
    fn stages(&self) -> Stages {
        Stages::REQUEST
    }
    fn on_request(&self, _: &RequestHead<'_>, cx: &mut RequestContext) -> Decision {
        (self.0)(cx)
    }
}

fn link(name: &str, mode: Mode, script: fn(&mut RequestContext) -> Decision) -> ChainLink {
    let counters = Arc::new(LinkCounters::new(name.into()));
    ChainLink { filter: Arc::new(Script(script)), name: name.into(), mode, counters }
}

fn refuse(cx: &mut RequestContext) -> Decision {
    let name = HeaderName::from_static("x-test");
    cx.to_client.push(HeaderEdit::Set(name, HeaderValue::from_static("1")));
    Decision::Respond(Box::new(Reply::problem(StatusCode::TOO_MANY_REQUESTS, "quota-exceeded", "no")))
}

#[test]
fn a_refusal_stops_the_chain_and_names_who_decided() {
    let chain = FilterChain::new(vec![
        link("first", Mode::Enforce, |_| Decision::Continue),
        link("second", Mode::Enforce, refuse),
        link("third", Mode::Enforce, |cx| {
            cx.note("third ran", 1);
            Decision::Continue
        }),
    ]);
    let mut cx = context();
    assert!(matches!(chain.on_request(&head(), &mut cx), Decision::Respond(_)));
    assert_eq!(cx.decider.as_ref().map(|d| &*d.filter), Some("second"));
    assert!(cx.notes().is_empty());
}

#[test]
fn a_shadow_counts_and_changes_nothing() {
    let chain = FilterChain::new(vec![link("limits", Mode::Shadow, refuse)]);
    let mut cx = context();
    assert!(matches!(chain.on_request(&head(), &mut cx), Decision::Continue));
    assert!(cx.to_client.is_empty() && cx.decider.is_none());
    let mut samples = Vec::new();
    chain.links()[0].counters.samples(&mut samples);
    let rejects = samples
        .iter()
        .find(|s| s.labels.contains(&("outcome", "reject".into())) && s.labels.contains(&("mode", "shadow".into())));
    assert_eq!(rejects.map(|s| s.value), Some(1.0));
}

#[test]
fn a_filter_that_is_off_is_not_in_the_chain() {
    assert!(FilterChain::new(vec![link("limits", Mode::Off, refuse)]).links().is_empty());
}

#[test]
fn after_a_need_for_the_body_the_same_filter_is_asked_again() {
    let chain = FilterChain::new(vec![link("body", Mode::Enforce, |cx| {
        if cx.body.is_some() { Decision::Continue } else { Decision::NeedBody { max: 10 } }
    })]);
    let mut cx = context();
    assert!(matches!(chain.on_request(&head(), &mut cx), Decision::NeedBody { max: 10 }));
    cx.body = Some("x".into());
    assert!(matches!(chain.on_request(&head(), &mut cx), Decision::Continue));
}

#[test]
fn a_wait_resumes_behind_the_filter_that_waited() {
    let chain = FilterChain::new(vec![
        link("line", Mode::Enforce, |cx| {
            cx.note("asked", 1);
            Decision::Wait(Box::new(Wait {
                reason: "line",
                max: Duration::from_secs(1),
                late: Box::new(Reply::problem(StatusCode::SERVICE_UNAVAILABLE, "queue-timeout", "late")),
                until: Box::pin(async { Resume { verdict: Verdict::Continue, permit: None } }),
                shadow: false,
            }))
        }),
        link("next", Mode::Enforce, refuse),
    ]);
    let mut cx = context();
    assert!(matches!(chain.on_request(&head(), &mut cx), Decision::Wait(_)));
    assert!(matches!(chain.on_request(&head(), &mut cx), Decision::Respond(_)));
    assert_eq!(cx.notes().iter().filter(|(name, _)| *name == "asked").count(), 1);
}

#[derive(Default)]
struct Places(AtomicUsize);

impl Release for Places {
    fn release(&self, _: u64) {
        self.0.fetch_add(1, SeqCst);
    }
}

#[test]
fn permits_come_back_when_the_context_is_dropped() {
    let places = Arc::new(Places::default());
    let mut cx = context();
    cx.hold(Permit::new(places.clone(), 1));
    cx.hold(Permit::new(places.clone(), 2));
    assert_eq!(places.0.load(SeqCst), 0);
    drop(cx);
    assert_eq!(places.0.load(SeqCst), 2);
}

struct Memory(u32);
impl State for Memory {}

#[test]
fn the_registry_finds_a_state_again_until_nobody_used_it_for_the_linger_time() {
    let states = StateRegistry::new();
    let key = StateKey { kind: "test", name: "limits".into(), shape: 1 };
    let (first, found) = states.acquire(&key, || Memory(7));
    assert!(!found);
    drop(first);
    let minute = Duration::from_secs(60);
    states.sweep(Nanos(0), minute);
    let (again, found) = states.acquire(&key, || Memory(8));
    assert!(found && again.0 == 7);
    drop(again);
    states.sweep(Nanos(1), minute);
    states.sweep(Nanos(1).after(minute), minute);
    let (fresh, found) = states.acquire(&key, || Memory(9));
    assert!(!found && fresh.0 == 9);
}

#[test]
fn units_read_what_the_file_format_promises() {
    assert_eq!("100ms".parse(), Ok(TimeSpan(Duration::from_millis(100))));
    assert_eq!("1m30s".parse(), Ok(TimeSpan(Duration::from_secs(90))));
    assert!("30".parse::<TimeSpan>().unwrap_err().to_string().contains("`30s`"));
    assert_eq!("64KiB".parse(), Ok(ByteSize(65_536)));
    let rate: Rate = "100/10m".parse().unwrap();
    assert_eq!((rate.count.get(), rate.interval()), (100, Duration::from_secs(6)));
    assert_eq!("1000/s".parse::<Rate>().unwrap().to_string(), "1000/s");
    for nonsense in ["", "100", "0/s", "x/s", "1/0s", "-1/s", "1/", "1/y"] {
        assert!(nonsense.parse::<Rate>().is_err(), "{nonsense}");
    }
}

#[test]
fn channels_go_round_from_any_start() {
    let mut set = ChannelSet::all(3);
    assert_eq!(set.next_from(2), Some(ChannelId(2)));
    assert_eq!(set.next_from(3), Some(ChannelId(0)));
    set.remove(ChannelId(0));
    assert_eq!(set.next_from(3), Some(ChannelId(1)));
    assert_eq!(ChannelSet(0).next_from(63), None);
}

#[test]
fn only_requests_that_carry_a_stopwatch_are_timed() {
    static TICKS: AtomicUsize = AtomicUsize::new(0);
    let chain = FilterChain::new(vec![link("slow", Mode::Enforce, |_| Decision::Continue)]);
    let timed = || {
        let mut samples = Vec::new();
        chain.links()[0].counters.samples(&mut samples);
        let value = |name: &str| samples.iter().find(|sample| sample.name.ends_with(name)).map(|sample| sample.value);
        [value("seconds_count"), value("seconds_sum")]
    };
    assert!(matches!(chain.on_request(&head(), &mut context()), Decision::Continue));
    assert_eq!(timed(), [Some(0.0), Some(0.0)]);
    let mut cx = context();
    cx.stopwatch = Some(|| Nanos(TICKS.fetch_add(1, SeqCst) as u64 * 500_000_000));
    assert!(matches!(chain.on_request(&head(), &mut cx), Decision::Continue));
    assert_eq!(timed(), [Some(1.0), Some(0.5)]);
}
