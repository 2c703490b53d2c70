//! The journal on a real file: what may follow what, and what a crash leaves.

use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::payments::outcome::Money;

fn frozen(id: &str) -> Frozen {
    let money = Money { amount: Some(100), currency: Some("CNY".to_owned()) };
    Frozen { id: id.to_owned(), upstream: "pay".to_owned(), money, kind: None, fingerprint: "f".to_owned() }
}

pub(super) fn begin(id: &str, channel: &str) -> Begin {
    Begin {
        frozen: frozen(id),
        channel: channel.to_owned(),
        considered: "[]".to_owned(),
        words: String::new(),
        closing: None,
        resting: false,
    }
}

pub(super) fn seen(state: AttemptState) -> Observed {
    Observed { state, evidence: "seen".to_owned(), http: None, code: None }
}

pub(super) fn at(now_ms: i64) -> Schedule {
    Schedule { now_ms, next_ms: now_ms + 1_000, min_age_ms: 60_000 }
}

pub(super) const MINUTE: Duration = Duration::from_secs(60);

pub(super) fn due(now_ms: i64, but: &[&str]) -> Due {
    Due { now_ms, but: but.iter().map(|but| (*but).to_owned()).collect(), upstreams: vec!["pay".to_owned()] }
}

fn open() -> (TempDir, Journal) {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(&Place::File(dir.path().join("payments.db")), 0).unwrap();
    (dir, journal)
}

async fn states(journal: &Journal, id: &str) -> (PaymentState, Vec<AttemptState>) {
    let view = journal.view(id).await.unwrap().unwrap();
    (view.payment.state, view.attempts.iter().map(|attempt| attempt.state).collect())
}

const LIVE: [AttemptState; 4] =
    [AttemptState::Dispatching, AttemptState::Pending, AttemptState::Unknown, AttemptState::Succeeded];

#[tokio::test]
async fn no_second_try_while_one_is_live_whatever_its_state() {
    let (_dir, journal) = open();
    for state in LIVE {
        let id = state.as_str().to_lowercase();
        let n = journal.begin(begin(&id, "a"), 1).await.unwrap();
        if state != AttemptState::Dispatching {
            journal.settle(&id, Sending::first(n), seen(state), 2, 3).await.unwrap();
        }
        for channel in ["a", "b"] {
            let refused = journal.begin(begin(&id, channel), 4).await;
            assert!(matches!(refused, Err(Refusal::Standing)), "{id} {channel}: {refused:?}");
        }
    }
}

#[tokio::test]
async fn a_charge_that_is_found_while_the_try_is_sent_is_final_whatever_its_sender_learns() {
    let (_dir, journal) = open();
    let n = journal.begin(begin("p", "a"), 1).await.unwrap();
    for report in [Report::NotFound, Report::Closed, Report::DeclinedHard, Report::Pending, Report::Nothing] {
        journal.told("p", (n, 1), report, seen(AttemptState::Unknown), at(2)).await.unwrap();
        let still = (PaymentState::Processing, vec![AttemptState::Dispatching]);
        assert_eq!(states(&journal, "p").await, still, "{report:?} may be true no more when the request arrives");
    }
    let told = journal.told("p", (n, 1), Report::Succeeded, seen(AttemptState::Unknown), at(3)).await;
    assert_eq!(told.unwrap(), Step::Decided);
    for lesser in [AttemptState::Unknown, AttemptState::Pending, AttemptState::Succeeded] {
        assert_eq!(journal.settle("p", Sending::first(n), seen(lesser), 4, 5).await.unwrap(), Step::Decided);
    }
    for contrary in [AttemptState::DeclinedHard, AttemptState::NotProcessed, AttemptState::Rejected] {
        assert!(
            matches!(journal.settle("p", Sending::first(n), seen(contrary), 4, 5).await, Err(Refusal::Standing)),
            "{contrary:?}"
        );
    }
    let closing = Some((Sending::first(n), seen(AttemptState::NotSent)));
    let moved = journal.begin(Begin { closing, ..begin("p", "b") }, 6).await;
    assert!(matches!(moved, Err(Refusal::Standing)), "{moved:?}");
    assert_eq!(states(&journal, "p").await, (PaymentState::Succeeded, vec![AttemptState::Succeeded]));
}

