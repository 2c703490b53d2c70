//! Origins: threads that read requests, note them, and answer as the test says.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A request as an origin received it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    /// Its method.
    pub(crate) method: String,
    /// Its target as sent.
    pub(crate) target: String,
    /// Lower-case names and values.
    pub(crate) headers: Vec<(String, String)>,
    /// Its body, decoded when chunked.
    pub(crate) body: Vec<u8>,
}

impl Seen {
    /// The first header of this name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// How often a header is there.
    pub(crate) fn count(&self, name: &str) -> usize {
        self.headers.iter().filter(|(known, _)| known == name).count()
    }
}

/// An origin on a free port. Its threads end with the test process; its port closes when it is dropped.
pub(crate) struct Origin {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    connections: Arc<AtomicUsize>,
    over: Arc<AtomicBool>,
}

impl Origin {
    /// Answers every request with 200 and the text `ok`.
    pub(crate) fn ok() -> Self {
        Self::with(|_, stream| stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").is_ok())
    }

    /// Reads whole requests, notes them, and lets `answer` write; the connection goes on while it returns true.
    pub(crate) fn with(answer: impl Fn(&Seen, &mut TcpStream) -> bool + Send + Sync + 'static) -> Self {
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let noted = seen.clone();
        let mut origin = Self::by_hand(move |stream| {
            let Ok(mut out) = stream.try_clone() else { return };
            let mut input = BufReader::new(stream);
            while let Some(request) = read_request(&mut input) {
                noted.lock().expect("no poison").push(request.clone());
                if !answer(&request, &mut out) {
                    return;
                }
            }
        });
        origin.seen = seen;
        origin
    }

    /// Hands every connection to `serve`, in a thread of its own.
    pub(crate) fn by_hand(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("its address");
        let (connections, over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, stop, serve) = (connections.clone(), over.clone(), Arc::new(serve));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if stop.load(SeqCst) {
                    return;
                }
                count.fetch_add(1, SeqCst);
                let serve = serve.clone();
                let _ = stream.set_nodelay(true);
                std::thread::spawn(move || serve(stream));
            }
        });
        Self { address, seen: Arc::default(), connections, over }
    }

    /// What it has received so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("no poison").clone()
    }

    /// Forgets what it has received.
    pub(crate) fn forget(&self) {
        self.seen.lock().expect("no poison").clear();
    }

    /// How many connections it has accepted.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(SeqCst)
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.over.store(true, SeqCst);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
    }
}

fn read_request(input: &mut impl BufRead) -> Option<Seen> {
    let mut seen = Seen::default();
    let first = line(input)?;
    let mut words = first.split(' ');
    (seen.method, seen.target) = (words.next()?.to_owned(), words.next()?.to_owned());
    loop {
        let line = line(input)?;
        let Some((name, value)) = line.split_once(':') else { break };
        seen.headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    if seen.header("transfer-encoding").is_some() {
        loop {
            let size = u64::from_str_radix(line(input)?.split(';').next()?, 16).ok()?;
            let read = input.by_ref().take(size).read_to_end(&mut seen.body).ok()?;
            line(input)?;
            if size == 0 || read as u64 != size {
                break;
            }
        }
    } else if let Some(length) = seen.header("content-length").and_then(|length| length.parse().ok()) {
        input.by_ref().take(length).read_to_end(&mut seen.body).ok()?;
    }
    Some(seen)
}

fn line(input: &mut impl BufRead) -> Option<String> {
    let mut line = String::new();
    (input.read_line(&mut line).ok()? > 0).then(|| line.trim_end().to_owned())
}

/// Carries out orders: each answer has another number. Takes so long for each.
pub(crate) fn shop(time: Duration) -> Origin {
    let orders = AtomicUsize::new(0);
    Origin::with(move |_, stream| {
        let number = orders.fetch_add(1, SeqCst) + 1;
        std::thread::sleep(time);
        let body = format!("{{\"order\":{number}}}");
        let head = "HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nLocation: /api/orders/7\r\n\
                    Set-Cookie: session=1\r\nX-Shop: yes\r\n";
        stream.write_all(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes()).is_ok()
    })
}
