//! Where a token is carried: a cookie for browsers, a header for programs.

use http::{HeaderName, HeaderValue};

use super::settings::{Secure, Settings};
use super::token::TEXT_LENGTH;
use crate::engine::RequestHead;

/// The header that carries a token for programs, in both directions.
pub const TICKET_HEADER: HeaderName = HeaderName::from_static("x-tidegate-ticket");
/// Tokens of one request that are looked at, at most: each costs an HMAC.
const MOST: usize = 4;

/// The texts of a request that may be tokens of this room, the header's first.
pub(super) fn tokens<'a>(head: &RequestHead<'a>, settings: &Settings) -> impl Iterator<Item = &'a [u8]> {
    let name = &settings.cookie;
    let header = head.header(TICKET_HEADER.as_str());
    let cookies = head.headers_named("cookie").flat_map(|value| value.split(|byte| *byte == b';'));
    let ours = cookies.filter_map(move |pair| {
        let (cookie, value) = pair.trim_ascii().split_at_checked(pair.trim_ascii().iter().position(|b| *b == b'=')?)?;
        let cookie = cookie.strip_prefix(b"__Host-").unwrap_or(cookie);
        (cookie.strip_prefix(b"tgwr_")? == name.as_bytes()).then_some(&value[1..])
    });
    header.into_iter().chain(ours).filter(|text| text.len() == TEXT_LENGTH).take(MOST)
}

/// The value of `Set-Cookie` for a token that is kept for `life` seconds; an empty token takes the cookie away.
pub(super) fn set_cookie(settings: &Settings, secure: bool, token: &str, life: u64) -> Option<HeaderValue> {
    let secure = match settings.secure {
        Secure::Auto => secure,
        Secure::Always => true,
        Secure::Never => false,
    };
    let (prefix, mark) = if secure { ("__Host-", "; Secure") } else { ("", "") };
    let (name, site) = (&settings.cookie, settings.same_site.as_str());
    let text = format!("{prefix}tgwr_{name}={token}; Path=/; Max-Age={life}; HttpOnly{mark}; SameSite={site}");
    HeaderValue::from_str(&text).ok()
}
