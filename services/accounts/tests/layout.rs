//! However many files there are: the same wishes get the same answers and leave the same balances and ledgers.

use tempfile::TempDir;

use super::super::coordinator;
use super::super::model::{Reason, State};
use super::super::tcc::Wanted;
use super::super::{Bank, Settings, violations};
use crate::support::{Files, StartError};

const USERS: u32 = 12;

/// What can be compared between layouts: numbers are random.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    answers: Vec<(bool, State, Option<Reason>)>,
    balances: Vec<(i64, i64, i64)>,
    ledgers: Vec<Vec<(String, i64)>>,
}

async fn play(count: u8) -> Seen {
    let folder = TempDir::new().expect("a folder");
    let files = Files::new(count).expect("allowed");
    let bank = Bank::open(folder.path(), Settings::new(files)).await.expect("files");
    let mut ids = Vec::new();
    for n in 0..USERS {
        let currency = if n == 5 { "USD" } else { "CNY" };
        let (now, account) = bank.open_account(&format!("u_{n}"), currency).await.expect("an account");
        assert!(now);
        bank.deposit(&account.id, "first".to_owned(), 100).await.expect("a deposit");
        ids.push(account.id);
    }
    let mut answers = Vec::new();
    for n in 0..60_u32 {
        // A fixed walk over all pairs, with repetitions of keys, amounts that are too large and payees that are not there.
        let (from, to) = ((n * 5) % USERS, (n * 7 + 1 + n / USERS) % USERS);
        if from == to {
            continue;
        }
        let payee = if n % 13 == 12 { "0000000000000".to_owned() } else { ids[to as usize].clone() };
        let wanted = Wanted {
            payer: ids[from as usize].clone(),
            payee,
            amount: i64::from(n * 11 % 60 + 1),
            idem_key: format!("k{n}"),
        };
        let (now, made) = coordinator::transfer(bank.clone(), wanted.clone()).await.expect("an answer");
        let (again, same) = coordinator::transfer(bank.clone(), wanted).await.expect("an answer");
        assert_eq!((again, &same.gid), (false, &made.gid));
        answers.push((now, made.state, made.reason));
    }
    let (mut balances, mut ledgers) = (Vec::new(), Vec::new());
    for id in &ids {
        let account = bank.account(id).await.expect("an account");
        balances.push((account.available, account.frozen, account.incoming));
        let entries = bank.entries(id, 0, 1_000).await.expect("entries");
        ledgers.push(entries.into_iter().map(|entry| (entry.kind, entry.amount)).collect());
    }
    assert_eq!(violations(&bank).await.expect("readable"), Vec::<String>::new());
    Seen { answers, balances, ledgers }
}

#[tokio::test]
async fn one_file_and_sixteen_agree() {
    let one = play(1).await;
    let reasons: Vec<_> = one.answers.iter().filter_map(|(_, _, reason)| *reason).collect();
    for reason in [Reason::InsufficientFunds, Reason::UnknownAccount, Reason::CurrencyMismatch] {
        assert!(reasons.contains(&reason), "the walk never meets {reason:?}");
    }
    assert!(one.answers.iter().filter(|(_, state, _)| *state == State::Confirmed).count() > 20);
    assert_eq!(play(4).await, one);
    assert_eq!(play(16).await, one);
}

#[tokio::test]
async fn files_of_another_layout_are_not_opened() {
    let folder = TempDir::new().expect("a folder");
    let settings = |count| Settings::new(Files::new(count).expect("allowed"));
    Bank::open(folder.path(), settings(4)).await.expect("files");
    let refused = Bank::open(folder.path(), settings(16)).await.err();
    let Some(StartError::Setup(why)) = refused else { panic!("opened") };
    assert!(why.ends_with("start with --shards 4"), "{why}");
    Bank::open(folder.path(), settings(4)).await.expect("files");
}
