//! Proofs of the protocol: each half alone, the whole with a death after every step, random interleavings, and the same
//! answers from 1, 4 and 16 files.

mod barrier;
mod crash;
mod layout;
mod random;

use rusqlite::Connection;

use super::model::{Account, Branch, Leg, Refusal};
use super::{inspect, rows, schema};
use crate::support::Shard;

/// A file in memory.
fn file() -> Connection {
    let connection = Connection::open_in_memory().expect("a connection");
    schema::MIGRATIONS.iter().for_each(|script| connection.execute_batch(script).expect("the tables"));
    connection
}

/// An account of a user with some money in it.
fn account(connection: &Connection, user: &str, amount: i64) -> String {
    let id = Shard::of_user(user).number(1_800_000_000_000, u32::from(user.as_bytes()[0]));
    rows::open(connection, &id, user, "CNY", 1).expect("an account");
    if amount > 0 {
        rows::deposit(connection, &id, "first", &format!("D-{user}"), amount, 1).expect("a deposit");
    }
    id
}

fn leg(branch: Branch, account: &str, amount: i64) -> Leg {
    Leg { gid: "g".to_owned(), branch, account: account.to_owned(), amount, currency: "CNY".to_owned() }
}

/// An operation as the writer runs it: what it did is undone when it fails.
fn run<T>(connection: &Connection, op: impl FnOnce(&Connection) -> Result<T, Refusal>) -> Result<T, Refusal> {
    connection.execute_batch("SAVEPOINT op").expect("a savepoint");
    let done = op(connection);
    let end = if done.is_ok() { "RELEASE op" } else { "ROLLBACK TO op; RELEASE op" };
    connection.execute_batch(end).expect("its end");
    done
}

fn balances(connection: &Connection, id: &str) -> (i64, i64, i64) {
    let Account { available, frozen, incoming, .. } = rows::get(connection, id).expect("an account");
    (available, frozen, incoming)
}

fn assert_sound(connection: &Connection) {
    assert_eq!(inspect::within(connection, 0).expect("readable"), Vec::<String>::new());
}
