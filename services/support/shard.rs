//! Which of sixteen logical shards a user's rows belong to, and numbers that carry it.
//!
//! Rows of a user live together, so the shard is a hash of the user. Whoever knows only a number (of an order, an
//! account, a transfer) must find the same rows, so every number ends with the shard's four bits. Sixteen is fixed for
//! ever; how many files they are spread over is a setting, and [`Files::of`] is the only place that knows how.
//!
//! A number has 64 bits in 13 letters of Crockford's base 32. From the top: 41 bits of milliseconds since 2024 (good
//! until 2093), 19 random bits, 4 bits of shard. Numbers rise with time, which keeps indexes compact. They are no secret,
//! and two made in the same millisecond can be equal: whoever stores one makes another when it is taken.

use std::path::Path;

use sha2::{Digest, Sha256};

use super::StartError;

/// Without the letters that are mistaken for digits.
const LETTERS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// Letters of a number.
const LENGTH: usize = 13;

/// 2024-01-01 UTC in milliseconds.
const EPOCH_MS: i64 = 1_704_067_200_000;

/// One of the sixteen logical shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shard(u8);

impl Shard {
    /// How many there are.
    pub const COUNT: u8 = 16;

    /// The shard of a user's rows.
    pub fn of_user(user: &str) -> Self {
        Self(Sha256::digest(user.as_bytes())[0] & 0xF)
    }

    /// The shard a number carries; absent when the text is no number.
    pub fn of_number(number: &str) -> Option<Self> {
        let value = |letter: u8| LETTERS.iter().position(|&known| known == letter);
        let all = number.len() == LENGTH && number.bytes().all(|letter| value(letter).is_some());
        let last = number.bytes().last().filter(|_| all).and_then(value)?;
        u8::try_from(last & 0xF).ok().map(Self)
    }

    /// A number of this shard, from the time and some random bits.
    pub fn number(self, now_ms: i64, random: u32) -> String {
        let time = u64::try_from(now_ms - EPOCH_MS).unwrap_or(0) & ((1 << 41) - 1);
        let number = time << 23 | u64::from(random & 0x7_FFFF) << 4 | u64::from(self.0);
        // 13 letters hold 65 bits; the first one stands for the top four.
        (0..LENGTH).rev().map(|place| char::from(LETTERS[(number >> (place * 5) & 31) as usize])).collect()
    }
}

/// Over how many files the shards are spread: 1, 4 or 16.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Files(u8);

impl Files {
    /// `count` files; absent when that is not 1, 4 or 16.
    pub fn new(count: u8) -> Option<Self> {
        matches!(count, 1 | 4 | 16).then_some(Self(count))
    }

    /// How many files there are.
    pub fn count(self) -> usize {
        usize::from(self.0)
    }

    /// The names of a service's files. Their number is in the names: rows are looked for in the file that it implies.
    pub fn names(self, service: &str) -> impl Iterator<Item = String> {
        (0..self.count()).map(move |file| format!("{service}-{file}-of-{self}.sqlite"))
    }

    /// Over how many files a service has spread its rows in a folder; absent when it has none there.
    pub fn found(folder: &Path, service: &str) -> Option<Self> {
        let there = |files: &Self| files.names(service).next().is_some_and(|first| folder.join(first).exists());
        [1, 4, 16].map(Self).into_iter().find(there)
    }

    /// Checks that a folder does not hold a service's rows spread in another way.
    ///
    /// # Errors
    /// [`StartError::Setup`] with what to do.
    pub fn refuse_other_layout(self, folder: &Path, service: &str) -> Result<(), StartError> {
        match Self::found(folder, service).filter(|&found| found != self) {
            None => Ok(()),
            Some(other) => Err(StartError::Setup(format!(
                "the rows of {service} are spread over {other} files, not {self}: start with --shards {other}"
            ))),
        }
    }

    /// The index of the file that holds a shard, from 0.
    pub fn of(self, shard: Shard) -> usize {
        usize::from(shard.0 % self.0)
    }
}

impl std::str::FromStr for Files {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().ok().and_then(Self::new).ok_or_else(|| "must be 1, 4 or 16".to_owned())
    }
}

impl std::fmt::Display for Files {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_leads_to_the_same_file_as_its_user() {
        let mut seen = [0; Shard::COUNT as usize];
        for n in 0..2_000_u32 {
            let user = format!("u_{n}");
            let shard = Shard::of_user(&user);
            let number = shard.number(EPOCH_MS + i64::from(n), n.wrapping_mul(2_654_435_761));
            assert_eq!(Shard::of_number(&number), Some(shard), "{number}");
            for files in [1, 4, 16].map(|count| Files::new(count).expect("allowed")) {
                assert!(files.of(shard) < files.count());
                // Fewer files are unions of more files: going from 16 to 4 only ever merges.
                assert_eq!(files.of(shard), Files(16).of(shard) % files.count());
            }
            seen[Files(16).of(shard)] += 1;
        }
        assert!(seen.iter().all(|&count| count > 60), "uneven: {seen:?}");
    }

    #[test]
    fn what_is_no_number_has_no_shard() {
        for text in ["", "0000000000000000", "000000000000I", "00000000000é", "000000000000"] {
            assert_eq!(Shard::of_number(text), None, "{text}");
        }
        assert!([0, 2, 3, 5, 8, 15, 17, 255].into_iter().all(|count| Files::new(count).is_none()));
    }
}