#[tokio::test]
async fn the_file_itself_refuses_two_live_tries() {
    let (dir, journal) = open();
    journal.begin(begin("p", "a"), 1).await.unwrap();
    let file = rusqlite::Connection::open(dir.path().join("payments.db")).unwrap();
    for state in ["PLANNED", "DISPATCHING", "SENT", "PENDING", "UNKNOWN", "SUCCEEDED"] {
        let sql = format!(
            "INSERT INTO attempts (payment_id, n, channel, number, state, created_ms, sent_ms, updated_ms, next_ms)
             VALUES ('p', 2, 'b', 'p', '{state}', 1, 1, 1, 1)"
        );
        let error = file.execute(&sql, []).unwrap_err();
        assert!(error.to_string().contains("UNIQUE"), "{state}: {error}");
    }
}

#[tokio::test]
async fn moving_on_closes_one_try_and_opens_the_next_or_does_neither() {
    let (_dir, journal) = open();
    let n = journal.begin(begin("p", "a"), 1).await.unwrap();
    let closing = Some((Sending::first(n), seen(AttemptState::NotSent)));
    assert_eq!(journal.begin(Begin { closing, ..begin("p", "b") }, 2).await.unwrap(), 2);
    let expected = vec![AttemptState::NotSent, AttemptState::Dispatching];
    assert_eq!(states(&journal, "p").await, (PaymentState::Processing, expected.clone()));
    // A close that is none, and a next try that is not allowed: nothing of it is kept.
    let closing = Some((Sending::first(2), seen(AttemptState::Unknown)));
    assert!(journal.begin(Begin { closing, ..begin("p", "c") }, 3).await.is_err());
    let closing = Some((Sending::first(2), seen(AttemptState::DeclinedSoft)));
    assert!(journal.begin(Begin { closing, ..begin("p", "b") }, 3).await.is_err());
    assert_eq!(states(&journal, "p").await, (PaymentState::Processing, expected));
}

#[tokio::test]
async fn a_payment_does_not_return_to_a_channel_it_has_left() {
    let (_dir, journal) = open();
    for (state, returns, goes_on) in [
        (AttemptState::NotSent, true, true),
        (AttemptState::NotProcessed, true, true),
        (AttemptState::DeclinedSoft, false, true),
        (AttemptState::Closed, false, true),
        (AttemptState::DeclinedHard, false, false),
        (AttemptState::Rejected, false, false),
        (AttemptState::Manual, false, false),
        (AttemptState::Unknown, false, false),
    ] {
        for (channel, allowed) in [("a", returns), ("b", goes_on)] {
            let id = format!("{}-{channel}", state.as_str());
            let n = journal.begin(begin(&id, "a"), 1).await.unwrap();
            journal.settle(&id, Sending::first(n), seen(state), 2, 3).await.unwrap();
            assert_eq!(journal.begin(begin(&id, channel), 4).await.is_ok(), allowed, "{id}");
        }
    }
}

#[tokio::test]
async fn a_number_belongs_to_one_content() {
    let (_dir, journal) = open();
    let n = journal.begin(begin("p", "a"), 1).await.unwrap();
    journal.settle("p", Sending::first(n), seen(AttemptState::NotSent), 2, 3).await.unwrap();
    let mut other = begin("p", "b");
    other.frozen.money.amount = Some(101);
    assert!(matches!(journal.begin(other, 4).await, Err(Refusal::Mismatch)));
    let mut other = begin("p", "b");
    other.frozen.upstream = "payout".to_owned();
    assert!(matches!(journal.begin(other, 4).await, Err(Refusal::Mismatch)));
    assert!(journal.begin(begin("p", "b"), 4).await.is_ok());
}

#[tokio::test]
async fn after_a_start_what_was_under_way_is_unknown_and_due() {
    let (dir, journal) = open();
    journal.begin(begin("sent", "a"), 1).await.unwrap();
    let n = journal.begin(begin("done", "a"), 1).await.unwrap();
    journal.settle("done", Sending::first(n), seen(AttemptState::Succeeded), 2, 3).await.unwrap();
    drop(journal);
    let journal = Journal::open(&Place::File(dir.path().join("payments.db")), 10).unwrap();
    assert_eq!(states(&journal, "sent").await, (PaymentState::Processing, vec![AttemptState::Unknown]));
    assert_eq!(states(&journal, "done").await, (PaymentState::Succeeded, vec![AttemptState::Succeeded]));
    let claimed = journal.claim(&due(10, &[]), MINUTE, 10).await.unwrap();
    assert_eq!(claimed.iter().map(|attempt| attempt.payment_id.as_str()).collect::<Vec<_>>(), ["sent"]);
    assert!(journal.claim(&due(11, &[]), MINUTE, 10).await.unwrap().is_empty(), "leased");
}

