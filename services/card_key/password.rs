//! Query passwords: how they are stored, compared and protected against guessing.
//!
//! A buyer without an account reads his keys with the order number and a password he chose. Stored is PBKDF2 with
//! HMAC-SHA256 and a random salt, over the password already keyed with a secret of the service. That secret is what
//! makes guessing from a stolen database hopeless, so the rounds can stay modest: a hash is made for every order of a
//! flash sale, and 100,000 rounds would cost more processor time than the whole rest of the order. Guessing through
//! the front door is limited by [`Throttle`].

use std::collections::HashMap;

use parking_lot::Mutex;
use rand::RngCore;
use subtle::ConstantTimeEq;

use super::keyring::{Keyring, hmac_sha256};

/// Rounds of PBKDF2: about half a millisecond. They only matter to someone who has the database and the master key.
const ROUNDS: u32 = 1_000;

const SALT: usize = 16;

/// Wrong passwords for one order before it is closed for a while.
const MAX_WRONG: u32 = 10;

/// How long it is closed, and how long wrong passwords are remembered, in milliseconds.
const WINDOW_MS: i64 = 60_000;

/// Orders remembered at once, so that made-up order numbers cannot fill the memory (some 10 MB).
const MAX_REMEMBERED: usize = 65_536;

/// Hashes a password with a new salt. The answer is salt and hash in one.
pub(super) fn hash(keyring: &Keyring, password: &str) -> Vec<u8> {
    let mut salt = [0_u8; SALT];
    rand::rng().fill_bytes(&mut salt);
    let mut stored = salt.to_vec();
    stored.extend(stretch(keyring, password, &salt));
    stored
}

/// Whether the password is the one that was stored; nothing stored never matches. Takes the same time in all cases.
pub(super) fn matches(keyring: &Keyring, password: &str, stored: Option<&[u8]>) -> bool {
    let nothing = [0_u8; SALT + 32];
    let (salt, expected) = stored.unwrap_or(&nothing).split_at_checked(SALT).unwrap_or((&nothing, &nothing));
    let equal: bool = stretch(keyring, password, salt).as_slice().ct_eq(expected).into();
    equal && stored.is_some()
}

/// What orders with this contact and password are found by. The contact is the salt, so one look-up costs as much as
/// one password whether there are orders or not, and nothing is learnt from how long it takes.
pub(super) fn lookup(keyring: &Keyring, contact: &str, password: &str) -> Vec<u8> {
    let contact = hmac_sha256(keyring.password_key(), &[b"contact", &[0], fold(contact).as_bytes()]);
    stretch(keyring, password, &contact).to_vec()
}

/// A contact as it is compared and counted: capital letters and blanks around it do not matter.
pub(super) fn fold(contact: &str) -> String {
    contact.trim().to_lowercase()
}

/// PBKDF2 (RFC 8018) for one block of output.
fn stretch(keyring: &Keyring, password: &str, salt: &[u8]) -> [u8; 32] {
    let key = hmac_sha256(keyring.password_key(), &[password.as_bytes()]);
    let mut round = hmac_sha256(&key, &[salt, &1_u32.to_be_bytes()]);
    let mut sum = round;
    for _ in 1..ROUNDS {
        round = hmac_sha256(&key, &[&round]);
        sum.iter_mut().zip(round).for_each(|(sum, byte)| *sum ^= byte);
    }
    sum
}

/// Counts wrong passwords per order. State is lost at a restart, which gives a guesser ten more attempts.
#[derive(Debug, Default)]
pub(super) struct Throttle(Mutex<HashMap<String, Attempts>>);

#[derive(Debug, Clone, Copy)]
struct Attempts {
    wrong: u32,
    /// Forgotten, or open again, from this moment on (milliseconds).
    until_ms: i64,
}

impl Throttle {
    /// Admits an attempt and counts it as wrong until [`Throttle::succeeded`], so that attempts made at the same time
    /// are all counted.
    ///
    /// # Errors
    /// The seconds until the order is open again, at least 1.
    pub(super) fn begin(&self, order_no: &str, now_ms: i64) -> Result<(), u64> {
        let mut orders = self.0.lock();
        if orders.len() >= MAX_REMEMBERED && !orders.contains_key(order_no) {
            make_room(&mut orders, now_ms);
        }
        let entry = orders.entry(order_no.to_owned()).or_insert(Attempts { wrong: 0, until_ms: now_ms });
        // Further away than a window means that the clock was set back; the buyer is not locked out for that.
        if !(1..=WINDOW_MS).contains(&(entry.until_ms - now_ms)) {
            entry.wrong = 0;
        }
        if entry.wrong >= MAX_WRONG {
            let left = u64::try_from(entry.until_ms - now_ms).unwrap_or(0);
            return Err(left.div_ceil(1_000).max(1));
        }
        entry.wrong += 1;
        entry.until_ms = now_ms + WINDOW_MS;
        Ok(())
    }

    /// The password was right: earlier wrong ones are forgiven.
    pub(super) fn succeeded(&self, order_no: &str) {
        self.0.lock().remove(order_no);
    }
}

fn make_room(orders: &mut HashMap<String, Attempts>, now_ms: i64) {
    orders.retain(|_, attempts| attempts.until_ms > now_ms);
    if orders.len() >= MAX_REMEMBERED
        && let Some(oldest) = orders.iter().min_by_key(|(_, attempts)| attempts.until_ms).map(|(key, _)| key.clone())
    {
        orders.remove(&oldest);
    }
}
