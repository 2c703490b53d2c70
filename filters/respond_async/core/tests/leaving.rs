//! Those on their way out when the pace becomes slower.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::{Leave, Verdict};
use super::*;

const BACK: Verdict = Verdict::Postponed { wait: Duration::ZERO, all: false };

/// A book that is worked off by the millisecond, with a disk that takes so long.
struct Run {
    book: Book,
    disk: Duration,
    writing: BTreeMap<(Duration, i64), ()>,
    leaving: BTreeMap<(Duration, i64), ()>,
    /// When each was sent.
    sent: Vec<(i64, Duration)>,
}

impl Run {
    fn new(rate: &str, crowd: i64, disk: Duration) -> Self {
        let mut book = book(rules(rate));
        (0..crowd).for_each(|seq| join(&mut book, seq, Class::Normal, 1, START));
        Self { book, disk, writing: BTreeMap::new(), leaving: BTreeMap::new(), sent: Vec::new() }
    }

    fn back(&mut self, seq: i64, now: Duration) {
        let entry = self.book.judge(seq, BACK, now).unwrap();
        self.book.ended(entry, BACK, now);
    }

    fn until(&mut self, from: Duration, to: Duration) {
        let steps = u64::try_from((to - from).as_millis()).unwrap();
        for now in (0..steps).map(|step| from + ms(step)) {
            for entry in self.book.due(now).send {
                self.writing.insert((now + self.disk, entry.seq), ());
            }
            while let Some(((at, seq), ())) = self.writing.first_key_value().map(|(key, ())| (*key, ()))
                && at <= now
            {
                self.writing.pop_first();
                match self.book.leave_at(std::iter::once(seq), now)[0] {
                    Some(at) => _ = self.leaving.insert((at, seq), ()),
                    None => self.back(seq, now),
                }
            }
            while let Some((at, seq)) = self.leaving.first_key_value().map(|(key, ())| *key)
                && at <= now
            {
                self.leaving.pop_first();
                match self.book.leave(seq, now) {
                    Leave::Now => self.sent.push((seq, now)),
                    Leave::At(at) => _ = self.leaving.insert((at, seq), ()),
                    Leave::Back => self.back(seq, now),
                }
            }
        }
    }

    fn running(&self) -> usize {
        self.writing.len() + self.leaving.len()
    }
}

#[test]
fn who_was_called_before_the_pace_became_far_slower_goes_back_into_the_line() {
    let mut run = Run::new("5000/s", 5_000, ms(100));
    run.until(START, START + ms(300));
    let before = run.running();
    assert!(before > 400, "{before} are on their way");
    run.book.retune(rules("1/10s"));
    let now = START + ms(300);
    let sent = run.sent.len();
    run.until(now, now + Duration::from_secs(2));
    assert!(run.running() <= 3, "{} of {before} are stranded", run.running());
    assert!(run.sent.len() <= sent + 1, "{} left", run.sent.len() - sent);
    // What went back can be withdrawn, and is sent at its time.
    assert_eq!(run.book.depth() + run.sent.len() + run.running(), 5_000);
    run.until(now + Duration::from_secs(2), now + Duration::from_secs(61));
    let left = run.sent.len() - sent;
    assert!((5..=7).contains(&left), "{left} in a minute");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn behind_a_change_of_the_pace_nobody_gets_more_than_the_new_one_and_none_is_lost(
        from in 50_u32..2_000, to in 1_u32..2_000, disk in 0_u64..250, at in 100_u64..1_500,
    ) {
        let mut run = Run::new(&format!("{from}/s"), 4_000, ms(disk));
        let change = START + ms(at);
        run.until(START, change);
        run.book.retune(rules(&format!("{to}/s")));
        run.until(change, change + Duration::from_secs(3));
        let mut seqs: Vec<i64> = run.sent.iter().map(|(seq, _)| *seq).collect();
        seqs.sort_unstable();
        seqs.dedup();
        prop_assert_eq!(seqs.len(), run.sent.len(), "sent twice");
        prop_assert_eq!(run.book.depth() + run.sent.len() + run.running(), 4_000);
        // Each second behind the change: 5 % more than the rate, and one at either end. A faster pace may find some on
        // their way who leave at the old one.
        let from = change + if to > from { ms(1_000) } else { Duration::ZERO };
        for step in 0..20 {
            let (begin, end) = (from + ms(step * 100), from + ms(step * 100 + 1_000));
            let count = run.sent.iter().filter(|(_, sent)| *sent >= begin && *sent < end).count();
            prop_assert!(count <= usize::try_from(to + to / 20 + 2).unwrap(), "{} at {}/s", count, to);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn a_process_that_stands_still_makes_no_burst_at_the_channel(
        rate in 50_u32..2_000,
        disk in 0_u64..250,
        stalls in prop::collection::vec((20_u64..300, 0_u64..500), 1..6),
    ) {
        let mut run = Run::new(&format!("{rate}/s"), 6_000, ms(disk));
        let mut now = START;
        for (runs, stands) in stalls {
            run.until(now, now + ms(runs));
            now += ms(runs + stands);
        }
        run.until(now, now + ms(1_500));
        let times: Vec<Duration> = run.sent.iter().map(|(_, sent)| *sent).collect();
        prop_assert!(times.is_sorted());
        for (at, from) in times.iter().enumerate() {
            let count = times[at..].partition_point(|time| *time < *from + Duration::from_secs(1));
            prop_assert!(count <= usize::try_from(rate + rate / 20 + 2).unwrap(), "{} at {}/s", count, rate);
        }
    }
}
