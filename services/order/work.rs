//! The background: tasks at the card-key service, open payments and refunds at the channels, orders whose time is over.
//!
//! Everything to be done is a row with a time. A loop takes due rows for a while (their time is moved), works on a
//! bounded number of them at once, and whoever dies in between leaves them to be taken again. Channels and stock have
//! a loop each, so that channels that hang do not keep paid orders from their keys; and each file has its own.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinHandle, JoinSet};

use super::desk::Desk;
use super::files::OrderFile;
use super::model::{OrderStatus, Payment, TaskKind};
use super::stock::{Answer, Preheated};
use super::{backoff_ms, payments, resolver, rows, settle};
use crate::support::{Problem, Stop, unix_ms};

/// Jobs of all loops for the same kind of rows at the same time.
const AT_ONCE: usize = 64;

/// Jobs that one loop may have at least, however many files there are.
const AT_LEAST: usize = 16;

/// How long a taken row is left alone, in milliseconds. Longer than any job at the card-key service takes.
const LEASE_MS: i64 = 30_000;

/// Orders ended in one transaction.
const SWEEP_BATCH: u32 = 200;

/// Which rows a loop works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Stock,
    Channels,
}

/// One thing to do.
enum Job {
    Task(TaskKind, String, u32),
    Payment(Box<Payment>),
}

/// Starts the loops; they end after `stop` was requested.
pub(super) fn start(desk: &Arc<Desk>, stop: &Stop) -> Vec<JoinHandle<()>> {
    let mut tasks = vec![tokio::spawn(sweep(Arc::clone(desk), stop.clone()))];
    for file in 0..desk.files.all().len() {
        for field in [Field::Stock, Field::Channels] {
            tasks.push(tokio::spawn(work_on(field, file, Arc::clone(desk), stop.clone())));
        }
    }
    tasks
}

/// Asks for the products of a sale at the start, until somebody answers.
pub(super) async fn preheat(desk: Arc<Desk>, stop: Stop) {
    let mut wanted = desk.settings.preheat.clone();
    for tries in 0.. {
        let Preheated { ready, unknown, failed } = desk.stock.preheat(&wanted, unix_ms()).await;
        if !unknown.is_empty() {
            tracing::warn!(?unknown, "products of a sale that do not exist");
        }
        if failed.is_empty() {
            tracing::info!(ready = ready.len(), "products are near at hand");
            return;
        }
        wanted = failed;
        let wait_ms = backoff_ms(desk.settings.retry_unit, tries).unsigned_abs();
        tokio::select! {
            () = stop.requested() => return,
            () = tokio::time::sleep(Duration::from_millis(wait_ms)) => {}
        }
    }
}

async fn work_on(field: Field, file: usize, desk: Arc<Desk>, stop: Stop) {
    let mut bell = desk.files.all()[file].bell.subscribe();
    let at_once = (AT_ONCE / desk.files.all().len()).max(AT_LEAST);
    let mut jobs = JoinSet::new();
    loop {
        while jobs.try_join_next().is_some() {}
        let room = at_once - jobs.len();
        let claimed = claim(field, &desk, &desk.files.all()[file], room).await.unwrap_or_else(|problem| {
            tracing::warn!(code = problem.code, "the work to do could not be read, trying again");
            Vec::new()
        });
        // With all hands busy there may be more; otherwise nothing is due.
        let full = claimed.len() == room;
        for job in claimed {
            jobs.spawn(perform(Arc::clone(&desk), job));
        }
        tokio::select! {
            // Jobs are dropped where they stand, as in a crash: their rows are due again after the next start.
            () = stop.requested() => return,
            _ = jobs.join_next(), if full && !jobs.is_empty() => {}
            _ = bell.changed(), if !full => {}
            () = tokio::time::sleep(desk.settings.sweep_every) => {}
        }
    }
}

async fn claim(field: Field, desk: &Desk, file: &OrderFile, room: usize) -> Result<Vec<Job>, Problem> {
    if room == 0 {
        return Ok(Vec::new());
    }
    let now_ms = unix_ms();
    // A job at a channel is at most two calls.
    let calls_ms = i64::try_from(desk.settings.channel_timeout.as_millis() * 2).unwrap_or(i64::MAX);
    let lease_ms = now_ms.saturating_add(calls_ms).saturating_add(LEASE_MS);
    file.write(move |connection| {
        let channels = field == Field::Channels;
        let tasks = rows::claim_tasks(connection, channels, now_ms, lease_ms, room)?;
        let mut jobs: Vec<Job> =
            tasks.into_iter().map(|(kind, subject, tries)| Job::Task(kind, subject, tries)).collect();
        if channels {
            let due = payments::claim(connection, now_ms, lease_ms, room - jobs.len())?;
            jobs.extend(due.into_iter().map(|payment| Job::Payment(Box::new(payment))));
        }
        Ok(jobs)
    })
    .await
}

async fn perform(desk: Arc<Desk>, job: Job) {
    match job {
        Job::Payment(payment) => resolver::resolve(desk, *payment).await,
        Job::Task(kind, subject, tries) => {
            let done = match kind {
                TaskKind::Reserve => desk.reserve_left_behind(&subject, unix_ms()).await,
                TaskKind::Release => release(&desk, subject.clone()).await,
                TaskKind::Deliver => deliver(&desk, subject.clone()).await,
                TaskKind::Refund => refund(&desk, subject.clone()).await,
            };
            if let Err(problem) = done {
                tracing::warn!(
                    kind = kind.as_str(),
                    subject,
                    tries,
                    code = problem.code,
                    "a task failed, trying again"
                );
                postpone(&desk, kind, subject, tries).await;
            }
        }
    }
}

