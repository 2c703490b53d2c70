//! Header edits of filters, applied to heads that stay bytes.

use http::HeaderName;
use tidegate_filters::engine::HeaderEdit;

use crate::proxy::forward::is_framing;

/// Edits in the order filters made them. What frames a message is none of theirs.
#[derive(Clone, Copy)]
pub(super) struct Edits<'a>(pub &'a [HeaderEdit]);

fn is(name: &HeaderName, bytes: &[u8]) -> bool {
    let name = name.as_str();
    name.len() == bytes.len() && name.as_bytes().eq_ignore_ascii_case(bytes)
}

impl Edits<'_> {
    /// Whether the lines of that name, as they came, give way.
    pub(super) fn replace(self, name: &[u8]) -> bool {
        self.0.iter().any(|edit| match edit {
            HeaderEdit::Set(edited, _) | HeaderEdit::Remove(edited) => is(edited, name) && !is_framing(edited),
            HeaderEdit::Add(..) => false,
        })
    }

    /// Writes the lines that are left of the edits: what a later one replaces or removes is not written.
    pub(super) fn write(self, out: &mut Vec<u8>) {
        for (at, edit) in self.0.iter().enumerate() {
            let (HeaderEdit::Set(name, value) | HeaderEdit::Add(name, value)) = edit else { continue };
            if !is_framing(name) && !Edits(&self.0[at + 1..]).replace(name.as_str().as_bytes()) {
                line(out, name.as_str().as_bytes(), value.as_bytes());
            }
        }
    }
}

/// One header line.
pub(crate) fn line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http::header::{CONTENT_LENGTH, ETAG, SERVER};

    use super::*;

    fn value(text: &'static str) -> HeaderValue {
        HeaderValue::from_static(text)
    }

    #[test]
    fn edits_count_in_their_order() {
        let edits = [
            HeaderEdit::Add(ETAG, value("lost")),
            HeaderEdit::Set(ETAG, value("1")),
            HeaderEdit::Add(ETAG, value("2")),
            HeaderEdit::Set(SERVER, value("removed again")),
            HeaderEdit::Remove(SERVER),
            HeaderEdit::Set(CONTENT_LENGTH, value("7")),
        ];
        let edits = Edits(&edits);
        let mut out = Vec::new();
        edits.write(&mut out);
        assert_eq!(out, b"etag: 1\r\netag: 2\r\n");
        assert!(edits.replace(b"ETag") && edits.replace(b"Server") && !edits.replace(b"Content-Length"));
    }
}
