//! Each policy, and what orders cost.

use proptest::prelude::*;

use super::super::delivery::{self, Outcome};
use super::super::journal;
use super::super::policy::{Kind, OnHoard, OnShort, Pick, Policy, Reserve};
use super::super::price::{self, Coupon, Discount, Terms, Tier};
use super::super::refusal::Refusal;
use super::super::reserving::{self, Placing};
use super::super::rows::Status;
use super::{Counter, SKU, keyring, order, placing, product, within_savepoint};

fn by(principal: &str, number: &str, qty: u32) -> Placing {
    Placing { principal: Some(principal.to_owned()), ..placing(order(number, qty)) }
}

fn whole() -> Policy {
    Policy { max_unpaid_percent: 100, ..Policy::default() }
}

#[test]
fn a_principal_holds_keys_in_two_unpaid_orders_and_no_more() {
    let counter = Counter::open(10, whole());
    assert!(counter.place(&by("ann", "a1", 1)).expect("the first"));
    assert!(counter.place(&by("ann", "a2", 1)).expect("the second"));
    assert!(matches!(counter.place(&by("ann", "a3", 1)), Err(Refusal::TooManyOpen)));
    assert!(!counter.place(&by("ann", "a2", 1)).expect("a repetition is no third order"));
    assert!(counter.place(&by("bob", "b1", 1)).expect("somebody else"));
    counter.allocate(&order("a1", 1), 1).expect("paid");
    assert!(counter.place(&by("ann", "a3", 1)).expect("one is paid"));
    reserving::release(&counter.connection, "a2").expect("given back").expect("held").1.len();
    assert!(counter.place(&by("ann", "a4", 1)).expect("one is given back"));
    counter.assert_sound();
}

#[test]
fn unpaid_orders_hold_at_most_their_share_of_the_stock() {
    let counter = Counter::open(10, Policy { max_open: 100, ..Policy::default() });
    assert!(counter.place(&by("ann", "a", 2)).expect("20 %"));
    assert!(matches!(counter.place(&by("bob", "b", 2)), Err(Refusal::StockHeld)));
    assert!(counter.place(&by("bob", "c", 1)).expect("30 %"));
    // What is paid is no longer unpaid, and no longer stock: 1 of 8 is held.
    counter.allocate(&order("a", 2), 1).expect("paid");
    assert!(counter.place(&by("cid", "d", 1)).expect("25 %"));
    assert!(matches!(counter.place(&by("cid", "e", 1)), Err(Refusal::StockHeld)));
    // Nobody said who this is: the shop knows no hoarding.
    assert!(counter.reserve(&order("f", 5), 100).expect("not counted"));
    counter.assert_sound();
}

#[test]
fn the_last_key_can_be_bought_whatever_the_share() {
    let counter = Counter::open(1, Policy::default());
    assert!(counter.place(&by("ann", "a", 1)).expect("the only one"));
    assert!(counter.allocate(&order("a", 1), 1).expect("paid"));
}

#[test]
fn beyond_the_share_orders_can_be_taken_without_holding_keys() {
    let counter = Counter::open(10, Policy { on_hoard: OnHoard::OnPaid, max_open: 1, ..Policy::default() });
    for number in ["a", "b", "c", "d"] {
        assert!(counter.place(&by(number, number, 1)).expect("taken"));
    }
    assert_eq!(counter.list.len(), 7, "the fourth holds nothing");
    assert!(counter.place(&by("d", "e", 1)).expect("and holding nothing is not counted"));
    assert_eq!(counter.pay(&order("d", 1), 1).expect("paid"), (Outcome::Delivered, true));
    assert_eq!(counter.list.len(), 6);
    counter.assert_sound();
}

#[test]
fn keys_set_aside_on_payment_go_to_whoever_pays_first() {
    let counter = Counter::open(1, Policy { reserve: Reserve::OnPaid, ..Policy::default() });
    assert!(counter.reserve(&order("slow", 1), 100).expect("taken"));
    assert!(counter.reserve(&order("fast", 1), 100).expect("taken"));
    assert_eq!(counter.list.len(), 1);
    counter.assert_sound();
    assert_eq!(counter.pay(&order("fast", 1), 1).expect("paid"), (Outcome::Delivered, true));
    assert_eq!(counter.pay(&order("slow", 1), 2).expect("paid"), (Outcome::RefundDue, false));
    assert!(matches!(counter.reserve(&order("late", 1), 100), Err(Refusal::OutOfStock)));
    counter.stock(1..2);
    assert_eq!(counter.pay(&order("slow", 1), 3).expect("told to pay back"), (Outcome::RefundDue, false));
    counter.assert_sound();
}

