//! Whether a client has left from whom nobody reads. What it sent before it left lies in front of the end, so a read does
//! not show the end until all of that is read; the system knows at once.
//!
//! The runtime that carries a connection has it registered with its poll already, and wakes its task for every byte. So a
//! poll of its own listens, on a thread of its own, from the first time that somebody asks. It wakes nobody for data.
//!
//! Fails at a socket that the system cannot watch: then nobody hears that its client left.

use std::collections::HashMap;
use std::io;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::Conn;

/// Ends that are taken from the system at once.
const AT_ONCE: usize = 256;

/// Who listens, and for whom.
struct Ears {
    registry: Registry,
    waiting: Mutex<HashMap<usize, Arc<Notify>>>,
    next: AtomicUsize,
}

impl Ears {
    fn start() -> io::Result<Arc<Self>> {
        let poll = Poll::new()?;
        let registry = poll.registry().try_clone()?;
        let ears = Arc::new(Self { registry, waiting: Mutex::default(), next: AtomicUsize::new(0) });
        let listening = ears.clone();
        std::thread::Builder::new().name("ears".into()).spawn(move || listening.listen(poll))?;
        Ok(ears)
    }

    fn listen(&self, mut poll: Poll) {
        let mut events = Events::with_capacity(AT_ONCE);
        loop {
            if let Err(error) = poll.poll(&mut events, None)
                && error.kind() != io::ErrorKind::Interrupted
            {
                tracing::error!(target: "tidegate::door", %error, "nobody hears that clients leave");
                return;
            }
            for event in events.iter().filter(|event| event.is_read_closed()) {
                if let Some(ended) = self.waiting.lock().remove(&event.token().0) {
                    ended.notify_one();
                }
            }
        }
    }
}

/// One socket that is listened to until this is dropped.
struct Watch {
    ears: Arc<Ears>,
    descriptor: RawFd,
    number: usize,
    ended: Arc<Notify>,
}

impl Watch {
    /// `None`: it cannot be watched.
    fn new(descriptor: RawFd) -> Option<Self> {
        static EARS: OnceLock<Option<Arc<Ears>>> = OnceLock::new();
        let ears = EARS.get_or_init(|| Ears::start().ok()).clone()?;
        let number = ears.next.fetch_add(1, Relaxed);
        let ended = Arc::new(Notify::new());
        ears.waiting.lock().insert(number, ended.clone());
        if ears.registry.register(&mut SourceFd(&descriptor), Token(number), Interest::READABLE).is_err() {
            // The descriptor may be another watch's, which goes on.
            ears.waiting.lock().remove(&number);
            return None;
        }
        Some(Self { ears, descriptor, number, ended })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.ears.waiting.lock().remove(&self.number);
        // It fails where the socket is closed already, and then there is nothing to undo.
        let _ = self.ears.registry.deregister(&mut SourceFd(&self.descriptor));
    }
}

impl Conn {
    /// Resolves when the client has closed its side or reset the connection, whatever of its bytes is still unread. The
    /// future must not outlive the request: it names the socket by number.
    pub(crate) async fn hung_up(&self) {
        let descriptor = self.0.lock().io.id();
        match Watch::new(descriptor) {
            Some(watch) => watch.ended.notified().await,
            None => std::future::pending().await,
        }
    }
}
