//! Gateways that share a database, on a real server: whoever comes second sees what the first has done, and what an ended one
//! has left is taken over.

use sqlx::postgres::PgPool;
use tidegate_filters::store::Shared;

use super::tests::{MINUTE, at, begin, due, seen};
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

/// A gateway that the database hears no more, though it is alive, and another; both have the upstream of the tests.
async fn one_falls_silent(server: &Server) -> [Journal; 2] {
    let a = Journal::open(&place(server), 0).unwrap();
    let pool = PgPool::connect(&server.url()).await.unwrap();
    let deaf = "CREATE FUNCTION deaf() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
        CREATE TABLE silent AS SELECT name FROM tidegate_gateway;
        CREATE FUNCTION is_silent(who text) RETURNS boolean LANGUAGE sql AS $$
            SELECT EXISTS (SELECT 1 FROM silent WHERE name = who) $$;
        CREATE TRIGGER deaf BEFORE UPDATE ON tidegate_gateway FOR EACH ROW
            WHEN (is_silent(OLD.name) AND NEW.seen > OLD.seen) EXECUTE FUNCTION deaf()";
    sqlx::raw_sql(deaf).execute(&pool).await.unwrap();
    [a, Journal::open(&place(server), 0).unwrap()]
}

/// Whoever is silent has been so for a minute.
async fn a_minute_passes(server: &Server) {
    let pool = PgPool::connect(&server.url()).await.unwrap();
    let age = "UPDATE tidegate_gateway SET seen = seen - interval '1 minute' WHERE is_silent(name)";
    sqlx::query(age).execute(&pool).await.unwrap();
}

#[tokio::test]
async fn what_an_ended_gateway_was_sending_is_unknown_and_asked_for_by_another() {
    let server = Server::start();
    let [a, b] = one_falls_silent(&server).await;
    let n = a.begin(begin("p", "x"), 1).await.unwrap();
    b.take_over(2).await.unwrap();
    assert_eq!(states(&b, "p").await.1, [AttemptState::Dispatching], "it was heard a moment ago");
    a_minute_passes(&server).await;
    b.take_over(3).await.unwrap();
    assert_eq!(states(&b, "p").await, (PaymentState::Processing, vec![AttemptState::Unknown]));
    assert!(b.is_due(&due(3, &["y"])).await.unwrap() && !b.is_due(&due(3, &["x"])).await.unwrap());
    let elsewhere = Due { upstreams: vec!["other".to_owned()], ..due(3, &[]) };
    assert!(!b.is_due(&elsewhere).await.unwrap(), "who cannot ask leaves it to those who can");
    assert!(b.is_due(&Due { now_ms: 3_600_000, ..elsewhere }).await.unwrap(), "unless nobody does");
    let claimed = b.claim(&due(3, &["y"]), MINUTE, 10).await.unwrap();
    assert_eq!(claimed.iter().map(|attempt| (attempt.n, attempt.tries)).collect::<Vec<_>>(), [(n, 1)]);
    assert!(a.claim(&due(3, &["y"]), MINUTE, 10).await.unwrap().is_empty(), "one asks at a time");
    // It was only slow, and has an answer after all.
    a.settle("p", Sending::first(n), seen(AttemptState::Succeeded), 4, 4).await.unwrap();
    assert_eq!(states(&b, "p").await, (PaymentState::Succeeded, vec![AttemptState::Succeeded]));
}

#[tokio::test]
async fn who_was_slow_frees_nothing_that_another_gateway_has_sent_since() {
    let server = Server::start();
    let [a, b] = one_falls_silent(&server).await;
    let n = a.begin(begin("p", "x"), 1).await.unwrap();
    a_minute_passes(&server).await;
    b.take_over(2).await.unwrap();
    let again = b.send_again("p", n, 3).await.unwrap();
    assert_eq!(again, Sending { n, sends: 2 });
    // Its own sending came to nothing. The other one may be charged this very moment.
    let (first, nothing) = (Sending::first(n), || seen(AttemptState::NotProcessed));
    let moved = a.begin(Begin { closing: Some((first, nothing())), ..begin("p", "y") }, 4).await;
    assert!(matches!(moved, Err(Refusal::Standing)), "{moved:?}");
    assert!(matches!(a.rest("p", first, nothing(), 4).await, Err(Refusal::Standing)));
    assert!(matches!(a.settle("p", first, nothing(), 4, 4).await, Err(Refusal::Standing)));
    assert!(matches!(a.settle("p", first, seen(AttemptState::Unknown), 4, 4).await, Err(Refusal::Standing)));
    assert_eq!(states(&b, "p").await, (PaymentState::Processing, vec![AttemptState::Dispatching]));
    b.settle("p", again, seen(AttemptState::Succeeded), 5, 5).await.unwrap();
    assert_eq!(states(&a, "p").await.0, PaymentState::Succeeded);
}