#[test]
fn limits_for_buyers_and_addresses_count_what_was_bought() {
    let limits = Policy { max_per_principal: Some(3), max_per_ip_day: Some(4), max_open: 100, ..whole() };
    let counter = Counter::open(20, limits);
    let from = |placing: Placing, created_ms| Placing { ip: Some("10.0.0.1".to_owned()), created_ms, ..placing };
    assert!(counter.place(&from(by("ann", "a", 2), 0)).expect("2"));
    assert!(matches!(counter.place(&from(by("ann", "b", 2), 0)), Err(Refusal::Limit("buyer"))));
    assert!(counter.place(&from(by("ann", "c", 1), 0)).expect("3"));
    assert!(matches!(counter.place(&from(by("bob", "d", 2), 0)), Err(Refusal::Limit("address"))));
    assert!(counter.place(&from(by("bob", "e", 2), 24 * 3_600_000)).expect("another day"));
    reserving::release(&counter.connection, "a").expect("given back");
    assert!(counter.place(&from(by("ann", "f", 2), 48 * 3_600_000)).expect("what was given back counts no more"));
}

#[test]
fn keys_are_taken_oldest_newest_or_as_chosen() {
    let taken = |pick, chosen: Vec<i64>| {
        let counter = Counter::open(5, Policy { pick, ..Policy::default() });
        counter.place(&Placing { chosen, ..placing(order("a", 2)) }).expect("in stock");
        counter.allocate(&order("a", 2), 1).expect("paid");
        counter.assert_sound();
        counter.keys("a")
    };
    assert_eq!(taken(Pick::Oldest, vec![]), ["key-0", "key-1"]);
    assert_eq!(taken(Pick::Newest, vec![]), ["key-3", "key-4"]);
    assert_eq!(taken(Pick::Chosen, vec![4, 2]), ["key-1", "key-3"]);
    assert_eq!(taken(Pick::Chosen, vec![]), ["key-0", "key-1"]);
    let random: std::collections::HashSet<_> = (0..50).map(|_| taken(Pick::Random, vec![])).collect();
    assert!(random.len() > 1, "fifty times the same keys");
}

#[test]
fn a_chosen_key_is_held_even_where_keys_are_set_aside_on_payment_and_sold_once() {
    let policy = Policy { pick: Pick::Chosen, surcharge: 7, reserve: Reserve::OnPaid, ..Policy::default() };
    let counter = Counter::open(3, policy);
    assert!(counter.place(&Placing { chosen: vec![2], ..placing(order("a", 1)) }).expect("free"));
    assert_eq!(counter.list.len(), 2);
    for chosen in [vec![2], vec![9]] {
        let again = counter.place(&Placing { chosen, ..placing(order("b", 1)) });
        assert!(matches!(again, Err(Refusal::KeyTaken)));
    }
    let twice = counter.place(&Placing { chosen: vec![1, 1], ..placing(order("b", 2)) });
    assert!(matches!(twice, Err(Refusal::KeyTaken)));
    assert_eq!(counter.list.len(), 2, "what was taken in vain is back");
    let stored = super::rows::find(&counter.connection, "a").expect("readable").expect("there");
    assert_eq!(stored.amount, 107);
    counter.assert_sound();
}

