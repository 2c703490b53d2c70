//! Starts the gateway: loads the file, opens the listeners, runs until told to stop.

use std::fmt;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use pingora::listeners::ListenerConfig;
use pingora::listeners::tls::TlsSettings;
use pingora::protocols::l4::stream::L4BufferSettings;
use pingora::proxy::http_proxy;
use pingora::server::configuration::ServerConf;
use pingora::server::{RunArgs, Server, ShutdownSignal, ShutdownSignalWatch};
use pingora::services::listening::Service;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tidegate_filters::engine::{KeyHasher, Kinds, Nanos, StateRegistry};
use tidegate_filters::store::Stores;
use tokio::signal::unix::{SignalKind, signal};

use crate::admin;
use crate::config::{self, Config, Report};
use crate::deferred::Worker;
use crate::door::{Door, DoorSettings, Hello, Seats};
use crate::gateway::{Clock, Gateway, Shared};
use crate::health;
use crate::payments::Payments;
use crate::proxy::{Adapter, MOST_TRIES};
use crate::reload::Reloader;
use crate::snapshot;
use crate::telemetry::{AccessLogTarget, Telemetry};
use crate::waiting_room;

/// Idle upstream connections kept by each worker; fewer than run at once would mean reconnecting under load.
const UPSTREAM_POOL: usize = 1_024;
/// Open files for everything that is no client's or upstream's connection.
const SPARE_FILES: u64 = 100;
/// Unsent bytes gathered for one write; a TCP segment's worth.
const WRITE_BUFFER: usize = 1_460;

/// What `tidegate run` was told.
pub struct RunOptions {
    /// The configuration file.
    pub file: PathBuf,
    /// Where request lines go.
    pub access_log: AccessLogTarget,
    /// The filters the file may name.
    pub kinds: Kinds,
}