#[tokio::test]
async fn a_channel_that_is_asked_enough_holds_up_no_other() {
    let (_dir, journal) = open();
    for (id, channel) in [("p", "a"), ("q", "b")] {
        let n = journal.begin(begin(id, channel), 1).await.unwrap();
        journal.settle(id, Sending::first(n), seen(AttemptState::Unknown), 2, 2).await.unwrap();
    }
    let but = ["a"];
    assert!(journal.is_due(&due(5, &but)).await.unwrap());
    let claimed = journal.claim(&due(5, &but), MINUTE, 10).await.unwrap();
    assert_eq!(claimed.iter().map(|attempt| attempt.payment_id.as_str()).collect::<Vec<_>>(), ["q"]);
    assert!(!journal.is_due(&due(5, &but)).await.unwrap() && journal.is_due(&due(5, &[])).await.unwrap());
}

#[tokio::test]
async fn a_try_whose_task_was_lost_is_looked_at_in_the_end() {
    let (_dir, journal) = open();
    journal.begin(begin("p", "a"), 1).await.unwrap();
    assert!(journal.claim(&due(1_000, &[]), MINUTE, 10).await.unwrap().is_empty(), "it is still being sent");
    let late = 2 + millis(LONGEST_CALL);
    assert_eq!(journal.claim(&due(late, &[]), MINUTE, 10).await.unwrap().len(), 1);
    assert_eq!(states(&journal, "p").await.1, [AttemptState::Unknown]);
}

#[tokio::test]
async fn not_found_counts_twice_in_a_row_and_late() {
    let (_dir, journal) = open();
    let n = journal.begin(begin("p", "a"), 0).await.unwrap();
    journal.settle("p", Sending::first(n), seen(AttemptState::Unknown), 1, 1).await.unwrap();
    let ask = async |report, now_ms| {
        journal.told("p", (n, 1), report, seen(AttemptState::Unknown), at(now_ms)).await.unwrap()
    };
    assert_eq!(ask(Report::NotFound, 1_000).await, Step::Wait);
    assert_eq!(ask(Report::NotFound, 59_999).await, Step::Wait, "too early");
    assert_eq!(ask(Report::NotFound, 60_000).await, Step::Close);
    assert_eq!(ask(Report::Nothing, 61_000).await, Step::Wait, "a failed query changes nothing");
    assert_eq!(ask(Report::Pending, 62_000).await, Step::Wait);
    assert_eq!(ask(Report::NotFound, 63_000).await, Step::Wait, "it was known in between");
    assert_eq!(states(&journal, "p").await, (PaymentState::Processing, vec![AttemptState::Pending]));
    assert_eq!(ask(Report::Closed, 64_000).await, Step::Decided);
    assert_eq!(states(&journal, "p").await, (PaymentState::Failed, vec![AttemptState::Closed]));
}

#[tokio::test]
async fn sending_again_forgets_what_the_channel_did_not_know_and_is_for_one_at_a_time() {
    let (_dir, journal) = open();
    let n = journal.begin(begin("p", "a"), 0).await.unwrap();
    assert!(matches!(journal.send_again("p", n, 1).await, Err(Refusal::Standing)), "it is being sent");
    journal.settle("p", Sending::first(n), seen(AttemptState::Unknown), 1, 1).await.unwrap();
    journal.told("p", (n, 1), Report::NotFound, seen(AttemptState::Unknown), at(2)).await.unwrap();
    let again = journal.send_again("p", n, 50_000).await.unwrap();
    assert!(matches!(journal.send_again("p", n, 50_000).await, Err(Refusal::Standing)));
    journal.settle("p", again, seen(AttemptState::Unknown), 50_001, 50_001).await.unwrap();
    let told = journal.told("p", (n, 2), Report::NotFound, seen(AttemptState::Unknown), at(109_999)).await.unwrap();
    assert_eq!(told, Step::Wait);
    assert_eq!(journal.view("p").await.unwrap().unwrap().attempts[0].sends, 2);
}

#[tokio::test]
async fn a_success_of_what_was_closed_while_another_is_live_is_a_double_charge() {
    let (_dir, journal) = open();
    let n = journal.begin(begin("p", "a"), 0).await.unwrap();
    journal.settle("p", Sending::first(n), seen(AttemptState::Unknown), 1, 1).await.unwrap();
    journal.told("p", (n, 1), Report::Closed, seen(AttemptState::Unknown), at(2)).await.unwrap();
    journal.begin(begin("p", "b"), 3).await.unwrap();
    journal.settle("p", Sending::first(2), seen(AttemptState::Succeeded), 4, 4).await.unwrap();
    for expected in [Step::Alarm("DUPLICATE_CHARGE"), Step::Decided] {
        let step = journal.told("p", (n, 1), Report::Succeeded, seen(AttemptState::Unknown), at(5)).await.unwrap();
        assert_eq!(step, expected);
    }
    let events = journal.events("p").await.unwrap();
    assert_eq!(
        events.iter().map(|event| event.kind.as_str()).collect::<Vec<_>>(),
        ["LATE_SUCCESS", "DUPLICATE_CHARGE"]
    );
    let expected = vec![AttemptState::ChargedLate, AttemptState::Succeeded];
    assert_eq!(states(&journal, "p").await, (PaymentState::Succeeded, expected));
}

