//! One JSON line a request, written off the workers.
//!
//! A worker formats its line into a buffer of its own shard and goes on; one thread collects the buffers every 50 ms and
//! writes them out. When the disk does not keep up, lines are dropped and counted: a full disk must not stop payments.

use std::cell::Cell;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::escape::{address, json_text, masked_target};

/// Buffers; workers choose one each, so that they rarely meet.
const SHARDS: usize = 8;
/// Bytes a shard may hold while the writer is busy; beyond, lines are dropped. 16 MiB in all.
const MOST_HELD: usize = 2 << 20;
/// How often buffers are collected.
const COLLECT_EVERY: Duration = Duration::from_millis(50);
/// Longest target in a line; what is cut off is marked.
const LONGEST_TARGET: usize = 512;

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessLogTarget {
    /// Nowhere.
    Off,
    /// Standard output.
    Stdout,
    /// The end of a file, created when missing.
    File(PathBuf),
}

/// Listener and route of a request.
#[derive(Clone, Copy, Debug)]
pub enum Place<'a> {
    /// What [`route_words`] says of them: the same in all lines of a route.
    Known(&'a str),
    /// The listener's name; no route matched.
    NoRoute(&'a str),
}

/// The part of a line that names the listener and the route.
#[must_use]
pub fn route_words(listener: &str, route: &str) -> Box<str> {
    format!("\",\"listener\":\"{listener}\",\"route\":\"{route}\",\"method\":\"").into()
}

/// What is known about a finished request.
#[derive(Clone, Copy, Debug)]
pub struct AccessRecord<'a> {
    /// Wall time of the end.
    pub time_unix: Duration,
    /// The request's id, in hex.
    pub request_id: &'a [u8],
    /// Where it arrived.
    pub route: Place<'a>,
    /// The method as sent.
    pub method: &'a str,
    /// The target as sent.
    pub target: &'a str,
    /// The status sent; 499 when the client got no proper end.
    pub status: u16,
    /// `proxied`, `answered` (by the gateway itself), `refused`, `failed`, `deferred` (taken to be carried out later, and the try
    /// itself) or `cut`.
    pub decision: &'a str,
    /// Filter, and part of it, that decided.
    pub decider: Option<(&'a str, Option<&'a str>)>,
    /// The problem's code.
    pub code: Option<&'a str>,
    /// The client's address.
    pub client: IpAddr,
    /// The verified user.
    pub user: Option<&'a str>,
    /// The channel used last.
    pub channel: Option<&'a str>,
    /// Our number of the payment, for a request that makes one.
    pub payment: Option<&'a str>,
    /// Tries on channels.
    pub attempts: u8,
    /// What is known about the upstream.
    pub outcome: Option<&'a str>,
    /// From the head's last byte to the end.
    pub duration: Duration,
    /// Time spent parked.
    pub wait: Duration,
    /// Bytes sent to the client.
    pub bytes_sent: u64,
    /// Generation of the configuration.
    pub generation: u64,
    /// `h1` or `h2`.
    pub protocol: &'a str,
    /// Facts that filters noted.
    pub notes: &'a [(&'static str, u64)],
}

struct Shared {
    shards: [Mutex<Vec<u8>>; SHARDS],
    dropped: AtomicU64,
    stop: AtomicBool,
    rounds: Mutex<u64>,
    round_over: Condvar,
    wake: Condvar,
    asleep: Mutex<bool>,
}

/// The access log.
pub struct AccessLog {
    shared: Option<Arc<Shared>>,
    writer: Option<JoinHandle<()>>,
}

static NEXT_SHARD: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static SHARD: Cell<usize> = Cell::new(NEXT_SHARD.fetch_add(1, Relaxed) % SHARDS);
}

impl AccessLog {
    /// Opens the log and starts its writer.
    ///
    /// # Errors
    /// When the file cannot be opened or the thread not be started.
    pub fn open(target: AccessLogTarget) -> io::Result<Self> {
        let out: Box<dyn Write + Send> = match target {
            AccessLogTarget::Off => return Ok(Self { shared: None, writer: None }),
            AccessLogTarget::Stdout => Box::new(io::stdout()),
            AccessLogTarget::File(path) => {
                let file: File = OpenOptions::new().create(true).append(true).open(&path)?;
                Box::new(file)
            }
        };
        let shared = Arc::new(Shared {
            shards: Default::default(),
            dropped: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            rounds: Mutex::new(0),
            round_over: Condvar::new(),
            wake: Condvar::new(),
            asleep: Mutex::new(false),
        });
        let theirs = shared.clone();
        let writer = std::thread::Builder::new().name("access-log".into()).spawn(move || theirs.write_to(out))?;
        Ok(Self { shared: Some(shared), writer: Some(writer) })
    }

    /// Adds a request's line. Never blocks on the disk.
    pub fn line(&self, record: &AccessRecord<'_>) {
        let Some(shared) = &self.shared else { return };
        let mut buffer = shared.shards[SHARD.get()].lock();
        if buffer.len() > MOST_HELD {
            drop(buffer);
            shared.dropped.fetch_add(1, Relaxed);
            return;
        }
        format(&mut buffer, record);
    }

