//! What goes around a breaker: pinned queries, an operator's word, shadow mode.

use super::*;

#[test]
fn a_pinned_query_passes_an_open_breaker_and_is_the_probe_once_one_is_due() {
    let world = World::new();
    let chain = world.chain("{}");
    fail(&chain, 5, 0);
    let mut early = at(SECOND).pinned(true);
    assert!(early.enters(&chain, A));
    early.ends(&chain, 2 * SECOND, answer(200), Known::Final);
    assert_eq!(world.phase("a"), Phase::Open, "it was not time yet");
    assert!(at(SECOND).pinned(false).candidates(&chain).is_err(), "a POST obeys");
    let mut due = at(30 * SECOND).pinned(true);
    assert!(due.enters(&chain, A));
    let mut second = at(30 * SECOND).pinned(true);
    assert!(second.enters(&chain, A), "the probe's place is taken, and it is asked all the same");
    due.ends(&chain, 31 * SECOND, answer(200), Known::Final);
    assert_eq!(world.phase("a"), Phase::Closed);
}

#[test]
fn an_operators_word_holds_over_results_reloads_and_time() {
    let world = World::new();
    let chain = world.chain("{}");
    world.breaker("a").breaker().hold(Held::Open, "10.0.0.1:5", Duration::from_secs(1));
    assert_eq!(at(3_600 * SECOND).candidates(&chain), Ok(ChannelSet(1 << B.0)));
    assert_eq!(at(0).pinned(true).candidates(&chain), Err(HELD_WAIT), "not even queries");
    let chain = world.chain(r#"{"open_for": "1s"}"#);
    assert!(at(3_600 * SECOND).only(A).candidates(&chain).is_err());
    world.breaker("a").breaker().hold(Held::Closed, "10.0.0.2:5", Duration::from_secs(2));
    fail(&chain, 50, 0);
    assert_eq!(world.phase("a"), Phase::Closed);
    let view = world.breaker("a").view(Nanos(0));
    assert_eq!(view.manual.map(|manual| manual.by.to_string()).as_deref(), Some("10.0.0.2:5"));
    world.breaker("a").breaker().reset("10.0.0.3:5", Duration::from_secs(3));
    fail(&chain, 5, 0);
    assert_eq!(world.phase("a"), Phase::Open, "it decides for itself again");
    let view = world.breaker("a").view(Nanos(0));
    let by: Vec<_> = view.events.iter().map(|event| event.by.as_deref().unwrap_or("-")).collect();
    assert_eq!(by, ["10.0.0.1:5", "10.0.0.2:5", "10.0.0.3:5", "-"]);
    assert!(view.manual.is_none());
}

#[test]
fn a_shadow_learns_and_keeps_nobody_out() {
    let world = World::new();
    let chain = world.chain_in("{}", Mode::Shadow);
    fail(&chain, 50, 0);
    assert_eq!(world.phase("a"), Phase::Open);
    assert_eq!(at(0).candidates(&chain), Ok(ChannelSet::all(2)));
}
