//! Generated keys: no two alike, all of the format, none to be guessed from another.

use std::collections::HashSet;

use proptest::prelude::*;

use super::super::permutation::{Format, LETTERS};

const SECRET: [u8; 32] = [3; 32];

#[test]
fn two_hundred_thousand_keys_are_all_different_and_true_to_their_format() {
    let format = Format::new("GIFT-XXXX-XXXX-XXXX", LETTERS, true).expect("a format");
    let keys: HashSet<String> = (0..200_000).map(|number| format.key(&SECRET, number)).collect();
    assert_eq!(keys.len(), 200_000);
    assert!(keys.iter().all(|key| format.matches(key)));
}

#[test]
fn a_small_format_is_permuted_without_a_gap() {
    for (pattern, letters) in [("XX", "ABC"), ("XXX", "0123456789"), ("X-XX", "01"), ("XXXXX", "abcde")] {
        let format = Format::new(pattern, letters, false).expect("a format");
        let places = u32::try_from(pattern.matches('X').count()).expect("few");
        let all = (letters.len() as u64).pow(places);
        let keys: HashSet<String> = (0..all).map(|number| format.key(&SECRET, number)).collect();
        assert_eq!(keys.len() as u64, all, "{pattern} of {letters}");
        assert_eq!(format.key(&SECRET, all), format.key(&SECRET, 0));
    }
}

#[test]
fn neighbours_do_not_look_alike_and_another_secret_makes_other_keys() {
    let format = Format::new("XXXXXXXXXX", LETTERS, false).expect("a format");
    let mut equal_places = 0;
    for number in 0..1_000 {
        let (one, next) = (format.key(&SECRET, number), format.key(&SECRET, number + 1));
        equal_places += one.chars().zip(next.chars()).filter(|(a, b)| a == b).count();
        assert_ne!(one, format.key(&[4; 32], number));
    }
    // 10,000 places with 32 letters: 312 by chance, with a deviation of 17.
    assert!((200..430).contains(&equal_places), "{equal_places}");
}

#[test]
fn formats_that_make_no_sense_or_could_be_guessed_are_refused() {
    let too_long = "X".repeat(21);
    for (pattern, letters) in [
        ("X", LETTERS),
        ("ABC", LETTERS),
        ("XXXX", "A"),
        ("XXXX", "AA"),
        ("XX XX", LETTERS),
        ("XXXX", "Aé"),
        (&too_long, "AB"),
    ] {
        assert!(Format::new(pattern, letters, false).is_err(), "{pattern} of {letters}");
    }
    let short = Format::new("XXXXXX", LETTERS, false).expect("a format");
    assert!(short.check_room(1_000).is_ok());
    assert!(short.check_room(1_100).is_err());
}

proptest! {
    #[test]
    fn a_wrong_letter_is_noticed(number in 0_u64..1 << 50, place in 0_usize..12, by in 1_usize..32) {
        let format = Format::new("XXXX-XXXX-XXXX", LETTERS, true).expect("a format");
        let key = format.key(&SECRET, number);
        prop_assert!(format.matches(&key));
        let place = place + place / 4;
        let letter = LETTERS.find(&key[place..=place]).expect("a letter");
        let other = (letter + by) % LETTERS.len();
        let wrong = format!("{}{}{}", &key[..place], &LETTERS[other..=other], &key[place + 1..]);
        prop_assert!(!format.matches(&wrong), "{} was taken for {}", wrong, key);
    }
}
