//! Header names that only the gateway may put on a request.
//!
//! Services believe these headers, so a client's own must never get through, in whatever spelling a server might take for
//! the same: any case, and `_` for `-`, since CGI-like servers make both `HTTP_X_USER_ID`.

#[cfg(test)]
mod tests;

/// The request header that pins a channel: documented for callers on an egress route, who decide about it there.
const CHANNEL_PIN: &[u8] = b"tidegate-channel";

/// Beginnings of names that belong to the gateway.
const PREFIXES: [&[u8]; 2] = [b"x-tidegate-", b"tidegate-"];

/// The names, folded: lower case, `-` for `_`.
pub(super) struct Reserved {
    names: Box<[Box<[u8]>]>,
}

impl Reserved {
    pub(super) fn new<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        let mut names: Vec<Box<[u8]>> = names.map(|name| name.bytes().map(fold).collect()).collect();
        names.sort();
        names.dedup();
        Self { names: names.into() }
    }

    pub(super) fn contains(&self, name: &[u8]) -> bool {
        let ours = PREFIXES.iter().any(|prefix| name.len() >= prefix.len() && same(&name[..prefix.len()], prefix));
        // Only the name as documented is exempt; `Tidegate_Channel` is somebody trying doors.
        (ours && !name.eq_ignore_ascii_case(CHANNEL_PIN)) || self.names.iter().any(|ours| same(name, ours))
    }
}

fn same(name: &[u8], folded: &[u8]) -> bool {
    name.len() == folded.len() && name.iter().zip(folded).all(|(&byte, &folded)| fold(byte) == folded)
}

fn fold(byte: u8) -> u8 {
    if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() }
}