#[test]
fn a_shared_key_goes_to_every_buyer_and_a_new_one_only_to_later_ones() {
    let counter = Counter::open(1, Policy { kind: Kind::Shared, pick: Pick::Newest, ..Policy::default() });
    for number in ["a", "b"] {
        assert!(counter.reserve(&order(number, 1), 100).expect("there is a key"));
        assert!(counter.allocate(&order(number, 1), 1).expect("paid"));
        assert!(!counter.allocate(&order(number, 1), 1).expect("a repetition"));
    }
    counter.stock(5..6);
    assert!(counter.allocate(&order("c", 1), 1).expect("paid"));
    assert_eq!([counter.keys("a"), counter.keys("b"), counter.keys("c")], [["key-0"], ["key-0"], ["key-5"]]);
    counter.assert_sound();
    let none = Counter::open(0, Policy { kind: Kind::Shared, ..Policy::default() });
    assert!(matches!(none.reserve(&order("a", 1), 100), Err(Refusal::OutOfStock)));
}

#[test]
fn a_manual_order_waits_for_its_seller() {
    let counter = Counter::open(0, Policy { kind: Kind::Manual, ..Policy::default() });
    assert!(counter.reserve(&order("a", 2), 100).expect("needs no stock"));
    let sealed = |text: &str| keyring().seal(SKU, text).expect("short enough");
    let deliver = |keys: &[&str]| {
        let keys: Vec<_> = keys.iter().map(|key| sealed(key)).collect();
        within_savepoint(&counter.connection, || delivery::by_hand(&counter.connection, "a", &keys, 5))
    };
    assert!(matches!(deliver(&["x", "y"]), Err(Refusal::NotAwaiting)));
    assert_eq!(counter.pay(&order("a", 2), 1).expect("paid"), (Outcome::Awaiting, false));
    counter.assert_sound();
    assert!(matches!(deliver(&["x"]), Err(Refusal::Mismatch)));
    assert!(matches!(deliver(&["x", "x"]), Err(Refusal::Duplicate(2))));
    assert!(deliver(&["x", "y"]).expect("delivered"));
    assert!(!deliver(&["p", "q"]).expect("a repetition"));
    assert_eq!(counter.keys("a"), ["x", "y"]);
    counter.assert_sound();
}

#[test]
fn a_short_order_waits_for_new_stock_and_is_told_of_once() {
    let counter = Counter::open(1, Policy { on_short: OnShort::Backorder, ..Policy::default() });
    assert_eq!(counter.pay(&order("big", 3), 1).expect("paid"), (Outcome::Short, false));
    assert_eq!(counter.pay(&order("big", 3), 2).expect("paid"), (Outcome::Short, false));
    assert_eq!(counter.list.len(), 1, "it holds nothing");
    counter.stock(1..3);
    assert_eq!(counter.pay(&order("big", 3), 3).expect("restocked"), (Outcome::Delivered, true));
    assert_eq!(counter.keys("big").len(), 3);
    let events = journal::events(&counter.connection, 0, 10).expect("readable");
    let told: Vec<_> = events.iter().map(|event| serde_json::json!(event)["topic"].clone()).collect();
    assert_eq!(told, ["short", "delivered"]);
    counter.assert_sound();
}

#[test]
fn only_what_is_paid_is_refunded_and_then_never_delivered() {
    let counter = Counter::open(1, Policy { on_short: OnShort::Backorder, ..Policy::default() });
    counter.reserve(&order("a", 1), 100).expect("in stock");
    let refund = |number| delivery::refund(&counter.connection, number, 5);
    assert!(matches!(refund("a"), Err(Refusal::NotPaid)));
    assert!(matches!(refund("z"), Err(Refusal::UnknownOrder)));
    counter.pay(&order("a", 1), 1).expect("paid");
    counter.pay(&order("b", 1), 1).expect("paid, and short");
    assert!(refund("b").expect("paid"));
    assert!(!refund("b").expect("a repetition"));
    counter.stock(1..2);
    assert!(matches!(counter.pay(&order("b", 1), 6), Err(Refusal::Refunded)));
    assert!(refund("a").expect("delivered before"));
    assert_eq!(counter.status("a"), Some(Status::Refunded));
    assert_eq!(counter.list.len(), 1, "a key the buyer has seen is not sold again");
    counter.assert_sound();
}

fn coupon(code: &str, discount: Discount, max_uses: Option<u32>) -> Coupon {
    let terms = Terms { discount, sku: None, starts_ms: None, expires_ms: None, min_goods: 0 };
    Coupon { code: code.to_owned(), terms, max_uses }
}

