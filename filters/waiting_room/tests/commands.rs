//! What a backend says in its answers, and what becomes of it.

use std::sync::Arc;

use http::{StatusCode, header, response};

use super::gates::{Client, Stage, USER, client, document, edit, one_place, value};
use crate::condition::Condition;
use crate::engine::{Filter, HeaderEdit, RequestContext};
use crate::waiting_room::gate::Gate;
use crate::waiting_room::rules::Rules;
use crate::waiting_room::settings::CommandKind;
use crate::waiting_room::{Bypass, State};

fn answered(stage: &Stage, client: &mut Client, command: &str) -> RequestContext {
    let mut cx = stage.passes(client);
    let (parts, ()) =
        response::Builder::new().header("x-tidegate-waiting-room", command).body(()).unwrap().into_parts();
    cx.to_client.clear();
    stage.gate.on_response(&parts, &mut cx);
    assert!(cx.to_client.contains(&HeaderEdit::Remove("x-tidegate-waiting-room".parse().unwrap())));
    cx
}

#[test]
fn the_backend_ends_prolongs_and_keeps_visits() {
    let mut settings = one_place();
    settings.commands = CommandKind::ALL.map(|(_, kind)| kind).to_vec();
    let mut stage = Stage::new(settings);
    let mut holder = stage.full();
    let cx = answered(&stage, &mut holder, "hold=900; order=8c1f");
    let token = edit(&cx, &"x-tidegate-reentry".parse().unwrap()).unwrap();
    stage.bench.pass(800_000);
    let mut astray = Client { target: format!("/paid?order=other&tgwr={token}"), ..client() };
    assert_eq!(document(&stage.waits(&mut astray))["state"], "PRE", "it is good for its order only");
    let mut elsewhere = Client { target: format!("/paid?order=8c1f&tgwr={token}"), ..client() };
    let reply = stage.waits(&mut elsewhere);
    assert_eq!(reply.status, StatusCode::SEE_OTHER);
    assert_eq!(value(&reply, &header::LOCATION).as_deref(), Some("/paid?order=8c1f"));
    elsewhere.target = "/paid?order=8c1f".to_owned();
    stage.passes(&mut elsewhere);
    let cx = answered(&stage, &mut elsewhere, "complete");
    assert!(edit(&cx, &header::SET_COOKIE).unwrap().contains("Max-Age=0"));
    assert!(stage.bench.room.is_ended(1));
    elsewhere = Client { target: format!("/paid?order=8c1f&tgwr={token}"), ..client() };
    let mut next = client();
    stage.bench.pass(100);
    stage.passes(&mut next);
    assert_eq!(document(&stage.waits(&mut elsewhere))["state"], "PRE", "the visit is over, so nobody comes back to it");
    answered(&stage, &mut next, "sold_out");
    stage.bench.pass(200);
    assert_eq!(document(&stage.waits(&mut client()))["state"], "REJECTED");
    answered(&stage, &mut next, "available");
    stage.bench.pass(200);
    assert_eq!(document(&stage.waits(&mut client()))["state"], "PRE");
}

#[test]
fn what_an_operator_closed_no_backend_opens() {
    let mut settings = one_place();
    settings.commands = vec![CommandKind::SoldOut];
    let mut stage = Stage::new(settings);
    let mut holder = stage.full();
    stage.bench.room.set_sold_out(true);
    stage.bench.pass(200);
    answered(&stage, &mut holder, "available");
    stage.bench.pass(200);
    assert_eq!(stage.bench.room.outlook().state, State::SoldOut);
    answered(&stage, &mut holder, "sold_out");
    stage.bench.pass(200);
    let now = stage.bench.now;
    stage.bench = stage.bench.kill(now);
    assert_eq!(stage.bench.room.outlook().state, State::SoldOut);
    stage.bench.room.set_sold_out(false);
    stage.bench.pass(200);
    assert_ne!(stage.bench.room.outlook().state, State::SoldOut, "the operator has the last word");
}

