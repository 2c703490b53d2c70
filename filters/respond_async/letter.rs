//! A request as it lies on the disk, until it is sent.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use crate::engine::HeaderEdit;

const VERSION: u8 = 1;

/// What filters have to say about the answer when it comes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Afterwards {
    /// Changes to its head.
    pub edits: Vec<HeaderEdit>,
    /// What filters must know of the request then, by name.
    pub kept: Vec<(Arc<str>, Vec<u8>)>,
}

/// A whole request as its upstream will get it, with what the gateway must know to send it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// Name of its route: the upstream and the filters of its tries are that route's when it is sent.
    pub route: String,
    /// Its method.
    pub method: Method,
    /// Path and query.
    pub target: String,
    /// Its headers, as the upstream gets them.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
    /// The channel that its sender has named; `None`: any.
    pub channel: Option<String>,
    /// Type of the payment, if it is one and a filter has read it.
    pub kind: Option<String>,
    /// Amount of the payment in minor units, likewise.
    pub amount: Option<i64>,
    /// What becomes of its answer on the way to the client.
    pub afterwards: Afterwards,
}

impl Letter {
    /// As bytes: a version, then every part with its length. `None` for what no head may hold.
    pub(super) fn encode(&self) -> Option<Vec<u8>> {
        let mut out = vec![VERSION];
        let amount = self.amount.map(i64::to_le_bytes);
        let afterwards = self.afterwards.encode()?;
        let fixed: [&[u8]; 8] = [
            self.route.as_bytes(),
            self.method.as_str().as_bytes(),
            self.target.as_bytes(),
            &self.body,
            self.channel.as_deref().unwrap_or_default().as_bytes(),
            self.kind.as_deref().unwrap_or_default().as_bytes(),
            amount.as_ref().map_or(&[], |amount| amount),
            &afterwards,
        ];
        let headers = self.headers.iter().flat_map(|(name, value)| [name.as_str().as_bytes(), value.as_bytes()]);
        write(&mut out, fixed.into_iter().chain(headers))?;
        Some(out)
    }

    /// The request; `None` when the bytes are none of ours.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (&version, mut rest) = bytes.split_first()?;
        if version != VERSION {
            return None;
        }
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
        let (route, method) = (text(part(&mut rest)?)?, Method::from_bytes(part(&mut rest)?).ok()?);
        let (target, body) = (text(part(&mut rest)?)?, Bytes::copy_from_slice(part(&mut rest)?));
        let channel = Some(text(part(&mut rest)?)?).filter(|channel| !channel.is_empty());
        let kind = Some(text(part(&mut rest)?)?).filter(|kind| !kind.is_empty());
        let amount = part(&mut rest)?;
        let amount = if amount.is_empty() { None } else { Some(i64::from_le_bytes(amount.try_into().ok()?)) };
        let afterwards = Afterwards::decode(part(&mut rest)?)?;
        let mut headers = HeaderMap::new();
        while !rest.is_empty() {
            let name = HeaderName::from_bytes(part(&mut rest)?).ok()?;
            headers.append(name, HeaderValue::from_bytes(part(&mut rest)?).ok()?);
        }
        Some(Self { route, method, target, headers, body, channel, kind, amount, afterwards })
    }

    /// Bytes it takes on the disk, about.
    pub(super) fn size(&self) -> u32 {
        let headers: usize = self.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 8).sum();
        u32::try_from(self.target.len() + self.body.len() + headers + 128).unwrap_or(u32::MAX)
    }
}

impl Afterwards {
    fn encode(&self) -> Option<Vec<u8>> {
        let mut out = u32::try_from(self.kept.len()).ok()?.to_le_bytes().to_vec();
        write(&mut out, self.kept.iter().flat_map(|(name, bytes)| [name.as_bytes(), bytes]))?;
        for edit in &self.edits {
            let (verb, name, value) = match edit {
                HeaderEdit::Set(name, value) => (b"s", name, value.as_bytes()),
                HeaderEdit::Add(name, value) => (b"a", name, value.as_bytes()),
                HeaderEdit::Remove(name) => (b"r", name, &b""[..]),
            };
            write(&mut out, [&verb[..], name.as_str().as_bytes(), value])?;
        }
        Some(out)
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (count, mut rest) = bytes.split_first_chunk()?;
        let mut all = Self::default();
        for _ in 0..u32::from_le_bytes(*count) {
            let name = std::str::from_utf8(part(&mut rest)?).ok()?;
            all.kept.push((name.into(), part(&mut rest)?.to_vec()));
        }
        while !rest.is_empty() {
            let (verb, name) = (part(&mut rest)?, HeaderName::from_bytes(part(&mut rest)?).ok()?);
            let value = HeaderValue::from_bytes(part(&mut rest)?).ok()?;
            all.edits.push(match verb {
                b"s" => HeaderEdit::Set(name, value),
                b"a" => HeaderEdit::Add(name, value),
                b"r" => HeaderEdit::Remove(name),
                _ => return None,
            });
        }
        Some(all)
    }
}

/// Parts, each with its length; `None` when one is too long.
fn write<'a>(out: &mut Vec<u8>, parts: impl IntoIterator<Item = &'a [u8]>) -> Option<()> {
    for part in parts {
        out.extend_from_slice(&u32::try_from(part.len()).ok()?.to_le_bytes());
        out.extend_from_slice(part);
    }
    Some(())
}

fn part<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, behind) = rest.split_first_chunk()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let (part, behind) = behind.split_at_checked(length)?;
    *rest = behind;
    Some(part)
}
