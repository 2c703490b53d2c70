//! Gateways that share a database, on a real server: whoever comes second sees what the first has done, and what an ended one
//! has left is taken over.

use sqlx::postgres::PgPool;
use tidegate_filters::store::Shared;

use super::tests::{at, begin, seen};
use super::*;

#[path = "../../../filters/store/tests/server.rs"]
mod server;

pub(super) use server::Server;

pub(super) fn place(server: &Server) -> Place {
    Place::Database(Shared { url: server.url(), password: None, key: [7; 32] })
}

fn gateways(server: &Server) -> [Journal; 2] {
    [(); 2].map(|()| Journal::open(&place(server), 0).unwrap())
}

/// All gateways but those that say something from now on have ended a minute ago.
async fn a_minute_passes(server: &Server) {
    let pool = PgPool::connect(&server.url()).await.unwrap();
    sqlx::query("UPDATE tidegate_gateway SET seen = seen - interval '1 minute'").execute(&pool).await.unwrap();
}

async fn states(journal: &Journal, id: &str) -> (PaymentState, Vec<AttemptState>) {
    let view = journal.view(id).await.unwrap().unwrap();
    (view.payment.state, view.attempts.iter().map(|attempt| attempt.state).collect())
}

#[tokio::test]
async fn of_two_gateways_that_get_the_same_payment_one_sends_it() {
    let server = Server::start();
    let [a, b] = gateways(&server);
    for number in 0..50 {
        let id = format!("p{number}");
        let (one, other) = tokio::join!(a.begin(begin(&id, "x"), 1), b.begin(begin(&id, "y"), 1));
        let (won, lost) = if one.is_ok() { (&a, other) } else { (&b, one) };
        assert!(matches!(lost, Err(Refusal::Standing)), "{lost:?}");
        assert_eq!(states(won, &id).await, (PaymentState::Processing, vec![AttemptState::Dispatching]));
    }
    let other = Begin { frozen: Frozen { fingerprint: "g".to_owned(), ..begin("p0", "x").frozen }, ..begin("p0", "x") };
    assert!(matches!(b.begin(other, 2).await, Err(Refusal::Mismatch)));
    assert_eq!(a.list(Some(PaymentState::Processing), 100).await.unwrap().len(), 50);
    assert_eq!(b.figures().await.unwrap(), (0, 50));
}

#[tokio::test]
async fn what_an_ended_gateway_was_sending_is_unknown_and_asked_for_by_another() {
    let server = Server::start();
    let [a, b] = gateways(&server);
    let n = a.begin(begin("p", "x"), 1).await.unwrap();
    b.beat(2).await.unwrap();
    assert_eq!(states(&b, "p").await.1, [AttemptState::Dispatching], "it is alive");
    a_minute_passes(&server).await;
    b.beat(3).await.unwrap();
    assert_eq!(states(&b, "p").await, (PaymentState::Processing, vec![AttemptState::Unknown]));
    let but = ["y".to_owned()];
    assert!(b.is_due(3, &but).await.unwrap() && !b.is_due(3, &["x".to_owned()]).await.unwrap());
    let due = b.claim(3, Duration::from_secs(60), 10, &but).await.unwrap();
    assert_eq!(due.iter().map(|attempt| (attempt.n, attempt.tries)).collect::<Vec<_>>(), [(n, 1)]);
    assert!(a.claim(3, Duration::from_secs(60), 10, &but).await.unwrap().is_empty(), "one asks at a time");
    // It was only slow, and has an answer after all.
    a.settle("p", n, seen(AttemptState::Succeeded), 4, 4).await.unwrap();
    assert_eq!(states(&b, "p").await, (PaymentState::Succeeded, vec![AttemptState::Succeeded]));
}

#[tokio::test]
async fn a_gateway_that_was_taken_for_ended_between_two_rounds_makes_no_further_one() {
    let server = Server::start();
    let [a, b] = gateways(&server);
    let n = a.begin(begin("p", "x"), 1).await.unwrap();
    a.rest("p", n, seen(AttemptState::NotSent), 2).await.unwrap();
    b.beat(3).await.unwrap();
    assert_eq!(states(&b, "p").await.0, PaymentState::Processing, "the next round may be a second away");
    a_minute_passes(&server).await;
    b.beat(4).await.unwrap();
    assert_eq!(states(&b, "p").await.0, PaymentState::Failed);
    let further = a.begin(Begin { resting: true, ..begin("p", "x") }, 5).await;
    assert!(matches!(further, Err(Refusal::Standing)), "somebody was told that it failed: {further:?}");
    // Who asks anew may have it anew.
    b.begin(begin("p", "x"), 6).await.unwrap();
}

#[tokio::test]
async fn what_was_written_outlives_the_servers_death_and_what_was_not_is_an_error() {
    let mut server = Server::start();
    let [a, _] = gateways(&server);
    let n = a.begin(begin("p", "x"), 1).await.unwrap();
    server.kill();
    assert!(matches!(a.begin(begin("q", "x"), 2).await, Err(Refusal::Store(_))));
    assert!(matches!(a.settle("p", n, seen(AttemptState::Unknown), 2, 3).await, Err(Refusal::Store(_))));
    server.again();
    a.settle("p", n, seen(AttemptState::Unknown), 4, 5).await.unwrap();
    assert_eq!(states(&a, "p").await.1, [AttemptState::Unknown]);
    assert!(a.view("q").await.unwrap().is_none());
    let told = a.told("p", (n, 1), Report::NotFound, seen(AttemptState::Unknown), at(6)).await.unwrap();
    assert_eq!((told, a.events("p").await.unwrap()), (Step::Wait, Vec::new()));
}
