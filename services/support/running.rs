//! A started service: where it listens, how it is stopped, how its end is awaited.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tidegate_durable::StoreError;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// How long open connections may take to finish after a stop was asked for. Streams of events never finish by
/// themselves; their clients reconnect.
const GRACE: Duration = Duration::from_secs(5);

/// Why a service could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the system answered.
        source: std::io::Error,
    },
    /// The data file cannot be opened.
    #[error("cannot open the data file: {0}")]
    Store(#[from] StoreError),
    /// A setting, a key or the data make no sense; the text says which and what to do.
    #[error("{0}")]
    Setup(String),
}

/// A wish to stop, shared between whoever utters it and everything that must notice.
#[derive(Debug, Clone)]
pub struct Stop(Arc<watch::Sender<bool>>);

impl Default for Stop {
    fn default() -> Self {
        Self::new()
    }
}

impl Stop {
    /// Nobody wants to stop yet.
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }

    /// Asks everyone holding a clone to stop. Asking twice is the same as asking once.
    pub fn request(&self) {
        self.0.send_replace(true);
    }

    /// Resolves when a stop has been asked for, at once if that was before the call.
    pub async fn requested(&self) {
        // The sender lives in `self`, so waiting cannot fail.
        let _ = self.0.subscribe().wait_for(|stop| *stop).await;
    }
}

/// A service that is listening.
#[derive(Debug)]
pub struct Running {
    /// Name of the service as in its subcommand.
    pub name: &'static str,
    /// Where it listens, with the real port when port 0 was asked for.
    pub address: SocketAddr,
    stop: Stop,
    server: JoinHandle<()>,
    tasks: Vec<JoinHandle<()>>,
}

impl Running {
    /// Binds `listen`, serves `router` on it and looks after the background `tasks`, which must end by themselves
    /// after `stop` was requested.
    ///
    /// # Errors
    /// [`StartError::Listen`] when the address is taken or not ours; the tasks are then asked to stop.
    pub async fn start(
        name: &'static str,
        listen: SocketAddr,
        router: Router,
        stop: Stop,
        tasks: Vec<JoinHandle<()>>,
    ) -> Result<Self, StartError> {
        Self::start_with(name, listen, |listener, stop| serve_router(name, listener, router, stop), stop, tasks).await
    }

    /// The same with a server of the service's own, which ends by itself after `stop` was requested, or is ended after
    /// 5 seconds.
    ///
    /// # Errors
    /// As [`Running::start`].
    pub async fn start_with<S, F>(
        name: &'static str,
        listen: SocketAddr,
        server: S,
        stop: Stop,
        tasks: Vec<JoinHandle<()>>,
    ) -> Result<Self, StartError>
    where
        S: FnOnce(TcpListener, Stop) -> F,
        F: Future<Output = ()> + Send + 'static,
    {
        let bound = bind(listen).await.inspect_err(|_| stop.request());
        let (listener, address) = bound?;
        let server = tokio::spawn(until_cut(name, server(listener, stop.clone()), stop.clone()));
        tracing::info!(service = name, %address, "listening");
        Ok(Self { name, address, stop, server, tasks })
    }

    /// Asks the service to stop: no new connections, requests under way are finished within 5 seconds.
    pub fn stop(&self) {
        self.stop.request();
    }

    /// The service's stop, for whoever wants to stop it after [`Running::wait`] has taken it.
    pub fn stopper(&self) -> Stop {
        self.stop.clone()
    }

    /// Resolves when the service has ended, together with its background tasks.
    pub async fn wait(self) {
        let ended = self.server.await;
        if let Err(error) = ended {
            tracing::error!(service = self.name, %error, "the server ended abnormally");
        }
        // Without a server the background has nothing left to serve.
        self.stop.request();
        for task in self.tasks {
            let _ = task.await;
        }
    }
}

/// A listener, and where it listens.
///
/// # Errors
/// [`StartError::Listen`] when the address is taken or not ours.
pub async fn bind(listen: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let bound = async {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    };
    bound.await.map_err(|source| StartError::Listen { address: listen, source })
}

/// Serves `router` until a stop was requested and all requests have ended.
pub async fn serve_router(name: &'static str, listener: TcpListener, router: Router, stop: Stop) {
    let served = axum::serve(listener, router).with_graceful_shutdown(async move { stop.requested().await }).await;
    if let Err(error) = served {
        tracing::error!(service = name, %error, "serving failed");
    }
}

async fn until_cut(name: &'static str, server: impl Future<Output = ()>, stop: Stop) {
    let deadline = async {
        stop.requested().await;
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        () = server => {}
        () = deadline => tracing::warn!(service = name, "connections still open after the grace period were cut"),
    }
}

/// Announces each service on stdout in one line, waits for SIGTERM, ctrl-c or the end of any of them, then stops all
/// and waits for their end.
///
/// # Errors
/// When stdout is closed or the signals cannot be listened for; the services have been stopped then.
pub async fn run_until_signal(services: Vec<Running>) -> std::io::Result<()> {
    let stops: Vec<Stop> = services.iter().map(Running::stopper).collect();
    // Whoever reads the announcement may send the signal at once.
    let signal = stop_signal();
    let announced = announce(&services);
    let mut waiting = JoinSet::new();
    for service in services {
        waiting.spawn(service.wait());
    }
    let outcome = match (signal, announced) {
        (Ok(signal), Ok(())) => {
            tokio::select! {
                () = signal => {}
                _ = waiting.join_next() => {}
            }
            Ok(())
        }
        (Err(error), _) | (_, Err(error)) => Err(error),
    };
    stops.iter().for_each(Stop::request);
    while waiting.join_next().await.is_some() {}
    outcome
}

fn announce(services: &[Running]) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    for service in services {
        writeln!(stdout, "{} listening on http://{}", service.name, service.address)?;
    }
    stdout.flush()
}

/// Resolves at SIGTERM or ctrl-c. Both are listened for from the call on.
fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
