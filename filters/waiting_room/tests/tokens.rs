//! Tokens, keys and draws against the vectors that other implementations can be checked with.

use proptest::prelude::*;
use sha2::{Digest, Sha256};

use crate::waiting_room::draw;
use crate::waiting_room::keys::{KeySpec, Keyring};
use crate::waiting_room::token::{BadToken, Kind, Token, room_tag};

const TICKET: &str = "AQIHACqXUWwAAAABAAAAAAAAACprSdIAa0ngEAADAQIDBAUGBwgAAAAAAAAAABRzSuOgD6RJ08ze1WSvGR8";
const PASS: &str = "AQMHACqXUWwAAAABAAAAAAAAACprSdIAa0nTLAADAQIDBAUGBwgAAAAAAAAAAEPUtEhiddFxFD1wZVR0T4A";
const NOW: u64 = 1_800_000_000;

fn key(kid: u8, not_before: u64, not_after: u64) -> KeySpec {
    KeySpec { kid, secret: std::array::from_fn(|at| at as u8), not_before, not_after }
}

fn ring() -> Keyring {
    Keyring::new(&[key(7, 0, u64::MAX)])
}

fn ticket() -> Token {
    Token {
        kind: Kind::Ticket,
        flags: 0,
        room: room_tag("demo"),
        epoch: 1,
        number: 42,
        issued: 1_800_000_000,
        expires: 1_800_003_600,
        lane: 0,
        node: 3,
        session: [1, 2, 3, 4, 5, 6, 7, 8],
        subject: [0; 8],
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_published_tokens_are_made_and_read() {
    let pass = Token { kind: Kind::Pass, expires: 1_800_000_300, ..ticket() };
    for (token, text) in [(ticket(), TICKET), (pass, PASS)] {
        assert_eq!(token.seal(&ring(), NOW).as_deref(), Some(text));
        assert_eq!(Token::open(text.as_bytes(), room_tag("demo"), &ring(), NOW), Ok(token));
    }
}

#[test]
fn a_ticket_is_no_pass_even_if_its_bytes_say_so() {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let mut bytes = URL_SAFE_NO_PAD.decode(TICKET).unwrap();
    bytes[1] = Kind::Pass as u8;
    let text = URL_SAFE_NO_PAD.encode(bytes);
    assert_eq!(Token::open(text.as_bytes(), room_tag("demo"), &ring(), NOW), Err(BadToken::Forged));
}

#[test]
fn a_token_of_another_room_is_none_of_this() {
    assert_eq!(Token::open(TICKET.as_bytes(), room_tag("other"), &ring(), NOW), Err(BadToken::OtherRoom));
}

#[test]
fn an_ended_key_verifies_nothing_and_a_coming_one_signs_nothing() {
    let ended = Keyring::new(&[key(7, 0, NOW)]);
    assert_eq!(Token::open(TICKET.as_bytes(), room_tag("demo"), &ended, NOW), Err(BadToken::UnknownKey));
    assert_eq!(ticket().seal(&ended, NOW), None);
    assert!(!Keyring::new(&[key(7, NOW + 1, u64::MAX)]).can_sign(NOW));
}

#[test]
fn keys_overlap_so_that_a_new_one_turns_nobody_away() {
    let both = Keyring::new(&[key(7, 0, u64::MAX), key(8, NOW, u64::MAX)]);
    assert!(Token::open(TICKET.as_bytes(), room_tag("demo"), &both, NOW).is_ok());
    let before = ticket().seal(&both, NOW - 1).unwrap();
    assert_eq!(before, TICKET);
    let after = ticket().seal(&both, NOW).unwrap();
    assert_ne!(after, TICKET);
    assert_eq!(Token::open(after.as_bytes(), room_tag("demo"), &both, NOW), Ok(ticket()));
    assert_eq!(Token::open(after.as_bytes(), room_tag("demo"), &ring(), NOW), Err(BadToken::UnknownKey));
}

#[test]
fn a_secret_never_shows() {
    assert!(!format!("{:?} {:?}", key(7, 0, 1), ring()).contains("31"));
}

#[test]
fn the_published_draw_is_drawn() {
    let secret = [0xAA; 32];
    assert_eq!(hex(&draw::commitment(&secret)), "423879df49cdb1ec8a4ee6c8b8a1ed0822c47e52da7d1e7bb222b7264458aa32");
    let seed = draw::seed(&secret, &[0xBB; 32], &[0xCC; 32]);
    assert_eq!(hex(&seed), "ba36ce2f86cd904b48daebd86f1b605960e9e2aa14b18a4b39e68f7d73f4bc7a");
    assert_eq!(draw::order(&seed, "demo", 10), [7, 3, 6, 0, 4, 9, 1, 5, 8, 2]);
    let thousand = draw::order(&seed, "demo", 1_000);
    assert_eq!(thousand[..10], [574, 780, 807, 902, 274, 102, 341, 680, 230, 688]);
    let bytes: Vec<u8> = thousand.iter().flat_map(|index| index.to_be_bytes()).collect();
    assert_eq!(hex(&Sha256::digest(bytes)), "2125de3927faaf176b1f140eb2d512c51e9be98ba78aa1947e05ec6acaef0b3a");
    let lots = ["user-1", "user-2", "alice@example.com"].map(|who| draw::lot(&seed, "demo", who.as_bytes()));
    assert_eq!(lots, [0x52e3_2fa8_fb38_d80a, 0x7e6d_cb19_a1a9_5d4b, 0x696a_9fcf_fa01_5d35]);
}

proptest! {
    #[test]
    fn any_token_comes_back_as_it_was_and_any_changed_bit_is_seen(
        at in 0..Kind::ALL.len(), flags: u8, epoch: u32, number: u64, issued: u32, expires: u32, session: [u8; 8],
        subject: [u8; 8], place in 0usize..62 * 8,
    ) {
        use base64::Engine as _;
        use base64::engine::general_purpose::URL_SAFE_NO_PAD;
        let token =
            Token { kind: Kind::ALL[at], flags, epoch, number, issued, expires, session, subject, ..ticket() };
        let text = token.seal(&ring(), NOW).unwrap();
        prop_assert_eq!(text.len(), 83);
        prop_assert_eq!(Token::open(text.as_bytes(), room_tag("demo"), &ring(), NOW), Ok(token));
        let mut bytes = URL_SAFE_NO_PAD.decode(text).unwrap();
        bytes[place / 8] ^= 1 << (place % 8);
        let changed = URL_SAFE_NO_PAD.encode(bytes);
        prop_assert!(Token::open(changed.as_bytes(), room_tag("demo"), &ring(), NOW).is_err());
    }

    #[test]
    fn no_text_breaks_the_reader(text: Vec<u8>) {
        prop_assert!(Token::open(&text, room_tag("demo"), &ring(), NOW).is_err());
    }
}