#[tokio::test]
async fn a_late_success_with_nothing_else_live_is_a_success_that_somebody_sees() {
    let (_dir, journal) = open();
    let n = journal.begin(begin("p", "a"), 0).await.unwrap();
    journal.settle("p", Sending::first(n), seen(AttemptState::DeclinedHard), 1, 1).await.unwrap();
    let step = journal.told("p", (n, 1), Report::Succeeded, seen(AttemptState::Unknown), at(5)).await.unwrap();
    assert_eq!(step, Step::Alarm("LATE_SUCCESS"));
    assert_eq!(states(&journal, "p").await, (PaymentState::Succeeded, vec![AttemptState::Succeeded]));
    assert_eq!(journal.events("p").await.unwrap()[0].kind, "LATE_SUCCESS");
}

#[tokio::test]
async fn a_person_decides_only_what_waits_for_one() {
    let (_dir, journal) = open();
    let n = journal.begin(begin("p", "a"), 0).await.unwrap();
    journal.settle("p", Sending::first(n), seen(AttemptState::Unknown), 1, 1).await.unwrap();
    let decide = async |state| journal.decide("p", state, "asked the bank", 9).await;
    assert!(matches!(decide(PaymentState::Failed).await, Err(Refusal::Standing)));
    assert!(journal.give_up("p", n, "too long", 5).await.unwrap());
    assert_eq!(states(&journal, "p").await, (PaymentState::Manual, vec![AttemptState::Manual]));
    assert_eq!(journal.figures().await.unwrap(), (1, 0));
    decide(PaymentState::Failed).await.unwrap();
    assert_eq!(states(&journal, "p").await.0, PaymentState::Failed);
    assert!(matches!(journal.begin(begin("p", "b"), 10).await, Err(Refusal::Standing)), "a person's word is the last");
    assert!(matches!(journal.decide("q", PaymentState::Failed, "", 9).await, Err(Refusal::Missing)));
}

async fn tell(journal: &Journal, n: i64, report: Report, now_ms: i64) -> Step {
    journal.told("p", (n, 1), report, seen(AttemptState::Unknown), at(now_ms)).await.unwrap()
}

#[tokio::test]
async fn what_a_channel_said_before_a_further_sending_proves_nothing_about_that() {
    let (_dir, journal) = open();
    let n = journal.begin(begin("p", "a"), 0).await.unwrap();
    journal.settle("p", Sending::first(n), seen(AttemptState::Unknown), 1, 1).await.unwrap();
    // The channel is told to close, and answers slowly; meanwhile the client sends again, with an unknown outcome.
    let again = journal.send_again("p", n, 70_000).await.unwrap();
    journal.settle("p", again, seen(AttemptState::Unknown), 70_001, 70_001).await.unwrap();
    for report in [Report::Closed, Report::DeclinedHard, Report::DeclinedSoft, Report::NotFound, Report::Pending] {
        assert_eq!(tell(&journal, n, report, 70_002).await, Step::Wait, "{report:?}");
        assert_eq!(states(&journal, "p").await.1, [AttemptState::Unknown], "{report:?}");
    }
    // A charge is a charge, whichever sending it was.
    assert_eq!(tell(&journal, n, Report::Succeeded, 70_003).await, Step::Decided);
    assert_eq!(states(&journal, "p").await.0, PaymentState::Succeeded);
}

#[tokio::test]
async fn a_late_charge_beside_a_live_try_is_remembered_when_that_ends() {
    let (_dir, journal) = open();
    journal.begin(begin("p", "a"), 0).await.unwrap();
    journal.settle("p", Sending::first(1), seen(AttemptState::Unknown), 1, 1).await.unwrap();
    tell(&journal, 1, Report::Closed, 2).await;
    journal.begin(begin("p", "b"), 3).await.unwrap();
    journal.settle("p", Sending::first(2), seen(AttemptState::Unknown), 4, 4).await.unwrap();
    assert_eq!(tell(&journal, 1, Report::Succeeded, 5).await, Step::Alarm("LATE_SUCCESS"));
    assert!(matches!(journal.begin(begin("p", "c"), 6).await, Err(Refusal::Standing)));
    assert_eq!(tell(&journal, 2, Report::Closed, 7).await, Step::Decided);
    let expected = vec![AttemptState::ChargedLate, AttemptState::Closed];
    assert_eq!(states(&journal, "p").await, (PaymentState::Succeeded, expected));
    assert!(matches!(journal.begin(begin("p", "c"), 8).await, Err(Refusal::Standing)), "it is paid");
}

