//! Brings transfers to their end, whoever dies on the way.
//!
//! ```text
//! TRYING ── both tried ──> CONFIRMING ── both confirmed ──> CONFIRMED
//!    └── refused, unknown, too late ──> CANCELLING ── both cancelled ──> CANCELLED
//! ```
//!
//! The row exists before the first branch is called and says CONFIRMING before the first confirm: that is the point of
//! no return. A branch that gave no answer may have frozen something, so a cancel goes to every branch, also to those
//! that were never asked. What a crash leaves behind is found by [`recover`]: a TRYING row past its deadline is given
//! up, the other two are driven on, again and again, for ever; after ten times somebody is told.

use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use tidegate_durable::{StoreError, WriteError};
use tokio::task::JoinSet;

use super::bank::Bank;
use super::model::{Branch, Leg, Reason, Refusal, State, Transfer};
use super::tcc::{self, Wanted};
use super::{branch, lost};
use crate::support::{Problem, Shard, Stop, unix_ms};

/// Longest a branch may take to answer. It is a commit in another file, so this is a disk that hangs.
const BRANCH_TIMEOUT: Duration = Duration::from_secs(5);

/// How long recovery leaves a decided transfer to whoever is driving it, in milliseconds: four branch calls.
const DRIVER_GRACE_MS: i64 = 20_000;

/// Transfers that recovery drives at once in one file.
const AT_ONCE: u32 = 32;

/// Times recovery has failed before somebody is told.
const ALERT_AFTER: u32 = 10;

/// Numbers are random in part; this many in a row are not all taken.
const NUMBERS: u32 = 8;

/// What comes next for a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Try(Branch),
    /// Both tries succeeded.
    Agree,
    GiveUp(Reason),
    Confirm(Branch),
    Cancel(Branch),
    Finish,
    Done,
}

/// Where to go on with a transfer that somebody left in this state.
pub(super) fn resume(state: State) -> Step {
    match state {
        State::Trying => Step::GiveUp(Reason::TimedOut),
        State::Confirming => Step::Confirm(Branch::Payer),
        State::Cancelling => Step::Cancel(Branch::Payer),
        State::Confirmed | State::Cancelled => Step::Done,
    }
}

/// Makes a transfer, once per idempotency key, and drives it as far as it goes now. `true` when it was made now.
pub(super) async fn transfer(bank: Arc<Bank>, wanted: Wanted) -> Result<(bool, Transfer), Problem> {
    let payer = Shard::of_number(&wanted.payer).ok_or(Refusal::UnknownAccount)?;
    let local = Shard::of_number(&wanted.payee).is_none_or(|payee| bank.files.of(payee) == bank.files.of(payer));
    for _ in 0..NUMBERS {
        let now_ms = unix_ms();
        let (gid, wanted) = (payer.number(now_ms, rand::rng().random()), wanted.clone());
        let deadline_ms = now_ms.saturating_add(bank.try_within_ms());
        let written = bank
            .store(payer)
            .write(move |connection| {
                if local {
                    tcc::at_once(connection, &gid, &wanted, now_ms)
                } else {
                    tcc::begin(connection, &gid, &wanted, now_ms, deadline_ms)
                }
            })
            .await;
        let (new, transfer) = match written {
            Err(WriteError::Op(Refusal::NumberTaken)) => continue,
            other => other.map_err(lost)?,
        };
        bank.ring();
        if !new || transfer.state != State::Trying {
            return Ok((new, transfer));
        }
        let gid = transfer.gid.clone();
        drive(&bank, &transfer, Step::Try(Branch::Payer)).await;
        return Ok((true, bank.transfer(&gid).await?));
    }
    Err(Problem::internal())
}

/// Goes on from a step until the end, or until something fails that recovery has to repeat.
pub(super) async fn drive(bank: &Bank, transfer: &Transfer, from: Step) {
    let mut step = from;
    while step != Step::Done {
        match advance(bank, transfer, step).await {
            Ok(next) => step = next,
            Err(error) => {
                put_off(bank, transfer, &error).await;
                return;
            }
        }
    }
    bank.ring();
}

