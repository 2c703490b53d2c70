//! Proofs of the pieces that need no network: lists, sealing, passwords, lines, and the decisions on the rows.

mod making;
mod policies;
mod reading;

use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;
use rusqlite::Connection;

use super::allocator::{FreeList, Taken};
use super::catalogue::{self, Dedupe, Incoming, Product, Shelf, Source};
use super::delivery::{self, Outcome};
use super::keyring::Keyring;
use super::policy::{Pick, Policy};
use super::refusal::Refusal;
use super::reserving::{self, Placing};
use super::rows::{self, Secrets, State, Status, Wanted};
use super::schema;

const SKU: &str = "flash-100";

fn keyring() -> Keyring {
    Keyring::new(&[7; 32])
}

/// A store in memory with one product, and the list of its keys.
struct Counter {
    connection: Connection,
    list: Arc<FreeList>,
    product: Product,
}

fn shelf(sku: &str) -> Shelf {
    Shelf { sku: sku.to_owned(), batch: "b".to_owned(), source: Source::Import, state: State::Free }
}

fn product(sku: &str, policy: Policy) -> Product {
    Product {
        sku: sku.to_owned(),
        name_zh: "卡".to_owned(),
        name_en: "card".to_owned(),
        description_zh: String::new(),
        description_en: String::new(),
        price: 100,
        currency: "CNY".to_owned(),
        tiers: Vec::new(),
        policy,
    }
}

impl Counter {
    fn open(keys: u64, policy: Policy) -> Self {
        let connection = Connection::open_in_memory().expect("a database in memory");
        connection.execute_batch("PRAGMA foreign_keys = ON").expect("foreign keys");
        connection.execute_batch(schema::MIGRATIONS[0]).expect("the schema is sound");
        let counter = Self { connection, list: Arc::default(), product: product(SKU, policy) };
        catalogue::put(&counter.connection, &counter.product).expect("a product");
        counter.stock(0..keys);
        counter
    }

    fn stock(&self, numbers: std::ops::Range<u64>) {
        let incoming = |n| {
            let key = keyring().seal(SKU, &format!("key-{n}")).expect("short enough");
            Incoming { line: n, key, preview: Some(format!("...{n}")) }
        };
        let keys: Vec<_> = numbers.map(incoming).collect();
        let shelf = Shelf { state: self.product.on_sale(), ..shelf(SKU) };
        let inserted = catalogue::insert_keys(&self.connection, &shelf, Dedupe::Reject, &keys, 0).expect("keys");
        self.list.add(&inserted.ids);
    }

    /// Places an order; `true` when that happened now.
    fn place(&self, placing: &Placing) -> Result<bool, Refusal> {
        let op = || reserving::reserve(&self.connection, &self.list, &self.product, placing);
        let (_, taken) = within_savepoint(&self.connection, op)?;
        Ok(taken.map(Taken::keep).is_some())
    }

    fn reserve(&self, wanted: &Wanted, expires_ms: i64) -> Result<bool, Refusal> {
        self.place(&Placing { expires_ms, ..placing(wanted.clone()) })
    }

    /// Takes note of a payment; answers what became of it and whether that happened now.
    fn pay(&self, wanted: &Wanted, now_ms: i64) -> Result<(Outcome, bool), Refusal> {
        let op = || delivery::pay(&self.connection, &self.list, &self.product, wanted, now_ms);
        let paid = within_savepoint(&self.connection, op)?;
        if let Some(taken) = paid.taken {
            taken.keep();
        }
        Ok((paid.outcome, paid.now))
    }

    /// The payment as the order service reports it.
    fn allocate(&self, wanted: &Wanted, now_ms: i64) -> Result<bool, Refusal> {
        let op = || {
            let paid = delivery::pay(&self.connection, &self.list, &self.product, wanted, now_ms)?;
            if paid.outcome == Outcome::RefundDue { Err(Refusal::OutOfStock) } else { Ok(paid) }
        };
        let paid = within_savepoint(&self.connection, op)?;
        if let Some(taken) = paid.taken {
            taken.keep();
        }
        Ok(paid.now)
    }

