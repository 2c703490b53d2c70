//! Proofs of the pieces that need no network: free lists, sealing, passwords, lines, and the decisions on the rows.

use std::collections::VecDeque;
use std::sync::Arc;

use proptest::prelude::*;
use rusqlite::Connection;

use super::allocator::{FreeList, Taken};
use super::catalogue::{self, Dedupe, Product};
use super::import::Lines;
use super::keyring::{Keyring, Unreadable};
use super::password::{self, Throttle};
use super::rows::{self, Refusal, Status, Wanted};
use super::schema;

const SKU: &str = "flash-100";

fn keyring() -> Keyring {
    Keyring::new(&[7; 32])
}

/// A store in memory with `keys` keys of one product, and the free list that goes with it.
fn shop(keys: usize) -> (Connection, Arc<FreeList>) {
    let connection = Connection::open_in_memory().expect("a database in memory");
    connection.execute_batch("PRAGMA foreign_keys = ON").expect("foreign keys");
    connection.execute_batch(schema::MIGRATIONS[0]).expect("the schema is sound");
    let product = Product {
        sku: SKU.to_owned(),
        name_zh: "卡".to_owned(),
        name_en: "card".to_owned(),
        description_zh: String::new(),
        description_en: String::new(),
        price: 100,
        currency: "CNY".to_owned(),
    };
    catalogue::put(&connection, &product).expect("a product");
    let sealed: Vec<_> =
        (0..keys as u64).map(|n| (n, keyring().seal(SKU, &format!("key-{n}")).expect("short enough"))).collect();
    let inserted = catalogue::insert_keys(&connection, SKU, "b", Dedupe::Reject, &sealed).expect("keys");
    let list = Arc::new(FreeList::default());
    list.add(&inserted.ids);
    (connection, list)
}

fn order(number: &str, qty: u32) -> Wanted {
    Wanted { order_no: number.to_owned(), sku: SKU.to_owned(), qty }
}

fn reserve(connection: &Connection, list: &Arc<FreeList>, wanted: &Wanted, expires_ms: i64) -> Result<bool, Refusal> {
    let (_, taken) = rows::reserve(connection, list, wanted, expires_ms, Some(None))?;
    Ok(taken.map(Taken::keep).is_some())
}

fn allocate(connection: &Connection, list: &Arc<FreeList>, wanted: &Wanted, now_ms: i64) -> Result<bool, Refusal> {
    let (now, taken) = rows::allocate(connection, list, wanted, now_ms)?;
    if let Some(taken) = taken {
        taken.keep();
    }
    Ok(now)
}

fn expire(connection: &Connection, list: &FreeList, now_ms: i64) -> usize {
    let due = rows::expire(connection, now_ms, 100).expect("the sweep works");
    due.iter().for_each(|(_, ids)| list.put_back(ids));
    due.len()
}

fn status(connection: &Connection, number: &str) -> Option<Status> {
    rows::find(connection, number).expect("readable").map(|order| order.status)
}

#[derive(Debug, Clone)]
enum Step {
    Add(u8),
    /// Takes up to so many; keeps them or lets them fall back.
    Take(u8, bool),
    /// Gives the first so many of those kept back.
    GiveBack(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0_u8..20).prop_map(Step::Add),
        (0_u8..8, any::<bool>()).prop_map(|(n, keep)| Step::Take(n, keep)),
        (0_u8..8).prop_map(Step::GiveBack),
    ]
}

