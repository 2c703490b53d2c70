//! HTTP/2 by hand: frames that no library would send.

/// What every connection begins with: the preface and empty settings.
pub(crate) const OPENING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// Frame types.
pub(crate) const DATA: u8 = 0;
/// A head.
pub(crate) const HEADERS: u8 = 1;
/// The stream ends with this frame.
pub(crate) const END_STREAM: u8 = 1;
/// The head ends with this frame.
pub(crate) const END_HEADERS: u8 = 4;

/// One frame on stream 1.
pub(crate) fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    frame_on(1, kind, flags, payload)
}

/// One frame on that stream; 0 is the connection.
pub(crate) fn frame_on(stream: u32, kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a small frame").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Fields as HPACK's literals without indexing: nothing is compressed, so anything can be said.
pub(crate) fn fields(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0);
        for text in [name, value] {
            text_of(&mut out, text.as_bytes());
        }
    }
    out
}

fn text_of(out: &mut Vec<u8>, text: &[u8]) {
    if text.len() < 127 {
        out.push(u8::try_from(text.len()).expect("below 127"));
    } else {
        out.push(127);
        let mut rest = text.len() - 127;
        while rest >= 128 {
            out.push(u8::try_from(rest % 128).expect("below 128") | 128);
            rest /= 128;
        }
        out.push(u8::try_from(rest).expect("below 128"));
    }
    out.extend_from_slice(text);
}