/// Why the gateway did not start.
#[derive(Debug)]
pub enum RunError {
    /// The file has problems.
    Config(Report),
    /// The file is fine and cannot be carried out.
    Start(String),
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RunError::Config(report) => report.fmt(f),
            RunError::Start(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for RunError {}

/// Runs the gateway until it is told to stop; then this process ends.
///
/// # Errors
/// When the file has problems, an address is taken, or a certificate cannot be read. Nothing was served then.
pub fn run(options: RunOptions) -> Result<(), RunError> {
    let env = |name: &str| std::env::var(name).ok();
    let loaded = config::load(&options.file, &options.kinds, &env).map_err(RunError::Config)?;
    for warning in &loaded.warnings {
        tracing::warn!(target: "tidegate::config", "{warning}");
    }
    let start = |what: &str, error: &dyn fmt::Display| RunError::Start(format!("{what}: {error}"));
    let telemetry = Telemetry::new(options.access_log).map_err(|error| start("access log", &error))?;
    let clock = Clock::start();
    let stores = Stores::new(&loaded.config.server.data_dir, clock.unix(Nanos(0)));
    let shared = Arc::new(Shared {
        states: StateRegistry::with_stores(stores),
        hasher: KeyHasher::random(),
        clock,
        telemetry,
        payments: Payments::default(),
        deferred: Worker::default(),
    });
    let first = snapshot::build(&loaded, 1, &shared).map_err(|error| start("configuration", &error))?;
    let gateway = Arc::new(Gateway::new(shared, Arc::new(first)));
    gateway.shared.payments.attach(&gateway);
    gateway.shared.deferred.attach(&gateway).map_err(|error| start("deferred requests", &error))?;
    let config = gateway.snapshot().config.clone();
    open_files(config.server.limits.max_connections);
    let admin = bind("admin", &config.admin.address)?;
    let stopping = Arc::new(AtomicBool::new(false));
    let seats = Arc::new(Seats::default());

    let mut server = Server::new_with_opt_and_conf(None, conf(&config));
    server.bootstrap();
    let mut addresses = Vec::new();
    for number in 0..config.server.listeners.len() {
        let (service, address) = listener(&server, &gateway, &config, number, &seats)?;
        server.add_service(service);
        addresses.push((config.server.listeners[number].name.clone(), address));
    }
    let kinds = Arc::new(options.kinds);
    let reloader = Arc::new(Reloader::new(options.file, kinds, Arc::new(env), gateway.clone(), &loaded));
    let admin_address = admin.local_addr().map_err(|error| start("admin", &error))?;
    waiting_room::spawn_ticks(gateway.clone()).map_err(|error| start("waiting rooms", &error))?;
    spawn_admin(admin, gateway.clone(), reloader, stopping.clone(), addresses.clone());
    announce(&addresses, admin_address);
    let signals = Signals { stopping, seats, gateway, drain: config.server.drain_timeout };
    server.run(RunArgs { shutdown_signal: Box::new(signals) });
    Ok(())
}

/// Raises the soft limit on open files to the hard one: a client and its upstream take one each.
fn open_files(connections: usize) {
    let limit = getrlimit(Resource::Nofile);
    let wanted = connections as u64 * 2 + SPARE_FILES;
    let raised = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    let now = if raised.is_ok() { limit.maximum } else { limit.current };
    if now.is_some_and(|now| now < wanted) {
        tracing::warn!(
            target: "tidegate::server",
            allowed = now,
            wanted,
            "the system allows fewer open files than max_connections may need: raise `ulimit -n`"
        );
    }
}

fn conf(config: &Config) -> ServerConf {
    let run_dir = &config.server.data_dir;
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    ServerConf {
        threads: config.server.threads.unwrap_or(cores),
        max_retries: usize::from(MOST_TRIES),
        upstream_keepalive_pool_size: UPSTREAM_POOL,
        grace_period_seconds: Some(config.server.drain_timeout.as_secs()),
        graceful_shutdown_timeout_seconds: Some(1),
        upgrade_sock: run_dir.join("upgrade.sock").display().to_string(),
        pid_file: run_dir.join("tidegate.pid").display().to_string(),
        ..ServerConf::default()
    }
}

/// Tries an address before pingora does: pingora retries for seconds and then panics, this says what is wrong.
fn bind(name: &str, address: &str) -> Result<TcpListener, RunError> {
    let why =
        |error: &dyn fmt::Display| RunError::Start(format!("listener `{name}`: cannot listen on {address}: {error}"));
    let resolved = address.to_socket_addrs().map_err(|error| why(&error))?.next();
    let resolved = resolved.ok_or_else(|| why(&"the name has no address"))?;
    TcpListener::bind(resolved).map_err(|error| why(&error))
}

fn listener(
    server: &Server,
    gateway: &Arc<Gateway>,
    config: &Config,
    number: usize,
    seats: &Arc<Seats>,
) -> Result<(Service<Door>, SocketAddr), RunError> {
    let spec = &config.server.listeners[number];
    let start = |error: &dyn fmt::Display| RunError::Start(format!("listener `{}`: {error}", spec.name));
    // The port is free again once this probe is dropped; for port 0 it is now known which one that was.
    let address = bind(&spec.name, &spec.address)?.local_addr().map_err(|error| start(&error))?;
    let proxy = http_proxy(&server.configuration, Adapter::new(gateway.clone(), number));
    let settings = DoorSettings { listener: number, h1: spec.h1, h2c: spec.h2c };
    let door = Door::new(gateway.clone(), proxy, seats.clone(), &settings);
    let mut service = Service::new(format!("listener {}", spec.name), door);
    // The door reads into a worker's own buffer: a connection needs none, which is most of an idle one's memory.
    let buffers = L4BufferSettings::new(0, WRITE_BUFFER);
    let mut endpoint = ListenerConfig::tcp(address.to_string()).l4_buffer(buffers);
    if let Some((certificate, key)) = &spec.tls {
        let (certificate, key) = (certificate.display().to_string(), key.display().to_string());
        let mut tls = TlsSettings::intermediate(&certificate, &key).map_err(|error| start(&error))?;
        tls.enable_h2();
        service.endpoints().set_pre_tls_callback(Arc::new(Hello(gateway.clone())));
        endpoint = endpoint.tls(tls);
    }
    service.add_listener(endpoint);
    Ok((service, address))
}

/// The admin side has a thread of its own: whatever the data path does, an operator gets an answer.
fn spawn_admin(
    listener: TcpListener,
    gateway: Arc<Gateway>,
    reloader: Arc<Reloader>,
    stopping: Arc<AtomicBool>,
    addresses: Vec<(String, SocketAddr)>,
) {
    let (ready, started) = mpsc::channel::<()>();
    let run = move || {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return tracing::error!(target: "tidegate::admin", %error, "no admin listener"),
        };
        runtime.block_on(async move {
            // Once asked for, the signal never ends the process again: that must be so before anybody is told that it runs.
            let _hangup = signal(SignalKind::hangup());
            let _ = ready.send(());
            let probing = tokio::spawn(health::run(gateway.clone()));
            let asking = tokio::spawn(waiting_room::probe::run(gateway.clone()));
            let state = admin::AdminState { gateway, reloader: reloader.clone(), stopping, addresses };
            let watch = tokio::spawn(reloader.run());
            if let Err(error) = admin::serve(listener, state).await {
                tracing::error!(target: "tidegate::admin", %error, "the admin listener failed");
            }
            watch.abort();
            probing.abort();
            asking.abort();
        });
    };
    let spawned = std::thread::Builder::new().name("admin".into()).spawn(run);
    if let Err(error) = spawned {
        tracing::error!(target: "tidegate::admin", %error, "no thread for the admin listener");
    }
    // An error means that the thread has ended, and has said why.
    let _ = started.recv();
}

/// One line for each address, for people and for scripts that wait for them.
fn announce(addresses: &[(String, SocketAddr)], admin: SocketAddr) {
    let mut out = std::io::stdout().lock();
    for (name, address) in addresses {
        let _ = writeln!(out, "tidegate {name} listening on http://{address}");
    }
    let _ = writeln!(out, "tidegate admin listening on http://{admin}");
    let _ = out.flush();
}

/// SIGTERM and SIGINT end the gateway when its last connection has, at most after the drain timeout.
struct Signals {
    stopping: Arc<AtomicBool>,
    seats: Arc<Seats>,
    gateway: Arc<Gateway>,
    drain: Duration,
}

#[async_trait]
impl ShutdownSignalWatch for Signals {
    async fn recv(&self) -> ShutdownSignal {
        let streams = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()), signal(SignalKind::quit()));
        let (Ok(mut terminate), Ok(mut interrupt), Ok(mut quit)) = streams else {
            tracing::error!("signals cannot be received; only SIGKILL will end this process");
            return std::future::pending().await;
        };
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                // pingora's upgrade without a successor would end the service; until there is one, this does nothing.
                _ = quit.recv() => tracing::warn!("SIGQUIT ignored: there is no successor to hand over to"),
            }
        }
        tracing::info!("stopping: no new connections, running requests end");
        self.stopping.store(true, SeqCst);
        self.gateway.shared.deferred.stop();
        // Who listens in a waiting room would keep us for as long as they wait.
        waiting_room::dismiss(&self.gateway);
        let (seats, gateway, deadline) = (self.seats.clone(), self.gateway.clone(), Instant::now() + self.drain);
        std::thread::spawn(move || {
            // pingora sleeps its whole grace period; this ends it when nobody is left.
            let busy = || seats.any() || gateway.shared.payments.running() > 0 || gateway.shared.deferred.running() > 0;
            while busy() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(20));
            }
            gateway.shared.telemetry.access().flush();
            std::process::exit(0);
        });
        ShutdownSignal::GracefulTerminate
    }
}
