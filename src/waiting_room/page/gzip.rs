//! A page that is compressed beforehand, although a part of it is another for each visitor.
//!
//! A DEFLATE stream (RFC 1951) is a row of blocks. What never changes is compressed once, into blocks that look back at
//! nothing outside themselves and end at a byte's edge; what differs goes between them in stored blocks. Only the checksum
//! of what differs is worked out for each visitor, the others are combined with it.

use flate2::{Compress, Compression, Crc, FlushCompress, Status};

/// RFC 1952: magic, deflate, no flags, no time, best compression, unknown system.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 255];
/// An empty last block.
const LAST: [u8; 2] = [3, 0];
/// Bytes of a stored block, at most.
const BLOCK: usize = 0xffff;

/// A text that was compressed beforehand.
#[derive(Debug)]
pub(super) struct Packed {
    blocks: Vec<u8>,
    crc: Crc,
}

impl Packed {
    pub(super) fn new(text: &[u8]) -> Self {
        let mut crc = Crc::new();
        crc.update(text);
        let mut compress = Compress::new(Compression::best(), false);
        let mut blocks = Vec::with_capacity(text.len() + 64);
        let mut rest = text;
        loop {
            let before = compress.total_in();
            let status = compress.compress_vec(rest, &mut blocks, FlushCompress::Full);
            rest = &rest[usize::try_from(compress.total_in() - before).unwrap_or(rest.len())..];
            // Room in the output after a flush means that all of it has been written.
            let done = rest.is_empty() && blocks.len() < blocks.capacity();
            if done || !matches!(status, Ok(Status::Ok | Status::BufError)) {
                break;
            }
            blocks.reserve(1_024);
        }
        Self { blocks, crc }
    }
}

/// A gzip file in the making.
pub(super) struct Gzip {
    out: Vec<u8>,
    crc: Crc,
}

impl Gzip {
    pub(super) fn new(capacity: usize) -> Self {
        let mut out = Vec::with_capacity(capacity);
        out.extend_from_slice(&HEADER);
        Self { out, crc: Crc::new() }
    }

    /// Puts in what was compressed beforehand.
    pub(super) fn packed(&mut self, packed: &Packed) {
        self.out.extend_from_slice(&packed.blocks);
        self.crc.combine(&packed.crc);
    }

    /// Puts in a text as it is.
    pub(super) fn stored(&mut self, text: &[u8]) {
        for block in text.chunks(BLOCK) {
            let length = u16::try_from(block.len()).unwrap_or(u16::MAX);
            self.out.push(0);
            self.out.extend_from_slice(&length.to_le_bytes());
            self.out.extend_from_slice(&(!length).to_le_bytes());
            self.out.extend_from_slice(block);
        }
        self.crc.update(text);
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        self.out.extend_from_slice(&LAST);
        self.out.extend_from_slice(&self.crc.sum().to_le_bytes());
        self.out.extend_from_slice(&self.crc.amount().to_le_bytes());
        self.out
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn what_is_put_together_is_read_as_one_file() {
        let long: String = (0..9_000).map(|number| number.to_string()).collect();
        let texts = [long.as_str(), "differs", "the same again and again ".repeat(40).leak(), ""];
        for first_is_packed in [true, false] {
            let mut gzip = Gzip::new(16);
            for (at, text) in texts.iter().enumerate() {
                if at.is_multiple_of(2) == first_is_packed {
                    gzip.packed(&Packed::new(text.as_bytes()));
                } else {
                    gzip.stored(text.as_bytes());
                }
            }
            let (mut read, bytes) = (String::new(), gzip.finish());
            flate2::read::GzDecoder::new(&bytes[..]).read_to_string(&mut read).unwrap();
            assert_eq!(read, texts.concat());
        }
    }
}
