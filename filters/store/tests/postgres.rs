//! Records in a database, with a real server: what every store does, and what only a shared one has to.

use std::sync::Arc;
use std::time::Duration;

use super::server::Server;
use super::{CHECKS, answered, fence, has_room_for_two, on_disk, settle, stored, wish};
use crate::store::{Answer, Claim, Claimed, End, PostgresRecords, RecordStore, Shared};

fn open(server: &Server, name: &str) -> PostgresRecords {
    open_with(server, name, 7)
}

fn at(server: &Server, key: u8) -> Shared {
    Shared { url: server.url(), password: None, key: [key; 32] }
}

fn open_with(server: &Server, name: &str, key: u8) -> PostgresRecords {
    PostgresRecords::open(&at(server, key), name, on_disk()).expect("opens")
}

#[test]
fn a_database_does_what_every_store_does_and_is_shared() {
    let server = Server::start();
    for (number, check) in CHECKS.into_iter().enumerate() {
        check(&open(&server, &format!("check-{number}")));
    }
    let few = PostgresRecords::open(&at(&server, 7), "few", super::two()).expect("opens");
    has_room_for_two(&few);
    one_of_many_on_two_gateways_carries_it_out(&server);
    what_one_gateway_answered_another_one_repeats(&server);
    an_answer_under_another_key_is_not_given(&server);
}

fn one_of_many_on_two_gateways_carries_it_out(server: &Server) {
    let gateways = [open(server, "race"), open(server, "race")].map(Arc::new);
    for number in 0..20 {
        let claims: Vec<_> = (0..16_u128)
            .map(|token| {
                let gateway = gateways[usize::from(token % 2 == 0)].clone();
                std::thread::spawn(move || answered(gateway.claim(wish(number, 1, token, 0))))
            })
            .collect();
        let claimed: Vec<_> = claims.into_iter().map(|claim| claim.join().expect("an answer")).collect();
        let new = claimed.iter().filter(|claimed| matches!(claimed, Claimed::New { .. })).count();
        let running = claimed.iter().filter(|claimed| **claimed == Claimed::Running).count();
        assert_eq!((new, running), (1, 15), "{claimed:?}");
    }
}

fn what_one_gateway_answered_another_one_repeats(server: &Server) {
    let (here, there) = (open(server, "shared"), open(server, "shared"));
    let first = fence(&answered(here.claim(wish(1, 1, 11, 0))));
    assert_eq!(answered(there.claim(wish(1, 1, 12, 1))), Claimed::Running);
    answered(here.settle(settle(1, 11, End::Done(stored("once")))));
    assert_eq!(answered(there.claim(wish(1, 1, 13, 2))), Claimed::Done(stored("once")));
    // Of a gateway that is gone, nobody knows what it did once its lease is over.
    fence(&answered(here.claim(wish(2, 1, 14, 0))));
    drop(here);
    assert_eq!(answered(there.claim(wish(2, 1, 15, 9))), Claimed::Running);
    assert_eq!(answered(there.claim(wish(2, 1, 16, 10))), Claimed::Unknown);
    let again = Claim { again: true, ..wish(2, 1, 17, 11) };
    assert!(fence(&answered(there.claim(again))) > first);
    // Another store in the same database is another store.
    fence(&answered(open(server, "apart").claim(wish(1, 1, 18, 3))));
}

fn an_answer_under_another_key_is_not_given(server: &Server) {
    let store = open(server, "sealed");
    fence(&answered(store.claim(wish(1, 1, 11, 0))));
    answered(store.settle(settle(1, 11, End::Done(stored("sealed")))));
    let Claimed::Done(without) = answered(open_with(server, "sealed", 8).claim(wish(1, 1, 12, 1))) else {
        panic!("done")
    };
    assert_eq!(without.body, None);
}

#[test]
fn what_was_acknowledged_is_there_after_the_server_was_killed_and_meanwhile_nothing_is_promised() {
    let mut server = Server::start();
    let store = open(&server, "killed");
    for number in 0..40 {
        fence(&answered(store.claim(wish(number, 1, number.into(), 0))));
        answered(store.settle(settle(number, number.into(), End::Done(stored("kept")))));
    }
    server.kill();
    let Answer::Later(refused) = store.claim(wish(50, 1, 50, 0)) else { panic!("a round trip") };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    assert!(runtime.block_on(refused).is_err(), "nobody is there to promise anything");
    let unreachable = PostgresRecords::open(&at(&server, 7), "killed", on_disk());
    assert!(unreachable.is_err_and(|why| why.to_string().contains("store `killed`")));
    server.again();
    for number in 0..40 {
        assert_eq!(answered(store.claim(wish(number, 1, 99, 1))), Claimed::Done(stored("kept")), "{number}");
    }
    store.purge(super::START + super::HOUR + Duration::from_secs(1));
    fence(&answered(store.claim(wish(1, 2, 100, 3_601))));
}
