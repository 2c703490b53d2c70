//! Whether the shop stays as it is when it has much to do for long: buyers come at 70 % of what it takes at most, each
//! at his time, however long those before him wait.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until};

use crate::crowd::{Crowd, Errand};
use crate::processes::{PROCESSES, Processes};
use crate::{Args, Failure, STOCK};

/// Of what it takes at most.
const SHARE: f64 = 0.7;

/// Most accepted orders of which something goes wrong: one in a hundred thousand.
const MOST_FAILED: f64 = 1e-5;

/// How soon 99 of 100 orders are accepted.
const ACCEPTED_WITHIN: Duration = Duration::from_millis(200);

/// How often memory is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What a process may grow by from the second quarter of the time to the last one: caches and histories have limits,
/// and most of them are reached later than this.
const MOST_GROWTH: f64 = 1.15;
const SMALL_KIB: u64 = 16 * 1_024;

/// What buyers saw.
#[derive(Default)]
struct Seen {
    /// How long each order took to be accepted.
    accepted: Vec<Duration>,
    refused: u64,
    failed: Vec<String>,
}

/// # Errors
/// When one of the promises was not kept.
pub(crate) async fn soak(processes: &Processes, folder: &Path, args: &Args, duration: Duration) -> Result<(), Failure> {
    let crowd = Crowd::new(processes, args)?;
    crowd.stock(processes, 0..STOCK).await?;
    let most = crowd.rush(Errand::Purchase).await?.rate();
    let rate = most * SHARE;
    crowd.stock(processes, STOCK..STOCK + (rate * duration.as_secs_f64()) as u64).await?;
    let mut out = std::io::stdout();
    writeln!(out, "{most:.0} purchases a second at most; {rate:.0} a second for {} s", duration.as_secs())?;
    let memory = tokio::spawn(watch(folder.to_owned(), duration));
    let seen = Arc::new(Mutex::new(Seen::default()));
    let (begun, mut buyers) = (Instant::now(), JoinSet::new());
    for number in 0.. {
        let due = Duration::from_secs_f64(f64::from(number) / rate);
        if due > duration {
            break;
        }
        sleep_until((begun + due).into()).await;
        let (buyer, seen) = (crowd.buyer()?, Arc::clone(&seen));
        buyers.spawn(async move {
            let begun = Instant::now();
            match buyer.order().await {
                Err(_) => seen.lock().refused += 1,
                Ok(ordered) => {
                    seen.lock().accepted.push(begun.elapsed());
                    if let Err(error) = ordered.finish(Errand::Purchase).await {
                        seen.lock().failed.push(error.to_string());
                    }
                }
            }
        });
        while buyers.try_join_next().is_some() {}
    }
    while buyers.join_next().await.is_some() {}
    let Seen { mut accepted, refused, failed } = std::mem::take(&mut *seen.lock());
    accepted.sort_unstable();
    let at = |percent: usize| accepted.get(accepted.len() * percent / 100).copied().unwrap_or_default();
    let (half, nearly_all) = (at(50), at(99));
    writeln!(
        out,
        "{} accepted, half within {:.0} ms, 99 % within {:.0} ms; {refused} refused; {} failed",
        accepted.len(),
        half.as_secs_f64() * 1_000.0,
        nearly_all.as_secs_f64() * 1_000.0,
        failed.len()
    )?;
    let mut wrong = growing(&memory.await??, &mut out)?;
    if failed.len() as f64 > accepted.len() as f64 * MOST_FAILED {
        wrong.push(format!("accepted orders failed, the first with: {}", failed[0]));
    }
    if accepted.is_empty() || nearly_all > ACCEPTED_WITHIN {
        wrong.push(format!("99 % were not accepted within {} ms", ACCEPTED_WITHIN.as_millis()));
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ").into()) }
}

/// Resident memory of each process in KiB, look by look.
type Memory = BTreeMap<&'static str, Vec<u64>>;

async fn watch(folder: std::path::PathBuf, duration: Duration) -> Result<Memory, Failure> {
    let (begun, mut memory) = (Instant::now(), Memory::new());
    while begun.elapsed() < duration {
        for name in PROCESSES {
            let pid = std::fs::read_to_string(folder.join(format!("{name}.pid")))?;
            let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
            memory.entry(name).or_default().push(line.trim().trim_end_matches(" kB").trim().parse()?);
        }
        sleep(LOOK_EVERY).await;
    }
    Ok(memory)
}

/// Prints the memory of each process; answers in words which of them keep growing.
fn growing(memory: &Memory, out: &mut impl std::io::Write) -> Result<Vec<String>, Failure> {
    let mut wrong = Vec::new();
    for (name, looks) in memory {
        let quarter = (looks.len() / 4).max(1);
        let most = |looks: &[u64]| looks.iter().copied().max().unwrap_or(0);
        let early = most(looks.get(quarter..quarter * 2).unwrap_or_default());
        let late = most(&looks[looks.len() - quarter..]);
        writeln!(out, "{name}: {} MiB in the second quarter, {} MiB in the last", early / 1_024, late / 1_024)?;
        if late as f64 > early as f64 * MOST_GROWTH && late > early + SMALL_KIB {
            wrong.push(format!("{name} keeps growing"));
        }
    }
    Ok(wrong)
}
