//! A payment channel to try things out with: it charges, declines, calls back and misbehaves as told, and it keeps the
//! truth about every fen in a ledger of its own.
//!
//! A shop creates a payment (`POST /pay/v1/payments`), the buyer confirms it in his wallet (`…/confirm`, or the page at
//! `pay_url`), and the channel tells the shop by a signed callback until that is acknowledged. What was charged is on
//! disk before it is said, so the ledger decides who is right when another service remembers otherwise.
//!
//! | File | What |
//! | --- | --- |
//! | `channel` | the operations, each durable before it is answered |
//! | `rows`, `refunds`, `outbox`, `truth`, `schema` | the rows and the decisions on them |
//! | `sender`, `settler` | callbacks: signed, sent until acknowledged; decisions that come later |
//! | `ledger_file` | the ledger as a file |
//! | `plan`, `course`, `pace` | what goes wrong, what that does to a call, and how slowly |
//! | `wire` | connections that can be broken |
//! | `http`, `dialects` | the interfaces for shops |
//! | `bill` | what the ledger says about a day, as real channels write it down |
//! | `cashier`, `control` | the interfaces for buyers and for tests |

mod bill;
mod cashier;
mod channel;
pub mod cli;
mod control;
mod course;
pub mod dialects;
mod http;
mod ledger_file;
mod metrics;
mod outbox;
mod pace;
mod plan;
mod refunds;
mod rows;
mod schema;
mod sender;
mod settler;
mod truth;
mod wire;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use channel::Channel;
use ledger_file::LedgerFile;
use plan::Plan;
use sender::Sender;

use crate::support::{Running, Secret, StartError, Stop, bind, serve_router};

/// Everything the service can be told.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What it announces itself as.
    pub service: &'static str,
    /// Name of the channel: it is in the name of the data file and in every report.
    pub name: String,
    /// Address to listen on; port 0 takes any free one.
    pub listen: SocketAddr,
    /// Folder of the data file, made when absent.
    pub data_dir: PathBuf,
    /// What callbacks are signed with.
    pub secret: Secret,
    /// Confirm every payment when it is created, as for a load run without buyers.
    pub auto_confirm: bool,
    /// The waits between attempts of a callback are multiplied by this; more than 0.
    pub time_scale: f64,
    /// Where buyers reach the service, for `pay_url`; absent: where it listens.
    pub public_url: Option<String>,
    /// File with the plan in force at the start; absent: everything goes right.
    pub plan: Option<PathBuf>,
    /// Address of a second listener with the interface for tests, which no fault of the plan reaches; absent: none.
    pub control: Option<SocketAddr>,
    /// Folder with the keys of the signed dialects; absent: one beside the data file. What is missing in it is made.
    pub keys: Option<PathBuf>,
    /// WeChat Pay's key for what notifications hold; 32 bytes.
    pub api_v3_key: Secret,
    /// Epay's key of the merchant.
    pub epay_key: Secret,
}

/// Opens the data, takes up the callbacks that are left and listens.
///
/// # Errors
/// When the address is taken, the data file cannot be opened or was made by a newer version, or a setting makes no
/// sense.
pub async fn start(settings: Settings) -> Result<Running, StartError> {
    if !(settings.time_scale.is_finite() && settings.time_scale > 0.0) {
        return Err(StartError::Setup("the time scale must be more than 0".to_owned()));
    }
    let plan = settings.plan.as_deref().map_or(Ok(Plan::default()), read_plan)?;
    let channel = Arc::new(Channel::open(&settings, plan)?);
    let mut ledger = LedgerFile::open(&settings.data_dir.join(format!("channel-{}.ledger.ndjson", channel.name)))?;
    let failed = |error: std::io::Error| StartError::Setup(format!("the file of the ledger: {error}"));
    ledger.follow(&channel).await.map_err(failed)?;
    let sender = Sender::new(Arc::clone(&channel), settings.time_scale)?;
    let stop = Stop::new();
    let mut tasks = Vec::new();
    if let Some(control) = settings.control {
        let (listener, _) = bind(control).await?;
        let router = http::control_router(Arc::clone(&channel));
        tasks.push(tokio::spawn(serve_router("channel-control", listener, router, stop.clone())));
    }
    tasks.push(tokio::spawn(sender.run(stop.clone())));
    tasks.push(tokio::spawn(settler::run(Arc::clone(&channel), stop.clone())));
    tasks.push(tokio::spawn(ledger.run(Arc::clone(&channel), stop.clone())));
    let router = http::router(Arc::clone(&channel));
    let serving = Arc::clone(&channel);
    let serve = move |listener, stop| wire::serve(serving, listener, router, stop);
    let running = Running::start_with(settings.service, settings.listen, serve, stop, tasks).await?;
    channel.listens_on(running.address);
    Ok(running)
}

fn read_plan(path: &std::path::Path) -> Result<Plan, StartError> {
    let failed = |why: String| StartError::Setup(format!("{}: {why}", path.display()));
    let text = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
    Plan::parse(&text).map_err(failed)
}