#[test]
fn a_coupon_is_used_as_often_as_it_says_and_given_back_with_the_order() {
    let counter = Counter::open(10, whole());
    let once = coupon("ONCE", Discount::Percent { basis_points: 5_000 }, Some(1));
    price::put(&counter.connection, &once).expect("a coupon");
    let with = |number| Placing { coupon: Some("ONCE".to_owned()), ..placing(order(number, 1)) };
    assert!(counter.place(&with("a")).expect("the only use"));
    assert!(matches!(counter.place(&with("b")), Err(Refusal::Coupon("it has been used up"))));
    assert_eq!(counter.expire(100), 1);
    assert!(counter.place(&with("b")).expect("given back"));
    // Paid late, with the price the coupon made: honoured, and counted.
    assert!(counter.allocate(&order("a", 1), 200).expect("in stock"));
    assert_eq!(price::all(&counter.connection).expect("readable")[0].1, 2);
    assert_eq!(super::rows::find(&counter.connection, "a").expect("readable").expect("there").amount, 50);
    counter.assert_sound();
}

#[test]
fn a_coupon_counts_for_its_product_its_time_and_its_currency_only() {
    let product = product(SKU, Policy::default());
    let fixed = |currency: &str| Discount::Fixed { amount: 30, currency: currency.to_owned() };
    let good = coupon("C", fixed("CNY"), None).terms;
    let total = |terms: &Terms, now_ms| price::quote(&product, 1, 0, Some(terms), now_ms).map(|quote| quote.total);
    assert_eq!(total(&good, 0).expect("counts"), 70);
    let window = Terms { starts_ms: Some(10), expires_ms: Some(20), ..good.clone() };
    assert!([9, 20].into_iter().all(|now| matches!(total(&window, now), Err(Refusal::Coupon(_)))));
    assert!([10, 19].into_iter().all(|now| total(&window, now).is_ok()));
    let others = [
        Terms { sku: Some("other".to_owned()), ..good.clone() },
        Terms { min_goods: 101, ..good.clone() },
        Terms { discount: fixed("USD"), ..good },
    ];
    assert!(others.iter().all(|terms| matches!(total(terms, 0), Err(Refusal::Coupon(_)))));
    let large = coupon("C", Discount::Fixed { amount: 1_000, currency: "CNY".to_owned() }, None).terms;
    assert_eq!(total(&large, 0).expect("counts"), 0, "nobody is paid for buying");
}

#[test]
fn a_discount_is_rounded_down_once_over_the_whole_sum() {
    let mut product = product(SKU, Policy { surcharge: 7, pick: Pick::Chosen, ..Policy::default() });
    (product.price, product.tiers) = (333, vec![Tier { min_qty: 3, price: 300 }, Tier { min_qty: 10, price: 200 }]);
    let eighth = coupon("C", Discount::Percent { basis_points: 1_250 }, None).terms;
    let quote = |qty, chosen| price::quote(&product, qty, chosen, Some(&eighth), 0).expect("counts");
    // 12.5 % of 666 is 83.25; of 333 twice it would be 41 and 41.
    assert_eq!((quote(2, 0).goods, quote(2, 0).discount, quote(2, 0).total), (666, 83, 583));
    assert_eq!((quote(3, 0).unit_price, quote(9, 0).unit_price, quote(10, 0).unit_price), (300, 300, 200));
    // The surcharge is not reduced.
    assert_eq!((quote(2, 2).surcharge, quote(2, 2).discount, quote(2, 2).total), (14, 83, 597));
}

proptest! {
    #[test]
    fn an_order_never_costs_less_than_nothing_nor_more_than_without_a_coupon(
        unit in 0..=price::MAX_PRICE, qty in 1_u32..=1_000, basis_points in 1_u32..=10_000
    ) {
        let mut product = product(SKU, Policy::default());
        product.price = unit;
        let terms = coupon("C", Discount::Percent { basis_points }, None).terms;
        let quote = price::quote(&product, qty, 0, Some(&terms), 0).expect("counts");
        prop_assert!((0..=quote.goods).contains(&quote.total));
        let exact = i128::from(quote.goods) * i128::from(basis_points);
        prop_assert_eq!(i128::from(quote.discount), exact / 10_000);
    }
}