    /// Lines that were dropped because the disk did not keep up.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.shared.as_ref().map_or(0, |shared| shared.dropped.load(Relaxed))
    }

    /// Waits until what was added before is written, at most two seconds.
    pub fn flush(&self) {
        let Some(shared) = &self.shared else { return };
        let mut rounds = shared.rounds.lock();
        // The round that runs now may have passed the line already; the one after it has not.
        let wanted = *rounds + 2;
        while *rounds < wanted {
            if shared.round_over.wait_for(&mut rounds, Duration::from_secs(2)).timed_out() {
                return;
            }
        }
    }
}

impl Shared {
    fn write_to(&self, mut out: Box<dyn Write + Send>) {
        let mut batch = Vec::new();
        loop {
            let stop = self.stop.load(SeqCst);
            for shard in &self.shards {
                let mut taken = std::mem::take(&mut *shard.lock());
                batch.append(&mut taken);
                // The larger of two buffers goes back, so that a busy shard does not grow one anew each round.
                let mut place = shard.lock();
                if place.is_empty() && place.capacity() < taken.capacity() {
                    *place = taken;
                }
            }
            if !batch.is_empty() && out.write_all(&batch).and_then(|()| out.flush()).is_err() {
                let lines = batch.iter().filter(|byte| **byte == b'\n').count();
                self.dropped.fetch_add(lines as u64, Relaxed);
            }
            batch.clear();
            *self.rounds.lock() += 1;
            self.round_over.notify_all();
            if stop {
                return;
            }
            let mut asleep = self.asleep.lock();
            self.wake.wait_for(&mut asleep, COLLECT_EVERY);
        }
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        if let Some(shared) = &self.shared {
            shared.stop.store(true, SeqCst);
            shared.wake.notify_all();
        }
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

// Written out where they are called: the names then are constants, and copying one is a store or two.
#[inline(always)]
fn number(out: &mut Vec<u8>, name: &[u8], value: u64) {
    out.extend_from_slice(name);
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

#[inline(always)]
fn text(out: &mut Vec<u8>, name: &[u8], value: &str) {
    out.extend_from_slice(name);
    json_text(out, value);
}

/// A word of our own, a name from the configuration, or a token of the request: nothing in those needs an escape.
#[inline(always)]
fn word(out: &mut Vec<u8>, name: &[u8], value: impl AsRef<[u8]>) {
    out.extend_from_slice(name);
    out.extend_from_slice(value.as_ref());
    out.push(b'"');
}

fn micros(span: Duration) -> u64 {
    span.as_secs().saturating_mul(1_000_000).saturating_add(u64::from(span.subsec_micros()))
}

fn format(out: &mut Vec<u8>, record: &AccessRecord<'_>) {
    let millis = record.time_unix.subsec_millis();
    number(out, b"{\"ts\":", record.time_unix.as_secs());
    let digits = [millis / 100, millis / 10 % 10, millis % 10].map(|digit| b'0' + digit as u8);
    out.extend_from_slice(&[b'.', digits[0], digits[1], digits[2]]);
    out.extend_from_slice(b",\"request_id\":\"");
    out.extend_from_slice(record.request_id);
    match record.route {
        Place::Known(words) => out.extend_from_slice(words.as_bytes()),
        Place::NoRoute(listener) => out.extend_from_slice(route_words(listener, "").as_bytes()),
    }
    out.extend_from_slice(record.method.as_bytes());
    out.extend_from_slice(b"\",\"target\":");
    masked_target(out, record.target, LONGEST_TARGET);
    number(out, b",\"status\":", u64::from(record.status));
    word(out, b",\"decision\":\"", record.decision);
    if let Some((filter, part)) = record.decider {
        word(out, b",\"decided_by\":\"", filter);
        if let Some(part) = part {
            text(out, b",\"policy\":", part);
        }
    }
    if let Some(code) = record.code {
        word(out, b",\"code\":\"", code);
    }
    out.extend_from_slice(b",\"client\":\"");
    address(out, record.client);
    out.push(b'"');
    if let Some(channel) = record.channel {
        word(out, b",\"channel\":\"", channel);
    }
    if let Some(outcome) = record.outcome {
        word(out, b",\"outcome\":\"", outcome);
    }
    if let Some(user) = record.user {
        text(out, b",\"user\":", user);
    }
    if let Some(payment) = record.payment {
        text(out, b",\"payment\":", payment);
    }
    if record.attempts > 0 {
        number(out, b",\"attempts\":", u64::from(record.attempts));
    }
    number(out, b",\"duration_us\":", micros(record.duration));
    if !record.wait.is_zero() {
        number(out, b",\"wait_us\":", micros(record.wait));
    }
    number(out, b",\"bytes_sent\":", record.bytes_sent);
    word(out, b",\"protocol\":\"", record.protocol);
    number(out, b",\"generation\":", record.generation);
    for (name, value) in record.notes {
        out.extend_from_slice(b",\"");
        out.extend_from_slice(name.as_bytes());
        number(out, b"\":", *value);
    }
    out.extend_from_slice(b"}\n");
}
