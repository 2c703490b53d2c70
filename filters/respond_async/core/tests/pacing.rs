//! How fast things go out.

use proptest::prelude::*;

use super::super::{Due, Verdict};
use super::*;

/// Sends in each second while a crowd waits; wakes come so many milliseconds late.
fn seconds(rate: &str, crowd: i64, count: usize, late: &[u64]) -> Vec<usize> {
    let mut book = book(rules(rate));
    for seq in 0..crowd {
        join(&mut book, seq, Class::Normal, u64::try_from(seq % 7).unwrap(), START);
    }
    let mut sent = vec![0; count];
    let (mut now, mut wakes) = (START, 0);
    loop {
        let due = book.due(now);
        drop(book.leave_at(due.send.iter().map(|entry| entry.seq), now));
        let second = usize::try_from((now - START).as_secs()).unwrap();
        if second >= count {
            return sent;
        }
        sent[second] += due.send.len();
        now = due.wake.unwrap() + ms(late[wakes % late.len()]);
        wakes += 1;
    }
}

#[test]
fn a_burst_of_a_hundred_thousand_goes_out_at_500_in_every_second() {
    let sent = seconds("500/s", 100_000, 30, &[0]);
    assert!(sent.iter().all(|sent| (499..=501).contains(sent)), "{sent:?}");
    // Arrivals: everything in one second of thirty. Deviation over mean, of what comes and of what goes.
    let variation = |counts: &[f64]| {
        let mean = counts.iter().sum::<f64>() / counts.len() as f64;
        (counts.iter().map(|count| (count - mean).powi(2)).sum::<f64>() / counts.len() as f64).sqrt() / mean
    };
    let mut came = vec![0.0; 30];
    came[0] = 100_000.0;
    let went: Vec<f64> = sent.iter().map(|sent| *sent as f64).collect();
    assert!(variation(&went) <= 0.4 * variation(&came), "{} of {}", variation(&went), variation(&came));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn timers_that_are_late_by_less_than_what_may_be_caught_up_cost_nothing(
        late in prop::collection::vec(0_u64..=39, 1..40),
    ) {
        let sent = seconds("500/s", 5_000, 5, &late);
        // 40 ms at 500/s are 20 requests, at either end of a second.
        prop_assert!(sent.iter().all(|sent| (479..=521).contains(sent)), "{:?}", sent);
    }
}

#[test]
fn a_pause_is_not_made_up_for_by_a_burst() {
    let mut book = book(rules("500/s"));
    for seq in 0..10_000 {
        join(&mut book, seq, Class::Normal, 1, START);
    }
    assert_eq!(book.due(START).send.len(), 1, "idleness has saved up nothing");
    let now = START + Duration::from_secs(60);
    let late = book.due(now).send;
    assert_eq!(late.len(), 126, "what 250 ms let through, and the one whose time it is");
    let leave: Vec<_> =
        book.leave_at(late.iter().map(|entry| entry.seq), now).into_iter().map(Option::unwrap).collect();
    assert!(leave.windows(2).all(|pair| pair[1] - pair[0] >= Duration::from_micros(1_920)), "{leave:?}");
}

#[test]
fn no_more_are_under_way_than_may_be() {
    let mut book = book(Rules { max_in_flight: 3, ..rules("1000/s") });
    for seq in 0..10 {
        join(&mut book, seq, Class::Normal, 1, START);
    }
    let due = book.due(START);
    let now = START + ms(2);
    let more = book.due(now);
    let due = Due { send: due.send.into_iter().chain(more.send).collect(), ..more };
    assert_eq!((due.send.len(), due.wake), (3, Some(ms(1_000_900_000))), "nothing but expiry is waited for");
    let ended = book.judge(due.send[0].seq, Verdict::Answered, START).unwrap();
    book.ended(ended, Verdict::Answered, START);
    assert_eq!(book.due(START + ms(10)).send.len(), 1);
}

/// Requests a second that may go out.
fn rate(book: &Book, now: Duration) -> f64 {
    book.figures(now).lanes[0].channels[0].rate
}