#[tokio::test]
async fn a_person_s_word_stands_against_anything_but_a_charge() {
    for (decided, stays) in [(PaymentState::Succeeded, true), (PaymentState::Failed, false)] {
        let (_dir, journal) = open();
        journal.begin(begin("p", "a"), 0).await.unwrap();
        journal.settle("p", Sending::first(1), seen(AttemptState::Unknown), 1, 1).await.unwrap();
        journal.give_up("p", 1, "too long", 2).await.unwrap();
        journal.decide("p", decided, "asked the bank", 3).await.unwrap();
        for report in [Report::Closed, Report::DeclinedHard, Report::NotFound] {
            assert_eq!(tell(&journal, 1, report, 4).await, Step::Decided);
            assert_eq!(states(&journal, "p").await.0, decided, "{report:?}");
            assert!(matches!(journal.begin(begin("p", "b"), 5).await, Err(Refusal::Standing)), "{report:?}");
        }
        let step = tell(&journal, 1, Report::Succeeded, 6).await;
        assert_eq!(step, if stays { Step::Decided } else { Step::Alarm("LATE_SUCCESS") });
        assert_eq!(states(&journal, "p").await.0, PaymentState::Succeeded);
    }
}

#[tokio::test]
async fn an_answer_that_comes_after_everybody_gave_up_is_not_lost_if_it_is_a_charge() {
    let (_dir, journal) = open();
    journal.begin(begin("p", "a"), 0).await.unwrap();
    let late = millis(LONGEST_CALL) + 1;
    journal.claim(&due(late, &[]), MINUTE, 10).await.unwrap();
    assert!(journal.give_up("p", 1, "too long", late).await.unwrap());
    assert!(matches!(
        journal.settle("p", Sending::first(1), seen(AttemptState::DeclinedHard), late, late).await,
        Err(Refusal::Standing)
    ));
    journal.settle("p", Sending::first(1), seen(AttemptState::Succeeded), late, late).await.unwrap();
    assert_eq!(states(&journal, "p").await, (PaymentState::Succeeded, vec![AttemptState::Succeeded]));
    assert_eq!(journal.events("p").await.unwrap().last().unwrap().kind, "LATE_SUCCESS");
}

#[tokio::test]
async fn a_payment_between_two_rounds_is_under_way_and_a_stop_ends_it() {
    let (dir, journal) = open();
    journal.begin(begin("p", "a"), 0).await.unwrap();
    journal.rest("p", Sending::first(1), seen(AttemptState::NotSent), 1).await.unwrap();
    assert_eq!(states(&journal, "p").await, (PaymentState::Processing, vec![AttemptState::NotSent]));
    drop(journal);
    let journal = Journal::open(&Place::File(dir.path().join("payments.db")), 10).unwrap();
    assert_eq!(states(&journal, "p").await.0, PaymentState::Failed);
    assert!(journal.begin(begin("p", "a"), 11).await.is_ok(), "nothing was done, so it may be sent again");
    journal.rest("p", Sending::first(2), seen(AttemptState::NotSent), 12).await.unwrap();
    journal.conclude("p", 13).await.unwrap();
    assert_eq!(states(&journal, "p").await.0, PaymentState::Failed);
}

#[tokio::test]
async fn a_start_begins_patience_anew() {
    let (dir, journal) = open();
    journal.begin(begin("p", "a"), 0).await.unwrap();
    journal.settle("p", Sending::first(1), seen(AttemptState::Unknown), 1, 1).await.unwrap();
    for now_ms in [2, 100_000, 200_000] {
        journal.claim(&due(now_ms, &[]), MINUTE, 10).await.unwrap();
    }
    drop(journal);
    let journal = Journal::open(&Place::File(dir.path().join("payments.db")), 900_000).unwrap();
    let claimed = journal.claim(&due(900_000, &[]), MINUTE, 10).await.unwrap();
    assert_eq!(claimed.iter().map(|attempt| attempt.tries).collect::<Vec<_>>(), [1]);
}