    fn expire(&self, now_ms: i64) -> usize {
        let due = reserving::expire(&self.connection, now_ms, 100).expect("the sweep works");
        due.iter().for_each(|(_, ids)| self.list.add(ids));
        due.len()
    }

    fn status(&self, number: &str) -> Option<Status> {
        rows::find(&self.connection, number).expect("readable").map(|order| order.status)
    }

    fn keys(&self, number: &str) -> Vec<String> {
        let stored = rows::issued(&self.connection, number).expect("readable");
        stored.iter().map(|key| keyring().open(&key.sku, &key.fp, &key.sealed).expect("ours")).collect()
    }

    fn assert_sound(&self) {
        assert_eq!(super::inspect::check_rows(&self.connection).expect("readable"), Vec::<String>::new());
    }
}

fn order(number: &str, qty: u32) -> Wanted {
    Wanted { order_no: number.to_owned(), sku: SKU.to_owned(), qty }
}

fn placing(wanted: Wanted) -> Placing {
    Placing {
        wanted,
        created_ms: 0,
        expires_ms: 100,
        principal: None,
        ip: None,
        coupon: None,
        chosen: Vec::new(),
        secrets: Some(Secrets::default()),
    }
}

#[derive(Debug, Clone)]
enum Step {
    Add(u8),
    /// Takes up to so many; keeps them or lets them fall back.
    Take(u8, Pick, bool),
    /// Gives the first so many of those kept back.
    GiveBack(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let picks = prop::sample::select(vec![Pick::Oldest, Pick::Newest, Pick::Random]);
    prop_oneof![
        (0_u8..20).prop_map(Step::Add),
        (0_u8..8, picks, any::<bool>()).prop_map(|(n, pick, keep)| Step::Take(n, pick, keep)),
        (0_u8..8).prop_map(Step::GiveBack),
    ]
}

proptest! {
    #[test]
    fn the_free_list_behaves_like_a_sorted_set_with_returns(steps in prop::collection::vec(step(), 0..60)) {
        let list = Arc::new(FreeList::default());
        let (mut model, mut held, mut next) = (BTreeSet::new(), Vec::new(), 0_i64);
        for step in steps {
            match step {
                Step::Add(n) => {
                    let ids: Vec<i64> = (next..next + i64::from(n)).collect();
                    next += i64::from(n);
                    list.add(&ids);
                    model.extend(ids);
                }
                Step::Take(n, pick, keep) => {
                    let mut taken = Taken::from(&list);
                    let mut left = model.clone();
                    for _ in 0..n {
                        let expected = match pick {
                            Pick::Newest => left.last().copied(),
                            Pick::Random => None,
                            Pick::Oldest | Pick::Chosen => left.first().copied(),
                        };
                        let id = list.take_into(&mut taken, pick);
                        prop_assert_eq!(id.is_some(), !left.is_empty());
                        prop_assert!(expected.is_none() || id == expected);
                        prop_assert!(id.is_none_or(|id| left.remove(&id)));
                    }
                    if keep {
                        held.extend(taken.ids());
                        model = left;
                        taken.keep();
                    }
                }
                Step::GiveBack(n) => {
                    let n = usize::from(n).min(held.len());
                    let ids: Vec<i64> = held.drain(..n).collect();
                    list.add(&ids);
                    model.extend(ids);
                }
            }
            prop_assert_eq!(list.len(), model.len());
        }
        // Everything that is left comes out in the order it came in, each id once.
        let mut all = Taken::from(&list);
        while list.take_into(&mut all, Pick::Oldest).is_some() {}
        prop_assert!(all.ids().iter().eq(&model));
    }

    #[test]
    fn orders_and_stock_agree_with_a_plain_model(
        steps in prop::collection::vec((0_u8..4, 0_usize..6, 1_u32..4), 1..60)
    ) {
        let counter = Counter::open(8, Policy::default());
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
                    let made = counter.reserve(&wanted, now + 10);
                    prop_assert_eq!(made.is_ok(), known.is_some() || fits);
                    if fits {
                        free -= qty;
                        orders[index] = Some((Status::Reserved, qty));
                    }
                }
                1 => {
                    let outcome = reserving::release(&counter.connection, &number);
                    prop_assert_eq!(outcome.is_err(), matches!(known, Some((Status::Issued, _))));
                    if let Some((_, ids)) = outcome.unwrap_or_default() {
                        counter.list.add(&ids);
                        free += qty;
                        orders[index] = Some((Status::Released, qty));
                    }
                }
                2 => {
                    let holds = matches!(known, Some((Status::Reserved | Status::Issued, _)));
                    let outcome = counter.allocate(&order(&number, qty), now);
                    prop_assert_eq!(outcome.is_ok(), holds || qty <= free);
                    if outcome.is_ok() {
                        free -= if holds { 0 } else { qty };
                        orders[index] = Some((Status::Issued, qty));
                    }
                }
                _ => {
                    counter.expire(now);
                    for (number, known) in orders.iter_mut().enumerate() {
                        let stored = counter.status(&format!("o{number}"));
                        if let (Some((before @ Status::Reserved, qty)), Some(Status::Expired)) = (known.as_mut(), stored) {
                            *before = Status::Expired;
                            free += *qty;
                        }
                    }
                }
            }
            prop_assert_eq!(counter.status(&number), orders[index].map(|(status, _)| status));
            prop_assert_eq!(counter.list.len(), free as usize);
            prop_assert_eq!(super::inspect::check_rows(&counter.connection).expect("readable"), Vec::<String>::new());
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
    let counter = Counter::open(5, Policy::default());
    assert!(counter.reserve(&order("a", 2), 100).expect("in stock"));
    assert!(!counter.reserve(&order("a", 2), 200).expect("a repetition"));
    assert_eq!(counter.list.len(), 3);
    assert!(matches!(counter.reserve(&order("a", 3), 100), Err(Refusal::Mismatch)));
}

