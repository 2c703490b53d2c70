//! The first thing a TLS client says, under the door's deadline for a head.
//!
//! pingora gives a handshake a minute, whatever the file says, and no seat is taken before it is over: silence and bytes
//! that drip would be cheaper for a client over TLS than without.

use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use pingora::listeners::PreTlsProcess;
use pingora::protocols::l4::stream::Stream;
use pingora::{Error, ErrorType, OrErr, Result};
use tokio::io::AsyncReadExt;
use tokio::time::timeout;

use crate::gateway::Gateway;

/// Bytes of a TLS record before its content (RFC 8446 §5.1).
const RECORD_HEAD: usize = 5;
/// The type of a record with a handshake message.
const HANDSHAKE: u8 = 22;
/// Longest content of a record that is not encrypted yet.
const LONGEST_RECORD: usize = 1 << 14;

/// Waits for a client's hello, no longer than for a request's head.
pub struct Hello(pub Arc<Gateway>);

#[async_trait]
impl PreTlsProcess for Hello {
    async fn process(&self, stream: &mut Stream) -> Result<()> {
        let limit = self.0.snapshot().config.server.limits.header_timeout;
        let hello = timeout(limit, first_record(stream)).await;
        let late = |_| Error::explain(ErrorType::ReadTimedout, "no TLS hello in time");
        let bytes = hello.map_err(late)?.or_err(ErrorType::ReadError, "reading a TLS hello")?;
        stream.rewind(&bytes);
        Ok(())
    }
}

/// Reads at least the first record; what is no record is left for TLS to refuse.
async fn first_record(stream: &mut Stream) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(1_024);
    loop {
        if bytes.first().is_some_and(|kind| *kind != HANDSHAKE) {
            return Ok(bytes);
        }
        if let [_, _, _, high, low, content @ ..] = bytes.as_slice() {
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            if content.len() >= length || length > LONGEST_RECORD {
                return Ok(bytes);
            }
            bytes.reserve(length);
        }
        bytes.reserve(RECORD_HEAD);
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}
