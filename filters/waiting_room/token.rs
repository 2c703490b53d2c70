//! The token: a visitor's place, signed, carried by the visitor.
//!
//! 62 bytes, big-endian, sent as 83 characters of base64url without padding:
//!
//! ```text
//! version u8 | kind u8 | kid u8 | flags u8 | room tag 4 | epoch u32 | number u64 | issued u32 | expires u32
//! | lane u8 | node u8 | session 8 | subject 8 | mac 16
//! ```
//!
//! The number lives here and not in a table: that is why a waiter costs bits and a poll looks nothing up. Each kind is
//! signed with a key of its own, so a ticket cannot be used as a pass whatever its bytes say.
//!
//! **Fails.** A token of another room, version or key, or with one bit changed, is [`BadToken`]; which of these it was is
//! told to the log, never to the client.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use super::keys::Keyring;

/// Bytes of a token.
pub const LENGTH: usize = 62;
/// Characters of a token as sent.
pub const TEXT_LENGTH: usize = 83;
/// Bytes that are signed.
pub(super) const SIGNED: usize = 46;
const VERSION: u8 = 1;

/// What a token entitles to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// To a number, once it is brought back: it proves that the client keeps cookies.
    Pre = 1,
    /// To a place in the line.
    Ticket = 2,
    /// To pass.
    Pass = 3,
    /// To a place that a node gave while it could not reach the store.
    Provisional = 4,
    /// To a share in the draw when an event starts.
    Registration = 5,
    /// To come back from paying, for one order.
    Reentry = 6,
}

impl Kind {
    /// All kinds, in the order of their numbers.
    pub const ALL: [Kind; 6] =
        [Kind::Pre, Kind::Ticket, Kind::Pass, Kind::Provisional, Kind::Registration, Kind::Reentry];

    fn of(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == byte)
    }

    /// Its place in [`Kind::ALL`].
    pub(super) fn index(self) -> usize {
        usize::from(self as u8 - 1)
    }
}

/// What a token says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    /// What it entitles to.
    pub kind: Kind,
    /// See [`Token::SHORT`] for passes, [`Token::pause`] for tickets.
    pub flags: u8,
    /// First four bytes of the SHA-256 of the room's name.
    pub room: [u8; 4],
    /// Of the room; a room that was reset honours no older tokens.
    pub epoch: u32,
    /// The visitor's number (0 where the kind has none).
    pub number: u64,
    /// When it was made, in seconds since 1970.
    pub issued: u32,
    /// When it ends, in seconds since 1970.
    pub expires: u32,
    /// The lane; 0 where there is one only.
    pub lane: u8,
    /// The gateway that made it; 0 where there is one only.
    pub node: u8,
    /// Tells two visits apart.
    pub session: [u8; 8],
    /// Whose it is, hashed; zero when nobody is known.
    pub subject: [u8; 8],
}

/// Why a text is no token of this room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadToken {
    /// It has another length or other letters, or is of a version or kind that is not known.
    #[error("not a token")]
    Malformed,
    /// Its key is not known, or not any more.
    #[error("made with a key that is not in use")]
    UnknownKey,
    /// Its signature does not fit.
    #[error("not signed by this gateway")]
    Forged,
    /// It belongs to another room.
    #[error("a token of another room")]
    OtherRoom,
}

/// The four bytes that name a room in a token.
#[must_use]
pub fn room_tag(room: &str) -> [u8; 4] {
    let digest = Sha256::digest(room);
    [digest[0], digest[1], digest[2], digest[3]]
}

impl Token {
    /// Flag of a pass whose owner has not brought it back yet; it lasts for the claim window only.
    pub const SHORT: u8 = 1;
    /// What a pause in a token is counted in (milliseconds).
    const PAUSE: u64 = 500;