#[test]
fn a_busy_upstream_is_sent_to_more_slowly_and_the_pace_comes_back_by_itself() {
    let mut book = book(rules("1000/s"));
    for seq in 0..100 {
        join(&mut book, seq, Class::Normal, 1, START);
    }
    let second = Duration::from_secs(1);
    let fail = |book: &mut Book, now: Duration, busy, took| {
        let sent = book.due(now).send;
        let verdict = if busy { Verdict::Nothing { wait: None } } else { Verdict::Answered };
        for entry in sent {
            book.tried(entry.seq, "", busy, took, now);
            let ended = book.judge(entry.seq, verdict, now).unwrap();
            book.ended(ended, verdict, now);
        }
    };
    fail(&mut book, START, true, ms(10));
    assert!((rate(&book, START) - 700.0).abs() < 1.0, "many signs at once are one: {}", rate(&book, START));
    fail(&mut book, START + second, false, second * 4);
    assert!((rate(&book, START + second) - 490.0).abs() < 1.0, "a slow answer is a sign, too");
    let quiet = START + second * 3;
    assert!((rate(&book, quiet) - 490.0).abs() < 1.0);
    assert!((rate(&book, quiet + second * 4) - 690.0).abs() < 1.0, "5 % of the full rate a second");
    assert!((rate(&book, quiet + second * 60) - 1000.0).abs() < f64::EPSILON);
    let mut now = quiet + second * 60;
    for seq in 200..300 {
        join(&mut book, seq, Class::Normal, 1, now);
        fail(&mut book, now, true, ms(10));
        now += second;
    }
    assert!(rate(&book, now) >= 10.0, "never slower than a hundredth: {}", rate(&book, now));
}

/// How many leave in each second from the first, when the disk takes so many milliseconds for each commit in turn.
fn left(rate: &str, crowd: i64, disk: &[u64]) -> Vec<usize> {
    let mut book = book(rules(rate));
    for seq in 0..crowd {
        join(&mut book, seq, Class::Normal, 1, START);
    }
    let (mut now, mut commits, mut left) = (START, 0, Vec::new());
    // What is called while a commit runs goes into the next one together.
    let (mut gathering, mut writing): (Vec<i64>, Option<(Duration, Vec<i64>)>) = (Vec::new(), None);
    while left.len() < usize::try_from(crowd).unwrap() {
        gathering.extend(book.due(now).send.iter().map(|entry| entry.seq));
        if writing.is_none() && !gathering.is_empty() {
            writing = Some((now + ms(disk[commits % disk.len()]), std::mem::take(&mut gathering)));
            commits += 1;
        }
        now += ms(1);
        if let Some((_, seqs)) = writing.take_if(|(end, _)| *end <= now) {
            left.extend(book.leave_at(seqs.into_iter(), now).into_iter().flatten());
        }
    }
    assert!(left.is_sorted(), "in their order");
    let first = left[0];
    let mut seconds = vec![0; usize::try_from((left[left.len() - 1] - first).as_secs()).unwrap()];
    for at in left {
        if let Some(count) = seconds.get_mut(usize::try_from((at - first).as_secs()).unwrap()) {
            *count += 1;
        }
    }
    seconds
}

#[test]
fn a_disk_that_is_slow_now_and_then_changes_nothing_about_the_pace_at_the_channel() {
    for disk in [&[3_u64][..], &[3, 3, 60, 3, 3, 3, 3, 120], &[90, 1], &[5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 230]] {
        let seconds = left("500/s", 6_000, disk);
        // The first second has the one that went at once, and what the delay took.
        assert!(seconds[1..].iter().all(|count| (475..=525).contains(count)), "{disk:?}: {seconds:?}");
    }
}

#[test]
fn a_disk_that_stands_still_costs_time_and_never_makes_a_burst() {
    let mut disk = vec![4; 100_000];
    disk[500] = 3_000;
    let seconds = left("500/s", 6_000, &disk);
    assert!(seconds.iter().all(|count| *count <= 525), "{seconds:?}");
    let late = seconds.iter().rev().take(3).all(|count| (475..=525).contains(count));
    assert!(late && seconds.len() >= 13, "the pace is kept behind it: {seconds:?}");
}

#[test]
fn who_has_nobody_behind_does_not_wait_for_what_the_disk_took_before() {
    let mut book = book(rules("500/s"));
    join(&mut book, 1, Class::Normal, 1, START);
    let sent = book.due(START).send;
    let now = START + ms(200);
    assert_eq!(book.leave_at(sent.iter().map(|entry| entry.seq), now), [Some(now)]);
    let now = START + ms(400);
    join(&mut book, 2, Class::Normal, 1, now);
    let sent = book.due(now).send;
    let written = now + ms(3);
    assert_eq!(book.leave_at(sent.iter().map(|entry| entry.seq), written), [Some(written)]);
}
