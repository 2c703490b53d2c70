//! A client that writes bytes as told and reads answers one at a time.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// One answer as it came.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    /// Its status; 0 when the connection ended without one.
    pub(crate) status: u16,
    /// Lower-case names and values in order.
    pub(crate) headers: Vec<(String, String)>,
    /// Its body, decoded when chunked.
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The first header of this name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }
}

/// A connection that is read and written by hand.
pub(crate) struct Raw {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Raw {
    /// Connects; reads give up after 10 seconds.
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("connect");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("set the timeout");
        stream.set_nodelay(true).expect("set nodelay");
        Self { stream, buffer: Vec::new() }
    }

    /// Sends; an error (the other side has closed) is not the test's concern here.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).is_ok()
    }

    /// Says that nothing more will be sent.
    pub(crate) fn half_close(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// How long reads wait.
    pub(crate) fn patience(&self, limit: Duration) {
        self.stream.set_read_timeout(Some(limit)).expect("set the timeout");
    }

    /// The socket itself.
    pub(crate) fn socket(&self) -> &TcpStream {
        &self.stream
    }

    fn more(&mut self) -> bool {
        let mut chunk = [0; 16 << 10];
        match self.stream.read(&mut chunk) {
            Ok(0) | Err(_) => false,
            Ok(n) => {
                self.buffer.extend_from_slice(&chunk[..n]);
                true
            }
        }
    }

    /// Exactly `n` bytes, or fewer when the connection ends.
    pub(crate) fn bytes(&mut self, n: usize) -> Vec<u8> {
        while self.buffer.len() < n && self.more() {}
        let n = n.min(self.buffer.len());
        self.buffer.drain(..n).collect()
    }

    fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return Some(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
            if !self.more() {
                return None;
            }
        }
    }

    /// The next answer to a request that was not HEAD; `None` when the connection ends or stays silent first.
    pub(crate) fn answer(&mut self) -> Option<Answer> {
        self.answer_to("GET")
    }

    /// The next answer to a request with this method. Interim answers (1xx but 101) are skipped.
    pub(crate) fn answer_to(&mut self, method: &str) -> Option<Answer> {
        loop {
            let mut answer = self.head()?;
            if (100..200).contains(&answer.status) && answer.status != 101 {
                continue;
            }
            if method != "HEAD" && !matches!(answer.status, 101 | 204 | 304) {
                answer.body = self.body(&answer)?;
            }
            return Some(answer);
        }
    }

    /// Status line and headers only.
    pub(crate) fn head(&mut self) -> Option<Answer> {
        let status = self.line()?.split(' ').nth(1)?.parse().ok()?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Some(Answer { status, headers, body: Vec::new() });
            }
            let (name, value) = line.split_once(':')?;
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }

    fn body(&mut self, answer: &Answer) -> Option<Vec<u8>> {
        if let Some(length) = answer.header("content-length") {
            let length = length.parse().ok()?;
            let body = self.bytes(length);
            return (body.len() == length).then_some(body);
        }
        if answer.header("transfer-encoding") == Some("chunked") {
            let mut body = Vec::new();
            loop {
                let chunk = self.chunk()?;
                if chunk.is_empty() {
                    return Some(body);
                }
                body.extend_from_slice(&chunk);
            }
        }
        while self.more() {}
        Some(std::mem::take(&mut self.buffer))
    }

    /// The next piece of a chunked body; empty at its end, `None` when the connection ends before.
    pub(crate) fn chunk(&mut self) -> Option<Vec<u8>> {
        let size = usize::from_str_radix(self.line()?.split(';').next()?, 16).ok()?;
        let mut chunk = self.bytes(size + 2);
        (chunk.len() == size + 2).then(|| {
            chunk.truncate(size);
            chunk
        })
    }

    /// How long the other side takes to close, at most `limit`; `None` when it does not. Skips what still comes.
    pub(crate) fn closed_within(&mut self, limit: Duration) -> Option<Duration> {
        let start = Instant::now();
        while let Some(left) = limit.checked_sub(start.elapsed()).filter(|left| !left.is_zero()) {
            self.patience(left);
            match self.stream.read(&mut [0; 4096]) {
                Ok(0) => return Some(start.elapsed()),
                // Out of patience, or something came: look again.
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => (),
                Err(_) => return Some(start.elapsed()),
                Ok(_) => (),
            }
        }
        None
    }
}

/// One request on its own connection.
pub(crate) fn exchange(address: SocketAddr, request: &str) -> Answer {
    let mut raw = Raw::connect(address);
    raw.send(request);
    let nothing = Answer { status: 0, headers: Vec::new(), body: Vec::new() };
    raw.answer_to(request.split(' ').next().unwrap_or_default()).unwrap_or(nothing)
}

/// A plain GET with further header lines, each ending with CR LF.
pub(crate) fn get(address: SocketAddr, target: &str, headers: &str) -> Answer {
    exchange(address, &format!("GET {target} HTTP/1.1\r\nHost: shop.test\r\n{headers}\r\n"))
}
