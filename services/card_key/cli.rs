//! The command line of the card-key service, and the client that sends it a file of keys.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use futures_util::stream;
use serde_json::Value;
use tokio::io::AsyncReadExt;

use super::{KeySource, Settings};
use crate::support::Secret;

/// Reservations are given back at most this long after their time.
const SWEEP_EVERY: Duration = Duration::from_millis(500);

/// Environment variable with the master key, 64 hexadecimal digits.
const KEY_VARIABLE: &str = "TIDEGATE_CARD_KEY";

/// Environment variables with the secret that signs paid events and the token of sellers. No arguments: every user of
/// the machine could read those in the list of processes.
const HOOK_VARIABLE: &str = "TIDEGATE_CARD_KEY_HOOK_SECRET";
const ADMIN_VARIABLE: &str = "TIDEGATE_CARD_KEY_ADMIN_TOKEN";

/// Bytes of the file sent at a time.
const CHUNK: usize = 64 * 1024;

/// What an import can fail with; each error brings its own sentence.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What cannot be said as an argument.
const HELP: &str = "Environment: TIDEGATE_CARD_KEY_HOOK_SECRET signs paid events (POST /v1/hooks/paid), which are \
refused without it. TIDEGATE_CARD_KEY_ADMIN_TOKEN is what sellers show under /admin; without it they are served only \
while the service listens on loopback.";

/// Arguments of `card-key`.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub struct Args {
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1:7002")]
    listen: SocketAddr,
    /// Folder for card-key.sqlite.
    #[arg(long, default_value = "data")]
    data_dir: PathBuf,
    /// File with the master key, 64 hexadecimal digits. Without it the environment variable TIDEGATE_CARD_KEY counts, and without that a key file is made in the data folder.
    #[arg(long)]
    key_file: Option<PathBuf>,
    /// Put demo products into an empty store.
    #[arg(long)]
    seed_demo: bool,
}

impl Args {
    /// The settings these arguments stand for.
    pub fn into_settings(self) -> Settings {
        // The key itself is no argument: every user of the machine could read it in the list of processes.
        let key = match (self.key_file, std::env::var(KEY_VARIABLE)) {
            (Some(path), _) => KeySource::File(path),
            (None, Ok(text)) => KeySource::Hex(text),
            (None, Err(_)) => KeySource::DataDir,
        };
        Settings {
            listen: self.listen,
            data_dir: self.data_dir,
            key,
            seed_demo: self.seed_demo,
            hook_secret: secret(HOOK_VARIABLE),
            admin_token: secret(ADMIN_VARIABLE),
            sweep_every: SWEEP_EVERY,
        }
    }
}

/// A secret from the environment; an empty one protects nothing and counts as absent.
fn secret(variable: &str) -> Option<Secret> {
    std::env::var(variable).ok().filter(|text| !text.is_empty()).map(Secret::new)
}

/// Arguments of `import`.
#[derive(Debug, clap::Args)]
pub struct ImportArgs {
    /// Where the card-key service listens.
    #[arg(long, default_value = "http://127.0.0.1:7002")]
    to: String,
    /// Product the keys belong to.
    #[arg(long)]
    sku: String,
    /// Name under which these keys are found again; default: the name of the file.
    #[arg(long)]
    batch: Option<String>,
    /// What to do with a key that is in stock already: end the import (batches before it stay), or leave it out.
    #[arg(long, value_parser = ["reject", "skip"], default_value = "reject")]
    dedupe: String,
    /// Text file, one key a line.
    file: PathBuf,
}

/// Sends the file and shows on stderr how far it has come.
///
/// # Errors
/// When the file cannot be read, the service cannot be reached or refuses, or the import ended early.
pub async fn import(args: ImportArgs) -> Result<(), Failure> {
    let file = tokio::fs::File::open(&args.file).await.map_err(|error| format!("{}: {error}", args.file.display()))?;
    let name = args.file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let batch = args.batch.unwrap_or(name);
    let body = stream::try_unfold(file, async |mut file| {
        let mut chunk = BytesMut::with_capacity(CHUNK);
        let read = file.read_buf(&mut chunk).await?;
        Ok::<_, std::io::Error>((read > 0).then(|| (chunk.freeze(), file)))
    });
    let url = format!("{}/admin/skus/{}/keys:import", args.to.trim_end_matches('/'), args.sku);
    let mut url = reqwest::Url::parse(&url)?;
    url.query_pairs_mut().append_pair("batch", &batch).append_pair("dedupe", &args.dedupe);
    let started = Instant::now();
    // The service takes a chunk when its disk has taken the one before. By default a connection on which nothing could be
    // sent for half a minute is given up, and on a slow disk, with buyers before us, so is the import.
    let client = reqwest::Client::builder().tcp_user_timeout(None::<Duration>).build()?;
    let mut request = client.post(url);
    if let Some(token) = std::env::var(ADMIN_VARIABLE).ok().filter(|token| !token.is_empty()) {
        request = request.bearer_auth(token);
    }
    let sent = request.body(reqwest::Body::wrap_stream(body)).send().await;
    let mut response = sent.map_err(|error| format!("no answer from {}: {}", args.to, cause(&error)))?;
    if !response.status().is_success() {
        let problem: Value = response.json().await.unwrap_or_default();
        return Err(problem["detail"].as_str().unwrap_or("the service refused").to_owned().into());
    }
    let mut last = Value::Null;
    let mut buffer = BytesMut::new();
    let broken = |error: reqwest::Error| {
        let cause = cause(&error);
        format!("the service broke off: {cause}; what is counted above as imported stays imported")
    };
    while let Some(chunk) = response.chunk().await.map_err(broken)? {
        buffer.extend_from_slice(&chunk);
        while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
            last = serde_json::from_slice(&buffer.split_to(end + 1))?;
            show(&last, started)?;
        }
    }
    finish(&last)
}

/// The innermost reason, which is the one that people can do something about.
fn cause(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source()).last().unwrap_or(error).to_string()
}

/// One line on stderr, written over the one before.
fn show(report: &Value, started: Instant) -> std::io::Result<()> {
    let figure = |name: &str| report[name].as_u64().unwrap_or(0);
    let seconds = started.elapsed().as_secs_f64();
    let mut stderr = std::io::stderr().lock();
    write!(
        stderr,
        "\r{} lines: {} imported, {} duplicates, {} unusable, {seconds:.1} s",
        figure("lines"),
        figure("imported"),
        figure("duplicates"),
        figure("invalid"),
    )?;
    stderr.flush()
}

fn finish(last: &Value) -> Result<(), Failure> {
    let mut stderr = std::io::stderr().lock();
    writeln!(stderr)?;
    for fault in last["errors"].as_array().into_iter().flatten() {
        writeln!(stderr, "line {}: {}", fault["line"], fault["code"].as_str().unwrap_or_default())?;
    }
    match (last["done"].as_bool(), last["aborted"].as_str()) {
        (Some(true), None) => Ok(()),
        (_, Some(code)) => {
            Err(format!("the import ended early ({code}); what is counted above as imported stays imported").into())
        }
        _ => Err("the service broke off; what is counted above as imported stays imported".into()),
    }
}
