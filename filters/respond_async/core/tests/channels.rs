//! Every channel has a pace of its own.

use super::super::{May, Verdict};
use super::*;

/// A book whose one lane has these channels.
fn with(rules: Rules, channels: &[&str]) -> Book {
    let mut book = book(rules);
    book.set_channels(|_| channels.iter().map(|channel| (*channel).into()).collect());
    book
}

/// What a channel was sent.
fn sent(book: &Book, channel: &str) -> u64 {
    book.figures(START).lanes[0].channels.iter().find(|drain| &*drain.channel == channel).unwrap().sent
}

/// Sends for so long; `choose` says where each goes if it may. Returns how many went to `a` and to `b` in each second.
fn seconds(book: &mut Book, count: usize, choose: impl Fn(i64) -> [&'static str; 2]) -> Vec<[usize; 2]> {
    let mut counts = vec![[0, 0]; count];
    let mut now = START;
    loop {
        let second = usize::try_from((now - START).as_secs()).unwrap();
        if second >= count {
            return counts;
        }
        let due = book.due(now);
        for entry in due.send {
            let chosen = choose(entry.seq).into_iter().find(|channel| book.may(entry.seq, channel, now) == May::Now);
            let verdict = match chosen {
                Some(channel) => {
                    assert!(book.charge(entry.seq, channel, now));
                    counts[second][usize::from(channel == "b")] += 1;
                    Verdict::Answered
                }
                None => Verdict::Postponed { wait: ms(2), all: false },
            };
            let ended = book.judge(entry.seq, verdict, now).unwrap();
            book.ended(ended, verdict, now);
        }
        now = due.wake.unwrap();
    }
}

fn crowd(book: &mut Book, count: i64) {
    for seq in 0..count {
        join(book, seq, Class::Normal, u64::try_from(seq % 7).unwrap(), START);
    }
}

#[test]
fn two_channels_are_sent_to_at_their_own_pace_each_within_five_percent_in_every_second() {
    let mut book = with(rules("500/s"), &["a", "b"]);
    crowd(&mut book, 12_000);
    // Seven of ten are meant for one of them; behind it the other is as good.
    let counts = seconds(&mut book, 8, |seq| if seq % 10 < 7 { ["a", "b"] } else { ["b", "a"] });
    assert!(counts.iter().flatten().all(|count| (475..=525).contains(count)), "{counts:?}");
}

#[test]
fn who_may_go_to_one_channel_only_does_not_make_it_faster() {
    let mut book = with(rules("500/s"), &["a", "b"]);
    crowd(&mut book, 12_000);
    let counts = seconds(&mut book, 4, |_| ["a", "a"]);
    assert!(counts.iter().all(|[a, b]| (475..=525).contains(a) && *b == 0), "{counts:?}");
}

#[test]
fn while_there_is_time_the_choice_is_failovers() {
    let mut book = with(rules("500/s"), &["a", "b"]);
    for seq in 0..20 {
        let now = START + ms(100) * u32::try_from(seq).unwrap();
        join(&mut book, seq, Class::Normal, 1, now);
        assert_eq!(book.due(now).send.len(), 1);
        assert!(book.charge(seq, "b", now));
    }
    assert_eq!((sent(&book, "a"), sent(&book, "b")), (0, 20));
    let figures = book.figures(START);
    assert_eq!(figures.lanes[0].channels.iter().map(|drain| drain.in_flight).collect::<Vec<_>>(), [0, 20]);
}

#[test]
fn one_busy_channel_becomes_slower_and_the_other_does_not() {
    let mut book = with(rules("1000/s"), &["a", "b"]);
    crowd(&mut book, 2);
    let now = START + ms(1);
    let due = [book.due(START).send, book.due(now).send].concat();
    assert_eq!(due.len(), 2);
    assert!(book.charge(due[0].seq, "a", now));
    book.tried(due[0].seq, "a", true, ms(1), now);
    let rates: Vec<f64> = book.figures(now).lanes[0].channels.iter().map(|drain| drain.rate.round()).collect();
    assert_eq!(rates, [700.0, 1000.0]);
}

#[test]
fn a_channel_that_rests_calls_nobody_and_the_other_goes_on() {
    let mut book = with(rules("500/s"), &["a", "b"]);
    crowd(&mut book, 5_000);
    let first = book.due(START).send[0].seq;
    book.rest(first, "a", START + Duration::from_secs(2));
    let ended = book.judge(first, Verdict::Answered, START).unwrap();
    book.ended(ended, Verdict::Answered, START);
    assert!(book.figures(START).lanes[0].channels[0].paused);
    let counts = seconds(&mut book, 2, |seq| if seq % 2 == 0 { ["a", "b"] } else { ["b", "a"] });
    assert!(counts.iter().all(|[a, b]| *a <= 1 && (475..=525).contains(b)), "{counts:?}");
}

#[test]
fn no_channel_has_more_under_way_than_may_be() {
    let mut book = with(Rules { max_in_flight: 2, ..rules("1000/s") }, &["a", "b"]);
    crowd(&mut book, 10);
    let mut sent = Vec::new();
    for tick in 0..20 {
        let now = START + ms(tick);
        for entry in book.due(now).send {
            let to = ["a", "b"].into_iter().find(|to| book.may(entry.seq, to, now) == May::Now).unwrap();
            assert!(book.charge(entry.seq, to, now));
            sent.push(to);
        }
    }
    sent.sort_unstable();
    assert_eq!(sent, ["a", "a", "b", "b"]);
}

#[test]
fn a_channel_that_the_file_has_no_more_gets_nothing_and_keeps_its_pace_until_it_is_back() {
    let mut book = with(rules("1/10s"), &["a"]);
    crowd(&mut book, 5);
    assert_eq!(book.due(START).send.len(), 1);
    book.set_channels(|_| vec!["b".into()]);
    let now = START + ms(1);
    assert_eq!(book.due(now).send.len(), 1, "another one has its own pace");
    book.set_channels(|_| vec!["a".into(), "b".into()]);
    assert_eq!(book.due(now).send.len(), 0, "and the old one's is remembered");
    // Nobody knows its channels any more: it is sent to as one.
    book.set_channels(|_| Vec::new());
    assert_eq!(book.due(now).send.len(), 1);
}
