//! Made-up keys that can neither repeat nor be guessed.
//!
//! A key is a number in disguise: keys are counted 0, 1, 2, …, each number goes through a secret permutation of all
//! numbers the format can write, and the result is written with the format's letters. A permutation gives two numbers
//! never the same result, so nothing has to be looked up and no key is ever made twice; without the secret the next
//! one cannot be told from the ones before.
//!
//! The permutation is an alternating Feistel network over two halves of digits, the construction of NIST SP 800-38G
//! (FF1) with HMAC-SHA256 as its round function: ten rounds, addition modulo the size of a half. It permutes exactly
//! the numbers of the format, whatever the count of letters, so nothing is thrown away or tried again either.
//!
//! The check letter is Luhn's algorithm for any count of letters (Luhn mod N): it notices every wrong letter and
//! nearly every swap of two neighbours, before a server is asked.

use super::keyring::hmac_sha256;

const ROUNDS: u8 = 10;

/// Most places that count in one half: with the most letters, 64, a half stays below 2^60.
const MAX_HALF: usize = 10;

/// So many times more keys than are made must be possible, or guessing would find some.
const SPARSE: u128 = 1_000_000;

/// What stands for a letter in a format.
const PLACE: char = 'X';

/// Letters when none are named: without those that are mistaken for one another.
pub(super) const LETTERS: &str = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789";

/// The look of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Format {
    pattern: String,
    letters: Vec<char>,
    /// Whether the last place is a check letter.
    checksum: bool,
    /// Places that count.
    places: usize,
}

impl Format {
    /// # Errors
    /// Says what is wrong with the format or the letters.
    pub(super) fn new(pattern: &str, letters: &str, checksum: bool) -> Result<Self, String> {
        let mut distinct: Vec<char> = letters.chars().collect();
        distinct.sort_unstable();
        distinct.dedup();
        let plain = |text: &str| text.chars().all(|letter| letter.is_ascii_graphic());
        if !(2..=64).contains(&letters.len()) || distinct.len() != letters.len() || !plain(letters) {
            return Err("charset must be 2 to 64 different visible ASCII characters".to_owned());
        }
        if pattern.len() > 64 || !plain(pattern) {
            return Err("format must be at most 64 visible ASCII characters".to_owned());
        }
        let places = pattern.matches(PLACE).count().saturating_sub(usize::from(checksum));
        if !(2..=2 * MAX_HALF).contains(&places) {
            let most = 2 * MAX_HALF;
            return Err(format!("format must have 2 to {most} places X, and one more for a checksum"));
        }
        Ok(Self { pattern: pattern.to_owned(), letters: letters.chars().collect(), checksum, places })
    }

    /// How many different keys it can write.
    fn size(&self) -> u128 {
        let (left, right) = self.halves();
        u128::from(left) * u128::from(right)
    }

    /// # Errors
    /// Says that `count` keys would stand too close together.
    pub(super) fn check_room(&self, count: u64) -> Result<(), String> {
        if self.size() / SPARSE >= u128::from(count) {
            return Ok(());
        }
        Err(format!("keys of this format could be guessed: there must be {SPARSE} times as many as are made"))
    }

    /// Equal for formats that write the same keys; names the counter and the permutation.
    pub(super) fn space(&self) -> String {
        let letters: String = self.letters.iter().collect();
        format!("{} {letters} {}", self.pattern, u8::from(self.checksum))
    }

    /// How many values each half of the places has.
    fn halves(&self) -> (u64, u64) {
        let base = self.letters.len() as u64;
        let power = |places: usize| (0..places).fold(1, |size: u64, _| size * base);
        (power(self.places / 2), power(self.places - self.places / 2))
    }

    /// The key for a number below the count of all keys; larger ones begin again from 0.
    pub(super) fn key(&self, secret: &[u8; 32], number: u64) -> String {
        let (left_size, right_size) = self.halves();
        let number = u128::from(number) % self.size();
        let split = |value: u128| u64::try_from(value).unwrap_or(u64::MAX);
        let (mut left, mut right) = (split(number / u128::from(right_size)), split(number % u128::from(right_size)));
        for round in 0..ROUNDS {
            if round % 2 == 0 {
                left = (left + mix(secret, round, right) % left_size) % left_size;
            } else {
                right = (right + mix(secret, round, left) % right_size) % right_size;
            }
        }
        let mut digits = self.digits(left, self.places / 2);
        digits.extend(self.digits(right, self.places - self.places / 2));
        if self.checksum {
            digits.push(check_digit(&digits, self.letters.len()));
        }
        let mut digits = digits.into_iter();
        let write =
            |place| if place == PLACE { digits.next().map_or(place, |digit| self.letters[digit]) } else { place };
        self.pattern.chars().map(write).collect()
    }

    /// The places of a number, the highest first.
    fn digits(&self, mut number: u64, places: usize) -> Vec<usize> {
        let base = self.letters.len() as u64;
        let mut digits: Vec<usize> = (0..places)
            .map(|_| {
                let digit = usize::try_from(number % base).unwrap_or(0);
                number /= base;
                digit
            })
            .collect();
        digits.reverse();
        digits
    }

    /// Whether a text looks like a key of this format, its check letter included.
    #[cfg(test)]
    pub(super) fn matches(&self, text: &str) -> bool {
        let mut digits = Vec::new();
        let fits = text.len() == self.pattern.len()
            && self.pattern.chars().zip(text.chars()).all(|(place, letter)| {
                if place != PLACE {
                    return place == letter;
                }
                let digit = self.letters.iter().position(|known| *known == letter);
                digits.extend(digit);
                digit.is_some()
            });
        let expected = |digits: &[usize]| digits.split_last().map(|(_, rest)| check_digit(rest, self.letters.len()));
        fits && (!self.checksum || digits.last().copied() == expected(&digits))
    }
}

/// The round function: 61 bits, so that a half, below 2^60, can be added without overflow and the remainder is near uniform
/// for all formats but the very longest.
fn mix(secret: &[u8; 32], round: u8, half: u64) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = hmac_sha256(secret, &[&[round], &half.to_be_bytes()]);
    u64::from_be_bytes([a, b, c, d, e, f, g, h]) >> 3
}

/// Luhn mod N: every second digit from the right is doubled and its own digits added.
fn check_digit(digits: &[usize], base: usize) -> usize {
    let doubled = |(place, digit): (usize, &usize)| {
        let value = if place % 2 == 0 { digit * 2 } else { *digit };
        value / base + value % base
    };
    let sum: usize = digits.iter().rev().enumerate().map(doubled).sum();
    (base - sum % base) % base
}
