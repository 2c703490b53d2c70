//! A record is in one pair of hands at a time, and figures always add up.

use proptest::prelude::*;

use super::super::Verdict;
use super::*;

#[test]
fn what_is_being_sent_is_changed_by_nobody_else() {
    let mut book = book(rules("1000/s"));
    join(&mut book, 1, Class::Normal, 1, START);
    assert_eq!(book.due(START).send.len(), 1);
    assert!(book.take(Id(1), Entry::cancel).is_none());
    assert!(book.take(Id(1), |entry| entry.requeue(0)).is_none());
    assert!(book.take(Id(1), Entry::resolve).is_none());
}

#[test]
fn what_one_person_holds_another_cannot_take() {
    let mut book = book(rules("1000/s"));
    book.load(Entry { state: State::Parked, ..entry(1, Class::Normal, 1, START) });
    let first = book.take(Id(1), |entry| entry.requeue(0)).unwrap();
    assert!(book.take(Id(1), |entry| entry.requeue(0)).is_none(), "twice would be sent twice");
    book.put_back(first.seq);
    assert_eq!(book.find(Id(1)).unwrap().state, State::Parked);
    let again = book.take(Id(1), |entry| entry.requeue(0)).unwrap();
    book.change(again);
    assert_eq!(book.due(START).send.len(), 1);
}

#[test]
fn what_an_earlier_process_left_goes_on_where_it_stood() {
    let mut book = book(rules("1000/s"));
    let due = millis(START) + 2_000;
    book.load(Entry { state: State::Retrying, due, tries: 2, ..entry(1, Class::Normal, 1, START) });
    book.load(Entry { state: State::Unknown, doubt: true, ..entry(2, Class::Normal, 1, START) });
    book.load(entry(3, Class::Normal, 1, START));
    let first = book.due(START);
    assert_eq!((first.send.len(), first.look.len(), first.wake), (1, 1, Some(START + ms(2_000))));
    assert_eq!(book.due(START + ms(2_000)).send[0].seq, 1);
}

#[derive(Clone, Debug)]
enum Step {
    Join(u8, u8),
    Cancel(u8),
    Requeue(u8),
    End(u8, u8),
    Pass(u16),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0_u8..3, 0_u8..4).prop_map(|(class, party)| Step::Join(class, party)),
        any::<u8>().prop_map(Step::Cancel),
        any::<u8>().prop_map(Step::Requeue),
        (any::<u8>(), 0_u8..4).prop_map(|(which, how)| Step::End(which, how)),
        (0_u16..5_000).prop_map(Step::Pass),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn nothing_is_lost_sent_twice_at_once_or_counted_wrongly(steps in prop::collection::vec(step(), 1..200)) {
        let mut book = book(Rules { max_in_flight: 5, ..rules("100/s") });
        let (mut now, mut seq) = (START, 0_i64);
        let mut running: Vec<Entry> = Vec::new();
        let mut alive: Vec<i64> = Vec::new();
        for step in steps {
            match step {
                Step::Join(class, party) => {
                    seq += 1;
                    join(&mut book, seq, Class::ALL[usize::from(class)], u64::from(party), now);
                    alive.push(seq);
                }
                Step::Cancel(which) => {
                    let id = Id(u128::from(which) % 64);
                    if let Some(entry) = book.take(id, Entry::cancel) {
                        prop_assert!(!running.iter().any(|other| other.id == id));
                        alive.retain(|seq| *seq != entry.seq);
                        book.change(entry);
                    }
                }
                Step::Requeue(which) => {
                    if let Some(entry) = book.take(Id(u128::from(which) % 64), |entry| entry.requeue(0)) {
                        book.change(entry);
                    }
                }
                Step::End(which, how) => {
                    if !running.is_empty() {
                        let entry = running.swap_remove(usize::from(which) % running.len());
                        let verdict = match how {
                            0 => Verdict::Answered,
                            1 => Verdict::Nothing { wait: None },
                            2 => Verdict::Unknown,
                            _ => Verdict::Postponed { wait: ms(300), all: which % 2 == 0 },
                        };
                        let ended = book.judge(entry.seq, verdict, now).unwrap();
                        if ended.state.is_over() {
                            alive.retain(|seq| *seq != ended.seq);
                        }
                        book.ended(ended, verdict, now);
                    }
                }
                Step::Pass(span) => {
                    now += ms(u64::from(span));
                    let due = book.due(now);
                    for entry in due.send {
                        prop_assert!(!running.iter().any(|other| other.seq == entry.seq), "sent twice at once");
                        running.push(entry);
                    }
                    for entry in due.expired {
                        alive.retain(|seq| *seq != entry.seq);
                        book.change(entry);
                    }
                    for mut entry in due.look {
                        entry.due = u64::MAX;
                        book.change(entry);
                    }
                }
            }
            let figures = book.figures(now);
            prop_assert_eq!(figures.records, alive.len());
            prop_assert_eq!(figures.bytes, 100 * alive.len() as u64);
            prop_assert_eq!(figures.states.iter().map(|(_, count)| count).sum::<usize>(), alive.len());
            prop_assert_eq!(figures.lanes[0].channels[0].in_flight, running.len());
            prop_assert!(running.len() <= 5);
        }
    }
}
