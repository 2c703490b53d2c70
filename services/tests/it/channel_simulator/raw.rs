//! A client that sees what really comes over the wire, and how it ends.

use std::io::ErrorKind;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Silence for so long is a hang.
const SILENCE: Duration = Duration::from_millis(400);

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Connecting was refused.
    Refused,
    /// There was no connection within the time of a hang.
    NoConnection,
    /// FIN.
    Closed,
    /// RST.
    Reset,
    /// Nothing more came.
    Silent,
    /// A whole answer came.
    Whole,
}

/// What came.
#[derive(Debug)]
pub(super) struct Came {
    pub(super) text: String,
    pub(super) end: End,
}

impl Came {
    pub(super) fn status(&self) -> Option<u16> {
        self.text.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()
    }

    pub(super) fn body(&self) -> &str {
        self.text.split_once("\r\n\r\n").map_or("", |(_, body)| body)
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_str(self.body()).unwrap_or(Value::Null)
    }
}

/// Sends one call on a connection of its own.
pub(super) async fn call(base: &str, method: &str, path: &str, body: &Value) -> Came {
    let address = base.strip_prefix("http://").expect("a base");
    let mut stream = match timeout(SILENCE, TcpStream::connect(address)).await {
        Err(_) => return Came { text: String::new(), end: End::NoConnection },
        Ok(Err(error)) => {
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
            return Came { text: String::new(), end: End::Refused };
        }
        Ok(Ok(stream)) => stream,
    };
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let head = format!("{method} {path} HTTP/1.1\r\nhost: sim\r\ncontent-length: {}\r\n\r\n", body.len());
    // A reset may be faster than the call.
    let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
    let mut text = Vec::new();
    let end = loop {
        match timeout(SILENCE, stream.read_buf(&mut text)).await {
            Err(_) => break if is_whole(&text) { End::Whole } else { End::Silent },
            Ok(Ok(0)) => break End::Closed,
            Ok(Ok(_)) if is_whole(&text) => break End::Whole,
            Ok(Ok(_)) => {}
            Ok(Err(_)) => break End::Reset,
        }
    };
    Came { text: String::from_utf8(text).expect("text"), end }
}

fn is_whole(text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    length.is_some_and(|length| length.parse() == Ok(body.len()))
}
