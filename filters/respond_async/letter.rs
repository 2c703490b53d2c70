//! A request as it lies on the disk, until it is sent.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

const VERSION: u8 = 1;

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
}

impl Letter {
    /// As bytes: a version, then every part with its length. `None` for what no head may hold.
    pub(super) fn encode(&self) -> Option<Vec<u8>> {
        let mut out = vec![VERSION];
        let amount = self.amount.map(i64::to_le_bytes);
        let fixed: [&[u8]; 7] = [
            self.route.as_bytes(),
            self.method.as_str().as_bytes(),
            self.target.as_bytes(),
            &self.body,
            self.channel.as_deref().unwrap_or_default().as_bytes(),
            self.kind.as_deref().unwrap_or_default().as_bytes(),
            amount.as_ref().map_or(&[], |amount| amount),
        ];
        let headers = self.headers.iter().flat_map(|(name, value)| [name.as_str().as_bytes(), value.as_bytes()]);
        for part in fixed.into_iter().chain(headers) {
            out.extend_from_slice(&u32::try_from(part.len()).ok()?.to_le_bytes());
            out.extend_from_slice(part);
        }
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
        let mut headers = HeaderMap::new();
        while !rest.is_empty() {
            let name = HeaderName::from_bytes(part(&mut rest)?).ok()?;
            headers.append(name, HeaderValue::from_bytes(part(&mut rest)?).ok()?);
        }
        Some(Self { route, method, target, headers, body, channel, kind, amount })
    }

    /// Bytes it takes on the disk, about.
    pub(super) fn size(&self) -> u32 {
        let headers: usize = self.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 8).sum();
        u32::try_from(self.target.len() + self.body.len() + headers + 128).unwrap_or(u32::MAX)
    }
}

fn part<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, behind) = rest.split_first_chunk()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let (part, behind) = behind.split_at_checked(length)?;
    *rest = behind;
    Some(part)
}
