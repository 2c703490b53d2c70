//! Bounds, quotas, and who is refused first.

use super::super::Refused;
use super::*;

/// How many of a hundred newcomers get in; chance goes evenly over its range.
fn taken(rules: Rules, class: Class) -> usize {
    let mut book = book(rules);
    let lots = (0..100).map(|lot| u32::MAX / 100 * ((lot * 37) % 100));
    lots.filter(|lot| book.reserve(class, 1, 100, *lot, START).is_ok()).count()
}

#[test]
fn records_and_bytes_are_bounded() {
    assert_eq!(taken(Rules { max_records: 50, ..rules("1/s") }, Class::High), 50);
    assert_eq!(taken(Rules { max_bytes: 4_050, ..rules("1/s") }, Class::High), 40);
}

#[test]
fn one_identity_takes_no_more_than_its_quota_and_gets_it_back() {
    let mut book = book(Rules { max_per_identity: 2, ..rules("1/s") });
    let first = book.reserve(Class::Normal, 1, 100, 0, START).unwrap();
    assert!(book.reserve(Class::Normal, 1, 100, 0, START).is_ok());
    assert_eq!(book.reserve(Class::Normal, 1, 100, 0, START), Err(Refused::Quota));
    assert!(book.reserve(Class::Normal, 2, 100, 0, START).is_ok());
    book.give_back(first);
    assert!(book.reserve(Class::Normal, 1, 100, 0, START).is_ok());
}

#[test]
fn what_is_full_says_when_to_come_back() {
    let mut book = book(Rules { max_records: 1, ..rules("1/5s") });
    join(&mut book, 1, Class::High, 1, START);
    assert_eq!(book.due(START).send.len(), 1);
    let refused = book.reserve(Class::High, 1, 100, 0, START);
    assert!(matches!(refused, Err(Refused::Full { wait }) if wait > Duration::from_secs(4)), "{refused:?}");
}

#[test]
fn the_low_class_is_shed_from_four_fifths_on_and_the_normal_one_from_nine_tenths() {
    let rules = Rules { max_records: 100, shed: Shed::LowestClass, ..rules("1/s") };
    assert_eq!(taken(rules.clone(), Class::Low), 80);
    assert_eq!(taken(rules.clone(), Class::Normal), 90);
    assert_eq!(taken(rules, Class::High), 100);
}

#[test]
fn by_lot_more_and_more_are_shed_from_four_fifths_on() {
    let by_lot = Rules { max_records: 100, shed: Shed::Random, ..rules("1/s") };
    let taken = taken(by_lot.clone(), Class::High);
    assert!((81..100).contains(&taken), "{taken}");
    let mut book = book(by_lot);
    for _ in 0..90 {
        assert!(book.reserve(Class::High, 1, 100, u32::MAX, START).is_ok());
    }
    // Half way between 80 and 100: every second one.
    assert!(book.reserve(Class::High, 1, 100, u32::MAX / 2 - 1, START).is_err());
    assert!(book.reserve(Class::High, 1, 100, u32::MAX / 2 + 1, START).is_ok());
}