#[tokio::test]
async fn a_gateway_that_was_taken_for_ended_between_two_rounds_makes_no_further_one() {
    let server = Server::start();
    let [a, b] = one_falls_silent(&server).await;
    let n = a.begin(begin("p", "x"), 1).await.unwrap();
    a.rest("p", Sending::first(n), seen(AttemptState::NotSent), 2).await.unwrap();
    b.take_over(3).await.unwrap();
    assert_eq!(states(&b, "p").await.0, PaymentState::Processing, "the next round may be a second away");
    a_minute_passes(&server).await;
    b.take_over(4).await.unwrap();
    assert_eq!(states(&b, "p").await.0, PaymentState::Failed);
    let further = a.begin(Begin { resting: true, ..begin("p", "x") }, 5).await;
    assert!(matches!(further, Err(Refusal::Standing)), "somebody was told that it failed: {further:?}");
    // Who asks anew may have it anew.
    b.begin(begin("p", "x"), 6).await.unwrap();
    assert_eq!(a.conclude("p", 7).await.unwrap(), PaymentState::Processing, "another request is at work on it");
}

#[tokio::test]
async fn what_nobody_heard_the_end_of_is_taken_back_when_it_is_not_made() {
    let server = Server::start();
    let [a, b] = gateways(&server);
    let words = |words: &str| Begin { words: words.to_owned(), ..begin("p", "x") };
    a.begin(words("about to be sent (1)"), 1).await.unwrap();
    assert!(!b.abandon("p", "about to be sent (2)", 2).await.unwrap(), "that is another's");
    assert_eq!(states(&a, "p").await.1, [AttemptState::Dispatching]);
    assert!(a.abandon("p", "about to be sent (1)", 3).await.unwrap());
    assert_eq!(states(&b, "p").await, (PaymentState::Failed, vec![AttemptState::NotSent]));
    assert!(!a.abandon("q", "about to be sent (3)", 3).await.unwrap());
    b.begin(words("about to be sent (4)"), 4).await.unwrap();
}

#[tokio::test]
async fn what_channels_write_is_kept_as_far_as_a_database_takes_it() {
    let server = Server::start();
    let [a, _] = gateways(&server);
    let n = a.begin(begin("p", "x"), 1).await.unwrap();
    let odd = Observed { code: Some("A\0B".to_owned()), evidence: "\0".repeat(9_000), ..seen(AttemptState::Unknown) };
    a.settle("p", Sending::first(n), odd, 2, 3).await.unwrap();
    let view = a.view("p").await.unwrap().unwrap();
    assert_eq!(view.attempts[0].code.as_deref(), Some("A B"));
    a.event("p", "ANSWER", "a\0b".to_owned(), 4).await.unwrap();
}

#[tokio::test]
async fn what_was_written_outlives_the_servers_death_and_what_was_not_is_an_error() {
    let mut server = Server::start();
    let [a, _] = gateways(&server);
    let n = a.begin(begin("p", "x"), 1).await.unwrap();
    server.kill();
    assert!(matches!(a.begin(begin("q", "x"), 2).await, Err(Refusal::Store(_))));
    assert!(matches!(
        a.settle("p", Sending::first(n), seen(AttemptState::Unknown), 2, 3).await,
        Err(Refusal::Store(_))
    ));
    server.again();
    a.settle("p", Sending::first(n), seen(AttemptState::Unknown), 4, 5).await.unwrap();
    assert_eq!(states(&a, "p").await.1, [AttemptState::Unknown]);
    assert!(a.view("q").await.unwrap().is_none());
    let told = a.told("p", (n, 1), Report::NotFound, seen(AttemptState::Unknown), at(6)).await.unwrap();
    assert_eq!((told, a.events("p").await.unwrap()), (Step::Wait, Vec::new()));
}