#[test]
fn an_order_number_is_issued_once() {
    let counter = Counter::open(5, Policy::default());
    counter.reserve(&order("a", 2), 100).expect("in stock");
    assert!(counter.allocate(&order("a", 2), 50).expect("issued"));
    let first = counter.keys("a");
    assert!(!counter.allocate(&order("a", 2), 60).expect("a repetition"));
    assert_eq!(counter.keys("a"), first);
    assert_eq!(first.len(), 2);
    assert!(matches!(reserving::release(&counter.connection, "a"), Err(Refusal::AlreadyAllocated)));
}

#[test]
fn a_reservation_that_nobody_gave_up_still_holds_after_its_time() {
    let counter = Counter::open(1, Policy::default());
    counter.reserve(&order("late", 1), 100).expect("in stock");
    assert!(counter.allocate(&order("late", 1), 5_000).expect("the key is still held"));
    assert_eq!(counter.expire(5_000), 0);
}

#[test]
fn an_expired_order_that_is_paid_takes_free_stock_or_is_refused() {
    let counter = Counter::open(1, Policy::default());
    for number in ["late", "later"] {
        counter.reserve(&order(number, 1), 100).expect("in stock");
        assert_eq!(counter.expire(99), 0);
        assert_eq!(counter.expire(100), 1);
    }
    assert!(counter.allocate(&order("late", 1), 200).expect("there is stock"));
    let refused = counter.allocate(&order("later", 1), 200);
    assert!(matches!(refused, Err(Refusal::OutOfStock)));
}

#[test]
fn keys_taken_for_a_failed_change_fall_back_in_order() {
    let counter = Counter::open(3, Policy::default());
    let refused = counter.reserve(&order("big", 4), 100);
    assert!(matches!(refused, Err(Refusal::OutOfStock)));
    assert_eq!(counter.list.len(), 3);
    let mut taken = Taken::from(&counter.list);
    assert_eq!(counter.list.take_into(&mut taken, Pick::Oldest), Some(1));
}

#[test]
fn a_listed_key_that_is_not_free_is_passed_over() {
    let counter = Counter::open(2, Policy::default());
    counter.reserve(&order("a", 1), 100).expect("in stock");
    counter.list.add(&[1]);
    assert!(counter.reserve(&order("b", 1), 100).expect("the other key is free"));
    assert_eq!(counter.list.len(), 0);
    assert!(super::inspect::check_rows(&counter.connection).expect("readable").is_empty());
}
