//! What follows from the end of a try.

use super::super::Verdict;
use super::*;

const NOTHING: Verdict = Verdict::Nothing { wait: None };

/// Lets time go on until the record is sent; how long that took.
fn until_sent(book: &mut Book, now: &mut Duration) -> Option<Duration> {
    let from = *now;
    loop {
        let due = book.due(*now);
        if !due.send.is_empty() {
            return Some(*now - from);
        }
        *now = (*now).max(due.wake?);
    }
}

fn end(book: &mut Book, verdict: Verdict, now: Duration) -> State {
    let entry = book.judge(1, verdict, now).unwrap();
    let state = entry.state;
    book.ended(entry, verdict, now);
    state
}

#[test]
fn four_quick_tries_then_three_dead_letters_then_a_person() {
    let mut book = book(rules("1000/s"));
    let mut now = START;
    join(&mut book, 1, Class::Normal, 1, now);
    let mut pauses = Vec::new();
    let mut states = Vec::new();
    while let Some(pause) = until_sent(&mut book, &mut now) {
        pauses.push(pause.as_secs());
        states.push(end(&mut book, NOTHING, now));
    }
    assert_eq!(pauses, [0, 1, 2, 4, 60, 60, 60]);
    let (retrying, dead) = (State::Retrying, State::DeadLetter);
    assert_eq!(states, [retrying, retrying, retrying, dead, dead, dead, State::Parked]);
    assert_eq!(book.find(Id(1)).unwrap().tries, 7);
    // A person lets it go on, with all its tries and time to make them.
    let until = millis(now) + 900_000;
    let again = book.take(Id(1), |entry| entry.requeue(until)).unwrap();
    assert_eq!((again.state, again.tries, again.expires), (State::Queued, 0, until));
    book.change(again);
    assert!(until_sent(&mut book, &mut now).unwrap() <= ms(1), "at once, but for the pace");
}

#[test]
fn an_upstream_that_asks_for_more_time_gets_it() {
    let mut book = book(rules("1000/s"));
    let mut now = START;
    join(&mut book, 1, Class::Normal, 1, now);
    until_sent(&mut book, &mut now);
    end(&mut book, Verdict::Nothing { wait: Some(Duration::from_secs(7)) }, now);
    assert_eq!(until_sent(&mut book, &mut now), Some(Duration::from_secs(7)));
}

#[test]
fn what_may_have_been_carried_out_is_not_sent_again_and_does_not_expire() {
    let mut book = book(rules("1000/s"));
    let mut now = START;
    join(&mut book, 1, Class::Normal, 1, now);
    until_sent(&mut book, &mut now);
    assert_eq!(end(&mut book, Verdict::Unknown, now), State::Unknown);
    let later = now + Duration::from_secs(100_000);
    let due = book.due(later);
    assert_eq!((due.send.len(), due.expired.len(), due.look.len()), (0, 0, 1), "it is looked for, no more");
    let seen = due.look[0].clone();
    assert!(book.take(Id(1), Entry::cancel).is_none(), "in somebody's hands");
    book.change(seen);
    assert!(book.take(Id(1), Entry::cancel).is_none(), "it may have been carried out");
}

#[test]
fn an_upstream_that_knows_keys_gets_it_again_and_it_stays_in_doubt() {
    let mut book = book(Rules { idempotent: true, ..rules("1000/s") });
    let mut now = START;
    join(&mut book, 1, Class::Normal, 1, now);
    until_sent(&mut book, &mut now);
    assert_eq!(end(&mut book, Verdict::Unknown, now), State::Retrying);
    assert!(book.take(Id(1), Entry::cancel).is_none());
    assert_eq!(until_sent(&mut book, &mut now), Some(Duration::from_secs(1)));
    assert_eq!(end(&mut book, Verdict::Answered, now), State::Done);
    assert_eq!((book.find(Id(1)), book.figures(now).records), (None, 0));
}

#[test]
fn an_open_breaker_pauses_its_lane_only_and_is_no_try() {
    let mut book = book(rules("1000/s"));
    assert_eq!(book.lane("other"), 1);
    let mut now = START;
    join(&mut book, 1, Class::Normal, 1, now);
    join(&mut book, 2, Class::Normal, 1, now);
    assert_eq!(book.due(now).send.len(), 1);
    let wait = Duration::from_secs(30);
    end(&mut book, Verdict::Postponed { wait, all: true }, now);
    let seat = book.reserve(Class::Normal, 1, 100, 0, now).unwrap();
    book.insert(seat, Entry { lane: 1, ..entry(3, Class::Normal, 1, now) });
    let due = book.due(now + ms(5));
    assert_eq!(due.send.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [3], "the other lane goes on");
    assert_eq!(until_sent(&mut book, &mut now), Some(wait));
    assert_eq!(book.find(Id(1)).unwrap().tries, 0);
}

#[test]
fn only_what_was_surely_not_carried_out_expires() {
    let mut book = book(Rules { max_in_flight: 1, ..rules("1000/s") });
    for seq in 1..=2 {
        join(&mut book, seq, Class::Normal, 1, START);
    }
    assert_eq!(book.due(START).send.len(), 1);
    let due = book.due(START + Duration::from_secs(900));
    assert_eq!(due.expired.iter().map(|entry| (entry.seq, entry.state)).collect::<Vec<_>>(), [(2, State::Expired)]);
    let gone = due.expired[0].clone();
    book.change(gone);
    assert_eq!(book.figures(START).records, 1, "what is under way stays");
}