async fn postpone(desk: &Desk, kind: TaskKind, subject: String, tries: u32) {
    let due_ms = unix_ms() + backoff_ms(desk.settings.retry_unit, tries.saturating_sub(1));
    let done = async {
        let file = desk.file(&subject)?;
        file.write(move |connection| Ok(rows::postpone(connection, kind, &subject, due_ms)?)).await
    };
    if let Err(problem) = done.await {
        tracing::warn!(code = problem.code, "a task could not be postponed; its time comes when it is given up");
    }
}

async fn release(desk: &Desk, order_no: String) -> Result<(), Problem> {
    // Refused means that the keys were issued in the meantime: a late payment. Nothing is left to give back.
    let _ = desk.stock.release(&order_no).await?;
    let file = desk.file(&order_no)?;
    file.write(move |connection| Ok(rows::end_task(connection, TaskKind::Release, &order_no)?)).await
}

async fn deliver(desk: &Desk, order_no: String) -> Result<(), Problem> {
    let (file, number) = (desk.file(&order_no)?, order_no.clone());
    let order = file.read(move |connection| rows::get(connection, &number)).await?;
    if order.status != OrderStatus::Paid {
        // Somebody else has done it, or it is being paid back: what was decided stays so.
        return file.write(move |connection| Ok(rows::end_task(connection, TaskKind::Deliver, &order_no)?)).await;
    }
    let answer = desk.stock.allocate(&order).await?;
    let now_ms = unix_ms();
    match answer {
        Answer::Done => file.write(move |connection| settle::delivered(connection, &order_no, now_ms)).await,
        Answer::Refused(code) => {
            tracing::warn!(order_no, code, "a paid order cannot be delivered and is paid back");
            file.write(move |connection| settle::undeliverable(connection, &order_no, &code, now_ms)).await?;
            file.ring();
            Ok(())
        }
    }
}

async fn refund(desk: &Desk, subject: String) -> Result<(), Problem> {
    let (payment_no, elsewhere) = settle::refund_of(&subject);
    let payment = desk.payment(payment_no).await?;
    // A payment that succeeded has a channel; the schema says so.
    let channel = elsewhere.or(payment.channel).ok_or_else(Problem::internal)?;
    if let Err(why) = desk.channels.refund(&payment, channel).await {
        tracing::warn!(payment_no, channel = channel.as_str(), why, "a refund was not accepted");
        let detail = "The channel has not accepted the refund.";
        return Err(Problem::new(axum::http::StatusCode::BAD_GATEWAY, "REFUND_OPEN", detail));
    }
    let now_ms = unix_ms();
    let own = elsewhere.is_none();
    desk.home(&payment)
        .write(move |connection| match own {
            true => settle::refunded(connection, &subject, now_ms),
            false => settle::refunded_elsewhere(connection, &subject, now_ms),
        })
        .await
}

/// Whether the clock was set back between two looks at it. Less than a second delays nothing worth mentioning.
pub(super) fn was_set_back(before_ms: i64, now_ms: i64) -> bool {
    before_ms.saturating_sub(now_ms) >= 1_000
}

/// Ends the orders whose time is over. It also sees when the clock was set back: what waits for a time would then wait
/// longer by as much, paid orders for their keys among it.
async fn sweep(desk: Arc<Desk>, stop: Stop) {
    let mut before_ms = unix_ms();
    loop {
        let now_ms = unix_ms();
        if !was_set_back(before_ms, now_ms) {
            before_ms = before_ms.max(now_ms);
        } else if look_at_everything(&desk, before_ms, now_ms).await {
            before_ms = now_ms;
        }
        for file in desk.files.all() {
            end_overdue(file, now_ms).await;
        }
        tokio::select! {
            () = stop.requested() => return,
            () = tokio::time::sleep(desk.settings.sweep_every) => {}
        }
    }
}

/// `false` when a file could not be written; the old time is then kept, so that the next look sees the same jump.
async fn look_at_everything(desk: &Desk, before_ms: i64, now_ms: i64) -> bool {
    tracing::warn!(by_ms = before_ms - now_ms, "the clock was set back, looking at everything that waits");
    let mut all = true;
    for file in desk.files.all() {
        let looked = file.write(move |connection| Ok(payments::look_at_all(connection, now_ms)?)).await;
        if let Err(problem) = looked {
            tracing::warn!(code = problem.code, "what waits could not be looked at, trying again");
            all = false;
        }
        file.ring();
    }
    all
}

async fn end_overdue(file: &OrderFile, now_ms: i64) {
    loop {
        match file.write(move |connection| settle::expire(connection, now_ms, SWEEP_BATCH)).await {
            Ok(0) => return,
            Ok(ended) => {
                file.ring();
                if ended < SWEEP_BATCH as usize {
                    return;
                }
            }
            Err(problem) => {
                tracing::warn!(code = problem.code, "orders could not be ended, trying again");
                return;
            }
        }
    }
}