    /// The flags of a ticket whose holder was asked to look again after `poll_after` milliseconds: half of that is how
    /// early they may come. Pauses beyond a minute say a minute.
    #[must_use]
    pub fn pause(poll_after: u64) -> u8 {
        let halves = u8::try_from(poll_after / 2 / Self::PAUSE).unwrap_or(u8::MAX);
        halves.min(u8::MAX >> 1) << 1
    }

    /// When a ticket's holder may look again, in milliseconds since 1970. Never later than they were told: the moment of
    /// issue is known to the second, rounded down.
    #[must_use]
    pub fn may_look_at(&self) -> u64 {
        u64::from(self.issued) * 1_000 + u64::from(self.flags >> 1) * Self::PAUSE
    }

    /// The token as sent, signed with the key that is current at `now` (seconds since 1970); `None` when no key is.
    #[must_use]
    pub fn seal(&self, keys: &Keyring, now: u64) -> Option<String> {
        let (kid, mac) = keys.signer(self.kind, now)?;
        let mut bytes = [0; LENGTH];
        self.write(kid, &mut bytes);
        let tag = mac.tag(&bytes[..SIGNED]);
        bytes[SIGNED..].copy_from_slice(&tag);
        Some(URL_SAFE_NO_PAD.encode(bytes))
    }

    /// Reads a token of `room`. Its times are the caller's to judge.
    ///
    /// # Errors
    /// When it is no token, or not one of this room, or its signature does not fit.
    pub fn open(text: &[u8], room: [u8; 4], keys: &Keyring, now: u64) -> Result<Self, BadToken> {
        let mut bytes = [0; LENGTH];
        if text.len() != TEXT_LENGTH || URL_SAFE_NO_PAD.decode_slice(text, &mut bytes) != Ok(LENGTH) {
            return Err(BadToken::Malformed);
        }
        if bytes[0] != VERSION {
            return Err(BadToken::Malformed);
        }
        let kind = Kind::of(bytes[1]).ok_or(BadToken::Malformed)?;
        let mac = keys.verifier(kind, bytes[2], now).ok_or(BadToken::UnknownKey)?;
        if !mac.fits(&bytes[..SIGNED], &bytes[SIGNED..]) {
            return Err(BadToken::Forged);
        }
        let token = Self::read(kind, &bytes);
        if token.room == room { Ok(token) } else { Err(BadToken::OtherRoom) }
    }

    fn write(&self, kid: u8, bytes: &mut [u8; LENGTH]) {
        bytes[0] = VERSION;
        bytes[1] = self.kind as u8;
        bytes[2] = kid;
        bytes[3] = self.flags;
        bytes[4..8].copy_from_slice(&self.room);
        bytes[8..12].copy_from_slice(&self.epoch.to_be_bytes());
        bytes[12..20].copy_from_slice(&self.number.to_be_bytes());
        bytes[20..24].copy_from_slice(&self.issued.to_be_bytes());
        bytes[24..28].copy_from_slice(&self.expires.to_be_bytes());
        bytes[28] = self.lane;
        bytes[29] = self.node;
        bytes[30..38].copy_from_slice(&self.session);
        bytes[38..46].copy_from_slice(&self.subject);
    }

    fn read(kind: Kind, bytes: &[u8; LENGTH]) -> Self {
        Self {
            kind,
            flags: bytes[3],
            room: part(bytes, 4),
            epoch: u32::from_be_bytes(part(bytes, 8)),
            number: u64::from_be_bytes(part(bytes, 12)),
            issued: u32::from_be_bytes(part(bytes, 20)),
            expires: u32::from_be_bytes(part(bytes, 24)),
            lane: bytes[28],
            node: bytes[29],
            session: part(bytes, 30),
            subject: part(bytes, 38),
        }
    }
}

/// `N` bytes from `from` on.
fn part<const N: usize>(bytes: &[u8; LENGTH], from: usize) -> [u8; N] {
    let mut part = [0; N];
    part.copy_from_slice(&bytes[from..from + N]);
    part
}
