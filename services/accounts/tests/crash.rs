//! A death after every step of the real coordinator, on real files; recovery has to find the rest.

use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;

use super::super::coordinator::{self, Step, advance};
use super::super::model::{Branch, Reason, State};
use super::super::tcc::{self, Wanted};
use super::super::{Bank, Settings, violations};
use crate::support::{Files, Shard, unix_ms};

/// Two users in different files of four.
const PAYER: &str = "u_1";

fn settings() -> Settings {
    Settings::new(Files::new(4).expect("allowed"))
}

fn far_user() -> String {
    let files = Files::new(4).expect("allowed");
    let near = files.of(Shard::of_user(PAYER));
    (2..).map(|n| format!("u_{n}")).find(|user| files.of(Shard::of_user(user)) != near).expect("many users")
}

/// Makes a transfer, takes `steps` steps, and lets everything in memory go. Answers its number and the next step.
async fn die_after(folder: &Path, payee: &str, amount: i64, key: &str, steps: u32) -> (String, Step) {
    let bank = Bank::open(folder, settings()).await.expect("files");
    let (_, payer) = bank.open_account(PAYER, "CNY").await.expect("an account");
    let now_ms = unix_ms();
    let gid = Shard::of_user(PAYER).number(now_ms, rand::random());
    let wanted = Wanted { payer: payer.id, payee: payee.to_owned(), amount, idem_key: key.to_owned() };
    let begun = bank.store(Shard::of_user(PAYER)).write({
        let gid = gid.clone();
        move |connection| tcc::begin(connection, &gid, &wanted, now_ms, now_ms + 30_000)
    });
    let (_, transfer) = begun.await.expect("begun");
    let mut step = Step::Try(Branch::Payer);
    for _ in 0..steps {
        step = advance(&bank, &transfer, step).await.expect("a healthy disk");
    }
    (gid, step)
}

/// Restarts and lets recovery work; answers the bank.
async fn restart(folder: &Path) -> Arc<Bank> {
    let bank = Bank::open(folder, settings()).await.expect("files");
    for file in 0..4 {
        coordinator::round(&bank, file, unix_ms()).await.expect("a healthy disk");
    }
    bank
}

/// Dies after every number of steps there is; answers how the transfer ended each time.
async fn ends(payee_of: Option<&str>, amount: i64) -> Vec<(State, Option<Reason>)> {
    let folder = TempDir::new().expect("a folder");
    let bank = Bank::open(folder.path(), settings()).await.expect("files");
    let (_, payer) = bank.open_account(PAYER, "CNY").await.expect("an account");
    bank.deposit(&payer.id, "first".to_owned(), 1_000).await.expect("a deposit");
    let payee = match payee_of {
        Some(user) => bank.open_account(user, "CNY").await.expect("an account").1.id,
        // In another file than the payer, and never opened.
        None => Shard::of_user(&far_user()).number(1_800_000_000_000, 1),
    };
    drop(bank);
    let mut ends = Vec::new();
    let mut moved = 0;
    for steps in 0.. {
        let (gid, next) = die_after(folder.path(), &payee, amount, &format!("k-{steps}"), steps).await;
        let bank = restart(folder.path()).await;
        assert_eq!(violations(&bank).await.expect("readable"), Vec::<String>::new(), "after {steps} steps");
        let transfer = bank.transfer(&gid).await.expect("it was written down first");
        moved += if transfer.state == State::Confirmed { amount } else { 0 };
        let account = bank.account(&payer.id).await.expect("an account");
        assert_eq!((account.available, account.frozen), (1_000 - moved, 0), "after {steps} steps");
        if payee_of.is_some() {
            let account = bank.account(&payee).await.expect("an account");
            assert_eq!((account.available, account.incoming), (moved, 0), "after {steps} steps");
        }
        ends.push((transfer.state, transfer.reason));
        if next == Step::Done {
            return ends;
        }
    }
    unreachable!("every transfer comes to its end");
}

#[tokio::test]
async fn a_transfer_happens_exactly_if_it_was_decided_before_the_death() {
    let given_up = (State::Cancelled, Some(Reason::TimedOut));
    let happened = (State::Confirmed, None);
    // Nothing, try, try | decision, confirm, confirm, end.
    let expected = [given_up, given_up, given_up, happened, happened, happened, happened];
    assert_eq!(ends(Some(&far_user()), 10).await, expected);
}

#[tokio::test]
async fn a_transfer_without_funds_is_undone_wherever_it_dies() {
    let ends = ends(Some(&far_user()), 5_000).await;
    assert_eq!(ends.len(), 6);
    assert!(ends.iter().all(|(state, _)| *state == State::Cancelled));
    assert_eq!(ends.last(), Some(&(State::Cancelled, Some(Reason::InsufficientFunds))));
}

#[tokio::test]
async fn a_transfer_to_nobody_gives_the_frozen_money_back() {
    let ends = ends(None, 10).await;
    assert!(ends.iter().all(|(state, _)| *state == State::Cancelled));
    assert_eq!(ends.last(), Some(&(State::Cancelled, Some(Reason::UnknownAccount))));
}

#[tokio::test]
async fn a_slow_coordinator_finds_that_recovery_has_decided() {
    let folder = TempDir::new().expect("a folder");
    let bank = Bank::open(folder.path(), settings()).await.expect("files");
    let (_, payer) = bank.open_account(PAYER, "CNY").await.expect("an account");
    let (_, payee) = bank.open_account(&far_user(), "CNY").await.expect("an account");
    bank.deposit(&payer.id, "first".to_owned(), 1_000).await.expect("a deposit");
    drop(bank);
    let (gid, next) = die_after(folder.path(), &payee.id, 10, "k", 1).await;
    assert_eq!(next, Step::Try(Branch::Payee));
    let bank = restart(folder.path()).await;
    // Whoever was taken for dead goes on: his try comes late, and so does his decision.
    let transfer = bank.transfer(&gid).await.expect("known");
    assert_eq!(transfer.state, State::Cancelled);
    let late = advance(&bank, &transfer, Step::Try(Branch::Payee)).await.expect("a healthy disk");
    assert_eq!(late, Step::GiveUp(Reason::TimedOut));
    assert_eq!(advance(&bank, &transfer, Step::Agree).await.expect("a healthy disk"), Step::Done);
    assert_eq!(bank.account(&payer.id).await.expect("an account").available, 1_000);
    assert_eq!(violations(&bank).await.expect("readable"), Vec::<String>::new());
}
