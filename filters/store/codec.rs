//! An answer as bytes: a version that says whether its body is there, the headers with their lengths, then the body.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};

use super::Stored;

/// With its body.
const WHOLE: u8 = 1;
/// Its body was too long to be kept.
const HEAD: u8 = 2;

/// Headers and body; the status stands beside them.
pub(crate) fn encode(stored: &Stored) -> Option<Vec<u8>> {
    let body = stored.body.as_deref().unwrap_or_default();
    let mut out = Vec::with_capacity(body.len() + 512);
    out.push(if stored.body.is_some() { WHOLE } else { HEAD });
    out.extend_from_slice(&u16::try_from(stored.headers.len()).ok()?.to_le_bytes());
    for (name, value) in &stored.headers {
        for part in [name.as_str().as_bytes(), value.as_bytes()] {
            out.extend_from_slice(&u32::try_from(part.len()).ok()?.to_le_bytes());
            out.extend_from_slice(part);
        }
    }
    out.extend_from_slice(body);
    Some(out)
}

/// The answer; `None` when the bytes are none of ours.
pub(crate) fn decode(status: u16, bytes: &[u8]) -> Option<Stored> {
    let (&[version], mut rest) = bytes.split_first_chunk()?;
    if !matches!(version, WHOLE | HEAD) {
        return None;
    }
    let count = u16::from_le_bytes(take(&mut rest)?);
    let mut headers = Vec::with_capacity(usize::from(count));
    for _ in 0..count {
        let name = HeaderName::from_bytes(part(&mut rest)?).ok()?;
        let value = HeaderValue::from_bytes(part(&mut rest)?).ok()?;
        headers.push((name, value));
    }
    let status = StatusCode::from_u16(status).ok()?;
    Some(Stored { status, headers, body: (version == WHOLE).then(|| Bytes::copy_from_slice(rest)) })
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (first, behind) = rest.split_first_chunk()?;
    *rest = behind;
    Some(*first)
}

fn part<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(u32::from_le_bytes(take(rest)?)).ok()?;
    let (part, behind) = rest.split_at_checked(length)?;
    *rest = behind;
    Some(part)
}
