//! One half: what comes twice, late or without the one before.

use super::super::model::{Branch, Leg, Refusal};
use super::super::{branch, rows};
use super::{account, assert_sound, balances, file, leg, run};

#[test]
fn money_is_frozen_then_taken_and_each_of_it_once() {
    let file = file();
    let payer = account(&file, "u", 100);
    let half = leg(Branch::Payer, &payer, 70);
    for _ in 0..3 {
        run(&file, |c| branch::attempt(c, &half, 1)).expect("the same answer each time");
        assert_eq!(balances(&file, &payer), (30, 70, 0));
        assert_sound(&file);
    }
    for _ in 0..3 {
        run(&file, |c| branch::confirm(c, &half, 2)).expect("the same answer each time");
        assert_eq!(balances(&file, &payer), (30, 0, 0));
        assert_sound(&file);
    }
    assert!(matches!(run(&file, |c| branch::cancel(c, &half, 3)), Err(Refusal::AlreadyConfirmed)));
    assert_eq!(balances(&file, &payer), (30, 0, 0));
}

#[test]
fn money_is_promised_then_given() {
    let file = file();
    let payee = account(&file, "u", 0);
    let half = leg(Branch::Payee, &payee, 70);
    run(&file, |c| branch::attempt(c, &half, 1)).expect("promised");
    assert_eq!(balances(&file, &payee), (0, 0, 70));
    run(&file, |c| branch::confirm(c, &half, 2)).expect("given");
    run(&file, |c| branch::confirm(c, &half, 2)).expect("given once");
    assert_eq!(balances(&file, &payee), (70, 0, 0));
    assert_sound(&file);
}

#[test]
fn a_cancel_before_its_try_keeps_the_try_out() {
    let file = file();
    let payer = account(&file, "u", 100);
    for half in [leg(Branch::Payer, &payer, 70), leg(Branch::Payee, &payer, 70)] {
        run(&file, |c| branch::cancel(c, &half, 1)).expect("nothing to undo");
        run(&file, |c| branch::cancel(c, &half, 1)).expect("still nothing");
        assert!(matches!(run(&file, |c| branch::attempt(c, &half, 2)), Err(Refusal::AlreadyCancelled)));
        assert!(matches!(run(&file, |c| branch::confirm(c, &half, 2)), Err(Refusal::AlreadyCancelled)));
        assert_eq!(balances(&file, &payer), (100, 0, 0));
    }
    assert_sound(&file);
}

#[test]
fn a_cancel_after_its_try_gives_everything_back_once() {
    let file = file();
    let (payer, payee) = (account(&file, "u", 100), account(&file, "v", 0));
    for half in [leg(Branch::Payer, &payer, 70), leg(Branch::Payee, &payee, 70)] {
        run(&file, |c| branch::attempt(c, &half, 1)).expect("tried");
        run(&file, |c| branch::cancel(c, &half, 2)).expect("undone");
        run(&file, |c| branch::cancel(c, &half, 2)).expect("undone once");
        // A try that was on its way all the time.
        assert!(matches!(run(&file, |c| branch::attempt(c, &half, 3)), Err(Refusal::AlreadyCancelled)));
        assert!(matches!(run(&file, |c| branch::confirm(c, &half, 3)), Err(Refusal::AlreadyCancelled)));
    }
    assert_eq!((balances(&file, &payer), balances(&file, &payee)), ((100, 0, 0), (0, 0, 0)));
    assert_sound(&file);
}

#[test]
fn a_confirm_needs_its_try() {
    let file = file();
    let payer = account(&file, "u", 100);
    let half = leg(Branch::Payer, &payer, 70);
    assert!(matches!(run(&file, |c| branch::confirm(c, &half, 1)), Err(Refusal::NotTried)));
    run(&file, |c| branch::attempt(c, &half, 1)).expect("the refused confirm left nothing behind");
    let other = leg(Branch::Payer, &payer, 71);
    assert!(matches!(run(&file, |c| branch::attempt(c, &other, 1)), Err(Refusal::OtherTry)));
}

#[test]
fn a_try_is_refused_without_a_trace() {
    let file = file();
    let payer = account(&file, "u", 100);
    let closed = account(&file, "v", 0);
    rows::close(&file, &closed).expect("it is empty");
    let refused = |half: Leg| run(&file, |c| branch::attempt(c, &half, 1)).expect_err("refused");
    assert!(matches!(refused(leg(Branch::Payer, &payer, 101)), Refusal::InsufficientFunds));
    assert!(matches!(refused(leg(Branch::Payee, &closed, 1)), Refusal::AccountClosed));
    assert!(matches!(refused(leg(Branch::Payee, "0000000000000", 1)), Refusal::UnknownAccount));
    assert!(matches!(refused(leg(Branch::Payee, &payer, rows::MAX_BALANCE)), Refusal::AccountFull));
    let mut dollars = leg(Branch::Payee, &payer, 1);
    dollars.currency = "USD".to_owned();
    assert!(matches!(refused(dollars), Refusal::CurrencyMismatch));
    let left: i64 = file.query_row("SELECT count(*) FROM barrier", [], |row| row.get(0)).expect("a count");
    assert_eq!((left, balances(&file, &payer)), (0, (100, 0, 0)));
    assert!(matches!(rows::close(&file, &payer), Err(Refusal::NotEmpty)));
}

#[test]
fn the_ledger_can_be_added_to_and_nothing_else() {
    let file = file();
    account(&file, "u", 100);
    assert!(file.execute("UPDATE ledger SET amount = 1", []).is_err());
    assert!(file.execute("DELETE FROM ledger", []).is_err());
}

#[test]
fn money_that_was_made_up_is_found() {
    let file = file();
    let id = account(&file, "u", 100);
    file.execute("UPDATE accounts SET available = 101", []).expect("a wrong row");
    let found = super::inspect::within(&file, 0).expect("readable");
    assert_eq!(found, [format!("I4: the ledger does not add up to the balance of account: {id}")]);
    file.execute("UPDATE accounts SET available = 90, frozen = 10", []).expect("a wrong row");
    let found = super::inspect::within(&file, 0).expect("readable");
    assert_eq!(found, [format!("I4: frozen or incoming is not the sum of open tries of account: {id}")]);
}

#[test]
fn a_deposit_is_made_once_per_key() {
    let file = file();
    let id = account(&file, "u", 100);
    let again = rows::deposit(&file, &id, "first", "other", 100, 9).expect("the same");
    assert_eq!(again, (false, "D-u".to_owned()));
    assert!(matches!(rows::deposit(&file, &id, "first", "other", 99, 9), Err(Refusal::KeyReused)));
    assert_eq!(balances(&file, &id), (100, 0, 0));
}