proptest! {
    #[test]
    fn the_free_list_behaves_like_a_queue_with_returns(steps in prop::collection::vec(step(), 0..60)) {
        let list = Arc::new(FreeList::default());
        let (mut model, mut held, mut next) = (VecDeque::new(), Vec::new(), 0_i64);
        for step in steps {
            match step {
                Step::Add(n) => {
                    let ids: Vec<i64> = (next..next + i64::from(n)).collect();
                    next += i64::from(n);
                    list.add(&ids);
                    model.extend(ids);
                }
                Step::Take(n, keep) => {
                    let mut taken = Taken::from(&list);
                    for _ in 0..n {
 let _ = list.take_into(&mut taken);
 }
                    let expected: Vec<i64> = model.iter().take(usize::from(n)).copied().collect();
                    prop_assert_eq!(taken.ids(), &expected);
                    if keep {
                        held.extend(model.drain(..taken.ids().len()));
                        taken.keep();
                    }
                }
                Step::GiveBack(n) => {
                    let n = usize::from(n).min(held.len());
                    let ids: Vec<i64> = held.drain(..n).collect();
                    list.put_back(&ids);
                    ids.iter().rev().for_each(|id| model.push_front(*id));
                }
            }
            prop_assert_eq!(list.len(), model.len());
        }
        // Everything that is left comes out in the model's order, each id once.
        let mut all = Taken::from(&list);
        while list.take_into(&mut all).is_some() {}
        prop_assert_eq!(all.ids(), model.make_contiguous());
    }

    #[test]
    fn orders_and_stock_agree_with_a_plain_model(
        steps in prop::collection::vec((0_u8..4, 0_usize..6, 1_u32..4), 1..60)
    ) {
        let (connection, list) = shop(8);
        let mut free = 8_u32;
        let mut orders: [Option<(Status, u32)>; 6] = [None; 6];
        for (now, (kind, index, qty)) in (0_i64..).zip(steps) {
            let number = format!("o{index}");
            let known = orders[index];
            // The quantity of an order never changes; another one is a mismatch, tested elsewhere.
            let qty = known.map_or(qty, |(_, qty)| qty);
            match kind {
                0 => {
                    let fits = known.is_none() && qty <= free;
                    let wanted = order(&number, qty);
                    let made = within_savepoint(&connection, || reserve(&connection, &list, &wanted, now + 10));
                    prop_assert_eq!(made.is_ok(), known.is_some() || fits);
                    if fits {
                        free -= qty;
                        orders[index] = Some((Status::Reserved, qty));
                    }
                }
                1 => {
                    let outcome = rows::release(&connection, &number);
                    prop_assert_eq!(outcome.is_err(), matches!(known, Some((Status::Issued, _))));
                    if let Some((_, ids)) = outcome.unwrap_or_default() {
                        list.put_back(&ids);
                        free += qty;
                        orders[index] = Some((Status::Released, qty));
                    }
                }
                2 => {
                    let holds = matches!(known, Some((Status::Reserved | Status::Issued, _)));
                    let outcome = within_savepoint(&connection, || allocate(&connection, &list, &order(&number, qty), now));
                    prop_assert_eq!(outcome.is_ok(), holds || qty <= free);
                    if outcome.is_ok() {
                        free -= if holds { 0 } else { qty };
                        orders[index] = Some((Status::Issued, qty));
                    }
                }
                _ => {
                    expire(&connection, &list, now);
                    for (number, known) in orders.iter_mut().enumerate() {
                        let stored = status(&connection, &format!("o{number}"));
                        if let (Some((before @ Status::Reserved, qty)), Some(Status::Expired)) = (known.as_mut(), stored) {
                            *before = Status::Expired;
                            free += *qty;
                        }
                    }
                }
            }
            prop_assert_eq!(status(&connection, &number), orders[index].map(|(status, _)| status));
            prop_assert_eq!(list.len(), free as usize);
            prop_assert_eq!(super::inspect::check_rows(&connection).expect("readable"), Vec::<String>::new());
        }
    }
}

/// What the writer does around every operation.
fn within_savepoint<T>(connection: &Connection, op: impl FnOnce() -> Result<T, Refusal>) -> Result<T, Refusal> {
    connection.execute_batch("SAVEPOINT op").expect("a savepoint");
    let outcome = op();
    let end = if outcome.is_ok() { "RELEASE op" } else { "ROLLBACK TO op; RELEASE op" };
    connection.execute_batch(end).expect("the end of a savepoint");
    outcome
}

#[test]
fn an_order_number_reserves_once() {
    let (connection, list) = shop(5);
    assert!(reserve(&connection, &list, &order("a", 2), 100).expect("in stock"));
    assert!(!reserve(&connection, &list, &order("a", 2), 200).expect("a repetition"));
    assert_eq!(list.len(), 3);
    assert!(matches!(reserve(&connection, &list, &order("a", 3), 100), Err(Refusal::Mismatch)));
}

#[test]
fn an_order_number_is_issued_once() {
    let (connection, list) = shop(5);
    reserve(&connection, &list, &order("a", 2), 100).expect("in stock");
    assert!(allocate(&connection, &list, &order("a", 2), 50).expect("issued"));
    let first = rows::issued(&connection, "a").expect("readable");
    assert!(!allocate(&connection, &list, &order("a", 2), 60).expect("a repetition"));
    assert_eq!(rows::issued(&connection, "a").expect("readable"), first);
    assert_eq!(first.len(), 2);
    assert!(matches!(rows::release(&connection, "a"), Err(Refusal::AlreadyAllocated)));
}

#[test]
fn a_reservation_that_nobody_gave_up_still_holds_after_its_time() {
    let (connection, list) = shop(1);
    reserve(&connection, &list, &order("late", 1), 100).expect("in stock");
    assert!(allocate(&connection, &list, &order("late", 1), 5_000).expect("the key is still held"));
    assert_eq!(expire(&connection, &list, 5_000), 0);
}

#[test]
fn an_expired_order_that_is_paid_takes_free_stock_or_is_refused() {
    let (connection, list) = shop(1);
    for number in ["late", "later"] {
        reserve(&connection, &list, &order(number, 1), 100).expect("in stock");
        assert_eq!(expire(&connection, &list, 99), 0);
        assert_eq!(expire(&connection, &list, 100), 1);
    }
    assert!(allocate(&connection, &list, &order("late", 1), 200).expect("there is stock"));
    let refused = within_savepoint(&connection, || allocate(&connection, &list, &order("later", 1), 200));
    assert!(matches!(refused, Err(Refusal::OutOfStock)));
}