/// Takes one step, durable when this resolves; answers the next one.
pub(super) async fn advance(bank: &Bank, transfer: &Transfer, step: Step) -> Result<Step, WriteError<Refusal>> {
    Ok(match step {
        Step::Try(half) => match (call(bank, transfer.leg(half), branch::attempt).await, half) {
            (Ok(()), Branch::Payer) => Step::Try(Branch::Payee),
            (Ok(()), Branch::Payee) => Step::Agree,
            (Err(error), _) => Step::GiveUp(match &error {
                WriteError::Op(refusal) => refusal.reason().unwrap_or(Reason::BranchUnknown),
                WriteError::Store(_) => Reason::BranchUnknown,
            }),
        },
        Step::Agree => decide(bank, transfer, None).await?,
        Step::GiveUp(reason) => decide(bank, transfer, Some(reason)).await?,
        Step::Confirm(half) => {
            call(bank, transfer.leg(half), branch::confirm).await?;
            if half == Branch::Payer { Step::Confirm(Branch::Payee) } else { Step::Finish }
        }
        Step::Cancel(half) => {
            match call(bank, transfer.leg(half), branch::cancel).await {
                Err(WriteError::Op(Refusal::UnknownAccount)) | Ok(()) => {}
                Err(error) => return Err(error),
            }
            if half == Branch::Payer { Step::Cancel(Branch::Payee) } else { Step::Finish }
        }
        Step::Finish => {
            let (gid, now_ms) = (transfer.gid.clone(), unix_ms());
            bank.home(transfer).write(move |connection| tcc::finish(connection, &gid, now_ms)).await?;
            Step::Done
        }
        Step::Done => Step::Done,
    })
}

/// Writes the decision down, or finds that another one was faster.
async fn decide(bank: &Bank, transfer: &Transfer, against: Option<Reason>) -> Result<Step, WriteError<Refusal>> {
    let (gid, now_ms) = (transfer.gid.clone(), unix_ms());
    bank.home(transfer)
        .write(move |connection| {
            tcc::decide(connection, &gid, against, now_ms + DRIVER_GRACE_MS, now_ms)?;
            Ok(resume(tcc::get(connection, &gid)?.state))
        })
        .await
}

type Operation = fn(&rusqlite::Connection, &Leg, i64) -> Result<(), Refusal>;

/// Calls a branch. An error that is no refusal says nothing about what the branch has done, or is going to do.
async fn call(bank: &Bank, leg: Leg, operation: Operation) -> Result<(), WriteError<Refusal>> {
    let Some(shard) = Shard::of_number(&leg.account) else {
        return Err(WriteError::Op(Refusal::UnknownAccount));
    };
    let now_ms = unix_ms();
    let asked = bank.store(shard).write(move |connection| operation(connection, &leg, now_ms));
    tokio::time::timeout(BRANCH_TIMEOUT, asked).await.unwrap_or(Err(WriteError::Store(StoreError::Unavailable)))
}

/// Leaves a transfer to recovery, later each time.
async fn put_off(bank: &Bank, transfer: &Transfer, error: &WriteError<Refusal>) {
    let gid = &transfer.gid;
    tracing::warn!(%error, gid, tries = transfer.tries, "a transfer is not finished, trying again");
    if transfer.tries >= ALERT_AFTER {
        bank.counters.stuck.add(1);
        tracing::error!(%error, gid, tries = transfer.tries, "a transfer cannot be finished; somebody has to look");
    }
    let (number, next_ms) = (gid.clone(), unix_ms() + bank.backoff_ms(transfer.tries));
    let written: Result<(), WriteError<rusqlite::Error>> =
        bank.home(transfer).write(move |connection| tcc::postpone(connection, &number, next_ms)).await;
    if let Err(error) = written {
        tracing::warn!(%error, gid, "a transfer could not be put off; its turn comes when it is taken for abandoned");
    }
}

/// Drives what was left behind, until a stop is asked for.
pub(super) async fn recover(bank: Arc<Bank>, file: usize, stop: Stop) {
    let mut before_ms = unix_ms();
    loop {
        let now_ms = unix_ms();
        if before_ms - now_ms >= 1_000 {
            tracing::warn!(by_ms = before_ms - now_ms, "the clock was set back, looking at all open transfers");
            let looked = bank.stores[file].write(move |connection| tcc::due_now(connection, now_ms)).await;
            before_ms = if looked.is_ok() { now_ms } else { before_ms };
        } else {
            before_ms = before_ms.max(now_ms);
        }
        if let Err(error) = round(&bank, file, now_ms).await {
            tracing::warn!(%error, "open transfers could not be read, trying again");
        }
        tokio::select! {
            () = stop.requested() => return,
            () = tokio::time::sleep(bank.settings.sweep_every) => {}
        }
    }
}

/// Drives whatever is due in one file.
pub(super) async fn round(bank: &Arc<Bank>, file: usize, now_ms: i64) -> Result<(), WriteError<rusqlite::Error>> {
    let store = &bank.stores[file];
    // Looking is free, claiming costs a commit.
    while store.read(move |connection| tcc::is_due(connection, now_ms)).await? {
        let lease_ms = unix_ms().saturating_add(DRIVER_GRACE_MS);
        let due = store.write(move |connection| tcc::claim(connection, now_ms, lease_ms, AT_ONCE)).await?;
        let full = due.len() == AT_ONCE as usize;
        let mut driven = JoinSet::new();
        for transfer in due {
            let bank = Arc::clone(bank);
            driven.spawn(async move { drive(&bank, &transfer, resume(transfer.state)).await });
        }
        driven.join_all().await;
        if !full {
            break;
        }
    }
    Ok(())
}