#[test]
fn a_word_about_a_visit_is_heard_where_a_rule_lets_by_and_a_word_without_one_is_not() {
    let mut settings = one_place();
    settings.commands = CommandKind::ALL.map(|(_, kind)| kind).to_vec();
    let condition = Condition::compile(r#"request.path.startsWith("/api")"#, |_| None).unwrap();
    settings.bypass = vec![Bypass { name: "api".into(), condition }];
    let mut stage = Stage::new(settings);
    let mut holder = stage.full();
    let mut stranger = Client { target: "/api/orders/8c1f".to_owned(), ..client() };
    let cx = answered(&stage, &mut stranger, "hold=900; order=8c1f");
    assert_eq!(edit(&cx, &"x-tidegate-reentry".parse().unwrap()), None);
    holder.target = "/api/orders/8c1f".to_owned();
    let cx = answered(&stage, &mut holder, "hold=900; order=8c1f");
    assert!(edit(&cx, &"x-tidegate-reentry".parse().unwrap()).is_some());
    answered(&stage, &mut holder, "complete");
    assert!(stage.bench.room.is_ended(1));
    let cx = answered(&stage, &mut holder, "hold=900");
    assert_eq!(edit(&cx, &"x-tidegate-reentry".parse().unwrap()), None, "there is no visit to hold");
}

#[test]
fn a_kill_right_behind_a_hold_still_lets_the_buyer_back() {
    let mut settings = one_place();
    settings.commands = vec![CommandKind::Hold, CommandKind::Complete];
    let mut stage = Stage::new(settings);
    let mut holder = stage.full();
    let cx = answered(&stage, &mut holder, "hold=900; order=8c1f");
    let token = edit(&cx, &"x-tidegate-reentry".parse().unwrap()).unwrap();
    let now = stage.bench.now;
    stage.bench = stage.bench.kill(now);
    stage.gate = Gate { room: stage.bench.room.clone(), upstreams: Box::default() };
    stage.bench.pass(800_000);
    let mut elsewhere = Client { target: format!("/orders/8c1f?tgwr={token}"), ..client() };
    let reply = stage.waits(&mut elsewhere);
    assert_eq!(value(&reply, &header::LOCATION).as_deref(), Some("/orders/8c1f"));
    elsewhere.target = "/orders/8c1f".to_owned();
    stage.passes(&mut elsewhere);
}

#[test]
fn a_command_that_is_not_enabled_is_only_taken_off() {
    let mut settings = one_place();
    settings.commands = vec![CommandKind::Extend];
    let mut stage = Stage::new(settings);
    let mut holder = stage.full();
    answered(&stage, &mut holder, "revoke");
    stage.passes(&mut holder);
}

/// Everything is let by and everybody is known by name, as in the bundled set-up behind its sale.
fn by_name() -> Stage {
    let mut settings = one_place();
    settings.commands = CommandKind::ALL.map(|(_, kind)| kind).to_vec();
    settings.identity = vec![USER];
    let condition = Condition::compile(r#"request.path.startsWith("/api")"#, |_| None).unwrap();
    settings.bypass = vec![Bypass { name: "api".into(), condition }];
    Stage::new(settings)
}

#[test]
fn a_word_that_a_kill_lost_is_made_good_by_the_next_answer_to_whoever_is_known_by_name() {
    let mut stage = by_name();
    let mut buyer = Client { user: Some("ann"), ..client() };
    stage.passes(&mut buyer);
    stage.bench.pass(200);
    answered(&stage, &mut buyer, "hold=900; order=8c1f; age=0");
    let now = stage.bench.now;
    stage.bench = stage.bench.kill(now);
    stage.gate = Gate { room: stage.bench.room.clone(), upstreams: Box::default() };
    stage.bench.pass(2_000);
    // Without a cookie, on a path that never waits.
    let mut looks = Client { user: Some("ann"), target: "/api/orders/8c1f".to_owned(), ..client() };
    let cx = answered(&stage, &mut looks, "hold=898; order=8c1f; age=2");
    assert!(edit(&cx, &"x-tidegate-reentry".parse().unwrap()).is_some());
    stage.bench.pass(800_000);
    assert_eq!(stage.bench.room.outlook().active, 1, "held");
    let mut other = Client { user: Some("bob"), ..looks.clone() };
    answered(&stage, &mut other, "complete; order=8c1f; age=802");
    assert_eq!(stage.bench.room.outlook().active, 1, "bob has no visit to end");
    answered(&stage, &mut looks, "complete; order=8c1f; age=802");
    stage.bench.pass(200);
    assert_eq!(stage.bench.room.outlook().active, 0);
}

#[test]
fn an_order_of_an_earlier_visit_says_nothing_of_this_one() {
    let mut stage = by_name();
    stage.bench.pass(60_000);
    let mut buyer = Client { user: Some("ann"), ..client() };
    stage.passes(&mut buyer);
    stage.bench.pass(10_000);
    let mut looks = Client { user: Some("ann"), target: "/api/orders/old".to_owned(), ..client() };
    let cx = answered(&stage, &mut looks, "hold=900; order=old; age=30");
    assert_eq!(edit(&cx, &"x-tidegate-reentry".parse().unwrap()), None);
    answered(&stage, &mut looks, "complete; order=old; age=30");
    stage.bench.pass(200);
    assert_eq!(stage.bench.room.outlook().active, 1);
    answered(&stage, &mut looks, "complete; order=new; age=9");
    stage.bench.pass(200);
    assert_eq!(stage.bench.room.outlook().active, 0);
}

#[test]
fn who_is_refused_since_nothing_is_left_keeps_nothing_that_comes_back_from_those_who_wait() {
    let mut settings = one_place();
    settings.commands = vec![CommandKind::SoldOut];
    settings.rules = Arc::new(Rules { per_piece: Some(1), ..Rules::new(9, 6_000, 300_000) });
    let mut stage = Stage::new(settings);
    stage.bench.room.set_stock(Some(1));
    stage.bench.pass(200);
    let mut holder = stage.full();
    let mut waiting = client();
    stage.waits(&mut waiting);
    stage.waits(&mut waiting);
    let mut cx = stage.passes(&mut holder);
    let refused = response::Builder::new().status(StatusCode::CONFLICT).header("x-tidegate-waiting-room", "sold_out");
    let (parts, ()) = refused.body(()).unwrap().into_parts();
    stage.gate.on_response(&parts, &mut cx);
    stage.bench.pass(200);
    assert_eq!(stage.bench.room.outlook().state, State::SoldOut);
    stage.bench.room.set_stock(Some(1));
    stage.bench.pass(200);
    stage.passes(&mut waiting);
}