#[test]
fn keys_taken_for_a_failed_change_fall_back_in_order() {
    let (connection, list) = shop(3);
    let refused = within_savepoint(&connection, || reserve(&connection, &list, &order("big", 4), 100));
    assert!(matches!(refused, Err(Refusal::OutOfStock)));
    assert_eq!(list.len(), 3);
    let mut taken = Taken::from(&list);
    assert_eq!(list.take_into(&mut taken), Some(1));
}

#[test]
fn a_listed_key_that_is_not_free_is_passed_over() {
    let (connection, list) = shop(2);
    reserve(&connection, &list, &order("a", 1), 100).expect("in stock");
    list.put_back(&[1]);
    assert!(reserve(&connection, &list, &order("b", 1), 100).expect("the other key is free"));
    assert_eq!(list.len(), 0);
    assert!(super::inspect::check_rows(&connection).expect("readable").is_empty());
}

#[test]
fn a_sealed_key_opens_only_in_its_own_row_with_its_own_master_key() {
    let keyring = keyring();
    let sealed = keyring.seal(SKU, "SECRET").expect("short enough");
    let again = keyring.seal(SKU, "SECRET").expect("short enough");
    assert_eq!(sealed.fp, again.fp);
    assert_ne!(sealed.sealed, again.sealed);
    assert_eq!(keyring.open(SKU, &sealed.fp, &sealed.sealed).as_deref(), Ok("SECRET"));
    assert_eq!(keyring.open("other", &sealed.fp, &sealed.sealed), Err(Unreadable));
    assert_eq!(keyring.open(SKU, &[0; 32], &sealed.sealed), Err(Unreadable));
    assert_eq!(keyring.open(SKU, &sealed.fp, &sealed.sealed[..5]), Err(Unreadable));
    assert_eq!(Keyring::new(&[8; 32]).open(SKU, &sealed.fp, &sealed.sealed), Err(Unreadable));
}

#[test]
fn only_the_right_password_matches_and_none_matches_nothing() {
    let keyring = keyring();
    let stored = password::hash(&keyring, "open sesame");
    assert_ne!(stored, password::hash(&keyring, "open sesame"));
    assert!(password::matches(&keyring, "open sesame", Some(&stored)));
    assert!(!password::matches(&keyring, "open sesam", Some(&stored)));
    assert!(!password::matches(&keyring, "", None));
    assert!(!password::matches(&Keyring::new(&[8; 32]), "open sesame", Some(&stored)));
}

#[test]
fn ten_wrong_passwords_close_an_order_for_a_minute() {
    let throttle = Throttle::default();
    assert!((0..10).all(|now| throttle.begin("a", now).is_ok()));
    assert_eq!(throttle.begin("a", 9), Err(60));
    assert_eq!(throttle.begin("a", 60_008), Err(1));
    assert_eq!(throttle.begin("b", 9), Ok(()));
    assert_eq!(throttle.begin("a", 60_009), Ok(()));
}

#[test]
fn a_clock_that_is_set_back_locks_nobody_out() {
    let throttle = Throttle::default();
    assert!((0..10).all(|_| throttle.begin("a", 3_600_000).is_ok()));
    assert_eq!(throttle.begin("a", 3_600_000), Err(60));
    assert_eq!(throttle.begin("a", 0), Ok(()));
}

#[test]
fn a_right_password_forgives_the_wrong_ones() {
    let throttle = Throttle::default();
    assert!((0..9).all(|_| throttle.begin("a", 0).is_ok()));
    throttle.succeeded("a");
    assert!((0..10).all(|_| throttle.begin("a", 0).is_ok()));
}

#[test]
fn lines_are_the_same_however_the_network_cuts_them() {
    let long = "x".repeat(1_025);
    let text = format!("one\r\n\n  two \n{long}\nbad\u{7}\nlast");
    let read = |size: usize| {
        let (mut lines, mut found) = (Lines::default(), Vec::new());
        for chunk in text.as_bytes().chunks(size) {
            for piece in chunk.split_inclusive(|byte| *byte == b'\n') {
                if lines.push(piece) {
                    found.push((lines.number, lines.take()));
                }
            }
        }
        if lines.finish() {
            found.push((lines.number, lines.take()));
        }
        found
    };
    let whole = read(text.len());
    let words = whole.iter().map(|(_, line)| line.as_deref().unwrap_or_else(|code| code));
    assert!(words.eq(["one", "", "two", "TOO_LONG", "NOT_TEXT", "last"]));
    assert_eq!(whole.last().map(|(number, _)| *number), Some(6));
    assert!((1..20).all(|size| read(size) == whole));
}
